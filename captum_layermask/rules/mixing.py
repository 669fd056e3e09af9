"""Operations along one axis are per-pixel along channels; along positions, only weighted sums have a rule."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_layermask.activation import MaskedMap, MaskedVector
from captum_layermask.errors import NoRuleError
from captum_layermask.registry import Function, give_rule, rule_for

TOKENS = (
    "here every position sees every other, as in attention and MLP-mixers, which layer masking cannot mean; "
    "for a transformer drop tokens instead, or register a rule with captum_layermask.rule_for."
)


def along_channels(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """An operation along one axis, which must be channels; every tensor in its result is a map."""
    x: MaskedMap = args[0]
    default = 1 if function.__name__ == "normalize" else -1
    at = {"normalize": 2, "topk": 2}.get(function.__name__, 1)
    dim = kwargs.get("dim", args[at] if len(args) > at else default)
    if x.axes[dim] != "C":
        raise NoRuleError(f"this runs along axis {x.axes[dim]} of a map with axes {x.axes}: {TOKENS}")
    result = function(x.raw, *args[1:], **kwargs)
    if isinstance(result, Tensor):
        return x.like(result)
    return type(result)([x.like(part) for part in result])


give_rule(
    along_channels, "log_softmax", "softmin", "cumsum", "cumprod", "glu", "normalize", "sort", "argsort"
)
give_rule(along_channels, "topk")


@rule_for("softmax")
def softmax(x: MaskedMap, dim: int, *options: Any, **more: Any) -> MaskedMap:
    """Along channels per pixel; along flattened positions missing cells get no weight (S8)."""
    raw = x.raw
    if x.axes[dim] == "S":
        raw = torch.where(x.over(x.mask.kept), raw, torch.finfo(raw.dtype).min)
    elif x.axes[dim] != "C":
        raise NoRuleError(f"softmax along axis {x.axes[dim]} of a map with axes {x.axes}: {TOKENS}")
    return x.like(torch.softmax(raw, dim, dtype=more.get("dtype")))


def between_channels(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> MaskedMap:
    """An operation across the channels of one pixel that always looks for them in the second dimension."""
    x: MaskedMap = args[0]
    if x.axes[1] != "C":
        raise NoRuleError(f"this takes axis {x.axes[1]} of a map with axes {x.axes} for channels.")
    return x.like(function(x.raw, *args[1:], **kwargs))


give_rule(between_channels, "local_response_norm", "channel_shuffle", "native_channel_shuffle")


@rule_for("rms_norm")
def rms_norm(x: MaskedMap, normalized_shape: Any, *args: Any, **kwargs: Any) -> MaskedMap:
    """A normalisation over the channels of one pixel."""
    if set(x.axes[-len(normalized_shape) :]) != {"C"}:
        raise NoRuleError(f"rms_norm over positions (axes {x.axes}) has no rule.")
    return x.like(F.rms_norm(x.raw, normalized_shape, *args, **kwargs))


@rule_for("linear")
def linear(x: MaskedMap, weight: Tensor, bias: Tensor | None = None) -> MaskedMap:
    """A 1×1 convolution of a channels-last map."""
    if x.axes[-1] != "C":
        raise NoRuleError(f"linear mixes the positions of axis {x.axes[-1]}: {TOKENS}")
    return x.like(F.linear(x.raw, weight, bias))


@rule_for("scaled_dot_product_attention", "multi_head_attention_forward", "baddbmm")
def attention(*args: Any, **kwargs: Any) -> MaskedMap:
    """Refuse: there is no masked version of attention in a convolutional sense."""
    raise NoRuleError(TOKENS)


@rule_for("einsum")
def einsum(*args: Any) -> MaskedMap:
    """Refuse: which letters are positions, and what is summed over them, would have to be told apart."""
    raise NoRuleError(f"write a sum over the channels of each pixel as linear or matmul; otherwise {TOKENS}")


@rule_for("conv1d")
def conv1d(x: MaskedMap, weight: Tensor, bias: Tensor | None = None, *options: Any, **more: Any) -> MaskedMap:
    """With a kernel of one and nothing around it, a 1×1 convolution of flattened positions."""
    raw = F.conv1d(x.raw, weight, bias, *options, **more)
    if x.axes != "NCS" or weight.shape[-1] > 1 or raw.shape[-1] != x.raw.shape[-1]:
        raise NoRuleError(f"conv1d runs along or across the positions of a map with axes {x.axes}: {TOKENS}")
    return x.like(raw)


@rule_for("matmul", "bmm", "mm")
def matmul(a: Any, b: Any) -> MaskedMap | MaskedVector:
    """Per-pixel where the summed axis is channels; a weighted sum over flattened positions (S8)."""
    if isinstance(a, MaskedMap) and isinstance(b, MaskedMap):
        return _weighted_sum(a, b)
    if isinstance(a, MaskedMap) and a.axes[-1] == "C":
        return a.like(torch.matmul(a.raw, b))
    if isinstance(b, MaskedMap) and b.axes[-2] == "C":
        return b.like(torch.matmul(a, b.raw))
    raise NoRuleError(TOKENS)


def _weighted_sum(a: MaskedMap, b: MaskedMap) -> MaskedVector:
    """Σ over positions of one map times another: missing cells are 0 in both."""
    if a.axes[-1] != "S" or b.axes[-2] != "S" or "S" in a.axes[:-1] or "S" in b.axes[-1:]:
        raise NoRuleError(TOKENS)
    return a.pooled(torch.matmul(a.zeroed(), b.zeroed()))
