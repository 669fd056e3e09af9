"""Operations that move, pad or join maps do the same to their masks."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_layermask.errors import InputError, NoRuleError
from captum_layermask.masking.activation import MaskedMap, MaskedVector
from captum_layermask.masking.carrier import Carrier
from captum_layermask.masking.mask import Mask
from captum_layermask.masking.registry import give_rule, rule_for
from captum_layermask.masking.signatures import Function, argument
from captum_layermask.rules.pointwise import meeting
from captum_layermask.rules.views import counts_images, image, listed, offsets_as_channels, without_images


@rule_for("pad")
def pad(x: MaskedMap, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> MaskedMap:
    """Constant padding adds frame; every other mode copies cells and their kind (S4)."""
    x = image(x)
    raw = F.pad(x.raw, list(pad), mode, value)
    sides = dict.fromkeys("HW", (0, 0))
    for index, axis in enumerate(reversed(x.axes[len(x.axes) - len(pad) // 2 :])):
        before_after = (pad[2 * index], pad[2 * index + 1])
        if axis in sides:
            sides[axis] = before_after
        elif axis != "C" and any(before_after):
            if mode != "constant" or sum(map(bool, pad)) > sum(map(bool, before_after)):
                raise NoRuleError(f"padding along axis {axis} of a map with axes {x.named} has no rule.")
            return _lengthened(x, raw, x.raw.dim() - 1 - index, before_after)
    edges = (*sides["W"], *sides["H"])
    if not any(edges):
        return x.like(raw)
    if mode == "constant":
        return x.like(raw, x.mask.framed(edges))
    return x.like(raw, x.mask.moved(lambda cells: F.pad(cells.double(), edges, mode).to(cells.dtype)))


def _lengthened(x: MaskedMap, raw: Tensor, dim: int, before_after: Sequence[int]) -> MaskedMap:
    """A list of cells with constants before and after them."""
    x = listed(x, dim)
    before, after = (_plain(x, None, length, "H") for length in before_after)
    masks = [mask for mask in (before, x.mask, after) if mask.size[0]]
    return x.like(raw, Mask.joined(masks, 2))


@rule_for("cat", "concat", "concatenate")
def cat(tensors: Sequence[Any], dim: int = 0) -> MaskedMap:
    """Maps side by side.

    Along channels the masks meet as for a sum (S6), or unite where the forward was told to. Along images,
    rows, columns or flattened positions the masks are joined, and a plain tensor is frame.
    """
    tensors = [t for t in tensors if isinstance(t, Carrier) or t.shape != (0,)]
    dim %= next(t for t in tensors if isinstance(t, MaskedMap)).raw.dim()
    some = [t for t in tensors if _values(t).shape[dim] > 0]
    if len(some) == 1 and isinstance(some[0], MaskedMap):
        return some[0].like(some[0].raw.clone())
    maps = [t for t in tensors if isinstance(t, MaskedMap)]
    block = _block(maps, dim) if len(maps) == len(tensors) else None
    if block is not None:
        return block
    raw = torch.cat(list(map(_values, tensors)), dim)
    words = {m.axes[dim] for m in maps if m.axes[dim] != "C" or m.raw.shape[dim] > 1 or len(maps) == 1}
    if (
        dim == 0
        and all((m.axes[0], len(m.raw)) == ("C", 1) for m in maps)
        and counts_images([m.like(m.raw[0], axes=m.axes[1:]) for m in maps])
    ):
        maps = [m.like(m.raw.view_as(m.raw), axes=("N", *without_images(m.axes[1:]))) for m in maps]
        words = {"N"}
    if words - {"N", "C", "H", "W"} or (len(words) > 1 and "N" not in words):
        maps_listed = [listed(m, dim) for m in maps]
        tensors = [maps_listed.pop(0) if isinstance(t, MaskedMap) else t for t in tensors]
        maps, words = [t for t in tensors if isinstance(t, MaskedMap)], {"H"}
    if len(words) > 1:
        raise NoRuleError(f"joining axes {' and '.join(sorted(words))} has no rule.")
    (axis,) = words or {"C"}
    if axis in "NHW":
        x = next(m for m in maps if m.axes[dim] == axis)
        _require_alike(x, maps, dim)
        masks = [
            t.mask if isinstance(t, MaskedMap) else _plain(x, t, _values(t).shape[dim], axis) for t in tensors
        ]
        return MaskedMap(raw, Mask.joined(masks, "NCHW".index(axis)), x.axes, x.run)
    x = maps[0]
    masks = list(dict.fromkeys(m.mask for m in maps))
    if x.run.concat == "union" and len(masks) > 1:
        raws = [t.plain() if isinstance(t, Carrier) else t for t in tensors]
        return x.like(torch.cat(raws, dim), functools.reduce(Mask.unite, masks))
    _, axes = meeting([m.like(m.raw.narrow(dim, 0, 1)) for m in maps], maps[0].raw.narrow(dim, 0, 1).shape)
    return x.like(raw, functools.reduce(Mask.meet, masks), (*axes[:dim], "C", *axes[dim + 1 :]))


def _values(tensor: Any) -> Tensor:
    return tensor.raw if isinstance(tensor, Carrier) else tensor


def _block(maps: Sequence[MaskedMap], dim: int) -> MaskedMap | None:
    """The cells of a map, taken apart by steps and joined as channels: space to depth (S8); else None."""
    phases = [m.mask.phase for m in maps]
    if None in phases or maps[0].axes[dim] != "C" or len({m.axes for m in maps}) > 1:
        return None
    wholes, firsts, steps = zip(*phases, strict=True)
    rows, columns = steps[0]
    order = sorted(range(len(maps)), key=lambda i: firsts[i])
    cells = [(row, column) for row in range(rows) for column in range(columns)]
    if len({*map(id, wholes)}) > 1 or len({*steps}) > 1 or [firsts[i] for i in order] != cells:
        return None
    raw = torch.stack([maps[i].raw for i in order]).unflatten(0, (rows, columns))
    axes = ("h", "w", *maps[0].axes)
    block = offsets_as_channels(MaskedMap(raw, wholes[0], axes, maps[0].run))
    parts = block.raw.flatten(0, 1).unbind()
    return block.like(torch.cat([parts[cells.index(first)] for first in firsts], dim), axes=maps[0].axes)


def _require_alike(x: MaskedMap, maps: Sequence[MaskedMap], dim: int) -> None:
    """Raise where dimensions beside the one that grows count one thing here and another there."""
    for m in maps:
        beside = [d for d, length in enumerate(m.raw.shape) if d != dim and length > 1]
        if any(m.axes[d] != x.axes[d] for d in beside):
            raise InputError(f"maps with different axes were joined: {x.named}, {m.named}.")


def _plain(x: MaskedMap, tensor: Any, length: int, axis: str) -> Mask:
    """The mask of some images, rows or columns beside a map that are none: constants are frame.

    So is what no longer has positions; it is visible too in images of which it has seen any.
    """
    shape = list(x.mask.visible.shape)
    shape["NCHW".index(axis)] = length
    cells = torch.zeros(shape, dtype=torch.bool, device=x.raw.device)
    frame = torch.ones(1, 1, *shape[2:], dtype=torch.bool)
    images = (0,) * length if axis == "N" else x.mask.images
    if isinstance(tensor, MaskedVector) and axis != "N":
        for source in tensor.sources:
            if len(source.visible) == len(cells):
                cells = cells | source.visible.flatten(1).any(1)[:, None, None, None]
    return Mask(cells, frame=frame, full=True, images=images)


def stacking(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> MaskedMap:
    """A new axis without a position; the masks meet.

    Maps that leave their one image, row or column out, as the pieces of ``unbind`` do, are joined again.
    """
    tensors, dim = args[0], argument(function, args, kwargs, "dim", 0)
    maps = [t for t in tensors if isinstance(t, MaskedMap)]
    raw = torch.stack(list(map(_values, tensors)), dim)
    dim %= raw.dim()
    axis = _left_out(maps, dim)
    if axis is not None:
        masks = [t.mask if isinstance(t, MaskedMap) else _plain(maps[0], t, 1, axis) for t in tensors]
        axes = (*maps[0].axes[:dim], axis, *maps[0].axes[dim:])
        axes = ("N", *without_images(axes[1:])) if axis == "N" else axes
        return MaskedMap(raw, Mask.joined(masks, "NCHW".index(axis)), axes, maps[0].run)
    mask, axes = meeting(maps, maps[0].raw.shape)
    return maps[0].like(raw, mask, (*axes[:dim], "C", *axes[dim:]))


give_rule(stacking, "stack")


def _left_out(maps: Sequence[MaskedMap], dim: int) -> str | None:
    """Whether a new dimension counts images, rows or columns, of which the maps have one each and no axis."""
    axes = maps[0].axes
    if any(m.axes != axes for m in maps) or set("".join(axes)) & set("hw"):
        return None
    named, (rows, columns) = "".join(axes), maps[0].mask.size
    if dim == 0 and counts_images(maps):
        return "N"
    if "H" not in named and rows == 1 and axes[dim : dim + 1] == ("W",):
        return "H"
    return "W" if "W" not in named and columns == 1 and axes[dim - 1 : dim] == ("H",) else None


def moving(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> MaskedMap:
    """An operation that turns or shifts rows and columns does the same to the mask."""
    x: MaskedMap = args[0]
    name, dims = function.__name__, argument(function, args, kwargs, "dims")
    if name in ("fliplr", "flipud"):
        dims = {"fliplr": 1, "flipud": 0}[name]
    dims = (dims,) if isinstance(dims, int) else tuple(dims or ())
    if name == "roll" and not dims:
        raise NoRuleError("rolling a flattened map has no rule; say along which dims.")
    named = [x.axes[dim] for dim in dims]
    if set(named) - {"C", "H", "W"} or any(b in "".join(x.axes) for b in "hw"):
        raise NoRuleError(f"moving axes {' '.join(named)} of a map with axes {x.named} has no rule.")
    raw = function(x.raw, *args[1:], **kwargs)
    at = [max("NCHW".index(axis), 1) for axis in named]
    if name == "rot90":
        k = argument(function, args, kwargs, "k", 1)
        if "C" in named and k % 4:
            raise NoRuleError("turning channels into rows or columns has no rule.")
        return x.like(raw, x.mask.moved(lambda cells: torch.rot90(cells, k, at)))
    shifts = argument(function, args, kwargs, "shifts", 0)
    shifts = (shifts,) * len(dims) if isinstance(shifts, int) else tuple(shifts)

    def move(cells: Tensor) -> Tensor:
        return torch.roll(cells, shifts, at) if name == "roll" else cells.flip(at)

    return x.like(raw, x.mask if set(named) <= {"C"} else x.mask.moved(move))


give_rule(moving, "flip", "fliplr", "flipud", "roll", "rot90")
