"""Run tutorials from the first cell to the last, and save them with small pictures in their outputs.

    python tools/run_tutorials.py tutorials/1-explain-a-prediction.ipynb …

Prints the seconds and the size of each. A cell that raises ends the run, and its notebook stays as it was.
"""

from __future__ import annotations

import base64
import io
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

COLOURS = 256

#: What a progress bar is in a notebook. It has nothing to show on a page.
WIDGET = "application/vnd.jupyter.widget-view+json"


def smaller(png: str) -> str:
    """A base64 PNG with a palette of 256 colours, on white, where that takes fewer bytes.

    The palette covers rare colours too, so that a photo beside it does not bend a colour scale.
    """
    data = base64.b64decode(png)
    picture = Image.open(io.BytesIO(data)).convert("RGBA")
    paper = Image.new("RGBA", picture.size, "white")
    paper.alpha_composite(picture)
    written = io.BytesIO()
    palette = paper.convert("RGB").quantize(COLOURS, Image.Quantize.MAXCOVERAGE, kmeans=1)
    palette.save(written, "PNG", optimize=True)
    return base64.b64encode(min(data, written.getvalue(), key=len)).decode()


def run(path: Path) -> None:
    """Run one notebook in its own folder and write it back."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": path.parent}},
    ).execute()
    for cell in notebook.cells:
        if "outputs" in cell:
            cell.outputs = [output for output in cell.outputs if WIDGET not in output.get("data", {})]
        for output in cell.get("outputs", ()):
            if "image/png" in output.get("data", {}):
                output["data"]["image/png"] = smaller(output["data"]["image/png"])
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    nbformat.write(notebook, path)


def main() -> None:
    """Run the notebooks named on the command line."""
    for path in map(Path, sys.argv[1:]):
        start = time.perf_counter()
        run(path)
        print(f"{path}: {time.perf_counter() - start:.0f} s, {path.stat().st_size / 1000:.0f} KB")


if __name__ == "__main__":
    main()
