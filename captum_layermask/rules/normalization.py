"""Normalisations take their statistics of the cells that are not missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_layermask.errors import NoRuleError, TrainingModeError
from captum_layermask.masking.activation import MaskedMap
from captum_layermask.masking.compiling import tracing
from captum_layermask.masking.registry import rule_for
from captum_layermask.rules.reductions import moments


@rule_for(F.batch_norm)
def batch_norm(
    x: MaskedMap,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    *options: Any,
    **more: Any,
) -> MaskedMap:
    """A fixed scale and shift of each channel; refused where it would use the batch's own statistics."""
    if training or running_mean is None:
        raise TrainingModeError(
            "batch normalisation would use the statistics of the batch, missing cells included; "
            "call model.eval(), and give the layer running statistics."
        )
    recorded = torch.is_grad_enabled() and not tracing()
    # Where values or gradient have strides that no plain network makes, PyTorch (2.14, CPU) computes
    # what is not the gradient.
    values = x.raw.contiguous() if recorded and x.raw.requires_grad else x.raw
    raw = F.batch_norm(values, running_mean, running_var, weight, bias, False, *options, **more)
    if recorded and raw.requires_grad:
        raw.register_hook(lambda gradient: None if gradient is None else gradient.contiguous())
    return x.like(raw)


@rule_for(torch.batch_norm)
def native_batch_norm(
    x: MaskedMap,
    weight: Any,
    bias: Any,
    mean: Any,
    var: Any,
    training: bool,
    momentum: float,
    eps: float,
    cudnn: bool,
) -> MaskedMap:
    """The same with its arguments in the order of the function that ``F.batch_norm`` calls."""
    return batch_norm(x, mean, var, weight, bias, training, momentum, eps)


@rule_for("group_norm")
def group_norm(
    x: MaskedMap,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> MaskedMap:
    """Statistics of each group of channels over the cells that are not missing (S8)."""
    if x.full:
        return x.like(F.group_norm(x.raw, num_groups, weight, bias, eps))
    if x.axes[1] != "C":
        raise NoRuleError(f"group normalisation takes axis {x.axes[1]} of axes {x.named} for channels.")
    grouped = x.like(x.raw.unflatten(1, (num_groups, -1)), axes=(*x.axes[:1], "C", *x.axes[1:]))
    normal = standardised(grouped, range(2, grouped.raw.dim()), eps).reshape(x.raw.shape)
    return x.like(scaled(normal, weight, bias, (-1, *[1] * (x.raw.dim() - 2))))


@rule_for(torch.instance_norm)
def native_instance_norm(
    x: MaskedMap,
    weight: Any,
    bias: Any,
    mean: Any,
    var: Any,
    use: bool,
    momentum: float,
    eps: float,
    cudnn: bool,
) -> MaskedMap:
    """Instance normalisation with its arguments in the order of the function below ``F.instance_norm``."""
    return instance_norm(x, mean, var, weight, bias, use, momentum, eps)


@rule_for(F.instance_norm)
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
    if x.full or not use_input_stats:
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
    cudnn_enable: bool = True,
) -> MaskedMap:
    """Over channels alone a per-pixel operation; over space, of the cells that are not missing (S8)."""
    dims = range(x.raw.dim() - len(normalized_shape), x.raw.dim())
    if x.counted(dims) is None:
        return x.like(F.layer_norm(x.raw, normalized_shape, weight, bias, eps))
    return x.like(scaled(standardised(x, dims, eps), weight, bias, tuple(normalized_shape)))


@rule_for("rms_norm")
def rms_norm(x: MaskedMap, normalized_shape: Any, *args: Any, **kwargs: Any) -> MaskedMap:
    """A normalisation over the channels of one pixel."""
    if set(x.axes[-len(normalized_shape) :]) != {"C"}:
        raise NoRuleError(f"rms_norm over positions (axes {x.named}) has no rule.")
    return x.like(F.rms_norm(x.raw, normalized_shape, *args, **kwargs))


def standardised(x: MaskedMap, dims: Sequence[int], eps: float) -> Tensor:
    """The values less their mean, over their standard deviation, both over what is not missing."""
    variance, average = moments(x, dims, correction=0)
    return ((x.zeroed() - average) * torch.rsqrt(variance + eps)).to(x.raw.dtype)


def scaled(x: Tensor, weight: Tensor | None, bias: Tensor | None, shape: Sequence[int]) -> Tensor:
    """The affine map at the end of a normalisation."""
    x = x if weight is None else x * weight.view(*shape)
    return x if bias is None else x + bias.view(*shape)
