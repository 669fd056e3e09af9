"""``captum-layermask explain [IMAGE]``: one class of a picture, explained and drawn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from captum_layermask.cli import options
from captum_layermask.cli.model import ModelOptions, takes_model
from captum_layermask.names import REMOVAL_NAMES
from captum_layermask.text import printable

if TYPE_CHECKING:
    import torch

__all__ = ["explain"]


@takes_model
def explain(
    context: typer.Context,
    model: ModelOptions,
    image: options.Image = None,
    removal: Annotated[
        str,
        typer.Option(
            help=f"How to remove pixels: one of {', '.join(REMOVAL_NAMES)}.", callback=options.removals
        ),
    ] = "layer",
    method: options.Method = "lime",
    segmentation: options.Segmentation = "slic",
    n_segments: options.SegmentCount = None,
    n_samples: options.SampleCount = None,
    batch_size: options.BatchSize = 16,
    target: Annotated[
        str | None,
        typer.Option(help="Class to explain, by name or index.", show_default="the likeliest"),
    ] = None,
    seed: options.Seed = 0,
    output: options.Output = Path("explanation.png"),
) -> None:
    """Draw which regions of IMAGE speak for and against a prediction."""
    about = options.how_made(context, image, method, n_samples, output)
    from captum_layermask.cli.scene import load_scene, warnings_in_one_line, write
    from captum_layermask.explain.comparison import marked
    from captum_layermask.explain.explanation import explain, predict
    from captum_layermask.plots.explanation import plot_explanation
    from captum_layermask.removals.registry import REMOVALS, make_forward

    scene = load_scene(image, model, segmentation, n_segments, target=target)
    forward = make_forward(
        removal,
        scene.network,
        colors=scene.colors,
        reference=scene.pixels,
        segments=scene.segments,
        seed=seed,
    )
    with warnings_in_one_line():
        _print_predictions(predict(forward, scene.pixels)[0], scene.class_names)
        explanation = explain(
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
    title = marked(REMOVALS[removal].title, REMOVALS[removal].leaks)
    write(
        plot_explanation(explanation, title), output, image, about | {"Model": model.model, "Seed": str(seed)}
    )


def _print_predictions(probabilities: torch.Tensor, class_names: tuple[str, ...]) -> None:
    best = probabilities.topk(min(5, len(class_names)))
    names = [printable(class_names[int(i)]) for i in best.indices]
    width = max(len("prediction"), *map(len, names))
    typer.echo(f"{'prediction':<{width}}  index  probability")
    for name, index, value in zip(names, best.indices, best.values, strict=True):
        typer.echo(f"{name:<{width}}  {int(index):>5}  {float(value):>11.3f}")
