"""What the commands ``explain`` and ``compare`` do when their options have been checked."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import typer
from matplotlib.figure import Figure
from torch import nn

from captum_layermask.explain.comparison import LEAST_PROBABILITY, marked
from captum_layermask.explain.comparison import compare as compare_removals
from captum_layermask.explain.explanation import explain as explain_prediction
from captum_layermask.explain.explanation import predict
from captum_layermask.explain.segments import SEGMENTATIONS
from captum_layermask.explain.targets import find_class
from captum_layermask.models.images import example_image, read_image
from captum_layermask.models.pretrained import load_model
from captum_layermask.plots.comparison import plot_comparison
from captum_layermask.plots.explanation import plot_explanation
from captum_layermask.plots.files import check_replacing, save_figure
from captum_layermask.removals.colors import Colors
from captum_layermask.removals.registry import REMOVALS, make_forward
from captum_layermask.text import printable

__all__ = ["Scene", "compare", "explain", "load_scene", "write"]


@dataclass(frozen=True)
class Scene:
    """A network that takes pixels in [0, 1], and a picture cut into segments.

    Attributes:
        network: N×3×H×W in [0, 1] → logits N×classes.
        colors: the scale of its images.
        class_names: one name per class.
        targets: classes that were asked for; None leaves the choice to the network.
        pixels: float 1×3×H×W in [0, 1].
        segments: LongTensor 1×1×H×W, ids from 0.
    """

    network: nn.Module
    colors: Colors
    class_names: tuple[str, ...]
    targets: tuple[int, ...] | None
    pixels: torch.Tensor
    segments: torch.Tensor


def load_scene(
    image: Path | None,
    model: str,
    segmentation: str,
    n_segments: int | None,
    *,
    target: str | None = None,
    targets: str | None = None,
) -> Scene:
    """Read the picture, load the network, find one class or several, and cut the picture into segments."""
    with _warnings_in_one_line():
        picture = example_image() if image is None else read_image(image)
    loaded = load_model(model)
    chosen = None if targets is None else _find_classes(loaded.class_names, targets)
    if target is not None:
        chosen = (find_class(loaded.class_names, target),)
    pixels = loaded.preprocess(picture)
    count = {} if n_segments is None else {"n_segments": n_segments}
    return Scene(
        network=loaded.network,
        colors=loaded.colors,
        class_names=loaded.class_names,
        targets=chosen,
        pixels=pixels,
        segments=SEGMENTATIONS[segmentation](pixels, **count),
    )


def explain(
    scene: Scene, *, removal: str, method: str, n_samples: int | None, batch_size: int, seed: int
) -> Figure:
    """Explain one class, the likeliest unless one was asked for, and draw it."""
    forward = make_forward(
        removal,
        scene.network,
        colors=scene.colors,
        reference=scene.pixels,
        segments=scene.segments,
        seed=seed,
    )
    with _warnings_in_one_line():
        _print_predictions(predict(forward, scene.pixels)[0], scene.class_names)
        explanation = explain_prediction(
            forward,
            scene.pixels,
            scene.segments,
            class_names=scene.class_names,
            method=method,
            target=None if scene.targets is None else scene.targets[0],
            n_samples=n_samples,
            perturbations_per_eval=batch_size,
            seed=seed,
            show_progress=True,
        )
    if explanation.stability is not None:
        typer.echo(f"stability {explanation.stability:.2f}: rank correlation of two halves of the samples")
    typer.echo(f"explained {explanation.label!r}")
    how = REMOVALS[removal]
    return plot_explanation(explanation, marked(how.title, how.leaks))


def compare(
    scene: Scene,
    *,
    removals: Sequence[str],
    method: str,
    classes: int,
    n_samples: int | None,
    batch_size: int,
    top: int,
    seed: int,
) -> Figure:
    """Explain classes under several ways to remove pixels, print the table and draw them."""
    with _warnings_in_one_line():
        comparison = compare_removals(
            scene.network,
            scene.pixels,
            scene.segments,
            class_names=scene.class_names,
            colors=scene.colors,
            removals=removals,
            method=method,
            classes=classes,
            targets=scene.targets,
            n_samples=n_samples,
            perturbations_per_eval=batch_size,
            top=top,
            seed=seed,
            show_progress=True,
        )
    typer.echo(comparison.table())
    if comparison.left_out:
        names = ", ".join(f"{name!r} ({probability:.3f})" for name, probability in comparison.left_out)
        typer.echo(
            f"left out {names}: less likely than {LEAST_PROBABILITY}; --targets explains any class", err=True
        )
    typer.echo(f"compared {', '.join(comparison.removals)}")
    return plot_comparison(comparison)


def write(figure: Figure, output: Path, image: Path | None, about: Mapping[str, str]) -> None:
    """Write a figure and say so; what lies there since the options were checked is not lost either."""
    replaced = check_replacing(output, image)
    with _warnings_in_one_line():
        save_figure(figure, output, about)
    typer.echo(f"{'replaced' if replaced else 'wrote'} {printable(str(output))}")


def _find_classes(class_names: Sequence[str], text: str) -> tuple[int, ...]:
    """Classes with commas between them; a name may itself have some."""
    names = [text] if text.lower() in map(str.lower, class_names) else text.split(",")
    return tuple(find_class(class_names, name.strip()) for name in names)


def _print_predictions(probabilities: torch.Tensor, class_names: tuple[str, ...]) -> None:
    best = probabilities.topk(min(5, len(class_names)))
    names = [printable(class_names[int(i)]) for i in best.indices]
    width = max(len("prediction"), *map(len, names))
    typer.echo(f"{'prediction':<{width}}  index  probability")
    for name, index, value in zip(names, best.indices, best.values, strict=True):
        typer.echo(f"{name:<{width}}  {int(index):>5}  {float(value):>11.3f}")


@contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    def show(message: Warning | str, *_: object, **__: object) -> None:
        typer.echo(f"warning: {message}", err=True)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
