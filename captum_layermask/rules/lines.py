"""Windows over rows alone, or columns alone, are windows that are one cell wide."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from captum_layermask.errors import NoRuleError
from captum_layermask.masking.activation import MaskedMap
from captum_layermask.masking.registry import give_rule, rule_for
from captum_layermask.masking.signatures import Function, argument
from captum_layermask.rules import sliding
from captum_layermask.rules.channels import LEARNED
from captum_layermask.rules.reductions import amax, mean
from captum_layermask.rules.sliding import need_values_only, unbatch

_ALONE = {"stride": 1, "padding": 0, "dilation": 1, "kernel_size": 1}


def _one(value: Any) -> int:
    return value if isinstance(value, int) else value[0]


def across(x: MaskedMap, rule: Function, **options: Any) -> Any:
    """Run the rule of a window over rows and columns on a map that has only one of them.

    Args:
        x: N×C×H, N×C×W, or either without N.
        rule: of the operation in two dimensions.
        **options: of the operation in one dimension.
    """
    last = x.axes[-1]
    if last not in ("H", "W") or x.raw.dim() not in (2, 3) or x.mask.size[last == "H"] > 1:
        raise NoRuleError(f"windows along the last of the axes {x.named} have no rule.")
    rows = last == "H"
    axes = ("N",) * (x.raw.dim() == 2) + (*x.axes[:-1], "H", "W")
    raw = x.raw if x.raw.dim() == 3 else x.raw[None]
    plane = MaskedMap(raw[..., None] if rows else raw[..., None, :], x.mask, axes, x.run)
    for name, alone in _ALONE.items():
        if isinstance(options.get(name), (int, tuple, list)):
            this = _one(options[name])
            options[name] = (this, alone) if rows else (alone, this)
    result = rule(plane, **options)
    if isinstance(result, MaskedMap):
        result = result.like(result.raw.squeeze(-1 if rows else -2), axes=(*result.axes[:2], last))
    return result if x.raw.dim() == 3 else unbatch(result)


@rule_for("conv1d")
def conv1d(x: MaskedMap, weight: Tensor, bias: Tensor | None = None, *args: Any, **kwargs: Any) -> Any:
    """Along rows or columns a convolution one cell wide; with a kernel of one a 1×1 convolution."""
    options = dict(zip(("stride", "padding", "dilation", "groups"), args, strict=False)) | kwargs
    if x.axes[-1] in ("H", "W"):
        plane = weight[..., None] if x.axes[-1] == "H" else weight[..., None, :]
        return across(x, sliding.conv2d, weight=plane, bias=bias, **options)
    raw = F.conv1d(x.raw, weight, bias, **options)
    if x.axes[-2] != "C" or weight.shape[-1] > 1 or raw.shape[-1] != x.raw.shape[-1]:
        raise NoRuleError(
            f"this is a conv1d whose channels are positions (axes {x.named}), or along them: {LEARNED}"
        )
    return x.like(raw)


def pooling(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A pool along the last axis: over rows or columns a window, over channels per pixel."""
    x: MaskedMap = args[0]
    need_values_only(argument(function, args, kwargs, "return_indices", False))
    if x.axes[-1] == "C":
        return x.like(function(x.raw, *args[1:], **kwargs))
    name = function.__name__
    if name.startswith("adaptive"):
        size = argument(function, args, kwargs, "output_size")
        if size in (1, (1,), [1]):
            return mean(x, -1, True) if "avg" in name else amax(x, -1, True)
        size = (_one(size), 1) if x.axes[-1] == "H" else (1, _one(size))
        rule = sliding.adaptive_avg_pool2d if "avg" in name else sliding.adaptive_max_pool2d
        return across(x, rule, output_size=size)
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
    if "avg" in name:
        names = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")
    options = {n: argument(function, args, kwargs, n) for n in names}
    options = {n: value for n, value in options.items() if value not in (None, (), [])}
    return across(x, sliding.avg_pool2d if "avg" in name else sliding.max_pool2d, **options)


give_rule(pooling, "adaptive_avg_pool1d", "adaptive_max_pool1d", "avg_pool1d", "max_pool1d")
