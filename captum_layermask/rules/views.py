"""Operations that rename or regroup dimensions keep track of where images, rows and columns went."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from captum_layermask.errors import NoRuleError
from captum_layermask.masking.activation import MaskedMap, MaskedVector
from captum_layermask.masking.layout import (
    NCHW,
    POSITIONS,
    Axes,
    Dimension,
    letters,
    paired,
    positions,
    regrouped,
    spelled,
)
from captum_layermask.masking.mask import Mask
from captum_layermask.masking.neighbor_padding import neighbor_pad
from captum_layermask.masking.registry import give_rule, rule_for
from captum_layermask.masking.signatures import Function, argument
from captum_layermask.masking.windows import Window


def permuting(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> MaskedMap:
    """Any reordering of dimensions: what it does to a tensor of all different sizes tells the new order.

    Rows stay in front of columns: where a transposition swaps them, the mask is transposed.
    """
    x: MaskedMap = args[0]
    probe = torch.empty(tuple(range(2, 2 + x.raw.dim())), device="meta")
    order = [size - 2 for size in function(probe, *args[1:], **kwargs).shape]
    axes, mask, keys = tuple(x.axes[dim] for dim in order), x.mask, x.keys
    joined = "".join(axes)
    if "W" in joined.partition("H")[0] and "H" in joined:
        swap = str.maketrans("HWhwYXyx", "WHwhXYxy")
        axes, mask = tuple(axis.translate(swap) for axis in axes), transposed(mask)
        keys = None if keys is None else transposed(keys)
    return x.like(function(x.raw, *args[1:], **kwargs), mask, axes, keys)


give_rule(permuting, "permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "t", "adjoint")
give_rule(permuting, *(getattr(Tensor, name).__get__ for name in ("T", "mT", "H", "mH")))


def transposed(mask: Mask) -> Mask:
    """The mask with rows for columns."""
    return mask.memoize("transposed", lambda: mask.moved(lambda cells: cells.transpose(2, 3)))


def regrouping(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> MaskedMap | MaskedVector:
    """Any reshape.

    Where everything but the images becomes one dimension, the map becomes a vector (S9). Where offsets
    inside blocks of r × r cells become channels, it is space to depth, a window with kernel and stride r
    (S8). A map is laid out in memory as suits its fills, so what is a view in the plain network may have to
    be a copy.
    """
    x: MaskedMap = args[0]
    probe = function(torch.empty(x.raw.shape, device="meta"), *args[1:], **kwargs)
    found = regrouped(x.dimensions, tuple(x.raw.shape), tuple(probe.shape))
    if found is None:
        raise NoRuleError(
            f"a reshape from {tuple(x.raw.shape)}, axes {x.named}, to {tuple(probe.shape)} makes blocks of "
            "blocks, so that it is no longer known where each cell went; where that is meant, flatten(1) "
            "first."
        )
    dimensions, whole = found
    if whole:
        raw = x.zeroed().reshape(probe.shape)
        vector = MaskedVector(raw, (x.mask,), x.run, x)
        x.copies(vector)
        return vector
    before = positions(x.axes)
    if any(_joins_offsets(d, before) for d in dimensions):
        apart = [[f] for d in dimensions for f in d]
        x = reviewed(x, [size for ((_, size),) in apart], spelled(apart))  # type: ignore[assignment]
        return regrouping(torch.reshape, (offsets_as_channels(x), tuple(probe.shape)), {})
    return reviewed(x, probe.shape, spelled(dimensions))


def _joins_offsets(dimension: Dimension, before: set[str]) -> bool:
    """Whether channels and offsets are one dimension; a single channel may just stand beside new offsets."""
    channels = [size for letter, size in dimension if letter == "C"]
    offsets = {letter for letter, size in dimension if letter in "hw" and size > 1}
    return bool(channels and offsets) and (max(channels) > 1 or bool(offsets & before))


@rule_for(Tensor.unfold)
def unfold_along(x: MaskedMap, dimension: int, size: int, step: int) -> MaskedMap:
    """Blocks of rows or columns with their offsets as a new axis; any windows of channels.

    Windows that overlap are refused: along rows and then along columns they would be filled otherwise than
    the window of two dimensions that they are.
    """
    axis, length = x.axes[dimension], x.raw.shape[dimension]
    if axis not in ("C", "H", "W") or axis.lower() in "".join(x.axes):
        raise NoRuleError(f"windows along axis {axis} of axes {x.named} have no rule.")
    if axis != "C" and (size != step or length % size):
        raise NoRuleError("windows of rows or columns that overlap have no rule here; use F.unfold.")
    return x.like(x.raw.unfold(dimension, size, step), axes=(*x.axes, axis if axis == "C" else axis.lower()))


def views_as_channels(x: MaskedMap, axis: str) -> MaskedMap:
    """A map of several views of each image, counted by ``axis``, as one of channels; their masks meet.

    Raises:
        NoRuleError: what is counted are images, not views of one.
    """
    sizes = {letter: size for d in x.dimensions for letter, size in d}
    images, views = len(x.mask.visible) // sizes.get("n", 1), sizes.get("n", 1)
    groups = [[i * views + j for j in range(views)] for i in range(images)]
    if axis == "N":
        groups = [list(views) for views in zip(*groups, strict=True)]
    if x.axes.count(axis) != 1 or any(len({x.mask.row_images(row) for row in group}) > 1 for group in groups):
        raise NoRuleError(f"joining the images of a batch (axis {axis} of axes {x.named}) has no rule.")
    mask = functools.reduce(Mask.meet, [x.mask.of_rows(views) for views in zip(*groups, strict=True)])
    axes = tuple("C" if a == axis else "N" if a == "n" else a for a in x.axes)
    return MaskedMap(x.raw, mask, axes, x.run)


def squeezing(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> MaskedMap | MaskedVector:
    """Dimensions of one cell are left out."""
    x: MaskedMap = args[0]
    dims = argument(function, args, kwargs, "dim")
    dims = range(x.raw.dim()) if dims is None else (dims,) if isinstance(dims, int) else dims
    gone = {d % x.raw.dim() for d in dims if x.raw.shape[d] == 1}
    left = [d for d in range(x.raw.dim()) if d not in gone]
    y = reviewed(x, [x.raw.shape[d] for d in left], [x.axes[d] for d in left])
    return reshaped_itself(x, y) if function is Tensor.squeeze_ else y


def reshaped_itself(x: MaskedMap, y: MaskedMap | MaskedVector) -> MaskedMap:
    """The map, once it has the shape of a view of it."""
    if isinstance(y, MaskedVector):
        raise NoRuleError("leaving out the last position in place has no rule; use squeeze.")
    x.raw, x.axes = y.raw, y.axes
    return x


give_rule(squeezing, "squeeze")


def reviewed(x: MaskedMap, shape: Sequence[int], axes: Sequence[str]) -> MaskedMap | MaskedVector:
    """The same cells in another shape: a view, as far as can be told; a vector without positions."""
    if positions(x.axes) and not positions(axes):
        vector = x.pooled(x.zeroed().reshape(shape))
        x.copies(vector)
        return vector
    try:
        return x.like(x.raw.view(shape), axes=axes)
    except RuntimeError:
        pass
    if not x.others():
        x.raw = x.raw.contiguous()
        return x.like(x.raw.view(shape), axes=axes)
    y = x.like(x.raw.reshape(shape), axes=axes)
    x.copies(y)
    return y


give_rule(regrouping, "view", "reshape", "flatten", "unflatten", "view_as", "reshape_as", "ravel")


def offsets_as_channels(x: MaskedMap) -> MaskedMap:
    """A map of blocks of r × r cells as a map of windows, kernel and stride r, filled first (S3, S5)."""
    sizes = {letter: size for d in x.dimensions for letter, size in d if letter in "hw"}
    block = (sizes.get("h", 1), sizes.get("w", 1))
    window = Window(block, block)
    change = str.maketrans("hw", "CC")
    axes = spelled([[(letter.translate(change), size) for letter, size in d] for d in x.dimensions])
    return MaskedMap(filled(x, x.run.propagation.rounds(window)), x.after(window), axes, x.run)


def filled(x: MaskedMap, rounds: int) -> Tensor:
    """The values with the missing region's boundary filled, whatever the order of the dimensions."""
    x.run.padded = rounds > 0 and not x.mask.full
    if not x.run.padded:
        return x.raw
    if x.axes == NCHW:
        return neighbor_pad(x.raw, x.mask, rounds)
    names = [letter for d in x.dimensions for letter, _ in d]
    sizes = [size for d in x.dimensions for _, size in d]
    order = sorted(range(len(names)), key=lambda i: "NnCHhWw".index(names[i]))
    grid = x.raw.reshape(sizes).permute(order)
    padded = neighbor_pad(grid.reshape(len(x.mask.visible), -1, *x.mask.size), x.mask, rounds)
    back = [order.index(i) for i in range(len(order))]
    return padded.reshape(grid.shape).permute(back).reshape(x.raw.shape)


