"""An experiment's tables and figures become Markdown, JSON and one HTML page."""

from __future__ import annotations

import base64
import importlib.metadata
import io
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from matplotlib.figure import Figure

from captum_layermask.files import write_whole
from captum_layermask.plots.files import figure_metadata
from captum_layermask.text import in_markdown, markdown_table

__all__ = ["Report", "Table", "absent", "heading", "markdown", "write_report"]

_PACKAGES = ("captum-layermask", "torch", "torchvision", "captum", "torchmetrics", "scikit-image", "numpy")

#: Keyword of a figure's metadata → setting.
_ORIGIN = {"Model": "model", "Seed": "seed", "Samples": "n_samples"}

#: Longer tables come after the figures of the page.
_SHORT = 20


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        title: one line.
        caption: what its numbers are, and what they may be compared with.
        header: a name for each column; none for a table that could not be made (``absent``).
        rows: of cells, as many as the header has.

    Example:
        ```python
        Table("Accuracy", "Of 100 images.", ("removal", "accuracy"), (("grey", "0.41"),))
        ```
    """

    title: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Report:
    """What an experiment found.

    Attributes:
        title: one line.
        summary: one paragraph of plain text.
        tables: in reading order.
        figures: name of the file, without its suffix → figure, whose label (``set_label``) is its caption.
        facts: JSON: how many images, how many vanished or could not be read, seconds ….

    Example:
        ```python
        report = experiment.report(run(experiment, out).records)
        print(report.summary)
        ```
    """

    title: str
    summary: str
    tables: tuple[Table, ...]
    figures: Mapping[str, Figure]
    facts: dict[str, Any]


def absent(title: str, reason: str) -> Table:
    """What stands in the place of a table that could not be made.

    Args:
        title: of that table.
        reason: half a sentence.

    Example:
        ```python
        absent("Grid Pointing Game", "there are no mosaics")  # "Not here: there are no mosaics."
        ```
    """
    return Table(title, f"Not here: {reason}.", (), ())


def markdown(table: Table) -> str:
    """The table as a pipe table, with its title and caption; text to the left, numbers to the right.

    Example:
        ```python
        print(markdown(report.tables[0]))
        ```
    """
    title = f"## {in_markdown(table.title)}\n\n{in_markdown(table.caption)}\n"
    if not table.header:
        return title
    sides = "".join(">" if side == "right" else "<" for side in _sides(table))
    return f"{title}\n{markdown_table(table.header, table.rows, sides)}\n"


def heading(report: Report) -> str:
    """The title and the summary of a report, as Markdown.

    Example:
        ```python
        print(heading(report))
        ```
    """
    return f"# {in_markdown(report.title)}\n\n{in_markdown(report.summary)}\n"


def write_report(report: Report, out: Path, settings: dict[str, Any], command: str | None = None) -> None:
    """Write ``tables.md``, ``figures/*.png``, ``report.json`` and ``report.html`` into a folder.

    Equal reports give equal tables, byte for byte. The page needs no other file, no script and no network.

    Args:
        report: what was found.
        out: a folder, made if need be; files of an earlier report are replaced.
        settings: JSON, what decided the records.
        command: that was given, for the metadata of the figures.

    Raises:
        InputError: the folder cannot be written to.

    Example:
        ```python
        write_report(experiment.report(outcome.records), out, outcome.settings)
        ```
    """
    origin = {"Command": command} | {word: settings.get(name) for word, name in _ORIGIN.items()}
    metadata = figure_metadata({name: str(value) for name, value in origin.items() if value is not None})
    pictures = {name: _png(figure, metadata) for name, figure in report.figures.items()}
    about = {"facts": report.facts, "settings": settings, "versions": _versions(), "machine": _machine()}
    for name, picture in pictures.items():
        write_whole(out / "figures" / f"{name}.png", picture)
    write_whole(out / "tables.md", _tables(report).encode())
    write_whole(out / "report.json", (json.dumps(about, indent=2, ensure_ascii=False) + "\n").encode())
    write_whole(out / "report.html", _page(report, pictures, about).encode())


def _tables(report: Report) -> str:
    return "\n".join([heading(report), *map(markdown, report.tables)])


def _page(report: Report, pictures: Mapping[str, bytes], about: dict[str, Any]) -> str:
    loader = jinja2.PackageLoader("captum_layermask.evaluate.report", ".")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    figures = [
        (name, str(figure.get_label()), base64.b64encode(pictures[name]).decode())
        for name, figure in report.figures.items()
    ]
    tables = [(f"table-{number}", table, _sides(table)) for number, table in enumerate(report.tables, 1)]
    return environment.get_template("report.html.jinja").render(
        report=report,
        figures=figures,
        tables=[entry for entry in tables if len(entry[1].rows) <= _SHORT],
        long_tables=[entry for entry in tables if len(entry[1].rows) > _SHORT],
        about=about,
    )


def _png(figure: Figure, metadata: dict[str, str]) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=144, metadata=metadata)
    return file.getvalue()


def _sides(table: Table) -> list[str]:
    """``right`` for columns of numbers, ``left`` for columns of text."""
    if not table.rows:
        return ["left"] * len(table.header)
    columns = zip(*table.rows, strict=True)
    return ["right" if all(map(_is_number, column)) else "left" for column in columns]


def _is_number(cell: str) -> bool:
    return cell[:1] in "–-+0123456789"


def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {p: importlib.metadata.version(p) for p in _PACKAGES}


def _machine() -> dict[str, Any]:
    """What kind of machine this is; never which one. The device that the network ran on is a setting."""
    return {"system": platform.system(), "processor": platform.machine(), "cpus": os.cpu_count()}
