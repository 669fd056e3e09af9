"""An explanation becomes a figure."""

from __future__ import annotations

import io
import os
import textwrap
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from captum_layermask.errors import InputError
from captum_layermask.explain import METHODS, Explanation

__all__ = ["DIVERGING", "Picture", "check_figure_path", "draw_outlines", "plot_explanation", "save_figure"]

_GREEN = "#1a9641"
_RED = "#d7191c"
_GREY = "#555555"
DIVERGING = LinearSegmentedColormap.from_list("red-white-green", [_RED, "#ffffff", _GREEN])
_STRONGEST = 10


class Picture(Figure):
    """A figure without pyplot that a notebook shows at the end of a cell."""

    def _repr_png_(self) -> bytes:
        written = io.BytesIO()
        self.savefig(written, format="png", facecolor="white")
        return written.getvalue()


def plot_explanation(explanation: Explanation, missing: str | None = None) -> Figure:
    """Draw an explanation in three panels.

    The image; its attributions on a colour scale that is symmetric around 0; and, over the
    image, the ten segments of largest absolute attribution, green where they support the class
    and red where they speak against it. The title gives the class, its probability and the
    method.

    Args:
        explanation: what to draw.
        missing: how pixels were removed, for the title; None leaves it out.

    Returns:
        A figure that no global state refers to; save it with ``save_figure``.
    """
    image = explanation.pixels[0].permute(1, 2, 0).cpu().numpy()
    segments = explanation.segments[0, 0].cpu().numpy()
    figure = Picture(figsize=(12.0, 5.6))
    figure.subplots_adjust(0.01, 0.12, 0.99, 0.86, wspace=0.05, hspace=0.08)
    grid = figure.add_gridspec(2, 3, height_ratios=[1, 0.05])
    panels = [figure.add_subplot(grid[0, column]) for column in range(3)]
    panels[0].imshow(image)
    panels[0].set_title("image")
    _draw_attributions(panels[1], figure.add_subplot(grid[1, 1]), explanation, segments)
    _draw_strongest(panels[2], figure.add_subplot(grid[1, 2]), explanation, image, segments)
    for panel in panels:
        panel.set_xticks([])
        panel.set_yticks([])
    label = textwrap.shorten(explanation.label, 34, placeholder=" …")
    title, _ = METHODS[explanation.method]
    way = "" if missing is None else f" with {missing}"
    figure.suptitle(
        f"{label} (probability {explanation.probability:.2f}), explained by {title}{way}", fontsize="x-large"
    )
    return figure


def check_figure_path(path: str | Path) -> None:
    """Check that a figure could be written to ``path``, before the work that it will show.

    Raises:
        InputError: the suffix names no format that matplotlib writes, ``path`` is a folder, or
            its folder does not exist or cannot be written to.
    """
    path = Path(path)
    suffix = path.suffix.lower().lstrip(".")
    formats = Figure().canvas.get_supported_filetypes()
    if suffix not in formats:
        raise InputError(
            f"cannot write a figure to {str(path)!r}; end the name in "
            f"{', '.join(f'.{known}' for known in sorted(formats))}."
        )
    try:
        if path.is_dir():
            raise InputError(f"{str(path)!r} is a folder; give the name of a file.")
        if not path.parent.is_dir():
            raise InputError(f"there is no folder {str(path.parent)!r}; create it or write somewhere else.")
        _temporary(path).touch()
        _temporary(path).unlink()
    except OSError as error:
        raise _cannot_write(path, error) from error


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure to ``path``, whole or not at all; its suffix names the format.

    Args:
        figure: what to write, at 120 dots per inch.
        path: a file in a folder that is there; an older file is replaced.

    Raises:
        InputError: the file cannot be written.
    """
    check_figure_path(path)
    path = Path(path)
    try:
        with _temporary(path).open("wb") as file:
            figure.savefig(file, format=path.suffix.lower().lstrip("."), dpi=120)
        os.replace(_temporary(path), path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        _temporary(path).unlink(missing_ok=True)


def _draw_attributions(panel: Axes, scale: Axes, explanation: Explanation, segments: np.ndarray) -> None:
    attributions = explanation.attributions[0, 0].cpu().numpy()
    limit = float(np.abs(attributions).max()) or 1.0
    colours = panel.imshow(attributions, cmap=DIVERGING, vmin=-limit, vmax=limit)
    if explanation.method != "occlusion":
        draw_outlines(panel, segments)
    panel.set_title("attribution")
    ticks = MaxNLocator(nbins=5, symmetric=True)
    panel.figure.colorbar(colours, cax=scale, orientation="horizontal", ticks=ticks)
    scale.set_xlabel("change of the probability")


def _draw_strongest(
    panel: Axes, key: Axes, explanation: Explanation, image: np.ndarray, segments: np.ndarray
) -> None:
    scores = explanation.segment_attributions()
    strongest = scores.abs().topk(min(_STRONGEST, len(scores))).indices
    signs = torch.zeros_like(scores)
    signs[strongest] = scores[strongest].sign()
    sign_of_pixel = signs.cpu().numpy()[segments]
    grey = image.mean(axis=2, keepdims=True).repeat(3, axis=2)
    picture = 0.5 * grey + 0.5
    for sign, colour in ((1, _GREEN), (-1, _RED)):
        chosen = sign_of_pixel == sign
        picture[chosen] = 0.5 * grey[chosen] + 0.5 * np.array(to_rgb(colour))
    panel.imshow(picture)
    draw_outlines(panel, np.where(sign_of_pixel != 0, segments, -1))
    panel.set_title(f"the {len(strongest)} strongest segments")
    key.axis("off")
    key.legend(
        handles=[Patch(color=_GREEN, label="supports"), Patch(color=_RED, label="speaks against")],
        loc="upper center",
        ncols=2,
        frameon=False,
    )


def draw_outlines(panel: Axes, labels: np.ndarray) -> None:
    """Draw a line of one pixel where the label changes to the right or downwards."""
    edges = np.zeros(labels.shape, dtype=bool)
    edges[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    edges[:-1] |= labels[:-1] != labels[1:]
    outline = np.zeros((*labels.shape, 4))
    outline[edges] = to_rgba(_GREY)
    panel.imshow(outline)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def _cannot_write(path: Path, error: OSError) -> InputError:
    reason = error.strerror or type(error).__name__
    return InputError(f"cannot write {str(path)!r} ({reason}); choose another place.")
