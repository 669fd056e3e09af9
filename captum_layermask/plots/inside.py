"""Pictures that show what layer masking does."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor, nn

from captum_layermask.errors import InputError, require_known
from captum_layermask.masking.mask import Mask
from captum_layermask.masking.neighbor_padding import neighbor_pad
from captum_layermask.plots.explanation import Picture
from captum_layermask.removals.base import RemovalForward
from captum_layermask.removals.colors import Colors
from captum_layermask.removals.layer_masking import LayerMaskedForward
from captum_layermask.removals.missing import visible_pixels
from captum_layermask.removals.registry import REMOVALS, make_forward

__all__ = ["plot_activations", "plot_neighbor_padding"]

_CELL = 2.5  # inches
_LETTERS_PER_CELL = 24  # of a title, in the default size


@torch.no_grad()
def plot_neighbor_padding(image: Tensor, mask: Tensor, rounds: Sequence[int] = (0, 4, 8, 16)) -> Figure:
    """Draw neighbor padding growing into a missing region, one panel for each number of rounds.

    A line marks the boundary of the region; what no round has reached yet is hatched.

    Args:
        image: float 1×3×H×W in [0, 1].
        mask: bool or 0/1 (1 = visible), 1×1×H×W, 1×H×W or H×W.
        rounds: rings filled, in pixels, each at least 0.

    Returns:
        A figure that no global state refers to; save it with ``save_figure``.

    Raises:
        InputError: not one RGB image in [0, 1], a mask that does not fit, no or a negative number of rounds.

    Example:
        ```python
        visible = torch.ones(224, 224)
        visible[80:144, 80:144] = 0
        figure = plot_neighbor_padding(pixels, visible, rounds=(0, 8, 32))
        ```

    Source: Fig. 3 of Balasubramanian & Feizi.
    """
    visible = _visible(image, mask)
    if not rounds or min(rounds) < 0:
        raise InputError(f"rounds are {tuple(rounds)}; give at least one number, none below 0.")
    panels = _panels(1, len(rounds), image)
    for panel, count in zip(panels[0], rounds, strict=True):
        filled = neighbor_pad(torch.where(visible, image, 0), Mask(visible), count)
        reached = F.max_pool2d(visible.to(image), 2 * count + 1, stride=1, padding=count) > 0
        _show(panel, torch.cat([filled, reached.to(filled)], 1)[0].permute(1, 2, 0))
        _draw_boundary(panel, visible[0, 0].cpu().numpy())
        panel.set_title(f"{count} round{'' if count == 1 else 's'}")
    return panels[0, 0].figure


@torch.no_grad()
def plot_activations(
    model: nn.Module,
    image: Tensor,
    mask: Tensor,
    layer: str,
    *,
    colors: Colors | None = None,
    removals: Sequence[str] = ("grey", "layer", "layer-zero"),
    channels: int | Sequence[int] = 4,
) -> Figure:
    """Draw the activation of a layer for an image with missing pixels, under several removals.

    A row for each channel, with a colour scale of its own; the column after the image shows the activation
    for the original image. Cells that are missing in layer masking are hatched. The model is left as it was.

    Args:
        model: N×3×H×W → anything, in eval mode; it normalises inside.
        image: float 1×3×H×W in [0, 1].
        mask: bool or 0/1 (1 = visible), 1×1×H×W, 1×H×W or H×W.
        layer: path of a module of the model whose output is a map, N×C×h×w.
        colors: the scale of the images, ``Colors(mean, std, normalized=False)``; colours and noise need it.
        removals: keys of ``REMOVALS``.
        channels: which ones, or how many of those that vary most over the original image.

    Returns:
        A figure that no global state refers to; save it with ``save_figure``.

    Raises:
        UnknownNameError: the model has no such module, or there is no such removal.
        InputError: an image, mask or channels that do not fit, or a module that returns no map.

    Example:
        ```python
        figure = plot_activations(resnet, pixels, visible, "layer1", removals=("layer", "layer-zero"))
        ```

    Source: Fig. 2 of Balasubramanian & Feizi.
    """
    visible = _visible(image, mask)
    modules = [name for name, _ in model.named_modules() if name]
    require_known("module", layer, modules, "Give the path of a module of the model.")
    forwards = {removal: make_forward(removal, model, colors=colors, reference=image) for removal in removals}
    original = _plain_activation(model, model, layer, image)
    maps = [_activation(forward, layer, image, visible) for forward in forwards.values()]
    indices = _chosen(channels, original)
    letters = round(_LETTERS_PER_CELL * 10 / rcParams["font.size"])
    titles = ["image", "original image", *(REMOVALS[removal].title for removal in removals)]
    panels = _panels(len(indices), len(titles), image)
    for panel, title in zip(panels[0], titles, strict=True):
        panel.set_title(textwrap.fill(title, letters))
    for line, index in zip(panels, indices, strict=True):
        shown = [original[0, index], *(values[0, index] for values in maps)]
        finite = torch.cat([values[values.isfinite()] for values in shown])
        norm = Normalize(float(finite.min()), float(finite.max()))
        _show(line[0], torch.cat([image, visible.to(image)], 1)[0].permute(1, 2, 0))
        line[0].set_ylabel(f"channel {index}")
        for panel, values in zip(line[1:], shown, strict=True):
            _show(panel, values, norm)
    return panels[0, 0].figure


def _activation(forward: RemovalForward, layer: str, image: Tensor, visible: Tensor) -> Tensor:
    """What the layer returns, 1×C×h×w, NaN where it is missing."""
    if not isinstance(forward, LayerMaskedForward):
        return _plain_activation(forward.model, forward, layer, image, mask=visible)
    inside = [
        step
        for step in forward.trace(image, mask=visible, outputs=True)
        if f"{step.module}.".startswith(f"{layer}.")
    ]
    if not inside or inside[-1].mask is None or inside[-1].output is None:
        raise _no_map(layer)
    return torch.where(inside[-1].mask, inside[-1].output, torch.nan)


def _plain_activation(
    model: nn.Module, forward: nn.Module, layer: str, image: Tensor, **options: Tensor
) -> Tensor:
    """What the layer of the model returns while the forward runs, 1×C×h×w."""
    outputs = []

    def note(module: nn.Module, args: object, output: object) -> None:
        outputs.append(output.clone() if isinstance(output, Tensor) else output)

    hook = model.get_submodule(layer).register_forward_hook(note)
    try:
        forward(image, **options)
    finally:
        hook.remove()
    if not outputs or not isinstance(outputs[-1], Tensor) or outputs[-1].dim() != 4:
        raise _no_map(layer)
    return outputs[-1]


def _no_map(layer: str) -> InputError:
    return InputError(
        f"module {layer!r} returns no map of channels × rows × columns; give a layer before the pooling."
    )


def _chosen(channels: int | Sequence[int], original: Tensor) -> list[int]:
    count = original.shape[1]
    wanted = range(channels) if isinstance(channels, int) else channels
    if not wanted or not all(0 <= index < count for index in wanted):
        raise InputError(f"channels is {channels!r}; this layer has {count}, from 0 to {count - 1}.")
    if isinstance(channels, int):
        return original[0].flatten(1).var(1).topk(channels).indices.tolist()
    return list(channels)


def _visible(image: Tensor, mask: Tensor) -> Tensor:
    visible, _, _ = visible_pixels(image, mask)
    if image.shape[:2] != (1, 3) or not bool(((image >= 0) & (image <= 1)).all()):
        raise InputError(
            f"the image is {tuple(image.shape)}; give one RGB image, 1×3×H×W, of pixels in [0, 1]."
        )
    return visible


def _panels(lines: int, columns: int, image: Tensor) -> np.ndarray:
    high = _CELL * image.shape[2] / image.shape[3]
    figure = Picture(figsize=(columns * _CELL + 0.4, lines * high + 0.5), layout="constrained")
    panels: np.ndarray = figure.subplots(lines, columns, squeeze=False)
    return panels


def _draw_boundary(panel: Axes, visible: np.ndarray) -> None:
    """Draw a line between visible and missing pixels; it covers none of them."""
    below, right = np.diff(visible, axis=0).nonzero(), np.diff(visible, axis=1).nonzero()
    lines = [((x - 0.5, y + 0.5), (x + 0.5, y + 0.5)) for y, x in zip(*below, strict=True)]
    lines += [((x + 0.5, y - 0.5), (x + 0.5, y + 0.5)) for y, x in zip(*right, strict=True)]
    panel.add_collection(LineCollection(lines, colors="#555555", linewidths=1), autolim=False)


def _show(panel: Axes, values: Tensor, norm: Normalize | None = None) -> None:
    """Draw values, with hatching where they are NaN or transparent."""
    panel.patch.set(facecolor="#dddddd", edgecolor="#aaaaaa", hatch="////")
    panel.imshow(values.cpu().numpy(), norm=norm)
    panel.set_xticks([])
    panel.set_yticks([])
