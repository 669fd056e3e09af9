"""An explanation becomes a figure."""

from __future__ import annotations

import io

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.colors import LinearSegmentedColormap, to_rgb, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator
from scipy import ndimage

from captum_layermask.explain.explanation import METHODS, Explanation
from captum_layermask.plots.files import check_figure_path, save_figure
from captum_layermask.text import shortened

__all__ = [
    "AGAINST",
    "DIVERGING",
    "FOR",
    "Picture",
    "check_figure_path",
    "draw_outlines",
    "plot_explanation",
    "save_figure",
]

AGAINST, FOR = "#08306b", "#ffd34d"
DIVERGING = LinearSegmentedColormap.from_list(
    "against-for", [(0, AGAINST), (0.33, "#3a6ea5"), (0.5, "#989898"), (0.67, "#dba23a"), (1, FOR)]
)
"""The scale of attributions: blue speaks against, orange for. It grows lighter all the way, so that it can be
read in print without colour, and blue and orange differ for every kind of colour vision."""

_GREY = "#555555"
_STRONGEST = 10


class Picture(Figure):
    """A figure without pyplot that a notebook shows at the end of a cell; its text is never mathematics."""

    def draw(self, renderer: RendererBase) -> None:
        """Draw; a class may be called ``a$b$``."""
        for text in self.findobj(Text):
            text.set_parse_math(False)
        super().draw(renderer)

    def _repr_png_(self) -> bytes:
        written = io.BytesIO()
        self.savefig(written, format="png", facecolor="white")
        return written.getvalue()


def plot_explanation(explanation: Explanation, removal: str | None = None) -> Figure:
    """Draw an explanation in three panels.

    The image; its attributions on a colour scale that is symmetric around 0; and, over the
    image, the ten segments of largest absolute attribution, orange with a plus where they support
    the class and blue with a minus where they speak against it. Occlusion has the squares by which
    its window moves in the place of segments. The title gives the class, its probability and the
    method; the colour scale tells the ``stability`` of the explanation, where it has one.

    Args:
        explanation: what to draw.
        removal: how pixels were removed, for the title; None leaves it out.

    Returns:
        A figure that no global state refers to; save it with ``save_figure``.

    Example:
        ```python
        explanation = explain(forward, pixels, segments, class_names=names)
        save_figure(plot_explanation(explanation, removal="layer masking"), "explanation.png")
        ```
    """
    image = explanation.pixels[0].permute(1, 2, 0).cpu().numpy()
    regions = explanation.regions()[0, 0].cpu().numpy()
    figure = Picture(figsize=(12.0, 5.6))
    figure.subplots_adjust(0.01, 0.12, 0.99, 0.86, wspace=0.05, hspace=0.08)
    grid = figure.add_gridspec(2, 3, height_ratios=[1, 0.05])
    panels = [figure.add_subplot(grid[0, column]) for column in range(3)]
    panels[0].imshow(image)
    panels[0].set_title("image")
    _draw_attributions(panels[1], figure.add_subplot(grid[1, 1]), explanation, regions)
    _draw_strongest(panels[2], figure.add_subplot(grid[1, 2]), explanation, image, regions)
    for panel in panels:
        panel.set_xticks([])
        panel.set_yticks([])
    label = shortened(explanation.label, 34)
    title, _ = METHODS[explanation.method]
    removed = "" if removal is None else f" with {removal}"
    figure.suptitle(
        f"{label} (probability {explanation.probability:.2f}), explained by {title}{removed}",
        fontsize="x-large",
    )
    return figure


def _draw_attributions(panel: Axes, scale: Axes, explanation: Explanation, regions: np.ndarray) -> None:
    attributions = explanation.attributions[0, 0].cpu().numpy()
    limit = float(np.abs(attributions).max()) or 1.0
    colours = panel.imshow(attributions, cmap=DIVERGING, vmin=-limit, vmax=limit)
    draw_outlines(panel, regions)
    panel.set_title("attribution")
    ticks = MaxNLocator(nbins=5, symmetric=True)
    panel.figure.colorbar(colours, cax=scale, orientation="horizontal", ticks=ticks)
    stability = explanation.stability
    told = "" if stability is None else f" (stability of the map {stability:.2f})"
    scale.set_xlabel(f"change of the probability{told}")


def _draw_strongest(
    panel: Axes, key: Axes, explanation: Explanation, image: np.ndarray, regions: np.ndarray
) -> None:
    scores = explanation.region_attributions()
    strongest = scores.abs().topk(min(_STRONGEST, len(scores))).indices
    signs = torch.zeros_like(scores)
    signs[strongest] = scores[strongest].sign()
    sign_of_pixel = signs.cpu().numpy()[regions]
    grey = image.mean(axis=2, keepdims=True).repeat(3, axis=2)
    picture = 0.5 * grey + 0.5
    for sign, colour in ((1, FOR), (-1, AGAINST)):
        chosen = sign_of_pixel == sign
        picture[chosen] = 0.35 * grey[chosen] + 0.65 * np.array(to_rgb(colour))
    panel.imshow(picture)
    draw_outlines(panel, np.where(sign_of_pixel != 0, regions, -1))
    for region in strongest.tolist():
        if signs[region]:
            _draw_sign(panel, regions == region, positive=bool(signs[region] > 0))
    panel.set_title(f"the {len(strongest)} strongest {explanation.region_name}")
    key.axis("off")
    key.legend(
        handles=[Patch(color=FOR, label="+ supports"), Patch(color=AGAINST, label="− speaks against")],
        loc="upper center",
        ncols=2,
        handlelength=1,
        columnspacing=1,
        borderpad=0,
        frameon=False,
    )


def _draw_sign(panel: Axes, region: np.ndarray, positive: bool) -> None:
    """Write a plus or a minus where the region is widest."""
    depth = ndimage.distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
    row, column = np.unravel_index(depth.argmax(), depth.shape)
    panel.text(
        column,
        row,
        "+" if positive else "−",
        color="black" if positive else "white",
        fontweight="bold",
        ha="center",
        va="center_baseline",
    )


def draw_outlines(panel: Axes, labels: np.ndarray) -> None:
    """Draw a line of one pixel where the label changes to the right or downwards."""
    edges = np.zeros(labels.shape, dtype=bool)
    edges[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    edges[:-1] |= labels[:-1] != labels[1:]
    outline = np.zeros((*labels.shape, 4))
    outline[edges] = to_rgba(_GREY)
    panel.imshow(outline)
