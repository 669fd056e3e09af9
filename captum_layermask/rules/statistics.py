"""Statistics over space give missing cells no weight."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_layermask.activation import MaskedMap, MaskedVector
from captum_layermask.errors import NoRuleError
from captum_layermask.mask import Mask
from captum_layermask.registry import RULES, Function, give_rule, rule_for
from captum_layermask.rules.pointwise import pointwise
from captum_layermask.rules.shapes import fits, offsets_as_channels

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
    return any(x.axes[dim] != "C" for dim in dims)


def without(x: MaskedMap, dims: Sequence[int], keepdim: bool, raw: Tensor) -> Reduced:
    """The reduction ``raw`` of a map over ``dims``: a map of the positions that are left, if any are."""
    left = "".join(axis for dim, axis in enumerate(x.axes) if dim not in dims)
    if not set(left) & set("HWS"):
        return x.pooled(raw)
    axes = left
    if keepdim:
        axes = "".join("C" if d in dims and a not in "HW" else a for d, a in enumerate(x.axes))
    gone = set(x.axes) - set(left)
    mask = x.mask
    for axis in gone & set("HW"):
        mask = strip(mask, axis)
    if "N" in gone or not fits(axes, raw.shape, mask):
        raise NoRuleError(f"a reduction that leaves axes {left} of a map with axes {x.axes} has no rule.")
    return x.like(raw, mask, axes)


def windows(x: MaskedMap, dims: Sequence[int]) -> MaskedMap:
    """The map to reduce: over offsets inside blocks alone, a reduction is a window that fills first (S3)."""
    gone = {x.axes[dim] for dim in dims}
    return offsets_as_channels(x) if gone & set("hw") and not gone & set("HW") else x


def strip(mask: Mask, axis: str) -> Mask:
    """The mask of a map reduced over its rows ("H") or columns ("W"); it counts what each cell stands for."""
    dim = "NCHW".index(axis)

    def reduce() -> Mask:
        reduced = mask.gathered(lambda cells: cells.any(dim, keepdim=True))
        reduced.counts = mask.kept.sum(dim, keepdim=True)
        return reduced

    return mask.remember(("strip", axis), reduce)


@rule_for("mean")
def mean(
    x: MaskedMap, dim: Dims = None, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> Reduced:
    """Mean over the cells that are not missing; 0 where all are (S7)."""
    dims = dimensions(x, dim)
    x = windows(x, dims)
    if not joins_positions(x, dims) or (x.mask.full and x.mask.counts is None):
        return without(x, dims, keepdim, x.raw.mean(dims, keepdim, dtype=dtype))
    counts = x.mask.kept if x.mask.counts is None else x.mask.counts * x.mask.kept
    weight = x.over(counts).to(dtype or x.raw.dtype)
    channels = math.prod(x.raw.shape[d] for d in dims if x.axes[d] == "C")
    total = (x.zeroed() * weight if x.mask.counts is not None else x.zeroed()).sum(dims, keepdim, dtype=dtype)
    there = weight.sum(dims, keepdim) * channels
    return without(x, dims, keepdim, total / there.clamp(min=1))


def mean_of_one_window(x: MaskedMap, pool: Callable[[Tensor], Tensor], cells: int) -> MaskedVector:
    """What an average pool gives whose one window holds the whole map: the mean of what is there (S7).

    Args:
        x: N×C×H×W.
        pool: the plain pool.
        cells: how many cells the plain pool counts, implicit padding included.
    """
    if x.mask.full:
        return x.pooled(pool(x.raw))
    there = (cells - x.mask.missing.sum((2, 3), keepdim=True)).to(x.raw.dtype)
    return x.pooled(pool(x.zeroed()) * torch.where(there > 0, cells / there, 0))


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
    return variance.sqrt(), average


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
    if not joins_positions(x, dims) or x.mask.full:
        variance, average = torch.var_mean(x.raw, dims, correction=correction, keepdim=keepdim)
        return without(x, dims, keepdim, variance), without(x, dims, keepdim, average)
    kept = x.over(x.mask.kept)
    channels = math.prod(x.raw.shape[d] for d in dims if x.axes[d] == "C")
    there = kept.sum(dims, keepdim=True).to(x.raw.dtype) * channels
    average = x.zeroed().sum(dims, keepdim=True) / there.clamp(min=1)
    squares = torch.where(kept, x.raw - average, 0).square().sum(dims, keepdim=True)
    variance = torch.where(there > correction, squares / (there - correction), 0)
    if not keepdim:
        average, variance = (t.squeeze(dims) for t in (average, variance))
    return without(x, dims, keepdim, variance), without(x, dims, keepdim, average)


def weightless(neutral: float) -> Callable[[Function, tuple[Any, ...], dict[str, Any]], Reduced]:
    """The rule of a reduction that a neutral value in the missing cells leaves as it is (S8)."""

    def reduction(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Reduced:
        x: MaskedMap = args[0]
        signature = ["input", *(("p",) if "norm" in function.__name__ else ()), "dim", "keepdim"]
        options = dict(zip(signature, args, strict=False)) | kwargs
        dims = dimensions(x, options.get("dim"))
        keepdim = options.get("keepdim", False)
        x = windows(x, dims)
        if not joins_positions(x, dims) or x.mask.full:
            return without(x, dims, keepdim, function(x.raw, *args[1:], **kwargs))
        kept = x.over(x.mask.kept)
        raw = function(torch.where(kept, x.raw, neutral), *args[1:], **kwargs)
        if neutral not in (0, 1):
            raw = torch.where(kept.any(dims, keepdim), raw, 0)
        return without(x, dims, keepdim, raw)

    return reduction


zero, one, lowest, highest = (weightless(value) for value in (0, 1, -torch.inf, torch.inf))
give_rule(zero, "sum", "nansum", "norm", "any", "count_nonzero")
for norm in (torch.linalg.vector_norm, torch.linalg.norm):
    RULES[norm] = zero
give_rule(one, "prod", "all")
give_rule(lowest, "amax", "logsumexp")
give_rule(highest, "amin")


def extreme(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``max`` and ``min``: of two maps cell by cell, over an axis, or over everything (S8)."""
    x, second = args[0], args[1] if len(args) > 1 else kwargs.get("other", kwargs.get("dim"))
    if isinstance(second, Tensor):
        return pointwise(function, args, kwargs)
    x = windows(x, dimensions(x, second))
    neutral, reduction = {"max": (-torch.inf, lowest), "min": (torch.inf, highest)}[function.__name__]
    alone = {"max": torch.amax, "min": torch.amin}[function.__name__]
    keepdim = kwargs.get("keepdim", args[2] if len(args) > 2 else False)
    values = reduction(alone, (x, second, keepdim), {})
    if second is None:
        return values
    best = function(torch.where(x.over(x.mask.kept), x.raw, neutral), second, keepdim)
    indices = values.like(best.indices) if isinstance(values, MaskedMap) else x.pooled(best.indices)
    return type(best)([values, indices])


