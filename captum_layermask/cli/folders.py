"""``captum-layermask explain FOLDER`` and ``compare FOLDER``: each picture, and a page that lists them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from captum_layermask.cli import options
from captum_layermask.cli.model import ModelOptions
from captum_layermask.cli.running import completed, printable_path
from captum_layermask.errors import InputError
from captum_layermask.evaluate.data.folders import require_outside
from captum_layermask.explain.method_options import check_method_options

if TYPE_CHECKING:
    from captum_layermask.evaluate.data.dataset import Dataset
    from captum_layermask.evaluate.gallery.gallery import Gallery
    from captum_layermask.models.loaded import LoadedModel

__all__ = ["compare", "explain"]

_GOALS = ("n_samples", "budget", "tolerance", "top_k")
#: Options that are the same for both commands, and have the same name in the experiments.
_COMMON = ("method", "segmentation", "n_segments", "batch_size", "seed", *_GOALS)


def explain(context: typer.Context, model: ModelOptions, folder: Path) -> None:
    """Explain one class of each picture of a folder."""
    given = context.params
    if given["save"] is not None:
        raise InputError("--save is for one picture; of a folder each explanation is saved, in numbers/.")

    def experiment(loaded: LoadedModel, data: Dataset, out: Path, common: dict[str, Any]) -> Gallery:
        from captum_layermask.evaluate.gallery.explanations import Explanations

        return Explanations(loaded, data, out, removal=given["removal"], target=given["target"], **common)

    _run(context, model, folder, Path("explanations"), experiment)


def compare(context: typer.Context, model: ModelOptions, folder: Path) -> None:
    """Explain each picture of a folder under several removals."""
    given = context.params

    def experiment(loaded: LoadedModel, data: Dataset, out: Path, common: dict[str, Any]) -> Gallery:
        from captum_layermask.cli.scene import find_classes
        from captum_layermask.evaluate.gallery.comparisons import Comparisons

        targets = given["targets"]
        return Comparisons(
            loaded,
            data,
            out,
            removals=options.split(given["removals"]),
            classes=2 if given["classes"] is None else given["classes"],
            targets=None if targets is None else find_classes(loaded.class_names, targets),
            top=given["top"],
            **common,
        )

    _run(context, model, folder, Path("comparisons"), experiment)


def _run(
    context: typer.Context,
    model: ModelOptions,
    folder: Path,
    default: Path,
    make: Callable[[LoadedModel, Dataset, Path, dict[str, Any]], Gallery],
) -> None:
    given = context.params
    source = context.get_parameter_source("output")
    out = options.check_out(default if source is None or source.name == "DEFAULT" else given["output"])
    require_outside(out, folder)
    check_method_options(given["method"], **{name: given[name] for name in _GOALS})
    options.require_evaluation()
    from captum_layermask.cli.scene import warnings_in_one_line
    from captum_layermask.evaluate.data.pictures import find_pictures
    from captum_layermask.evaluate.gallery.index import write_index
    from captum_layermask.evaluate.gallery.room import make_room

    data = find_pictures(folder)
    loaded = model.load()
    with warnings_in_one_line():
        experiment = make(loaded, data, out, {name: given[name] for name in _COMMON})
        make_room(out, overwrite=given["overwrite"])
        outcome = completed(experiment, out, given["batch_size"])
        if outcome is None:
            return
        page = write_index(experiment, outcome)
    typer.echo(
        f"{experiment.title}: {len(set(outcome.records['image'].to_pylist()))} images; "
        f"the page is {printable_path(page)}"
    )
