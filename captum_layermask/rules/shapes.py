"""Operations that rename or regroup dimensions keep track of where rows and columns went."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from captum_layermask.activation import MaskedMap, MaskedVector
from captum_layermask.errors import NoRuleError
from captum_layermask.mask import Mask
from captum_layermask.padding import neighbor_pad
from captum_layermask.registry import RULES, Function, give_rule, rule_for
from captum_layermask.windows import Window


def permuting(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> MaskedMap:
    """Any reordering of dimensions: what it does to a tensor of all different sizes tells the new order.

    Rows stay the axis in front of columns: where a transposition swaps them, the mask is transposed.
    """
    x: MaskedMap = args[0]
    probe = torch.empty(tuple(range(2, 2 + x.raw.dim())), device="meta")
    order = [size - 2 for size in function(probe, *args[1:], **kwargs).shape]
    axes, mask = "".join(x.axes[dim] for dim in order), x.mask
    if "W" in axes.partition("H")[0] and "H" in axes:
        axes, mask = axes.translate(str.maketrans("HWhw", "WHwh")), transposed(mask)
    return x.like(function(x.raw, *args[1:], **kwargs), mask, axes)


give_rule(permuting, "permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis")
RULES[Tensor.mT.__get__] = permuting  # type: ignore[attr-defined]


def transposed(mask: Mask) -> Mask:
    """The mask with rows for columns."""

    def turn() -> Mask:
        turned = mask.moved(lambda cells: cells.transpose(2, 3))
        turned.counts = None if mask.counts is None else mask.counts.transpose(2, 3)
        return turned

    return mask.remember("transposed", turn)


def regrouping(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> MaskedMap | MaskedVector:
    """Any reshape.

    Where rows and columns are merged into channels the map becomes a vector (S9). Where only the offsets
    inside blocks of r × r cells are, it is space to depth, a window with kernel and stride r (S8); where
    channels are merged into rows and columns, it is depth to space, and every cell becomes a block.
    """
    x: MaskedMap = args[0]
    old = x.raw.shape
    raw: Tensor = function(x.raw, *args[1:], **kwargs)
    axes = regrouped(x.axes, old, raw.shape)
    if axes is not None and not set(axes) & set("HWS"):
        return x.pooled(x.zeroed().reshape(raw.shape))
    if set(x.axes) & set("hw") and not (axes and fits(axes, raw.shape, x.mask)):
        x = offsets_as_channels(x)
        raw, axes = x.raw.reshape(raw.shape), regrouped(x.axes, old, raw.shape)
    size = None if axes is None else positions(axes, raw.shape, x.mask)
    if axes is None or size is None or any(n % m for n, m in zip(size, x.mask.size, strict=True)):
        raise NoRuleError(
            f"a reshape from {tuple(old)}, axes {x.axes}, to {tuple(raw.shape)} mixes images, or rows with "
            "columns or channels, so that it is no longer known where each cell went; where that is meant, "
            "flatten(1) first."
        )
    return x.like(raw, repeated(x.mask, size), axes)


give_rule(regrouping, "view", "reshape", "flatten", "unflatten", "squeeze", "view_as", "reshape_as")


def positions(axes: str, shape: Sequence[int], mask: Mask) -> tuple[int, int] | None:
    """Rows and columns of a map with these axes; None where flattened positions are not the mask's."""
    if "S" in axes:
        return mask.size if shape[axes.index("S")] == math.prod(mask.size) else None
    rows, columns = (
        math.prod(n for n, a in zip(shape, axes, strict=True) if a in both) for both in ("Hh", "Ww")
    )
    return rows, columns


def fits(axes: str, shape: Sequence[int], mask: Mask) -> bool:
    """Whether a map with these axes has a position for every cell of the mask."""
    return positions(axes, shape, mask) == mask.size


def offsets_as_channels(x: MaskedMap) -> MaskedMap:
    """A map of blocks of r × r cells as a map of windows, kernel and stride r, filled first (S3, S5)."""
    rows, columns = (x.raw.shape[x.axes.index(a)] if a in x.axes else 1 for a in "hw")
    window = Window((rows, columns), (rows, columns))
    axes = x.axes.translate(str.maketrans("hw", "CC"))
    return x.like(filled(x, x.run.propagation.rounds(window)), x.behind(window), axes)


