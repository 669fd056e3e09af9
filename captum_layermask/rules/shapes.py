"""Operations that rename or regroup dimensions keep track of where rows and columns went."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from captum_layermask.activation import MaskedMap, MaskedVector
from captum_layermask.errors import NoRuleError
from captum_layermask.registry import Function, give_rule, rule_for


def permuting(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> MaskedMap:
    """Any reordering of dimensions: what it does to a tensor of all different sizes tells the new order."""
    x: MaskedMap = args[0]
    probe = torch.empty(tuple(range(2, 2 + x.raw.dim())), device="meta")
    order = [size - 2 for size in function(probe, *args[1:], **kwargs).shape]
    return x.like(function(x.raw, *args[1:], **kwargs), axes="".join(x.axes[dim] for dim in order))


give_rule(permuting, "permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis")


def regrouping(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> MaskedMap | MaskedVector:
    """Any reshape; where positions are merged into channels the map becomes a vector (S9)."""
    x: MaskedMap = args[0]
    raw: Tensor = function(x.raw, *args[1:], **kwargs)
    axes = regrouped(x.axes, x.raw.shape, raw.shape)
    if axes is None:
        raise NoRuleError(f"a reshape from {x.axes} {tuple(x.raw.shape)} to {tuple(raw.shape)} mixes images.")
    if not set(axes) & set("HWS"):
        return x.pooled(x.zeroed().reshape(raw.shape))
    return x.like(raw, axes=axes)


give_rule(regrouping, "view", "reshape", "flatten", "unflatten", "squeeze", "view_as", "reshape_as")


def regrouped(axes: str, old: Sequence[int], new: Sequence[int]) -> str | None:
    """The axes after a reshape; an axis that was merged with others is C; None where that is the batch."""
    result, i, j = "", 0, 0
    while i < len(old) or j < len(new):
        a, b = min(i + 1, len(old)), min(j + 1, len(new))
        while (have := _product(old[i:a])) != (want := _product(new[j:b])):
            a, b = (a + 1, b) if have < want else (a, b + 1)
        group = _group(axes[i:a], old[i:a], new[j:b])
        if group is None:
            return None
        result, i, j = result + group, a, b
    return result


def _group(axes: str, old: Sequence[int], new: Sequence[int]) -> str | None:
    """The axes of dimensions ``new`` that hold the same cells as dimensions ``old``."""
    if tuple(old) == tuple(new):
        return axes
    sized = "".join(axis for axis, size in zip(axes, old, strict=True) if size > 1)
    target = [dim for dim, size in enumerate(new) if size > 1]
    names = {("S", 2): "HW", ("HW", 1): "S"}.get((sized, len(target)), sized)
    if "N" in names and names != "N":
        return None
    if len(names) != len(target):
        names = "C" * len(target)
    return "".join(names[target.index(dim)] if dim in target else "C" for dim in range(len(new)))


def _product(sizes: Sequence[int]) -> int:
    return int(torch.Size(sizes).numel())


@rule_for("unsqueeze")
def unsqueeze(x: MaskedMap, dim: int) -> MaskedMap:
    """A new axis without a position."""
    raw = x.raw.unsqueeze(dim)
    dim %= raw.dim()
    return x.like(raw, axes=x.axes[:dim] + "C" + x.axes[dim:])