give_rule(extreme, "max", "min")


def amax(x: MaskedMap, dim: Dims, keepdim: bool = False) -> Reduced:
    """Maximum over the cells that are not missing; 0 where all are (S8)."""
    return lowest(torch.amax, (x, dim, keepdim), {})


@rule_for("group_norm")
def group_norm(
    x: MaskedMap, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> MaskedMap:
    """Statistics of each group of channels over the cells that are not missing (S8)."""
    if x.mask.full:
        return x.like(F.group_norm(x.raw, num_groups, weight, bias, eps))
    n, c, *size = x.raw.shape
    grouped = x.like(x.raw.reshape(n, num_groups, c // num_groups, *size), axes="NC" + x.axes[1:])
    normal = standardised(grouped, range(2, grouped.raw.dim()), eps).reshape(x.raw.shape)
    shape = (-1, *[1] * len(size))
    return x.like(scaled(normal, weight, bias, shape))


@rule_for("instance_norm")
def instance_norm(
    x: MaskedMap,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> MaskedMap:
    """Statistics of each channel over the cells that are not missing (S8)."""
    if x.mask.full or not use_input_stats:
        stats: Any = (running_mean, running_var, weight, bias, use_input_stats, momentum, eps)
        return x.like(F.instance_norm(x.raw, *stats))
    normal = standardised(x, range(2, x.raw.dim()), eps)
    return x.like(scaled(normal, weight, bias, (-1, *[1] * (x.raw.dim() - 2))))


@rule_for("layer_norm")
def layer_norm(
    x: MaskedMap,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> MaskedMap:
    """Over channels alone a per-pixel operation; over space, of the cells that are not missing (S8)."""
    dims = range(x.raw.dim() - len(normalized_shape), x.raw.dim())
    if x.mask.full or not joins_positions(x, dims):
        return x.like(F.layer_norm(x.raw, normalized_shape, weight, bias, eps))
    return x.like(scaled(standardised(x, dims, eps), weight, bias, tuple(normalized_shape)))


def standardised(x: MaskedMap, dims: Sequence[int], eps: float) -> Tensor:
    """The values less their mean, over their standard deviation, both over what is not missing."""
    variance, average = var_mean(x, tuple(dims), unbiased=False, keepdim=True)
    return (x.raw - average.raw) * torch.rsqrt(variance.raw + eps)


def scaled(x: Tensor, weight: Tensor | None, bias: Tensor | None, shape: Sequence[int]) -> Tensor:
    """The affine map at the end of a normalisation."""
    x = x if weight is None else x * weight.view(*shape)
    return x if bias is None else x + bias.view(*shape)