def filled(x: MaskedMap, rounds: int) -> Tensor:
    """The values with the rim of the hole filled, whatever the order of the dimensions."""
    order = sorted(range(x.raw.dim()), key=lambda dim: "NCHhWw".index(x.axes[dim]))
    x.run.padded = rounds > 0 and not x.mask.full
    grid = x.raw.permute(order)
    padded = neighbor_pad(grid.reshape(x.raw.shape[0], -1, *x.mask.size), x.mask, rounds)
    return padded.reshape(grid.shape).permute([order.index(dim) for dim in range(len(order))])


def repeated(mask: Mask, size: Sequence[int]) -> Mask:
    """The mask with every cell repeated until it has this size."""
    if tuple(size) == mask.size:
        return mask
    rows, columns = (m // n for n, m in zip(mask.size, size, strict=True))
    return mask.moved(lambda cells: cells.repeat_interleave(rows, 2).repeat_interleave(columns, 3))


def regrouped(axes: str, old: Sequence[int], new: Sequence[int]) -> str | None:
    """The axes after a reshape; None where it merges images with anything else."""
    result, i, j = "", 0, 0
    while i < len(old) or j < len(new):
        a, b = min(i + 1, len(old)), min(j + 1, len(new))
        while (have := math.prod(old[i:a])) != (want := math.prod(new[j:b])):
            a, b = (a + 1, b) if have < want else (a, b + 1)
        group = _group(axes[i:a], old[i:a], new[j:b])
        if group is None:
            return None
        result, i, j = result + group, a, b
    return result


_REGROUPED = {
    ("HW", 1): "S",
    ("HhWw", 1): "S",
    ("S", 2): "HW",
    ("H", 2): "Hh",
    ("W", 2): "Ww",
    ("Hh", 1): "H",
    ("Ww", 1): "W",
    ("HC", 1): "H",
    ("WC", 1): "W",
}
"""What becomes of some axes when they are regrouped into so many; h and w are offsets inside blocks."""


def _group(axes: str, old: Sequence[int], new: Sequence[int]) -> str | None:
    """The axes of dimensions ``new`` that hold the same cells as dimensions ``old``; None where unknown."""
    if tuple(old) == tuple(new):
        return axes
    sized = "".join(axis for axis, size in zip(axes, old, strict=True) if size > 1)
    target = [dim for dim, size in enumerate(new) if size > 1]
    names = _REGROUPED.get((sized, len(target)))
    if names is None and [n for n in old if n > 1] == [new[dim] for dim in target]:
        names = sized
    if names is None and (
        "N" in sized or (set(sized) & set("HWS") and ("C" not in sized or len(target) > 1))
    ):
        return None
    names = names or "C" * len(target)
    return "".join(names[target.index(dim)] if dim in target else "C" for dim in range(len(new)))


@rule_for("unsqueeze")
def unsqueeze(x: MaskedMap, dim: int) -> MaskedMap:
    """A new axis without a position."""
    raw = x.raw.unsqueeze(dim)
    dim %= raw.dim()
    return x.like(raw, axes=x.axes[:dim] + "C" + x.axes[dim:])


def expanding(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Broadcasting to more channels, rows or columns; a plain tensor stays one."""
    x, *rest = args
    rest = [r.raw if isinstance(r, MaskedMap) else r for r in rest]
    if not isinstance(x, MaskedMap):
        return function(x, *rest, **kwargs)
    raw = function(x.raw, *rest, **kwargs)
    axes = x.axes.rjust(raw.dim(), "C")
    size = [raw.shape[axes.index(a)] if a in axes else n for a, n in zip("HW", x.mask.size, strict=True)]
    if any(raw.shape[axes.index(a)] != x.raw.shape[x.axes.index(a)] for a in "NS" if a in axes):
        raise NoRuleError(f"repeating the images or flattened positions of a map (axes {axes}) has no rule.")
    if any(n > 1 and n != m for n, m in zip(x.mask.size, size, strict=True)):
        raise NoRuleError("tiling a map in space has no rule.")
    return x.like(raw, repeated(x.mask, size), axes)


give_rule(expanding, "expand", "expand_as", "broadcast_to", "repeat", "tile")


@rule_for("repeat_interleave")
def repeat_interleave(x: MaskedMap, repeats: int, dim: int) -> MaskedMap:
    """Every cell, or every channel, as a run of copies."""
    raw = x.raw.repeat_interleave(repeats, dim)
    axis, (rows, columns) = x.axes[dim], x.mask.size
    if axis not in "CHW" or not isinstance(repeats, int):
        raise NoRuleError(f"repeat_interleave along axis {axis} has no rule.")
    return x.like(
        raw, repeated(x.mask, (rows * repeats ** (axis == "H"), columns * repeats ** (axis == "W")))
    )
