"""A comparison becomes a figure."""

from __future__ import annotations

import math
import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from captum_layermask.errors import InputError
from captum_layermask.explain.comparison import Comparison, Row, marked
from captum_layermask.explain.explanation import METHODS, Explanation
from captum_layermask.plots.explanation import DIVERGING, Picture, draw_outlines
from captum_layermask.text import shortened

__all__ = ["plot_comparison"]

# Inches.
_CELL, _SMALLEST_CELL, _GAP, _UNDER, _LINE, _MARGIN = 2.5, 1.5, 0.12, 0.5, 0.22, 0.15
_LEFT, _BAR, _RIGHT = 0.6, 0.15, 1.15
_LETTERS_PER_INCH, _LETTERS_PER_CELL = 11, 24
_MOST_COLUMNS = 6


def plot_comparison(comparison: Comparison, *, width: float | None = None) -> Figure:
    """Draw a comparison as a grid: a row for each class, the image and then a column for each removal.

    All cells share one colour scale, symmetric around 0. The strongest segments (for occlusion, squares) are
    outlined, and the probabilities of the class with them removed and with them alone are below.

    Args:
        comparison: what to draw.
        width: of the figure, in inches; the cells of a class are drawn smaller, and go on in further rows
            where they would be narrower than 1.5 inches. None gives each cell 2.5 inches, at most six in a
            row.

    Returns:
        A figure that no global state refers to; save it with ``save_figure``.

    Raises:
        InputError: there is no room for a cell of 1.5 inches.

    Example:
        ```python
        figure = plot_comparison(compare(model, pixels, segments, class_names=names, colors=colors))
        save_figure(figure, "comparison.png")
        ```

    Source: Fig. 8 of Balasubramanian & Feizi.
    """
    classes = comparison.of_classes()
    pixels = comparison.rows[0].explanation.pixels
    count = 1 + len(classes[0])
    columns, cell = _columns(count, width)
    letters = round(_LETTERS_PER_CELL * cell / _CELL)
    titles = ["image", *(_column_title(row, letters) for row in classes[0])]
    wrapped = columns < count
    lines = [
        list(zip(titles, [rows[0], *rows], strict=True))[start : start + columns]
        for rows in classes
        for start in range(0, count, columns)
    ]
    width = _LEFT + columns * (cell + _GAP) + _RIGHT if width is None else width
    heading = _heading(comparison, round(width * _LETTERS_PER_INCH))
    high = cell * pixels.shape[2] / pixels.shape[3]
    under = _UNDER + _LINE * (_lines(_label_below(comparison.rows[0], letters)) - 1)
    tops, height = [], 2 * _MARGIN + _LINE * _lines(heading)
    for number, line in enumerate(lines):
        if number == 0 or wrapped:
            height += _LINE * max(_lines(title) for title, _ in line)
        tops.append(height)
        height += high + under
    figure = Picture(figsize=(width, height))
    figure.suptitle(heading, y=1 - _MARGIN / height, va="top")
    limit = max(float(row.explanation.attributions.abs().max()) for row in comparison.rows) or 1.0
    norm = Normalize(-limit, limit)

    def place(left: float, down: float, wide: float, high: float) -> Axes:
        return figure.add_axes((left / width, 1 - (down + high) / height, wide / width, high / height))

    for number, line in enumerate(lines):
        for column, (title, row) in enumerate(line):
            panel = place(_LEFT + column * (cell + _GAP), tops[number], cell, high)
            panel.set_xticks([])
            panel.set_yticks([])
            if number == 0 or wrapped:
                panel.set_title(title, fontsize="medium")
            if title is titles[0]:
                _draw_image(panel, row.explanation, letters)
            else:
                _draw_row(panel, row, norm, letters)
    bar = place(width - _RIGHT, tops[0], _BAR, height - tops[0] - under)
    ticks = MaxNLocator(nbins=7, symmetric=True)
    figure.colorbar(ScalarMappable(norm, DIVERGING), cax=bar, ticks=ticks, label="change of the probability")
    return figure


def _columns(count: int, width: float | None) -> tuple[int, float]:
    """How many cells go side by side, as even as can be, and how wide each is."""
    if width is None:
        return _even(count, _MOST_COLUMNS), _CELL
    room = width - _LEFT - _RIGHT
    most = int(room / (_SMALLEST_CELL + _GAP) + 1e-9)
    if most < 1:
        narrowest = _LEFT + _SMALLEST_CELL + _GAP + _RIGHT
        raise InputError(f"the width is {width} inches; give at least {narrowest:.2f}.")
    columns = _even(count, most)
    return columns, room / columns - _GAP


def _even(count: int, most: int) -> int:
    return math.ceil(count / math.ceil(count / most))


def _draw_image(panel: Axes, explanation: Explanation, letters: int) -> None:
    panel.imshow(explanation.pixels[0].permute(1, 2, 0).cpu().numpy())
    label = shortened(explanation.label, letters)
    panel.set_ylabel(f"{label}\nprobability {explanation.probability:.2f}")


def _draw_row(panel: Axes, row: Row, norm: Normalize, letters: int) -> None:
    regions = row.explanation.regions()[0, 0].cpu().numpy()
    panel.imshow(row.explanation.attributions[0, 0].cpu().numpy(), cmap=DIVERGING, norm=norm)
    draw_outlines(panel, np.where(np.isin(regions, row.strongest), regions, -1))
    panel.set_xlabel(_label_below(row, letters))


def _label_below(row: Row, letters: int) -> str:
    removed, alone = f"removed {row.removed.probability:.2f},", f"alone {row.alone.probability:.2f}"
    return f"{removed} {alone}" if len(f"{removed} {alone}") <= letters else f"{removed}\n{alone}"


def _column_title(row: Row, letters: int) -> str:
    parts = marked(row.title, row.leaks, space="\n").split("\n")
    return "\n".join(textwrap.fill(part, letters) for part in parts)


def _heading(comparison: Comparison, letters: int) -> str:
    row = comparison.rows[0]
    method, _ = METHODS[row.explanation.method]
    return textwrap.fill(
        f"Explained by {method}. Outlined: the {len(row.strongest)} {row.explanation.region_name} that speak "
        "most for the class. Below: its probability with them removed, and with them alone.",
        letters,
    )


def _lines(text: str) -> int:
    return text.count("\n") + 1
