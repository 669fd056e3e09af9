"""Units of work are run once, by one process or by several."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch
from tqdm.auto import tqdm

from captum_layermask.errors import FewSamplesWarning, LeftOutError, VanishedWarning
from captum_layermask.evaluate.experiment import Experiment
from captum_layermask.evaluate.peers import peers, place_among_processes
from captum_layermask.evaluate.records import (
    Recorder,
    claim_folder,
    locked,
    read_records,
    recorded_units,
    write_table,
)

__all__ = ["Outcome", "run"]

_LEFT_OUT = pa.schema([("image", pa.string()), ("reason", pa.string())])

#: Packages whose versions decide records, be it in the last bits.
_PACKAGES = (
    "captum-layermask",
    "captum",
    "numpy",
    "pillow",
    "scikit-image",
    "scikit-learn",
    "torchvision",
)


@dataclass(frozen=True)
class Outcome:
    """A run that is complete.

    Attributes:
        records: of all processes and earlier starts, sorted by image and unit; without those of images that
            an earlier start began and this one had to leave out.
        left_out: columns ``image`` and ``reason``, sorted.
        settings: JSON, what decided the records.
        facts: JSON about this start of the run, of all its processes: ``processes``, ``units`` done,
            ``forward_seconds`` in forwards, ``loop_seconds`` in all.

    Example:
        ```python
        outcome = run(experiment, out)
        print(outcome.records.num_rows, outcome.facts["loop_seconds"])
        ```
    """

    records: pa.Table
    left_out: pa.Table
    settings: dict[str, Any]
    facts: dict[str, Any]


def run(experiment: Experiment, out: Path, *, show_progress: bool = True) -> Outcome | None:
    """Do every unit of an experiment that is not recorded yet, and return all records.

    A run that was stopped at any moment goes on where it stopped when it is started again. An image that
    cannot be used is listed in ``left_out.parquet`` and tried again at the next start.

    Started by ``torchrun`` (or with its environment variables), every process does a share of the images.
    Units are independent of each other, so the records do not depend on the number of processes. They may
    depend, in the last bits of the logits, on the number of threads and on versions of packages, so these
    belong to the settings.

    Args:
        experiment: what to do.
        out: folder of the run; made if need be.
        show_progress: show a progress bar with the time left of the first process's share on stderr.

    Returns:
        The outcome; None in all processes but the first.

    Raises:
        InputError: the folder holds a run with other settings (the first that differs is named), another run
            is writing to it, or it cannot be read or written; or environment variables make no sense.
        ProcessLostError: another process did not start, or ended early. What was done is recorded.

    Example:
        ```python
        experiment = Curves(model, data)
        outcome = run(experiment, Path("curves"))
        report = experiment.report(outcome.records)
        ```
    """
    versions = {package: importlib.metadata.version(package) for package in _PACKAGES}
    versions["torch"] = torch.__version__  # which names the build, too
    settings = {**experiment.settings, "threads": torch.get_num_threads(), "versions": versions}
    rank, count = place_among_processes()
    with ExitStack() as stack:
        if rank == 0:
            stack.enter_context(locked(out))
        gather = stack.enter_context(peers(rank, count))
        claim_folder(out, settings)
        done = recorded_units(out)
        todo = []
        for image in experiment.images[rank::count]:
            units = [unit for unit in experiment.units(image) if (image, unit) not in done]
            if units:
                todo.append((image, units))
        share = _do(experiment, todo, Recorder(out, experiment.schema, rank), show_progress and rank == 0)
        shares = [_Share(**each) for each in gather(dataclasses.asdict(share))]
        if rank != 0:
            return None
        left_out = pa.Table.from_pylist(
            sorted((row for s in shares for row in s.left_out), key=lambda row: row["image"]),
            schema=_LEFT_OUT,
        )
        write_table(left_out, out / "left_out.parquet")
        facts = {
            "processes": count,
            "units": sum(s.units for s in shares),
            "forward_seconds": sum(s.forward_seconds for s in shares),
            "loop_seconds": sum(s.loop_seconds for s in shares),
        }
        records = read_records(out, experiment.schema)
        complete = pc.invert(pc.is_in(records["image"], left_out["image"].combine_chunks()))
        return Outcome(records.filter(complete), left_out, settings, facts)


@dataclass
class _Share:
    """What one process did."""

    left_out: list[dict[str, str]]
    units: int
    forward_seconds: float
    loop_seconds: float


def _do(
    experiment: Experiment, todo: list[tuple[str, list[str]]], recorder: Recorder, show_progress: bool
) -> _Share:
    left_out = []
    units_done = 0
    forward_seconds, start = experiment.forward_seconds, time.perf_counter()
    total = sum(len(units) for _, units in todo)
    with (
        warnings.catch_warnings(),
        recorder,
        tqdm(total=total, desc=experiment.name, unit="unit", disable=not show_progress) as progress,
    ):
        warnings.simplefilter("ignore", VanishedWarning)  # every record says so itself
        warnings.simplefilter("ignore", FewSamplesWarning)  # the experiment has said so once
        for (image, units), opened in zip(todo, _opened_ahead(experiment, todo), strict=True):
            if isinstance(opened, LeftOutError):
                left_out.append({"image": image, "reason": str(opened)})
                progress.update(len(units))
                continue
            for unit in units:
                recorder.add(image, unit, experiment.work(opened, unit))
                units_done += 1
                progress.update()
    return _Share(
        left_out,
        units_done,
        experiment.forward_seconds - forward_seconds,
        time.perf_counter() - start,
    )


def _opened_ahead(experiment: Experiment, todo: Sequence[tuple[str, list[str]]]) -> Iterator[Any]:
    """Each image opened, or the error that says why it is left out, while the one before it is worked on."""

    def opened(image: str) -> Any:
        try:
            return experiment.open(image)
        except LeftOutError as error:
            return error

    with ThreadPoolExecutor(1) as thread:
        ahead = None
        for image, _ in todo:
            following = thread.submit(opened, image)
            if ahead is not None:
                yield ahead.result()
            ahead = following
        if ahead is not None:
            yield ahead.result()
