"""What an experiment gives its report: results, which are of the records alone, and example pictures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from matplotlib.figure import Figure

from captum_layermask.evaluate.report.report import Table

__all__ = ["Example", "Results"]


class Results(ABC):
    """What the records of an experiment mean. ``Experiment.report`` makes a report of it.

    Equal records give equal results; files are read for example pictures only (``Experiment.examples``).

    Args:
        records: of complete images, sorted by image and unit.

    Example:
        ```python
        class Counts(Results):
            def tables(self):
                rows = ((str(self.records.num_rows),),)
                return [Table("Records", "How many there are.", ("records",), rows)]
        ```
    """

    def __init__(self, records: pa.Table) -> None:
        self.records = records

    @abstractmethod
    def tables(self) -> Sequence[Table]:
        """In reading order."""

    def summary(self) -> str:
        """One paragraph of plain text."""
        return ""

    def figures(self) -> Mapping[str, Figure]:
        """Name of the file, without its suffix → figure, whose label (``set_label``) is its caption."""
        return {}

    def facts(self) -> dict[str, Any]:
        """JSON, shown at the head of the report; ``images`` is how many were evaluated."""
        return {"images": len(self.records["image"].unique())}


@dataclass(frozen=True)
class Example:
    """Pictures of one of the recorded images.

    Attributes:
        figure: its name, without suffix.
        images: ids of those that would do, in the order in which to try them.
        draw: what ``Experiment.open`` returned → the figure. It may raise ``LeftOutError``, as ``open`` may;
            then the next image is tried.
        fact: under which the report says that no image could be drawn.

    Example:
        ```python
        Example("examples", results.images, lambda opened: plot_pictures(...))
        ```
    """

    figure: str
    images: Iterable[str]
    draw: Callable[[Any], Figure]
    fact: str = "examples"