def image(x: MaskedMap) -> MaskedMap:
    """The map with axes N C H W, if these are only other names for its dimensions, else itself.

    Dimensions of one cell take the name of the place where they stand; channels beside rows or columns are
    copies of cells (depth to space).
    """
    if x.axes == NCHW:
        return x
    mask, dimensions = x.mask, x.dimensions
    if x.raw.dim() != 4:
        return x
    for place, (dimension, length) in enumerate(zip(dimensions, x.raw.shape, strict=True)):
        name, named = NCHW[place], [letter for letter, size in dimension if size > 1]
        if length == 1 or named == [name] or (name == "C" and set(named) <= {"C"}):
            continue
        repeats = [size for letter, size in dimension if letter == "C"]
        if name in "NC" or len(repeats) != 1 or name not in named or set(named) - {name, "C"}:
            return x
        mask = _repeated(mask, name, repeats[0], first=named[0] == "C")
    return MaskedMap(x.raw, mask, NCHW, x.run)


def _repeated(mask: Mask, name: str, times: int, first: bool) -> Mask:
    """The mask with every image, row or column repeated: each by itself, or all of them again (``first``)."""
    if name == "N":
        rows = range(len(mask.visible))
        return mask.of_rows([*rows] * times if first else [row for row in rows for _ in range(times)])
    dim = NCHW.index(name)
    return mask.moved(
        lambda cells: torch.cat([cells] * times, dim) if first else cells.repeat_interleave(times, dim)
    )


