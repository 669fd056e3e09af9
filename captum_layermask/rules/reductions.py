"""Reductions (means, sums, maxima, norms) give missing cells no weight."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from captum_layermask.errors import NoRuleError
from captum_layermask.masking.activation import MaskedMap, MaskedVector
from captum_layermask.masking.layout import KEYS, letters, paired, positions
from captum_layermask.masking.registry import give_rule, rule_for
from captum_layermask.masking.signatures import Function, argument
from captum_layermask.rules.pointwise import pointwise
from captum_layermask.rules.views import offsets_as_channels, views_as_channels

Dims = int | Sequence[int] | None
Reduced = MaskedMap | MaskedVector


def dimensions(x: MaskedMap, dim: Dims) -> tuple[int, ...]:
    """The dimensions that a ``dim`` argument names, counted from the front; None or () names all."""
    if dim is None or (not isinstance(dim, int) and len(dim) == 0):
        return tuple(range(x.raw.dim()))
    dims = (dim,) if isinstance(dim, int) else dim
    return tuple(sorted(d % x.raw.dim() for d in dims))


def joins_positions(x: MaskedMap, dims: Sequence[int]) -> bool:
    """Whether a reduction over these dimensions joins cells of different positions or images."""
    return any(letters(x.axes[dim]) != "C" for dim in dims)


def without(x: MaskedMap, dims: Sequence[int], keepdim: bool, raw: Tensor, averaged: bool = False) -> Reduced:
    """The reduction ``raw`` of a map over ``dims``: a map of the positions that are left, if any are."""
    left = [axis for dim, axis in enumerate(x.axes) if dim not in dims]
    here = positions(x.axes)
    if x.keys is not None and not positions(left) and paired(left):
        return without(x.of_keys(), dims, keepdim, raw, averaged)
    if not positions(left) or (here >= set("HWhw") and positions(left) <= set("hw")):
        return x.pooled(raw)
    axes = tuple(left)
    if keepdim:
        axes = tuple("C" if d in dims else a for d, a in enumerate(x.axes))
    gone = set("".join(letters(x.axes[dim]) for dim in dims)) - {"C"} - KEYS
    mask = x.mask
    for axis in "HW":
        if axis in gone and axis.lower() not in "".join(left):
            mask = (mask.averaged if averaged else mask.reduced)("NCHW".index(axis))
            gone -= {axis, axis.lower()}
    if gone and (gone != {"N"} or len(mask.visible) > 1):
        raise NoRuleError(
            f"a reduction that leaves axes {' '.join(left)} of a map with axes {x.named} has no rule."
        )
    return x.like(raw, mask, axes)


def windows(x: MaskedMap, dims: Sequence[int]) -> MaskedMap:
    """The map to reduce: over offsets inside blocks alone, a reduction is a window that fills first (S3)."""
    named = {x.axes[dim] for dim in dims}
    for axis in ("n", "N"):
        if axis in named and named <= {axis, "C"}:
            return views_as_channels(x, axis)
    gone = positions(named)
    return offsets_as_channels(x) if gone & set("hw") and not gone & set("HW") else x


def exact(dtype: torch.dtype) -> torch.dtype:
    """The number type in which sums are taken: as in PyTorch's own kernels, single precision for half."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def number(there: Tensor, x: MaskedMap, dims: Sequence[int], keepdim: bool) -> Tensor:
    """How many cells a reduction over these dimensions counts, or the sum of their weights.

    Args:
        there: their weights, laid out so that they broadcast against the values.
        x: the map that is reduced.
        dims: its dimensions that go.
        keepdim: whether they stay, with one cell.
    """
    alike = math.prod([x.raw.shape[d] for d in dims if there.shape[d] == 1])
    return there.sum(tuple(dims), keepdim) * alike


