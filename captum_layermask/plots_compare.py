"""A comparison becomes a figure."""

from __future__ import annotations

import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from captum_layermask.compare import Comparison, Row, marked
from captum_layermask.explain import METHODS, Explanation
from captum_layermask.plots import DIVERGING, draw_outlines

__all__ = ["plot_comparison"]

# Inches.
_CELL, _GAP, _UNDER, _LINE, _MARGIN = 2.5, 0.12, 0.5, 0.22, 0.15
_LEFT, _BAR, _RIGHT = 0.6, 0.15, 1.15
_LETTERS_PER_INCH, _LETTERS_PER_CELL = 11, 24


def plot_comparison(comparison: Comparison) -> Figure:
    """Draw a comparison as a grid: a row for each class, the image and then a column for each way.

    All cells share one colour scale, symmetric around 0. The segments that were removed and kept for the
    table are outlined, and the probabilities of the class without and with them alone are below.

    Returns:
        A figure that no global state refers to; save it with ``save_figure``.

    Source: Fig. 8 of Balasubramanian & Feizi.
    """
    classes = comparison.of_classes()
    pixels = comparison.rows[0].explanation.pixels
    titles = ["image", *map(_column_title, classes[0])]
    width = _LEFT + len(titles) * (_CELL + _GAP) + _RIGHT
    heading = _heading(comparison, round(width * _LETTERS_PER_INCH))
    top = 2 * _MARGIN + _LINE * (_lines(heading) + max(map(_lines, titles)))
    high = _CELL * pixels.shape[2] / pixels.shape[3]
    height = top + len(classes) * (high + _UNDER)
    figure = Figure(figsize=(width, height))
    figure.suptitle(heading, y=1 - _MARGIN / height, va="top")
    limit = max(float(row.explanation.attributions.abs().max()) for row in comparison.rows) or 1.0
    norm = Normalize(-limit, limit)

    def place(left: float, down: float, wide: float, high: float) -> Axes:
        return figure.add_axes((left / width, 1 - (down + high) / height, wide / width, high / height))

    for line, rows in enumerate(classes):
        for column, title in enumerate(titles):
            panel = place(_LEFT + column * (_CELL + _GAP), top + line * (high + _UNDER), _CELL, high)
            panel.set_xticks([])
            panel.set_yticks([])
            if line == 0:
                panel.set_title(title, fontsize="medium")
            if column == 0:
                _draw_image(panel, rows[0].explanation)
            else:
                _draw_row(panel, rows[column - 1], norm)
    bar = place(width - _RIGHT, top, _BAR, height - top - _UNDER)
    ticks = MaxNLocator(nbins=7, symmetric=True)
    figure.colorbar(ScalarMappable(norm, DIVERGING), cax=bar, ticks=ticks, label="change of the probability")
    return figure


def _draw_image(panel: Axes, explanation: Explanation) -> None:
    panel.imshow(explanation.pixels[0].permute(1, 2, 0).cpu().numpy())
    label = textwrap.shorten(explanation.label, _LETTERS_PER_CELL, placeholder=" …")
    panel.set_ylabel(f"{label}\nprobability {explanation.probability:.2f}")


def _draw_row(panel: Axes, row: Row, norm: Normalize) -> None:
    segments = row.explanation.segments[0, 0].cpu().numpy()
    panel.imshow(row.explanation.attributions[0, 0].cpu().numpy(), cmap=DIVERGING, norm=norm)
    draw_outlines(panel, np.where(np.isin(segments, row.strongest), segments, -1))
    panel.set_xlabel(f"removed {row.removed.probability:.2f}, kept {row.kept.probability:.2f}")


def _column_title(row: Row) -> str:
    return marked(textwrap.fill(row.title, _LETTERS_PER_CELL), row.leaks, space="\n")


def _heading(comparison: Comparison, letters: int) -> str:
    row = comparison.rows[0]
    method, _ = METHODS[row.explanation.method]
    return textwrap.fill(
        f"Explained by {method}. Outlined: the {len(row.strongest)} segments that speak most for the class. "
        "Below: its probability with them removed, and with only them kept.",
        letters,
    )


def _lines(text: str) -> int:
    return text.count("\n") + 1
