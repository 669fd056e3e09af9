"""Operations that take some cells of a map take the same cells of its mask."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor

from captum_layermask.errors import MaskLostError, NoRuleError
from captum_layermask.masking.activation import MaskedMap, MaskedVector
from captum_layermask.masking.layout import index_parts, is_number, letters, paired, positions
from captum_layermask.masking.mask import Mask, Phase
from captum_layermask.masking.registry import give_rule, rule_for
from captum_layermask.masking.signatures import Function, argument
from captum_layermask.masking.windows import Window
from captum_layermask.rules.pointwise import meeting, pointwise
from captum_layermask.rules.views import listed, unsqueeze

Taken = MaskedMap | MaskedVector


@rule_for("getitem")
def getitem(x: MaskedMap, index: Any) -> Taken:
    """Indexing: numbers, slices and one list or tensor take cells, None adds an axis."""
    return without_positions(x, _indexed(x, index))


def _indexed(x: MaskedMap, index: Any) -> MaskedMap:
    y, dim = x, 0
    for part in _parts(x, index):
        if part is None:
            y = unsqueeze(y, dim)
        elif not (isinstance(part, slice) and part == slice(None)):
            y = take(y, dim, part)
        dim += not is_number(part)
    return y


def _parts(x: MaskedMap, index: Any) -> list[Any]:
    """What is taken of every dimension, and None where there is a new one."""
    parts = index_parts(index, x.raw.dim())
    several = sum(isinstance(part, (list, tuple, Tensor)) for part in parts)
    if several > 1 or (several and any(is_number(part) for part in parts)):
        raise NoRuleError(f"indexing axes {x.named} by several lists or tensors has no rule.")
    return parts


def without_positions(x: MaskedMap, y: MaskedMap) -> Taken:
    """A vector where numbers have taken the last position out of a map (S9), else the map."""
    if positions(y.axes) or not positions(x.axes) or y.raw.dim() >= x.raw.dim():
        return y
    vector = y.pooled(y.zeroed())
    if not y.full:
        x.copies(vector)
    return vector


def take(x: MaskedMap, dim: int, part: Any) -> MaskedMap:
    """Some of what a dimension counts.

    Args:
        x: the map.
        dim: a dimension.
        part: a number, a slice, or a list or one-dimensional tensor of numbers or of bools.
    """
    if dim >= x.raw.dim():
        raise IndexError(f"too many indices for a tensor of dimension {x.raw.dim()}")
    axis = x.axes[dim]
    if paired([axis]):
        return take(x.of_keys(), dim, part).of_keys()
    if is_number(part) and {*letters(axis)} == {"C", "N"} and len(x.mask.visible) == 1:
        axis = "C"  # the one image is left out
    if axis not in ("N", "n", "C", "H", "W", "h", "w"):
        x, axis = listed(x, dim), "H"
    index = (slice(None),) * dim + (part,)
    if not (is_number(part) or isinstance(part, slice)):
        part = torch.as_tensor(part, device=x.raw.device)
        if part.dim() != 1:
            raise NoRuleError(f"indexing axis {axis} by a tensor of {part.dim()} dimensions has no rule.")
        part = part.nonzero()[:, 0] if part.dtype is torch.bool else part
    axes = x.axes[:dim] + (() if is_number(part) else (axis,)) + x.axes[dim + 1 :]
    if axis == "N" and is_number(part):
        axes = tuple("N" if a == "n" else a for a in axes)
    raw = x.raw[index]
    if axis == "H" and isinstance(part, slice):
        grid = x.mask.part_of_list(range(x.raw.shape[dim])[part])
        if grid is not None:
            return x.like(raw, grid, (*x.axes[:dim], "HW", *x.axes[dim + 1 :]))
    return x.like(raw, cut(x, axis, part, x.raw.shape[dim]), axes)


def cut(x: MaskedMap, axis: str, part: Any, length: int) -> Mask:
    """The mask of a part of a map along one of its axes."""
    mask = x.mask
    if axis == "C":
        return mask
    if isinstance(part, Tensor):
        indices: Any = part
    else:
        part = range(length)[part]
        indices = part if isinstance(part, range) else range(part, part + 1)
    block = _block(x, axis)
    if axis in "Nn":
        taken = indices.tolist() if isinstance(indices, Tensor) else indices
        whole = range(len(mask.visible) // block)
        outer, views = (taken, range(block)) if axis == "N" else (whole, taken)
        return mask.of_rows([i * block + view for i in outer for view in views])
    if block == 1 and isinstance(indices, range):
        return stepped(mask, axis, indices)
    if axis in "hw" and len(indices) == 1 and isinstance(indices, range):
        return stepped(mask, axis.upper(), range(indices[0], mask.size["hw".index(axis)], block))
    where = torch.as_tensor(indices, dtype=torch.long, device=mask.visible.device)
    dim = 2 + "HW".index(axis.upper())

    def take_blocks(cells: Tensor) -> Tensor:
        blocks = cells.unflatten(dim, (-1, block))
        picked = blocks.index_select(dim + (axis in "hw"), where.to(cells.device))
        return picked.flatten(dim, dim + 1)

    return mask.moved(take_blocks)


def _block(x: MaskedMap, axis: str) -> int:
    sizes = {letter: size for d in x.dimensions for letter, size in d}
    return sizes.get(axis.lower(), 1)


def stepped(mask: Mask, axis: str, cells: range) -> Mask:
    """The mask of every so many rows or columns; a visible one stands for those that are stepped over."""
    dim = 2 + "HW".index(axis)
    if not len(cells):
        return mask.moved(lambda c: c.narrow(dim, 0, 0))
    step, start = cells.step, cells[0]
    run = (
        mask
        if cells == range(mask.size[dim - 2])
        else mask.moved(lambda c: c[(slice(None),) * dim + (slice(start, cells[-1] + 1),)])
    )
    if step == 1:
        return run
    whole = mask.moved(lambda c: c[(slice(None),) * dim + (slice(start, cells.stop),)])
    taken = whole.moved(lambda c: c[(slice(None),) * dim + (slice(None, None, step),)])
    phase = _phase(mask, axis, start, step) if len(cells) * step == mask.size[dim - 2] else None
    if mask.anchor is mask.visible:
        taken.phase = phase
        return taken
    window = Window((1, 1), (step, 1) if axis == "H" else (1, step))
    anchor = window.owns_any(whole.anchor) & taken.visible
    options: Any = {"full": mask.full, "shares": taken.shares, "images": taken.images, "phase": phase}
    return Mask(taken.visible, anchor, taken.frame, **options)


def _phase(mask: Mask, axis: str, start: int, step: int) -> Phase | None:
    """What ``start::step`` along rows or columns takes of a whole map; None where steps are left over."""
    if start >= step or mask.size["HW".index(axis)] % step:
        return None
    whole, firsts, steps = mask.phase or (mask, (0, 0), (1, 1))
    if axis == "H":
        return (whole, (start, firsts[1]), (step, steps[1])) if steps[0] == 1 else None
    return (whole, (firsts[0], start), (steps[0], step)) if steps[1] == 1 else None


@rule_for("unbind", "iter")
def unbind(x: MaskedMap, dim: int = 0) -> tuple[Taken, ...]:
    """One map for every index along an axis."""
    return tuple(select(x, dim, index) for index in range(x.raw.shape[dim]))


@rule_for("select")
def select(x: MaskedMap, dim: int, index: int) -> Taken:
    """One index along an axis."""
    return without_positions(x, take(x, dim % x.raw.dim(), int(index)))


@rule_for("narrow")
def narrow(x: MaskedMap, dim: int, start: Any, length: int) -> MaskedMap:
    """A run of indices along an axis."""
    dim, start = dim % x.raw.dim(), int(start)
    start += x.raw.shape[dim] * (start < 0)
    return take(x, dim, slice(start, start + length))


@rule_for("index_select")
def index_select(x: MaskedMap, dim: int, index: Tensor) -> MaskedMap:
    """Some indices along an axis."""
    return take(x, dim % x.raw.dim(), index)


_SPLIT = {"hsplit": 1, "vsplit": 0, "dsplit": 2}


def splitting(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[MaskedMap, ...]:
    """Pieces along an axis."""
    x: MaskedMap = args[0]
    name, dim = function.__name__, argument(function, args, kwargs, "dim", 0)
    dim = next((along for split, along in _SPLIT.items() if split == name), dim) % x.raw.dim()
    lengths = [p.shape[dim] for p in function(torch.empty(x.raw.shape, device="meta"), *args[1:], **kwargs)]
    starts = [sum(lengths[:i]) for i in range(len(lengths) + 1)]
    if starts[-1] != x.raw.shape[dim]:
        raise NoRuleError("pieces that overlap have no rule.")
    return tuple(take(x, dim, slice(a, b)) for a, b in itertools.pairwise(starts))


give_rule(
    splitting,
    "chunk",
    "split",
    "split_with_sizes",
    "tensor_split",
    "hsplit",
    "vsplit",
    "dsplit",
    "unsafe_chunk",
    "unsafe_split",
)


@rule_for("setitem")
def setitem(x: Any, index: Any, value: Any) -> MaskedMap:
    """Writing in place: into channels the masks meet (S6, S13), into positions the new cells keep their kind.

    A constant in the place of positions is frame (S4); where a condition holds it belongs to the condition.
    """
    if not isinstance(x, MaskedMap):
        raise MaskLostError(
            "this writes a masked activation into a plain tensor, which cannot hold its mask; make it with "
            "torch.zeros_like(x) or x.new_zeros(…) instead."
        )
    if isinstance(index, MaskedMap):
        x.raw[index.raw] = value
        return x.like(x.raw, meeting([x, index], x.raw.shape)[0])
    part = _indexed(x, index)
    if isinstance(value, MaskedMap) and (part.mask, part.keys) == (value.mask, value.keys):
        x.raw[index] = value.raw
        return x.like(x.raw)
    if x.keys is not None:
        raise NoRuleError(f"writing to some of the pairs of positions of axes {x.named} has no rule.")
    if part.raw.numel() == 0:
        mask = x.mask
    elif part.mask is x.mask:
        mask = meeting([part, value] if isinstance(value, MaskedMap) else [part], part.raw.shape)[0]
    else:
        region, whole = _region(x, index)
        if isinstance(value, MaskedMap):
            _, axes = meeting([part, value], part.raw.shape)
            here = axes[len(axes) - value.raw.dim() :]
            ones = [a if a == b else "C" for a, b in zip(value.axes, here, strict=True)]
            written = meeting([value.like(value.raw.view_as(value.raw), axes=ones)], part.raw.shape)[0]
        else:
            written = Mask.constant(part.mask)
        mask = x.mask.with_part(region, written if whole else part.mask.meet(written))
        mask = x.mask if mask.same_cells(x.mask) else mask
    x.raw[index] = value.raw if isinstance(value, MaskedMap) else value
    return x.like(x.raw, mask)


def _region(x: MaskedMap, index: Any) -> tuple[tuple[slice, slice, slice], bool]:
    """Which images, rows and columns are written to, and whether all of their channels are."""
    region, whole = {"N": slice(None), "H": slice(None), "W": slice(None)}, True
    for axis, part in zip(x.axes, (p for p in _parts(x, index) if p is not None), strict=False):
        if is_number(part):
            part = slice(part, part + 1 or None)
        if isinstance(part, slice) and part == slice(None):
            continue
        if axis == "C":
            whole = False
        elif axis in region and _block(x, axis) == 1 and isinstance(part, slice) and part.step in (None, 1):
            region[axis] = part
        else:
            raise NoRuleError(f"writing to some of axis {axis} of axes {x.named} like this has no rule.")
    return (region["N"], region["H"], region["W"]), whole


def writing_channels(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> MaskedMap:
    """Writing to channels given by number: the masks meet (S6)."""
    x, dim = args[0], argument(function, args, kwargs, "dim")
    if not isinstance(x, MaskedMap) or x.axes[dim] != "C":
        raise NoRuleError("writing to positions by number, or to a tensor without a mask, has no rule.")
    return pointwise(function, args, kwargs)


give_rule(writing_channels, "index_fill", "index_add", "index_copy")


@rule_for("copy_")
def copy_(x: Any, source: Any, non_blocking: bool = False) -> MaskedMap:
    """Writing everything in place."""
    return setitem(x, Ellipsis, source) if not isinstance(x, MaskedMap) else _overwritten(x, source)


def _overwritten(x: MaskedMap, source: Any) -> MaskedMap:
    mask = x.mask
    if isinstance(source, MaskedMap):
        mask, axes = meeting([source], x.raw.shape)
        if axes != x.axes:
            raise NoRuleError(f"copying axes {source.named} into axes {x.named} has no rule.")
    x.raw.copy_(source.raw if isinstance(source, MaskedMap) else source)
    return x.like(x.raw, mask)