def where_not(x: MaskedMap) -> str:
    """The message of an error where rows and columns are not in their place."""
    return f"this needs rows and columns as the last two of four dimensions, and here are axes {x.named}."


def repeated(mask: Mask, size: Sequence[int]) -> Mask:
    """The mask with every cell repeated until it has this size."""
    if tuple(size) == mask.size:
        return mask
    rows, columns = (m // n for n, m in zip(mask.size, size, strict=True))
    return mask.moved(lambda cells: cells.repeat_interleave(rows, 2).repeat_interleave(columns, 3))


def listed(x: MaskedMap, dim: int) -> MaskedMap:
    """A map whose positions are all merged into one dimension, as a list of cells: rows, in one column.

    Raises:
        NoRuleError: there are positions, or images, in several dimensions.
    """
    dim %= x.raw.dim()
    dimensions = x.dimensions
    dimension, others = dimensions[dim], dimensions[:dim] + dimensions[dim + 1 :]
    elsewhere = {letter for d in others for letter, size in d if size > 1}
    if {"N", "n"} & {letter for letter, size in dimension if size > 1} or elsewhere & POSITIONS:
        raise NoRuleError(f"cutting or joining dimension {dim} of a map with axes {x.named} has no rule.")
    if letters(x.axes[dim]) == "H" and x.mask.size[1] == 1:
        return x
    axes = [axis if axis in ("N", "n") or paired([axis]) else "C" for axis in x.axes]
    axes[dim] = "H"
    if x.axes[dim] == "HW":
        return MaskedMap(x.raw, x.mask.memoize("listed", x.mask.listed), tuple(axes), x.run, x.keys)

    def line(cells: Tensor) -> Tensor:
        spread = x.over(cells).movedim(dim, 0)
        spread = spread.reshape(len(spread), -1).expand(x.raw.shape[dim], -1)
        return spread.T.reshape(-1, 1, x.raw.shape[dim], 1)

    return MaskedMap(x.raw, x.mask.moved(line), tuple(axes), x.run, x.keys)


def unsqueezing(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> MaskedMap:
    """A new axis; see ``unsqueeze``."""
    y = unsqueeze(args[0], argument(function, args, kwargs, "dim"))
    return reshaped_itself(args[0], y) if function is Tensor.unsqueeze_ else y


give_rule(unsqueezing, "unsqueeze")


def unsqueeze(x: MaskedMap, dim: int) -> MaskedMap:
    """A new axis without a position; in front of a map whose one image is left out, that of the images."""
    dim %= x.raw.dim() + 1
    return x.like(x.raw.unsqueeze(dim), axes=(*x.axes[:dim], new_axis(x, dim), *x.axes[dim:]))


def new_axis(x: MaskedMap, dim: int) -> str:
    """What a new dimension counts."""
    return "N" if dim == 0 and counts_images([x]) else "C"


def counts_images(maps: Sequence[MaskedMap]) -> bool:
    """Whether a dimension in front of maps without one for images counts these, rather than channels.

    It does where the maps have their channels already, or are of different images.
    """
    named = letters("".join(axis for m in maps for axis in m.axes))
    if len({m.mask.row_images(0) for m in maps} - {0}) > 1:
        return all(len(m.mask.visible) == 1 for m in maps)
    return "N" not in named and "C" in named


def without_images(axes: Sequence[str]) -> Axes:
    """The axes of a map of one image, where another dimension is to count images."""
    return tuple("C" if axis == "N" else axis for axis in axes)


def expanding(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Broadcasting to more images, channels, rows or columns; a plain tensor stays one."""
    x, *rest = args
    rest = [r.raw if isinstance(r, MaskedMap) else r for r in rest]
    if not isinstance(x, MaskedMap):
        return function(x, *rest, **kwargs)
    raw = function(x.raw, *rest, **kwargs)
    axes = ("C",) * (raw.dim() - x.raw.dim()) + x.axes
    mask = x.mask
    for axis, old, new in zip(x.axes, x.raw.shape, raw.shape[raw.dim() - x.raw.dim() :], strict=True):
        if new == old or axis == "C":
            continue
        if axis not in NCHW or (axis in "HW" and {"h", "w"} & positions(x.axes)):
            raise NoRuleError(f"repeating dimension {axis} of a map with axes {x.named} has no rule.")
        mask = _repeated(mask, axis, new // old, first=True)
    return x.like(raw, mask, axes)


give_rule(expanding, "expand", "expand_as", "broadcast_to", "repeat", "tile")


@rule_for("repeat_interleave")
def repeat_interleave(x: MaskedMap, repeats: Any, dim: int | None = None, **options: Any) -> MaskedMap:
    """Every image, cell or channel as a run of copies."""
    if (
        dim is None
        or not isinstance(repeats, int)
        or x.axes[dim] not in NCHW
        or {"h", "w"} & positions(x.axes)
    ):
        raise NoRuleError(f"repeat_interleave with axes {x.named} along dim {dim} has no rule.")
    raw, axis = x.raw.repeat_interleave(repeats, dim), x.axes[dim]
    return x.like(raw, x.mask if axis == "C" else _repeated(x.mask, axis, repeats, first=False))
