"""The command line: ``captum-layermask evaluate curves``, ``shape`` and ``lime``."""

from __future__ import annotations

import dataclasses
import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import torch
import typer

from captum_layermask.errors import InputError, MissingPackageError
from captum_layermask.evaluate.folders import require_outside
from captum_layermask.evaluate.orders import ORDERS
from captum_layermask.models import load_model
from captum_layermask.removals import REMOVALS
from captum_layermask.segments import SEGMENTERS

if TYPE_CHECKING:
    from captum_layermask.evaluate.run import Experiment, Outcome

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Measure on many images how much each way to remove pixels misleads a network."""
    for package in ("jinja2", "pyarrow", "torchmetrics"):
        try:
            importlib.import_module(package)
        except ModuleNotFoundError as error:
            raise MissingPackageError(
                f"the evaluation needs {package}, which is not installed: "
                "pip install 'captum-layermask[evaluate]'."
            ) from error


_ALL_SEGMENTATIONS = ",".join(SEGMENTERS)
_ALL_ORDERS = ",".join(ORDERS)

_MASKS = "Folder of object masks <image>.<category>.png; white is the object."

_Data = Annotated[
    Path,
    typer.Option(
        help="Folder of images: a folder for each class, <wnid>_*.JPEG, or any images and their --labels."
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
    Path, typer.Option(help="Folder to write to. A run that was stopped there goes on where it stopped.")
]
_Model = Annotated[
    str, typer.Option(help="efficientnet-lite0, -lite1, -lite2, torchvision:NAME or timm:NAME.")
]
_Missing = Annotated[
    str, typer.Option(help=f"Ways to remove pixels, with commas between them: {', '.join(REMOVALS)}.")
]
_Segments = Annotated[
    str, typer.Option(help=f"Segmentations, with commas between them: {', '.join(SEGMENTERS)}.")
]
_SegmentCount = Annotated[int, typer.Option(help="About how many segments to make.")]
_Limit = Annotated[
    int | None,
    typer.Option(help="Take so many images, spread evenly over the folder.", show_default="all"),
]
_Seed = Annotated[int, typer.Option(help="Seed of all that is random.")]
_Threads = Annotated[
    int | None,
    typer.Option(
        help="Threads of each process. It belongs to the settings of a run: it decides last bits.",
        show_default="as torch chooses",
    ),
]


@app.command()
def curves(
    data: _Data,
    out: _Out,
    model: _Model = "efficientnet-lite0",
    missing: _Missing = "layer,grey,black",
    segments: _Segments = _ALL_SEGMENTATIONS,
    n_segments: _SegmentCount = 196,
    orders: Annotated[
        str, typer.Option(help=f"In which order segments go, with commas between: {', '.join(ORDERS)}.")
    ] = _ALL_ORDERS,
    fractions: Annotated[int, typer.Option(help="How many fractions of the segments, from 0 to 1.")] = 11,
    saliency: Annotated[
        Path | None,
        typer.Option(
            help="Folder of saliency maps, <image>.png or .npy.", show_default="gradients of the model"
        ),
    ] = None,
    labels: _Labels = None,
    limit: _Limit = None,
    seed: _Seed = 0,
    threads: _Threads = None,
) -> None:
    """Predict while more and more segments of each image are removed (§4.1, Tables 1 and 3)."""
    from captum_layermask.evaluate.curves import Curves
    from captum_layermask.evaluate.dataset import find_images

    require_outside(out, data, saliency)
    _use_threads(threads)
    loaded = load_model(model)
    experiment = Curves(
        loaded,
        find_images(data, loaded.categories, saliency=saliency, labels=labels, limit=limit),
        missing=_names(missing),
        segments=_names(segments),
        orders=_names(orders),
        fractions=fractions,
        n_segments=n_segments,
        seed=seed,
    )
    outcome = _evaluate(experiment, out)
    if outcome is not None and outcome.facts["units"]:
        each = len(experiment.units(experiment.images[0]))
        seconds = 1000 * each * outcome.facts["loop_seconds"] / outcome.facts["units"]
        typer.echo(
            f"1000 images × {each} segmentations, orders and ways × {fractions} fractions would take "
            f"{seconds:.0f} s of processes"
        )


@app.command()
def shape(
    data: _Data,
    masks: Annotated[Path, typer.Option(help=_MASKS)],
    out: _Out,
    model: _Model = "efficientnet-lite0",
    missing: _Missing = "layer,grey,black",
    pairs: Annotated[int, typer.Option(help="On how many images of other classes each mask is laid.")] = 8,
    labels: _Labels = None,
    limit: _Limit = None,
    seed: _Seed = 0,
    threads: _Threads = None,
) -> None:
    """Hide objects by their own masks and by broken ones: does the shape tell the class (§4.2, Fig. 6)?"""
    from captum_layermask.evaluate.dataset import find_images
    from captum_layermask.evaluate.shape import Shape

    require_outside(out, data, masks)
    _use_threads(threads)
    loaded = load_model(model)
    images = find_images(data, loaded.categories, masks=masks, labels=labels, limit=limit, labelled=False)
    _evaluate(Shape(loaded, images, missing=_names(missing), pairs=pairs, seed=seed), out)


@app.command()
def lime(
    data: _Data,
    out: _Out,
    masks: Annotated[
        Path | None, typer.Option(help=_MASKS, show_default="no alignment, no Jaccard similarity")
    ] = None,
    model: _Model = "efficientnet-lite0",
    missing: _Missing = "layer,grey,black",
    segments: _Segments = _ALL_SEGMENTATIONS,
    n_segments: _SegmentCount = 196,
    n_samples: Annotated[int, typer.Option(help="Perturbed images for each explanation.")] = 500,
    top: Annotated[
        str, typer.Option(help="How many of the most important segments to remove, with commas between.")
    ] = "10,20,30",
    mosaics: Annotated[int, typer.Option(help="Mosaics of four images for the Grid Pointing Game.")] = 30,
    batch_size: Annotated[int, typer.Option(help="Perturbed images per call of the model.")] = 16,
    labels: _Labels = None,
    limit: _Limit = None,
    seed: _Seed = 0,
    threads: _Threads = None,
) -> None:
    """Explain predictions by LIME under each way, and measure the explanations (§4.4, Table 2)."""
    from captum_layermask.evaluate.dataset import find_images
    from captum_layermask.evaluate.lime import Lime

    require_outside(out, data, masks)
    _use_threads(threads)
    loaded = load_model(model)
    experiment = Lime(
        loaded,
        find_images(data, loaded.categories, masks=masks, labels=labels, limit=limit, labelled=False),
        missing=_names(missing),
        segments=_names(segments),
        n_segments=n_segments,
        n_samples=n_samples,
        top=_numbers(top),
        mosaics=mosaics,
        batch_size=batch_size,
        seed=seed,
    )
    _evaluate(experiment, out)


def _evaluate(experiment: Experiment, out: Path) -> Outcome | None:
    """Run an experiment, write its report and print the tables; processes but the first only run."""
    from captum_layermask.evaluate.report import markdown, write_report
    from captum_layermask.evaluate.run import run

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
    write_report(report, out, outcome.settings)
    typer.echo(f"# {report.title}\n\n{report.summary}\n")
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


def _names(text: str) -> list[str]:
    """The names that an option lists, each once."""
    return list(dict.fromkeys(name.strip() for name in text.split(",")))


def _numbers(text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise InputError(f"{text!r} is no list of numbers; give some such as 10,20,30.") from None


def _use_threads(threads: int | None) -> None:
    if threads is not None:
        if threads < 1:
            raise InputError(f"the number of threads is {threads}; give at least 1.")
        torch.set_num_threads(threads)
