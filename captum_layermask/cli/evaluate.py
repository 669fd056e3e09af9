"""The command line: ``captum-layermask evaluate curves``, ``shape`` and ``lime``.

Nothing heavy is imported before a command's options are known to be good.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from captum_layermask.cli import options
from captum_layermask.cli.model import ModelOptions, takes_model
from captum_layermask.errors import InputError, MissingPackageError, StoppedError
from captum_layermask.evaluate.data.folders import require_outside
from captum_layermask.names import ORDERS, REMOVAL_NAMES, SEGMENTATION_NAMES

if TYPE_CHECKING:
    from captum_layermask.evaluate.experiment import Experiment
    from captum_layermask.evaluate.running import Outcome

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Measure on many images how much each removal of pixels misleads a network."""
    for package in ("jinja2", "pyarrow", "torchmetrics"):
        if importlib.util.find_spec(package) is None:
            raise MissingPackageError(
                f"the evaluation needs {package}, which is not installed: "
                "pip install 'captum-layermask[evaluate]'."
            )


_ALL_SEGMENTATIONS = ",".join(SEGMENTATION_NAMES)
_ALL_ORDERS = ",".join(ORDERS)

_MASKS = "Folder of object masks <image>.<category>.png; white is the object."

_Data = Annotated[
    Path,
    typer.Option(
        help="Folder of images: a folder for each class, <wnid>_*.JPEG, or any images and their --labels.",
        callback=options.check_folder,
    ),
]
_Labels = Annotated[
    Path | None,
    typer.Option(
        help="File of labels: lines of an image and its class, JSON, or Kaggle's LOC_val_solution.csv.",
        show_default="as the folder tells",
    ),
]
_Out = Annotated[
    Path,
    typer.Option(
        help="Folder to write to. A run that was stopped there goes on where it stopped.",
        callback=options.check_out,
    ),
]
_Removals = Annotated[
    str,
    typer.Option(
        help=f"Removals, with commas between them: {', '.join(REMOVAL_NAMES)}.",
        callback=options.removals,
    ),
]
_Segmentations = Annotated[
    str,
    typer.Option(
        help=f"Segmentations, with commas between them: {', '.join(SEGMENTATION_NAMES)}.",
        callback=options.segmentations,
    ),
]
_SegmentCount = Annotated[
    int, typer.Option(help="About how many segments to make.", callback=options.at_least(1))
]
_Limit = Annotated[
    int | None,
    typer.Option(
        help="Take so many images, spread evenly over the folder.",
        show_default="all",
        callback=options.at_least(1),
    ),
]
_Threads = Annotated[
    int | None,
    typer.Option(
        help="Threads of each process. It belongs to the settings of a run: it decides last bits.",
        show_default="as torch chooses",
        callback=options.check_threads,
    ),
]


@app.command()
@takes_model
def curves(
    context: typer.Context,
    data: _Data,
    out: _Out,
    model: ModelOptions,
    removals: _Removals = "layer,grey,black",
    segmentations: _Segmentations = _ALL_SEGMENTATIONS,
    n_segments: _SegmentCount = 196,
    orders: Annotated[
        str,
        typer.Option(
            help=f"In which order segments are removed, with commas between: {', '.join(ORDERS)}.",
            callback=options.orders,
        ),
    ] = _ALL_ORDERS,
    fractions: Annotated[
        int,
        typer.Option(help="How many fractions of the segments, from 0 to 1.", callback=options.at_least(2)),
    ] = 11,
    saliency: Annotated[
        Path | None,
        typer.Option(
            help="Folder of saliency maps, <image>.png or .npy.",
            show_default="gradients of the model",
            callback=options.check_folder,
        ),
    ] = None,
    labels: _Labels = None,
    limit: _Limit = None,
    seed: options.Seed = 0,
    threads: _Threads = None,
) -> None:
    """Predict while more and more segments of each image are removed (§4.1, Tables 1 and 3)."""
    from captum_layermask.evaluate.curves.experiment import Curves
    from captum_layermask.evaluate.data.dataset import find_images

    require_outside(out, data, saliency)
    _use_threads(threads)
    loaded = model.load()
    experiment = Curves(
        loaded,
        find_images(data, loaded.class_names, saliency=saliency, labels=labels, limit=limit),
        removals=options.split(removals),
        segmentations=options.split(segmentations),
        orders=options.split(orders),
        fractions=fractions,
        n_segments=n_segments,
        seed=seed,
    )
    outcome = _evaluate(experiment, out, context.obj)
    if outcome is not None and outcome.facts["units"]:
        each = len(experiment.units(experiment.images[0]))
        seconds = 1000 * each * outcome.facts["loop_seconds"] / outcome.facts["units"]
        typer.echo(
            f"1000 images × {each} segmentations, orders and removals × {fractions} fractions would take "
            f"{seconds:.0f} s of processes"
        )


