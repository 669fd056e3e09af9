"""``captum-layermask compare [IMAGE]``: a picture explained under several removals, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from captum_layermask.cli import folders, options
from captum_layermask.cli.model import ModelOptions, takes_model
from captum_layermask.cli.running import enough_memory
from captum_layermask.errors import InputError
from captum_layermask.names import DEFAULT_REMOVALS, REMOVAL_NAMES

__all__ = ["compare"]


@takes_model
def compare(
    context: typer.Context,
    model: ModelOptions,
    image: options.Image = None,
    removals: Annotated[
        str,
        typer.Option(
            help=f"Removals, with commas between them: {', '.join(REMOVAL_NAMES)}.",
            callback=options.removals,
        ),
    ] = ",".join(DEFAULT_REMOVALS),
    method: options.Method = "lime",
    classes: Annotated[
        int | None,
        typer.Option(
            help="How many of the likeliest classes to explain; those under 0.05 are left out.",
            show_default="2",
            callback=options.at_least(1),
        ),
    ] = None,
    targets: Annotated[
        str | None,
        typer.Option(
            help="Classes to explain, by name or index, with commas between them.",
            show_default="the likeliest",
        ),
    ] = None,
    segmentation: options.Segmentation = "slic",
    n_segments: options.SegmentCount = None,
    n_samples: options.SampleCount = None,
    budget: options.Budget = None,
    tolerance: options.Tolerance = None,
    top_k: options.TopK = None,
    batch_size: options.BatchSize = 16,
    top: Annotated[
        int,
        typer.Option(
            help="Segments (occlusion: squares) to remove, and to leave alone visible, in the table.",
            callback=options.at_least(1),
        ),
    ] = 10,
    seed: options.Seed = 0,
    output: options.Output = Path("comparison.png"),
    overwrite: options.Overwrite = False,
) -> None:
    """Draw how explanations of IMAGE, or of each picture in a folder, differ between removals."""
    if classes is not None and targets is not None:
        raise InputError("--classes and --targets both choose classes; give one of them.")
    if image is not None and image.is_dir():
        return folders.compare(context, model, image)
    goals: dict[str, Any] = {"budget": budget, "tolerance": tolerance, "top_k": top_k}
    about = options.how_made(context, image, method, n_samples, output, **goals)
    from captum_layermask.cli.scene import load_scene, warnings_in_one_line, write
    from captum_layermask.explain.comparison import LEAST_PROBABILITY, compare
    from captum_layermask.explain.estimators.estimate import in_words
    from captum_layermask.plots.comparison import plot_comparison

    scene = load_scene(image, model, segmentation, n_segments, targets=targets)
    with warnings_in_one_line(), enough_memory(batch_size):
        comparison = compare(
            scene.network,
            scene.pixels,
            scene.segments,
            class_names=scene.class_names,
            colors=scene.colors,
            removals=options.split(removals),
            method=method,
            classes=2 if classes is None else classes,
            targets=scene.targets,
            n_samples=n_samples,
            **goals,
            perturbations_per_eval=batch_size,
            top=top,
            seed=seed,
            show_progress=True,
        )
    typer.echo(comparison.table())
    estimates = [one for row in comparison.rows if (one := row.explanation.estimate) is not None]
    if estimates:
        typer.echo(in_words(max(estimates, key=lambda one: float(one.standard_errors.max()))))
    if comparison.left_out:
        names = ", ".join(f"{name!r} ({probability:.3f})" for name, probability in comparison.left_out)
        typer.echo(
            f"left out {names}: less likely than {LEAST_PROBABILITY}; --targets explains any class", err=True
        )
    typer.echo(f"compared {', '.join(comparison.removals)}")
    about |= {"Model": model.model, "Seed": str(seed)}
    write(plot_comparison(comparison), output, image, about, overwrite=overwrite)
