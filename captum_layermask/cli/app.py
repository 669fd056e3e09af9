"""The command line: ``captum-layermask explain [IMAGE]``, ``compare [IMAGE]`` and ``evaluate …``.

Nothing heavy is imported before a command's options are known to be good.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from captum_layermask.cli import options
from captum_layermask.cli.evaluate import app as evaluate
from captum_layermask.errors import InputError
from captum_layermask.names import DEFAULT_REMOVALS, METHODS, REMOVAL_NAMES, SEGMENTATION_NAMES
from captum_layermask.plots.files import check_figure_path, check_replacing

__all__ = ["app"]

app = typer.Typer(
    cls=options.Commands, add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True
)
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
    typer.Argument(
        metavar="IMAGE",
        help="Picture to explain.",
        show_default="scikit-image's cat 'chelsea'",
        callback=options.check_file,
    ),
]
_Method = Annotated[
    str,
    typer.Option(help=f"One of {', '.join(METHODS)}.", callback=options.knows("method", METHODS)),
]
_Segmentation = Annotated[
    str, typer.Option(help=f"One of {', '.join(SEGMENTATION_NAMES)}.", callback=options.segmentations)
]
_SegmentCount = Annotated[
    int | None,
    typer.Option(
        help="About how many segments to make.",
        show_default="196 for grid, else 64",
        callback=options.at_least(1),
    ),
]
_SampleCount = Annotated[
    int | None,
    typer.Option(
        help="Perturbed images (lime, kernel-shap) or random orders (shapley-sampling).",
        show_default="500, or 10 orders",
        callback=options.at_least(1),
    ),
]
_Output = Annotated[
    Path,
    typer.Option(
        "--output", "-o", help="Figure to write: PNG, JPEG, TIFF, WebP, PDF or SVG. An older one is replaced."
    ),
]


@app.command()
def explain(
    context: typer.Context,
    image: _Image = None,
    model: options.Model = "efficientnet-lite0",
    removal: Annotated[
        str,
        typer.Option(
            help=f"How to remove pixels: one of {', '.join(REMOVAL_NAMES)}.", callback=options.removals
        ),
    ] = "layer",
    method: _Method = "lime",
    segmentation: _Segmentation = "slic",
    n_segments: _SegmentCount = None,
    n_samples: _SampleCount = None,
    batch_size: options.BatchSize = 16,
    target: Annotated[
        str | None,
        typer.Option(help="Class to explain, by name or index.", show_default="the likeliest"),
    ] = None,
    seed: options.Seed = 0,
    output: _Output = Path("explanation.png"),
) -> None:
    """Draw which regions of IMAGE speak for and against a prediction."""
    about = _about(context, image, method, n_samples, output)
    from captum_layermask.cli import figures as commands

    figure = commands.explain(
        commands.load_scene(image, model, segmentation, n_segments, target=target),
        removal=removal,
        method=method,
        n_samples=n_samples,
        batch_size=batch_size,
        seed=seed,
    )
    commands.write(figure, output, image, about | {"Model": model, "Seed": str(seed)})


@app.command()
def compare(
    context: typer.Context,
    image: _Image = None,
    model: options.Model = "efficientnet-lite0",
    removals: Annotated[
        str,
        typer.Option(
            help=f"Ways to remove pixels, with commas between them: {', '.join(REMOVAL_NAMES)}.",
            callback=options.removals,
        ),
    ] = ",".join(DEFAULT_REMOVALS),
    method: _Method = "lime",
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
    segmentation: _Segmentation = "slic",
    n_segments: _SegmentCount = None,
    n_samples: _SampleCount = None,
    batch_size: options.BatchSize = 16,
    top: Annotated[
        int,
        typer.Option(
            help="Segments (occlusion: squares) to remove, and to keep, in the table.",
            callback=options.at_least(1),
        ),
    ] = 10,
    seed: options.Seed = 0,
    output: _Output = Path("comparison.png"),
) -> None:
    """Draw how explanations of IMAGE differ between ways to remove pixels, and test each."""
    if classes is not None and targets is not None:
        raise InputError("--classes and --targets both choose classes; give one of them.")
    about = _about(context, image, method, n_samples, output)
    from captum_layermask.cli import figures as commands

    figure = commands.compare(
        commands.load_scene(image, model, segmentation, n_segments, targets=targets),
        removals=options.split(removals),
        method=method,
        classes=2 if classes is None else classes,
        n_samples=n_samples,
        batch_size=batch_size,
        top=top,
        seed=seed,
    )
    commands.write(figure, output, image, about | {"Model": model, "Seed": str(seed)})


def _about(
    context: typer.Context, image: Path | None, method: str, n_samples: int | None, output: Path
) -> dict[str, str]:
    """Check what concerns several options, and say how the figure is made."""
    default = METHODS[method][1]
    if n_samples is not None and default is None:
        raise InputError(f"{method} draws no samples; leave out --n-samples.")
    check_figure_path(output)
    check_replacing(output, image)
    samples = default if n_samples is None else n_samples
    return {"Command": str(context.obj), "Samples": "none" if samples is None else str(samples)}
