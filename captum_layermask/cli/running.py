"""A command runs an experiment: Ctrl-C, memory, and images that were left out, each become a sentence."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from captum_layermask.errors import InputError, StoppedError

if TYPE_CHECKING:
    from captum_layermask.evaluate.experiment import Experiment
    from captum_layermask.evaluate.running import Outcome

__all__ = ["completed", "enough_memory", "printable_path"]


def completed(experiment: Experiment, out: Path, batch_size: int | None = None) -> Outcome | None:
    """Run an experiment, and tell what was left out; None in processes but the first.

    Raises:
        StoppedError: Ctrl-C.
        InputError: not one image could be used, or what ``run`` refuses.
    """
    from captum_layermask.evaluate.running import run

    try:
        with enough_memory(batch_size):
            outcome = run(experiment, out)
    except KeyboardInterrupt as stop:
        raise StoppedError(
            f"what was recorded is kept in {str(out)!r}; give the same command again to go on from there."
        ) from stop
    if outcome is None:
        return None
    left_out = outcome.left_out.to_pylist()
    if not outcome.records.num_rows:
        reasons = "".join(f"; {row['image']}, the first: {row['reason']}" for row in left_out[:1])
        raise InputError(f"not one image was left{reasons}")
    if left_out:
        first = left_out[0]
        typer.echo(
            f"left out {len(left_out)} of {len(experiment.images)}, which left_out.parquet lists, first "
            f"{first['image']}: {first['reason']}",
            err=True,
        )
    return outcome


@contextmanager
def enough_memory(batch_size: int | None) -> Iterator[None]:
    """Say which batch size to try when memory is not enough.

    Args:
        batch_size: images per call of the network; None where no option tells it.

    Raises:
        InputError: memory is not enough.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_want_of_memory(error):
            raise
        smaller = None if batch_size is None else batch_size // 2
        advice = (
            f"--batch-size {smaller}" if smaller else "--device cpu, --dtype bfloat16 or a smaller --size"
        )
        asked = "" if batch_size is None else f" for --batch-size {batch_size}"
        raise InputError(f"there is not enough memory{asked}; give {advice}.") from error


def printable_path(path: Path) -> str:
    """A path whose bytes are no UTF-8 would end the command where it is printed."""
    return os.fsencode(path).decode(errors="replace")


def _is_want_of_memory(error: Exception) -> bool:
    import torch

    # on the CPU torch raises a RuntimeError of no type of its own
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error)
