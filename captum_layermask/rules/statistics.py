"""Statistics over space give missing cells no weight."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from captum_layermask.activation import MaskedMap, MaskedVector
from captum_layermask.registry import rule_for

Dims = int | Sequence[int] | None


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


def without(x: MaskedMap, dims: Sequence[int], keepdim: bool, raw: Tensor) -> MaskedMap | MaskedVector:
    """The reduction ``raw`` of a map over ``dims``, as a map of what positions are left."""
    left = ["C" if dim in dims else axis for dim, axis in enumerate(x.axes) if keepdim or dim not in dims]
    axes = "".join(left)
    if not set(axes) & set("HWS"):
        return x.pooled(raw)
    over = [2 + "HW".index(x.axes[dim]) for dim in dims if x.axes[dim] in "HW"]
    mask = x.mask.gathered(lambda cells: cells.any(over[0], keepdim=True)) if over else x.mask
    return x.like(raw, mask, axes)


def dimensions(x: MaskedMap, dim: Dims) -> tuple[int, ...]:
    """The dimensions that a ``dim`` argument names, counted from the front."""
    if dim is None or (not isinstance(dim, int) and len(dim) == 0):
        return tuple(range(x.raw.dim()))
    dims = (dim,) if isinstance(dim, int) else dim
    return tuple(sorted(d % x.raw.dim() for d in dims))


def is_spatial(x: MaskedMap, dims: Sequence[int]) -> bool:
    """Whether a reduction over these dimensions joins cells at different positions."""
    return any(x.axes[dim] in "HWS" for dim in dims)


@rule_for("mean")
def mean(
    x: MaskedMap, dim: Dims = None, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> MaskedMap | MaskedVector:
    """Mean over the cells that are not missing; 0 where all are (S7)."""
    dims = dimensions(x, dim)
    if x.mask.full or not is_spatial(x, dims):
        return without(x, dims, keepdim, x.raw.mean(dims, keepdim, dtype=dtype))
    total = x.zeroed().sum(dims, keepdim, dtype=dtype)
    channels = math.prod(x.raw.shape[d] for d in dims if x.axes[d] == "C")
    there = x.over(x.mask.kept).sum(dims, keepdim) * channels
    return without(x, dims, keepdim, total / there.clamp(min=1).to(total.dtype))


@rule_for("amax")
def amax(x: MaskedMap, dim: Dims = None, keepdim: bool = False) -> MaskedMap | MaskedVector:
    """Maximum over the cells that are not missing; 0 where all are (S8)."""
    return _extreme(x, dim, keepdim, torch.amax, -torch.inf)


@rule_for("amin")
def amin(x: MaskedMap, dim: Dims = None, keepdim: bool = False) -> MaskedMap | MaskedVector:
    """Minimum over the cells that are not missing; 0 where all are (S8)."""
    return _extreme(x, dim, keepdim, torch.amin, torch.inf)


def _extreme(x: MaskedMap, dim: Dims, keepdim: bool, op: Any, worst: float) -> MaskedMap | MaskedVector:
    dims = dimensions(x, dim)
    if x.mask.full or not is_spatial(x, dims):
        return without(x, dims, keepdim, op(x.raw, dims, keepdim))
    kept = x.over(x.mask.kept)
    best = op(torch.where(kept, x.raw, worst), dims, keepdim)
    return without(x, dims, keepdim, torch.where(kept.any(dims, keepdim), best, 0))
