"""Operations that crop, pad, split or join maps do the same to their masks."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_layermask.activation import MaskedMap
from captum_layermask.errors import MaskLostError, NoRuleError
from captum_layermask.mask import Mask
from captum_layermask.registry import Function, give_rule, rule_for
from captum_layermask.rules.pointwise import meeting
from captum_layermask.windows import Window


@rule_for("pad")
def pad(x: MaskedMap, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> MaskedMap:
    """Constant padding adds frame; every other mode copies cells and their kind (S4)."""
    raw = F.pad(x.raw, list(pad), mode, value)
    sides = dict.fromkeys("HW", (0, 0))
    for index, axis in enumerate(reversed(x.axes[len(x.axes) - len(pad) // 2 :])):
        before_after = (pad[2 * index], pad[2 * index + 1])
        if axis in sides:
            sides[axis] = before_after
        elif axis != "C" and any(before_after):
            raise NoRuleError(f"padding along axis {axis} of a map with axes {x.axes} has no rule.")
    edges = (*sides["W"], *sides["H"])
    if not any(edges):
        return x.like(raw)
    if mode == "constant":
        return x.like(raw, x.mask.framed(edges))
    return x.like(raw, x.mask.moved(lambda cells: F.pad(cells.float(), edges, mode).bool()))


@rule_for("cat", "concat", "concatenate")
def cat(tensors: Sequence[Any], dim: int = 0) -> MaskedMap:
    """Maps side by side.

    Along channels the masks meet as for a sum (S6), or unite where the forward was asked to. Along rows or
    columns the masks are joined, and a plain tensor is frame.
    """
    x = next(t for t in tensors if isinstance(t, MaskedMap))
    raws = [t.raw if isinstance(t, MaskedMap) else t for t in tensors]
    raw, axis = torch.cat(raws, dim), x.axes[dim]
    maps = [t for t in tensors if isinstance(t, MaskedMap)]
    if axis == "S" or len({m.axes for m in maps}) > 1:
        raise NoRuleError(
            f"concatenation along axis {axis} (axes {', '.join(m.axes for m in maps)}) has no rule; as in a "
            "transformer that adds a class token, layer masking has no meaning for tokens: drop tokens "
            "instead, or register a rule with captum_layermask.rule_for."
        )
    if axis == "N" and len(maps) == len(tensors) and len({str(m.mask.frame) for m in maps}) == 1:
        return x.like(raw, Mask.joined([m.mask for m in maps], 0))
    if axis in "HW":
        masks = [t.mask if isinstance(t, MaskedMap) else _plain(x, t.shape[dim], axis) for t in tensors]
        return x.like(raw, Mask.joined(masks, 2 + "HW".index(axis)))
    if axis != "C":
        raise NoRuleError(f"concatenation of these maps along axis {axis} (axes {x.axes}) has no rule.")
    masks = list(dict.fromkeys(m.mask for m in maps))
    if x.run.concat == "union" and len(masks) > 1:
        raws = [t.zeroed() if isinstance(t, MaskedMap) else t for t in tensors]
        return x.like(torch.cat(raws, dim), functools.reduce(Mask.unite, masks))
    return x.like(raw, functools.reduce(Mask.meet, masks))


def _plain(x: MaskedMap, length: int, axis: str) -> Mask:
    """The mask of a plain tensor of some rows or columns beside a map: constants are frame."""
    shape = list(x.mask.visible.shape)
    shape[2 + "HW".index(axis)] = length
    cells = torch.zeros(shape, dtype=torch.bool, device=x.raw.device)
    return Mask(cells, frame=torch.ones(1, 1, *shape[2:], dtype=torch.bool), full=True)


@rule_for("stack")
def stack(tensors: Sequence[Any], dim: int = 0) -> MaskedMap:
    """A new axis without a position; the masks meet."""
    maps = [t for t in tensors if isinstance(t, MaskedMap)]
    raw = torch.stack([t.raw if isinstance(t, MaskedMap) else t for t in tensors], dim)
    mask, axes = meeting(maps, maps[0].raw.shape)
    dim %= raw.dim()
    return maps[0].like(raw, mask, axes[:dim] + "C" + axes[dim:])


@rule_for("unbind", "iter")
def unbind(x: MaskedMap, dim: int = 0) -> tuple[MaskedMap, ...]:
    """One map for every index along an axis."""
    return tuple(select(x, dim, index) for index in range(x.raw.shape[dim]))


@rule_for("select")
def select(x: MaskedMap, dim: int, index: int) -> MaskedMap:
    """One index along an axis."""
    return getitem(x, (slice(None),) * (dim % x.raw.dim()) + (index,))


@rule_for("narrow")
def narrow(x: MaskedMap, dim: int, start: int, length: int) -> MaskedMap:
    """A run of indices along an axis."""
    return getitem(x, (slice(None),) * (dim % x.raw.dim()) + (slice(start, start + length),))


@rule_for("index_select")
def index_select(x: MaskedMap, dim: int, index: Tensor) -> MaskedMap:
    """Some channels."""
    return getitem(x, (slice(None),) * (dim % x.raw.dim()) + (index,))


def moving(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> MaskedMap:
    """An operation that puts every cell somewhere else does the same to the mask."""
    x: MaskedMap = args[0]
    raw = function(x.raw, *args[1:], **kwargs)
    if x.axes != "NCHW" or (function.__name__ == "roll" and "dims" not in kwargs and len(args) < 3):
        raise NoRuleError(f"moving the cells of a map with axes {x.axes} like this has no rule.")
    mask = x.mask.moved(lambda cells: function(cells, *args[1:], **kwargs))
    if (len(mask.visible), *mask.size) != (len(raw), *raw.shape[2:]):
        raise NoRuleError("turning channels or images into rows or columns has no rule.")
    return x.like(raw, mask)


give_rule(moving, "flip", "fliplr", "flipud", "roll", "rot90")


def splitting(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[MaskedMap, ...]:
    """Pieces along an axis; the mask is cut where rows, columns or images are."""
    x: MaskedMap = args[0]
    dim = kwargs.get("dim", args[2] if len(args) > 2 else 0) % x.raw.dim()
    pieces: Sequence[Tensor] = function(x.raw, *args[1:], **kwargs)
    starts = [0]
    for piece in pieces:
        starts.append(starts[-1] + piece.shape[dim])
    return tuple(
        x.like(piece, narrowed(x.mask, x.axes[dim], slice(start, start + piece.shape[dim])))
        for piece, start in zip(pieces, starts, strict=False)
    )


give_rule(splitting, "chunk", "split", "split_with_sizes", "tensor_split")


def narrowed(mask: Mask, axis: str, part: slice) -> Mask:
    """The mask of a part of a map along one of its axes."""
    if axis == "C":
        return mask
    if axis == "S":
        raise NoRuleError("cutting flattened positions has no rule.")
    if axis == "N":
        return mask.of_images(part)
    cut = mask.moved(lambda cells: _along(axis, cells, slice(part.start, part.stop)))
    return cut if part.step in (None, 1) else stepped(cut, axis, part.step)


def stepped(mask: Mask, axis: str, step: int) -> Mask:
    """The mask of every so many cells along an axis; a visible one stands for those that are stepped over."""
    taken = mask.moved(lambda cells: _along(axis, cells, slice(None, None, step)))
    if mask.anchor is mask.visible:
        return taken
    window = Window((1, 1), (step, 1) if axis == "H" else (1, step))
    anchor = window.owns_any(mask.anchor) & taken.visible
    return Mask(taken.visible, anchor, taken.frame, full=mask.full)


def _along(axis: str, cells: Tensor, part: slice) -> Tensor:
    return cells[:, :, part] if axis == "H" else cells[..., part]


@rule_for("getitem")
def getitem(x: MaskedMap, index: Any) -> MaskedMap:
    """Basic indexing: slices and integers crop the mask, None adds an axis."""
    parts = list(index) if isinstance(index, tuple) else [index]
    at = next((at for at, part in enumerate(parts) if part is Ellipsis), None)
    if at is not None:
        named = sum(part is not None for part in parts) - 1
        parts[at : at + 1] = [slice(None)] * (x.raw.dim() - named)
    mask, axes, rest = x.mask, "", x.axes
    for part in parts:
        if part is None:
            axes += "C"
            continue
        axis, rest = rest[0], rest[1:]
        if isinstance(part, slice):
            axes += axis
            mask = mask if part == slice(None) else narrowed(mask, axis, part)
        elif isinstance(part, int):
            mask = narrowed(mask, axis, slice(part, part + 1 or None))
        elif axis == "C" and isinstance(part, (list, Tensor)):
            axes += axis
        else:
            raise NoRuleError(f"indexing axis {axis} of a map with {type(part).__name__} has no rule.")
    raw, picked = x.raw[index], [part for part in parts if isinstance(part, (int, list, Tensor))]
    if raw.dim() != len(axes + rest) or (len(picked) > 1 and not all(isinstance(p, int) for p in picked)):
        raise NoRuleError(f"indexing a map with axes {x.axes} by several lists or tensors has no rule.")
    return x.like(raw, mask, axes + rest)


@rule_for("setitem")
def setitem(x: Any, index: Any, value: Any) -> MaskedMap:
    """Writing channels, or a constant where a condition holds, in place; the masks meet (S6, S13)."""
    if not isinstance(x, MaskedMap):
        raise MaskLostError(
            "this writes a masked activation into a plain tensor, which cannot hold its mask."
        )
    if isinstance(index, MaskedMap):
        x.raw[index.raw] = value
        return x.like(x.raw, meeting([x, index], x.raw.shape)[0])
    part = getitem(x, index)
    if part.mask is not x.mask:
        raise NoRuleError("writing into some positions of a map has no rule; use torch.where or torch.cat.")
    maps = [part, value] if isinstance(value, MaskedMap) else [part]
    x.raw[index] = maps[-1].raw if len(maps) > 1 else value
    return x.like(x.raw, meeting(maps, part.raw.shape)[0])
