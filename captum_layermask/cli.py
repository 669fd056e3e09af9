"""The command line: ``captum-layermask explain [IMAGE]``, ``compare [IMAGE]`` and ``evaluate …``."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import nn

from captum_layermask.colors import Colors
from captum_layermask.compare import WAYS, marked
from captum_layermask.compare import compare as compare_removals
from captum_layermask.errors import UnknownNameError
from captum_layermask.evaluate.cli import app as evaluate
from captum_layermask.explain import METHODS, predict
from captum_layermask.explain import explain as explain_prediction
from captum_layermask.images import example_image, read_image
from captum_layermask.models import find_class, load_model
from captum_layermask.plots import check_figure_path, plot_explanation, save_figure
from captum_layermask.plots_compare import plot_comparison
from captum_layermask.removals import REMOVALS, make_forward
from captum_layermask.segments import SEGMENTERS

__all__ = ["app"]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)
app.add_typer(evaluate, name="evaluate")


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"captum-layermask {metadata.version('captum-layermask')}")
        raise typer.Exit


@app.callback()
def _group(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Explain what a CNN sees by removing regions of an image without painting them."""


_Image = Annotated[
    Path | None,
    typer.Argument(metavar="IMAGE", help="Picture to explain.", show_default="scikit-image's cat 'chelsea'"),
]
_Model = Annotated[
    str, typer.Option(help="efficientnet-lite0, -lite1, -lite2, torchvision:NAME or timm:NAME.")
]
_Method = Annotated[str, typer.Option(help=f"One of {', '.join(METHODS)}.")]
_Segments = Annotated[str, typer.Option(help=f"One of {', '.join(SEGMENTERS)}.")]
_SegmentCount = Annotated[
    int | None,
    typer.Option(help="About how many segments to make.", show_default="196 for grid, else 64"),
]
_SampleCount = Annotated[
    int | None,
    typer.Option(
        help="Perturbed images (lime, kernel-shap) or random orders (shapley-sampling).",
        show_default="500, or 10 orders",
    ),
]
_BatchSize = Annotated[int, typer.Option(help="Perturbed images per call of the model.")]
_Seed = Annotated[int, typer.Option(help="Seed of the random samples.")]
_Output = Annotated[Path, typer.Option("--output", "-o", help="Picture file to write.")]


@app.command()
def explain(
    image: _Image = None,
    model: _Model = "efficientnet-lite0",
    missing: Annotated[
        str, typer.Option(help=f"How to remove pixels: one of {', '.join(REMOVALS)}.")
    ] = "layer",
    method: _Method = "lime",
    segments: _Segments = "slic",
    n_segments: _SegmentCount = None,
    n_samples: _SampleCount = None,
    batch_size: _BatchSize = 16,
    target: Annotated[
        str | None,
        typer.Option(help="Class to explain, by name or index.", show_default="the likeliest"),
    ] = None,
    seed: _Seed = 0,
    output: _Output = Path("explanation.png"),
) -> None:
    """Draw which regions of IMAGE speak for and against a prediction."""
    _check_names(method, segments, [missing])
    check_figure_path(output)
    scene = _load(image, model, segments, n_segments)
    index = None if target is None else find_class(scene.categories, target)
    forward = make_forward(
        missing,
        scene.network,
        colors=scene.colors,
        reference=scene.pixels,
        segments=scene.segments,
        seed=seed,
    )
    with _warnings_in_one_line():
        _print_predictions(predict(forward, scene.pixels)[0], scene.categories)
        explanation = explain_prediction(
            forward,
            scene.pixels,
            scene.segments,
            categories=scene.categories,
            method=method,
            target=index,
            n_samples=n_samples,
            perturbations_per_eval=batch_size,
            seed=seed,
            show_progress=True,
        )
    way = REMOVALS[missing]
    save_figure(plot_explanation(explanation, marked(way.title, way.leaks)), output)
    typer.echo(f"explained {explanation.label!r}; wrote {output}")


@app.command()
def compare(
    image: _Image = None,
    model: _Model = "efficientnet-lite0",
    missing: Annotated[
        str,
        typer.Option(help=f"Ways to remove pixels, with commas between them: {', '.join(REMOVALS)}."),
    ] = ",".join(WAYS),
    method: _Method = "lime",
    classes: Annotated[int, typer.Option(help="How many of the likeliest classes to explain.")] = 2,
    segments: _Segments = "slic",
    n_segments: _SegmentCount = None,
    n_samples: _SampleCount = None,
    batch_size: _BatchSize = 16,
    top: Annotated[int, typer.Option(help="Segments to remove, and to keep, in the table.")] = 10,
    seed: _Seed = 0,
    output: _Output = Path("comparison.png"),
) -> None:
    """Draw how explanations of IMAGE differ between ways to remove pixels, and test each."""
    ways = [way.strip() for way in missing.split(",")]
    _check_names(method, segments, ways)
    check_figure_path(output)
    scene = _load(image, model, segments, n_segments)
    with _warnings_in_one_line():
        comparison = compare_removals(
            scene.network,
            scene.pixels,
            scene.segments,
            categories=scene.categories,
            colors=scene.colors,
            missing=ways,
            method=method,
            classes=classes,
            n_samples=n_samples,
            perturbations_per_eval=batch_size,
            top=top,
            seed=seed,
            show_progress=True,
        )
    typer.echo(comparison.table())
    save_figure(plot_comparison(comparison), output)
    typer.echo(f"compared {', '.join(comparison.ways)}; wrote {output}")


@dataclass(frozen=True)
class _Scene:
    """A network that takes pixels in [0, 1], and a picture cut into segments."""

    network: nn.Module
    colors: Colors
    categories: tuple[str, ...]
    pixels: torch.Tensor
    segments: torch.Tensor


def _load(image: Path | None, model: str, segments: str, n_segments: int | None) -> _Scene:
    with _warnings_in_one_line():
        picture = example_image() if image is None else read_image(image)
    loaded = load_model(model)
    pixels = loaded.preprocess(picture)
    count = {} if n_segments is None else {"n_segments": n_segments}
    return _Scene(
        network=loaded.network,
        colors=loaded.colors,
        categories=loaded.categories,
        pixels=pixels,
        segments=SEGMENTERS[segments](pixels, **count),
    )


def _check_names(method: str, segments: str, ways: Sequence[str]) -> None:
    _require_known("method", method, METHODS)
    _require_known("segmentation", segments, SEGMENTERS)
    for way in ways:
        _require_known("way of removing", way, REMOVALS)


def _require_known(kind: str, name: str, known: dict[str, Any]) -> None:
    if name not in known:
        raise UnknownNameError(kind, name, known, hint=f"Give {', '.join(known)}.")


def _print_predictions(probabilities: torch.Tensor, categories: tuple[str, ...]) -> None:
    best = probabilities.topk(min(5, len(categories)))
    names = [categories[int(i)] for i in best.indices]
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
