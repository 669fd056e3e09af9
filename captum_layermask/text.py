"""Names and paths of others are shown as what they are, wherever they go."""

from __future__ import annotations

import re
import textwrap

__all__ = ["in_markdown", "printable", "shortened"]

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
