"""Other people's networks: which images one takes, the records of what it did, the page that tells them."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-9}
ZOO = "## pytorchcv"
SUPPORT = Path(__file__).parent.parent / "docs" / "support.md"


def smallest_size(build: Callable[[int], torch.nn.Module], sizes: Sequence[int]) -> int:
    """The first of ``sizes`` that the plain network takes; raises what stops the last of them."""
    for size in sizes:
        try:
            with torch.no_grad():
                build(size)(torch.zeros(1, 3, size, size))
            return size
        except Exception as error:
            problem = error
    raise problem


def read(path: Path) -> list[dict]:
    """The records of a file, one JSON object a line."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def append(path: Path, record: dict) -> None:
    """Add a record to a file."""
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")


def write_part(text: str, start: str, end: str | None) -> None:
    """Replace a part of docs/support.md: from the line ``start`` up to the line ``end`` or to the end.

    A part that is not there yet is added at the end.
    """
    lines = SUPPORT.read_text().split("\n")
    first = lines.index(start) if start in lines else len(lines)
    last = lines.index(end) if end in lines[first:] else len(lines)
    parts = (lines[:first], text.split("\n"), lines[last:])
    SUPPORT.write_text("\n\n".join("\n".join(part).strip("\n") for part in parts if part) + "\n")
