"""Text for a terminal, a figure or a Markdown page: names are shown as what they are, tables are aligned."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

__all__ = ["in_markdown", "markdown_table", "printable", "shortened", "text_table"]

#: Entities for what a backslash escapes in some dialects only; backslashes, which read better, for the rest.
_MARKUP = {"<": "&lt;", ">": "&gt;", "~": "&#126;", "#": "&#35;", "$": "&#36;"}
_MARKUP |= {c: f"\\{c}" for c in "\\`*_|"}
_ENTITY = re.compile(r"&(?=[#\w]+;)")
_LINK = re.compile(r"\](?=[(\[:])")
_BLOCK = re.compile(r"^(\d*)([-+.)])(?=[-\s]|$)")


def printable(text: str) -> str:
    """The text with an escape in the place of each character that cannot be printed, line ends too."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shortened(name: str, letters: int) -> str:
    """A name that a figure or a table has room for, in one line."""
    return textwrap.shorten(printable(" ".join(name.split())), letters, placeholder=" …")


def in_markdown(text: str) -> str:
    """Plain text as Markdown that shows it, in one line: no markup, no HTML, no link, no new block."""
    line = printable(" ".join(text.split()))
    escaped = "".join(_MARKUP.get(c, c) for c in _ENTITY.sub("&amp;", line))
    return _BLOCK.sub(r"\1\\\2", _LINK.sub(r"\\]", escaped))


def text_table(rows: Sequence[Sequence[str]], sides: str | None = None) -> str:
    """Rows of cells as lines of aligned columns, two spaces apart, for a fixed-width font.

    Args:
        rows: at least one, all of the same length.
        sides: "<" (left) or ">" (right) for each column; None aligns all of them to the left.
    """
    return "\n".join("  ".join(cells).rstrip() for cells in _aligned(rows, sides, 0))


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], sides: str | None = None) -> str:
    """A pipe table of plain text, which is shown as what it is.

    Args:
        header: a name for each column.
        rows: of cells, as many as the header has.
        sides: "<" (left) or ">" (right) for each column; None aligns all of them to the left.
    """
    cells = [[in_markdown(cell) for cell in row] for row in (header, *rows)]
    first, *others = _aligned(cells, sides, 3)
    ends = [":" if side == ">" else "-" for side in sides or "<" * len(header)]
    rule = ["-" * (len(cell) - 1) + end for cell, end in zip(first, ends, strict=True)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (first, rule, *others))


def _aligned(rows: Sequence[Sequence[str]], sides: str | None, least: int) -> list[list[str]]:
    """The cells, each as wide as the widest of its column, and at least so wide."""
    widths = [max(least, *map(len, column)) for column in zip(*rows, strict=True)]
    columns = list(zip(sides or "<" * len(widths), widths, strict=True))
    return [
        [f"{cell:{side}{width}}" for cell, (side, width) in zip(row, columns, strict=True)] for row in rows
    ]