@rule_for("mean")
def mean(
    x: MaskedMap, dim: Dims = None, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> Reduced:
    """Mean over the cells that are not missing; 0 where all are (S7)."""
    dims = dimensions(x, dim)
    x = windows(x, dims)
    present, kind = x.counted(dims), exact(dtype or x.raw.dtype)
    shares = x.mask.shares if joins_positions(x, dims) else None
    if present is None and shares is None:
        return without(x, dims, keepdim, x.raw.mean(dims, keepdim, dtype=dtype), averaged=True)
    present = x.present if present is None else present
    values, weight = torch.where(present, x.raw, 0), present.to(kind)
    if shares is not None:
        weight = weight * x.over(shares).to(kind)
        values = values * weight
    total = values.sum(dims, keepdim, dtype=kind)
    there = number(weight, x, dims, keepdim)
    raw = (total / torch.where(there > 0, there, 1)).to(dtype or x.raw.dtype)
    return without(x, dims, keepdim, raw, averaged=True)


def mean_of_one_window(x: MaskedMap, pool: Callable[[Tensor], Tensor], cells: int) -> MaskedVector:
    """What an average pool gives whose one window holds the whole map: the mean of what is there (S7).

    Args:
        x: rows and columns are its last two dimensions.
        pool: the plain pool.
        cells: how many cells the plain pool counts, implicit padding included.
    """
    if x.mask.full and x.mask.shares is None:
        return x.pooled(pool(x.raw))
    weight = x.over(x.mask.present).to(exact(x.raw.dtype))
    if x.mask.shares is not None:
        weight = weight * x.over(x.mask.shares).to(weight.dtype)
    there = cells - (1 - weight).sum((2, 3), keepdim=True)
    values = x.zeroed().to(weight.dtype)
    values = values if x.mask.shares is None else values * weight
    return x.pooled((pool(values) * torch.where(there > 0, cells / there, 0)).to(x.raw.dtype))


@rule_for("var")
def var(x: MaskedMap, *args: Any, **kwargs: Any) -> Reduced:
    """Variance over the cells that are not missing; 0 where all are (S8)."""
    return var_mean(x, *args, **kwargs)[0]


@rule_for("std")
def std(x: MaskedMap, *args: Any, **kwargs: Any) -> Reduced:
    """Standard deviation over the cells that are not missing; 0 where all are (S8)."""
    return std_mean(x, *args, **kwargs)[0]


@rule_for("std_mean")
def std_mean(x: MaskedMap, *args: Any, **kwargs: Any) -> tuple[Reduced, Reduced]:
    """Standard deviation and mean over the cells that are not missing; 0 where all are (S8)."""
    variance, average = var_mean(x, *args, **kwargs)
    # A root has no gradient at 0; PyTorch's own standard deviation calls it 0.
    spread = variance.raw > 0
    root = torch.where(spread, torch.where(spread, variance.raw, 1).sqrt(), variance.raw)
    return like(variance, root), average


def like(result: Reduced, raw: Tensor) -> Reduced:
    """The same map or vector with other values."""
    if isinstance(result, MaskedMap):
        return result.like(raw)
    return MaskedVector(raw, result.sources, result.run)


@rule_for("var_mean")
def var_mean(
    x: MaskedMap,
    dim: Any = None,
    unbiased: bool = True,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> tuple[Reduced, Reduced]:
    """Variance and mean over the cells that are not missing; 0 where all are (S8)."""
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    correction = float(unbiased) if correction is None else correction
    dims = dimensions(x, dim)
    x = windows(x, dims)
    variance, average = (t.to(x.raw.dtype) for t in moments(x, dims, correction, keepdim))
    return without(x, dims, keepdim, variance), without(x, dims, keepdim, average)


def moments(
    x: MaskedMap, dims: Sequence[int], correction: float, keepdim: bool = True
) -> tuple[Tensor, Tensor]:
    """Variance and mean over the cells that are not missing, in ``exact`` numbers; 0 where all are."""
    dims, present = tuple(dims), x.counted(dims)
    if present is None:
        return torch.var_mean(x.raw.to(exact(x.raw.dtype)), dims, correction=correction, keepdim=keepdim)
    values = torch.where(present, x.raw, 0).to(exact(x.raw.dtype))
    there = number(present, x, dims, keepdim=True).to(values.dtype)
    average = values.sum(dims, keepdim=True) / there.clamp(min=1)
    squares = torch.where(present, values - average, 0).square().sum(dims, keepdim=True)
    variance = squares / torch.where(there > correction, there - correction, 1)
    variance = torch.where(there > correction, variance, 0)
    if keepdim:
        return variance, average
    return variance.squeeze(dims), average.squeeze(dims)


def lowest_of(dtype: torch.dtype) -> float:
    """What no number is below."""
    return -torch.inf if dtype.is_floating_point else torch.iinfo(dtype).min if dtype is not torch.bool else 0


def highest_of(dtype: torch.dtype) -> float:
    """What no number is above."""
    return torch.inf if dtype.is_floating_point else torch.iinfo(dtype).max if dtype is not torch.bool else 1


def weightless(
    neutral: Callable[[torch.dtype], float], empty: bool = False
) -> Callable[[Function, tuple[Any, ...], dict[str, Any]], Reduced]:
    """The rule of a reduction that a neutral value in the missing cells leaves as it is (S8).

    Args:
        neutral: that value, by number type.
        empty: whether the reduction of nothing is to be 0 instead of it.
    """

    def reduction(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Reduced:
        x: MaskedMap = args[0]
        dims = dimensions(x, argument(function, args, kwargs, "dim"))
        keepdim = argument(function, args, kwargs, "keepdim", False)
        x = windows(x, dims)
        present = x.counted(dims)
        if present is None:
            return without(x, dims, keepdim, function(x.raw, *args[1:], **kwargs))
        raw = function(torch.where(present, x.raw, neutral(x.raw.dtype)), *args[1:], **kwargs)
        if empty:
            raw = torch.where(present.any(dims, keepdim), raw, 0)
        return without(x, dims, keepdim, raw)

    return reduction


zero, one = weightless(lambda dtype: 0), weightless(lambda dtype: 1)
lowest, highest = weightless(lowest_of, empty=True), weightless(highest_of, empty=True)
give_rule(zero, "sum", "nansum", "any", "count_nonzero")
give_rule(one, "prod", "all")
give_rule(lowest, "amax", "logsumexp")
give_rule(highest, "amin")


def norms(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Reduced:
    """A norm: missing cells are 0, or without end where the order is negative."""
    order = argument(function, args, kwargs, "p", argument(function, args, kwargs, "ord"))
    negative = isinstance(order, (int, float)) and order < 0
    return (highest if negative else zero)(function, args, kwargs)


give_rule(norms, "norm", "vector_norm")


def extreme(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``max`` and ``min``: of two maps cell by cell, over an axis, or over everything (S8)."""
    x, second = args[0], args[1] if len(args) > 1 else kwargs.get("other", kwargs.get("dim"))
    if isinstance(second, (Tensor, MaskedMap)) or not isinstance(x, MaskedMap):
        return pointwise(function, args, kwargs)
    x = windows(x, dimensions(x, second))
    low = function.__name__ == "max"
    alone, reduction = (torch.amax, lowest) if low else (torch.amin, highest)
    keepdim = argument(function, args, kwargs, "keepdim", False)
    values = reduction(alone, (x, second, keepdim), {})
    if second is None:
        return values
    best = function(weighed(x, low, [second]), second, keepdim)
    return type(best)([values, like(values, best.indices)])


give_rule(extreme, "max", "min")


def weighed(x: MaskedMap, low: bool, dims: Sequence[int]) -> Tensor:
    """The values, with the lowest or the highest number in cells that a reduction does not count."""
    neutral, there = (lowest_of if low else highest_of)(x.raw.dtype), x.counted(dims)
    return x.raw if there is None else torch.where(there, x.raw, neutral)


def where_extreme(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Reduced:
    """Where the maximum or minimum of what is not missing is: among channels per pixel, or positions."""
    x: MaskedMap = args[0]
    dim = argument(function, args, kwargs, "dim")
    keepdim = argument(function, args, kwargs, "keepdim", False)
    dims = dimensions(x, dim)
    raw = function(weighed(x, function.__name__ == "argmax", dims), *args[1:], **kwargs)
    return without(x, dims, keepdim, raw)


give_rule(where_extreme, "argmax", "argmin")


@rule_for("topk")
def topk(x: MaskedMap, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    """The largest along channels per pixel; along positions of what is not missing, else 0 (S8)."""
    if not joins_positions(x, (dim,)):
        per_pixel: Any = torch.topk(x.raw, k, dim, largest, sorted)
        return type(per_pixel)([x.like(part) for part in per_pixel])
    best: Any = torch.topk(weighed(x, largest, [dim]), k, dim, largest, sorted)
    left = [axis for d, axis in enumerate(x.axes) if d != dim % x.raw.dim()]
    if positions(left):
        raise NoRuleError(f"topk along some of the positions of axes {x.named} has no rule.")
    there = x.over(x.mask.present).expand(x.raw.shape).gather(dim, best.indices)
    return type(best)([x.pooled(torch.where(there, best.values, 0)), x.pooled(best.indices)])


@rule_for("gather")
def gather(x: Any, dim: int, index: Any, **options: Any) -> Reduced:
    """Cells picked by number: among channels per pixel; among positions a vector, 0 for missing cells."""
    if not isinstance(x, MaskedMap) or isinstance(index, MaskedMap):
        if isinstance(x, MaskedMap) and not joins_positions(x, (dim,)) and index.axes == x.axes:
            return x.like(torch.gather(x.raw, dim, index.raw), x.mask.meet(index.mask))
        raise NoRuleError("picking cells by numbers that are a map themselves has no rule.")
    if joins_positions(x, (dim,)):
        if positions([axis for d, axis in enumerate(x.axes) if d != dim % x.raw.dim()]):
            raise NoRuleError(f"gather along some of the positions of axes {x.named} has no rule.")
        return x.pooled(torch.gather(x.zeroed(), dim, index))
    return x.like(torch.gather(x.raw, dim, index))


def amax(x: MaskedMap, dim: Dims, keepdim: bool = False) -> Reduced:
    """Maximum over the cells that are not missing; 0 where all are (S8)."""
    return lowest(torch.amax, (x, dim, keepdim), {})
