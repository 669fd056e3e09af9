"""The index of a gallery: a page for people, and JSON for programs."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2

from captum_layermask.evaluate.gallery.gallery import Gallery
from captum_layermask.evaluate.records import locked, settle
from captum_layermask.evaluate.running import Outcome
from captum_layermask.files import write_whole

__all__ = ["write_index"]


def write_index(experiment: Gallery, outcome: Outcome) -> Path:
    """Write ``index.html`` and ``index.json`` of a complete run, and its records as one file.

    A folder with equal images and settings is then the same, byte for byte, however often the run was
    stopped and whatever number of processes it had. The page needs no network and no other file; it links to
    the pictures and numbers beside it.

    Returns:
        The path of the page.

    Raises:
        InputError: the folder cannot be written to, or another run writes to it.

    Example:
        ```python
        page = write_index(experiment, run(experiment, experiment.out))
        ```
    """
    results = experiment.results(outcome.records)
    left_out = outcome.left_out.to_pylist()
    listed = {"title": experiment.title, "images": results.entries, "left_out": left_out}
    listed["settings"] = outcome.settings
    lines = [
        (entry, cells, base64.b64encode(thumbnail).decode())
        for entry, cells, thumbnail in zip(results.entries, results.cells, results.thumbnails, strict=True)
    ]
    page = _template().render(
        title=experiment.title,
        lead=experiment.lead,
        lines=lines,
        header=list(results.cells[0]) if lines else [],
        left_out=left_out,
        settings=outcome.settings,
    )
    with locked(experiment.out):
        settle(experiment.out, experiment.schema)
        content = json.dumps(listed, indent=2, ensure_ascii=False) + "\n"
        write_whole(experiment.out / "index.json", content.encode())
        write_whole(experiment.out / "index.html", page.encode())
    return experiment.out / "index.html"


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("captum_layermask.evaluate.gallery", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["link"] = quote
    environment.filters["cell"] = _cell
    environment.tests["numeric"] = _is_number
    return environment.get_template("index.html.jinja")


def _is_number(value: Any) -> bool:
    return value is None or isinstance(value, float)


def _cell(value: Any) -> str:
    return "–" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
