"""The plots of an experiment's report."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray
from torch import Tensor

from captum_layermask.evaluate.report.bootstrap import Interval
from captum_layermask.evaluate.report.titles import removal_title
from captum_layermask.masking.mask import Mask
from captum_layermask.plots.explanation import DIVERGING, Picture
from captum_layermask.removals.base import RemovalForward
from captum_layermask.removals.filled import FilledForward
from captum_layermask.removals.registry import REMOVALS
from captum_layermask.text import printable, shortened

__all__ = [
    "as_picture",
    "attribution_picture",
    "plot_curves",
    "plot_pictures",
    "plot_shape",
    "remaining_picture",
    "removal_color",
]

#: Okabe & Ito's colours, which colour-blind readers tell apart, for the removals of the paper's tables.
_COLORS = {
    "layer": "#0072b2",
    "grey": "#8a8a8a",
    "black": "#000000",
    "neighbor": "#e69f00",
    "layer-paper": "#56b4e9",
    "layer-zero": "#009e73",
    "blur": "#cc79a7",
    "drop-tokens": "#d55e00",
}
_DASHES = ("--", ":", "-.")

# Inches.
_PANEL_WIDTH, _PANEL_HEIGHT, _PICTURE = 5.0, 3.1, 1.55


def removal_color(removal: str) -> str:
    """The colour of a removal, the same in every figure.

    Args:
        removal: a key of ``REMOVALS``.

    Returns:
        ``#rrggbb``.

    Example:
        ```python
        removal_color("layer")  # "#0072b2"
        ```
    """
    if removal in _COLORS:
        return _COLORS[removal]
    others = sorted(set(REMOVALS) - set(_COLORS))
    place = others.index(removal) if removal in others else len(others)
    red, green, blue, _ = colormaps["viridis"](place / max(1, len(others)), bytes=True)
    return f"#{red:02x}{green:02x}{blue:02x}"


def plot_curves(
    fractions: Sequence[float],
    panels: Mapping[str, Mapping[str, Interval]],
    caption: str,
    *,
    across: str = "fraction of segments removed",
) -> Figure:
    """Draw metrics against the fraction of segments removed: a panel for each, a line for each removal.

    Args:
        fractions: F numbers, ascending.
        panels: name of the metric → key of ``REMOVALS`` → its values and intervals (the bands), of shape F.
        caption: kept as the figure's label.
        across: what the fractions are.

    Returns:
        A figure that no global state refers to.

    Example:
        ```python
        plot_curves([0, 0.5, 1], {"Accuracy": {"grey": interval}}, "Accuracy while segments are removed.")
        ```

    Source: Fig. 4 of Balasubramanian & Feizi.
    """
    removals = list(dict.fromkeys(removal for panel in panels.values() for removal in panel))
    columns = min(2, len(panels))
    rows = math.ceil(len(panels) / columns)
    legend_rows = math.ceil(len(removals) / 3)
    figure = _figure(_PANEL_WIDTH * columns, _PANEL_HEIGHT * rows + 0.3 * legend_rows, caption)
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    for axis, (title, lines) in zip(axes, panels.items(), strict=False):
        for removal in sorted(lines, key=lambda removal: removal == "layer"):
            value, low, high = lines[removal]
            axis.fill_between(fractions, low, high, color=removal_color(removal), alpha=0.18, linewidth=0)
            axis.plot(fractions, value, color=removal_color(removal), **_line(removal, removals))
        axis.set_title(title, fontsize="medium", loc="left")
        axis.set_xlabel(across)
        axis.set_xlim(min(fractions), max(fractions))
        axis.set_ylim(bottom=0)
        _lighten(axis)
    handles = [
        figure.axes[0].plot(
            [], [], color=removal_color(removal), label=removal_title(removal), **_line(removal, removals)
        )[0]
        for removal in removals
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=min(3, len(removals)), frameon=False)
    return figure


def plot_shape(
    accuracies: Mapping[str, Mapping[str, tuple[float, float]]], caption: str, *, removals: Sequence[str]
) -> Figure:
    """Draw, for each class and removal, the accuracy with the object mask and with the broken mask.

    The dark bar is the object mask, the pale one the broken mask, the number their difference.

    Args:
        accuracies: class → key of ``REMOVALS`` → accuracies in [0, 1], NaN where there are no images; in the
            order in which to draw the classes.
        caption: kept as the figure's label.
        removals: keys of ``REMOVALS``, the bars of a class from left to right.

    Returns:
        A figure that no global state refers to.

    Example:
        ```python
        plot_shape({"cat": {"grey": (0.4, 0.7)}}, "Accuracy with both masks.", removals=["grey"])
        ```

    Source: Figs. 6 and 7 of Balasubramanian & Feizi.
    """
    bars = 2 * len(removals) + 1
    per_row = max(1, 66 // bars)
    classes = list(accuracies)
    rows = [classes[start : start + per_row] for start in range(0, len(classes), per_row)]
    figure = _figure(10.0, 2.6 * len(rows) + 0.35 * math.ceil((len(removals) + 2) / 5), caption)
    axes = figure.subplots(len(rows), 1, squeeze=False).flat
    for axis, row in zip(axes, rows, strict=True):
        for place, name in enumerate(row):
            for number, removal in enumerate(removals):
                _draw_pair(axis, place * bars + 2 * number, accuracies[name][removal], removal_color(removal))
        axis.set_xticks(
            [place * bars + len(removals) - 0.5 for place in range(len(row))],
            [textwrap.fill(shortened(name, 40), 14) for name in row],
            fontsize="small",
        )
        axis.tick_params(axis="x", length=0)
        axis.set_xlim(-1.5, bars * per_row - 1.5)
        axis.set_ylim(0, 1.12)
        axis.set_yticks([0, 0.25, 0.5, 0.75, 1.0])
        axis.set_ylabel("accuracy")
        _lighten(axis)
    kinds = [
        Patch(facecolor="#444444", label="object mask"),
        Patch(facecolor="#44444455", edgecolor="#444444", label="broken mask"),
    ]
    handles = [
        *(Patch(color=removal_color(removal), label=removal_title(removal)) for removal in removals),
        *kinds,
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=min(5, len(handles)), frameon=False)
    return figure


def plot_pictures(
    rows: Mapping[str, Sequence[NDArray[np.float64]]], columns: Sequence[str], caption: str
) -> Figure:
    """Draw pictures in a grid.

    Args:
        rows: title of the row → pictures, H×W×3 in [0, 1], one for each column.
        columns: titles.
        caption: kept as the figure's label.

    Returns:
        A figure that no global state refers to.

    Example:
        ```python
        plot_pictures({"grey": [as_picture(pixels)]}, ["image"], "A cat.")
        ```
    """
    figure = _figure(0.5 + _PICTURE * len(columns), 0.35 + (_PICTURE + 0.05) * len(rows), caption)
    axes = figure.subplots(len(rows), len(columns), squeeze=False)
    for line, (row, (title, pictures)) in enumerate(zip(axes, rows.items(), strict=True)):
        for axis, column, picture in zip(row, columns, pictures, strict=True):
            axis.imshow(picture, interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_visible(False)
            if line == 0:
                axis.set_title(textwrap.fill(printable(column), 20), fontsize="small")
        row[0].set_ylabel(textwrap.fill(printable(title), 18), fontsize="small")
    return figure


@torch.no_grad()
def remaining_picture(forward: RemovalForward, pixels: Tensor, visible: Tensor) -> NDArray[np.float64]:
    """What is left of an image when some of its pixels are removed, to look at.

    Args:
        forward: a removal of a network that takes pixels in [0, 1]. Where it fills no missing pixels, a pale
            chequerboard shows.
        pixels: float 1×3×H×W in [0, 1].
        visible: bool 1×1×H×W.

    Returns:
        H×W×3 in [0, 1].

    Example:
        ```python
        picture = remaining_picture(experiment.forward("grey"), pixels, visible)
        ```
    """
    shown = torch.where(visible, pixels, 0)
    if isinstance(forward, FilledForward):
        picture = forward.filled(shown, Mask(visible))
    else:
        height, width = pixels.shape[2:]
        cells = torch.arange(height)[:, None] // 4 + torch.arange(width) // 4
        picture = torch.where(visible, pixels, torch.where(cells % 2 == 0, 1.0, 0.85).to(pixels))
    return as_picture(picture)


def attribution_picture(importance: Sequence[float], segments: Tensor) -> NDArray[np.float64]:
    """An explanation to look at: orange segments speak for the class, blue ones against it.

    Args:
        importance: K numbers, one for each segment. The colours of the largest magnitude are full.
        segments: LongTensor 1×1×H×W, ids from 0 to K − 1.

    Returns:
        H×W×3 in [0, 1].

    Example:
        ```python
        attribution_picture(explanation.segment_attributions().tolist(), segments)
        ```
    """
    values = np.asarray(importance, float)
    limit = np.abs(values).max() or 1.0
    return DIVERGING((values / limit + 1) / 2)[segments[0, 0].cpu().numpy(), :3]


def as_picture(pixels: Tensor) -> NDArray[np.float64]:
    """Pixels 1×3×H×W as H×W×3 in [0, 1].

    Example:
        ```python
        as_picture(torch.rand(1, 3, 8, 8)).shape  # (8, 8, 3)
        ```
    """
    return pixels[0].clamp(0, 1).permute(1, 2, 0).double().cpu().numpy()


def _figure(width: float, height: float, caption: str) -> Figure:
    figure = Picture(figsize=(width, height), layout="constrained")
    figure.set_label(caption)
    return figure


def _draw_pair(axis: Axes, left: float, accuracies: tuple[float, float], color: str) -> None:
    with_object, with_broken = accuracies
    if math.isnan(with_object) or math.isnan(with_broken):
        return
    axis.bar(left, with_object, 0.95, color=color)
    axis.bar(left + 0.95, with_broken, 0.95, color=f"{color}55", edgecolor=color, linewidth=0.6)
    axis.annotate(
        f"{with_broken - with_object:+.2f}".replace("-", "−"),
        (left + 0.475, max(accuracies)),
        xytext=(0, 2),
        textcoords="offset points",
        ha="center",
        fontsize=5.5,
    )


def _line(removal: str, removals: Sequence[str]) -> dict[str, Any]:
    """Layer masking is a thick line; the others also differ by their dashes."""
    if removal == "layer":
        return {"linewidth": 2.6, "linestyle": "-"}
    others = [other for other in removals if other != "layer"]
    return {"linewidth": 1.5, "linestyle": _DASHES[others.index(removal) % len(_DASHES)]}


def _lighten(axis: Axes) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", color="#dddddd", linewidth=0.6)
    axis.set_axisbelow(True)