@app.command()
@takes_model
def shape(
    context: typer.Context,
    data: _Data,
    masks: Annotated[Path, typer.Option(help=_MASKS, callback=options.check_folder)],
    out: _Out,
    model: ModelOptions,
    removals: _Removals = "layer,grey,black",
    pairs: Annotated[
        int,
        typer.Option(
            help="On how many images of other classes each mask is laid.", callback=options.at_least(0)
        ),
    ] = 8,
    labels: _Labels = None,
    limit: _Limit = None,
    seed: options.Seed = 0,
    threads: _Threads = None,
) -> None:
    """Remove objects by their own masks and by broken ones: does the shape tell the class (§4.2, Fig. 6)?"""
    from captum_layermask.evaluate.data.dataset import find_images
    from captum_layermask.evaluate.shape.experiment import Shape

    require_outside(out, data, masks)
    _use_threads(threads)
    loaded = model.load()
    images = find_images(data, loaded.class_names, masks=masks, labels=labels, limit=limit, labelled=False)
    _evaluate(
        Shape(loaded, images, removals=options.split(removals), pairs=pairs, seed=seed), out, context.obj
    )


@app.command()
@takes_model
def lime(
    context: typer.Context,
    data: _Data,
    out: _Out,
    model: ModelOptions,
    masks: Annotated[
        Path | None,
        typer.Option(
            help=_MASKS, show_default="no alignment, no Jaccard similarity", callback=options.check_folder
        ),
    ] = None,
    removals: _Removals = "layer,grey,black",
    segmentations: _Segmentations = _ALL_SEGMENTATIONS,
    n_segments: _SegmentCount = 196,
    n_samples: Annotated[
        int, typer.Option(help="Perturbed images for each explanation.", callback=options.at_least(1))
    ] = 500,
    top: Annotated[
        str,
        typer.Option(
            help="How many of the most important segments to remove, with commas between.",
            callback=options.check_numbers,
        ),
    ] = "10,20,30",
    mosaics: Annotated[
        int,
        typer.Option(help="Mosaics of four images for the Grid Pointing Game.", callback=options.at_least(0)),
    ] = 30,
    batch_size: options.BatchSize = 16,
    labels: _Labels = None,
    limit: _Limit = None,
    seed: options.Seed = 0,
    threads: _Threads = None,
) -> None:
    """Explain predictions by LIME under each removal, and measure the explanations (§4.4, Table 2)."""
    from captum_layermask.evaluate.data.dataset import find_images
    from captum_layermask.evaluate.lime.experiment import Lime

    require_outside(out, data, masks)
    _use_threads(threads)
    loaded = model.load()
    experiment = Lime(
        loaded,
        find_images(data, loaded.class_names, masks=masks, labels=labels, limit=limit, labelled=False),
        removals=options.split(removals),
        segmentations=options.split(segmentations),
        n_segments=n_segments,
        n_samples=n_samples,
        top=options.numbers(top),
        mosaics=mosaics,
        batch_size=batch_size,
        seed=seed,
    )
    _evaluate(experiment, out, context.obj)


def _evaluate(experiment: Experiment, out: Path, command: str | None) -> Outcome | None:
    """Run an experiment, write its report and print the tables; processes but the first only run."""
    from captum_layermask.evaluate.report.report import heading, markdown, write_report
    from captum_layermask.evaluate.running import run

    with _stopped_run(out):
        outcome = run(experiment, out)
    if outcome is None:
        return None
    left_out = outcome.left_out.to_pylist()
    if not outcome.records.num_rows:
        reasons = "".join(f"; {row['image']}, the first: {row['reason']}" for row in left_out[:1])
        raise InputError(f"not one image was left to evaluate{reasons}")
    if left_out:
        first = left_out[0]
        typer.echo(
            f"left out {len(left_out)} of {len(experiment.images)}, which left_out.parquet lists, first "
            f"{first['image']}: {first['reason']}",
            err=True,
        )
    report = experiment.report(outcome.records)
    report = dataclasses.replace(report, facts=report.facts | {"this start": outcome.facts})
    write_report(report, out, outcome.settings, command)
    typer.echo(heading(report))
    for table in report.tables:
        typer.echo(markdown(table))
    page = _printable(out / "report.html")
    typer.echo(f"{report.facts['images']} images; {_speed(outcome.facts)}; the page is {page}")
    return outcome


def _speed(facts: dict[str, Any]) -> str:
    if not facts["units"]:
        return "all was recorded before"
    loop, forwards = facts["loop_seconds"], facts["forward_seconds"]
    times = (
        f"{loop / forwards:.2f} times the {forwards:.0f} s in forwards" if forwards else "none in forwards"
    )
    return f"{facts['units']} units of work took {loop:.0f} s of processes ({facts['processes']}), {times}"


def _printable(path: Path) -> str:
    """A path whose bytes are no UTF-8 would end the command where it is printed."""
    return os.fsencode(path).decode(errors="replace")


@contextmanager
def _stopped_run(out: Path) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as stop:
        raise StoppedError(
            f"what was recorded is kept in {str(out)!r}; give the same command again to go on from there."
        ) from stop


def _use_threads(threads: int | None) -> None:
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
