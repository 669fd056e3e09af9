"""``captum-layermask explain [IMAGE]``: one class of a picture, explained and drawn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from captum_layermask.cli import folders, options, saving
from captum_layermask.cli.model import ModelOptions, takes_model
from captum_layermask.cli.running import enough_memory
from captum_layermask.names import REMOVAL_NAMES
from captum_layermask.text import printable, text_table

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
    budget: options.Budget = None,
    tolerance: options.Tolerance = None,
    top_k: options.TopK = None,
    save: saving.Save = None,
    batch_size: options.BatchSize = 16,
    target: Annotated[
        str | None,
        typer.Option(help="Class to explain, by name or index.", show_default="the likeliest"),
    ] = None,
    seed: options.Seed = 0,
    output: options.Output = Path("explanation.png"),
    overwrite: options.Overwrite = False,
) -> None:
    """Draw which regions of IMAGE, or of each picture in a folder, speak for and against a prediction."""
    if image is not None and image.is_dir():
        return folders.explain(context, model, image)
    goals: dict[str, Any] = {"budget": budget, "tolerance": tolerance, "top_k": top_k}
    about = options.how_made(context, image, method, n_samples, output, **goals)
    saving.check(save, method)
    from captum_layermask.cli.scene import load_scene, warnings_in_one_line, write
    from captum_layermask.explain.comparison import marked
    from captum_layermask.explain.estimators.estimate import in_words
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
    with warnings_in_one_line(), enough_memory(batch_size):
        _print_predictions(predict(forward, scene.pixels)[0], scene.class_names)
        shown: dict[str, Any] = {"show_progress": True, "on_update": saving.saves_to(save), **goals}
        started = saving.started(save, scene, method, seed, batch_size)
        if started is not None:
            explanation = started.refine(forward, **shown)
        else:
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
                **shown,
            )
    if save is not None:
        explanation.save(save)
        typer.echo(f"saved {printable(str(save))}")
    if explanation.estimate is not None:
        typer.echo(in_words(explanation.estimate))
    if explanation.stability is not None:
        typer.echo(f"stability {explanation.stability:.2f}: rank correlation of two halves of the samples")
    typer.echo(f"explained {explanation.label!r}")
    title = marked(REMOVALS[removal].title, REMOVALS[removal].leaks)
    about |= {"Model": model.model, "Seed": str(seed)}
    write(plot_explanation(explanation, title), output, image, about, overwrite=overwrite)


def _print_predictions(probabilities: torch.Tensor, class_names: tuple[str, ...]) -> None:
    best = probabilities.topk(min(5, len(class_names)))
    rows = [
        (printable(class_names[int(index)]), str(int(index)), f"{float(value):.3f}")
        for index, value in zip(best.indices, best.values, strict=True)
    ]
    typer.echo(text_table([("prediction", "index", "probability"), *rows], "<>>"))
