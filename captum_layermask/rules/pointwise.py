"""Operations on single cells leave a mask as it is; operations on several maps let their masks meet."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from captum_layermask.activation import MaskedMap, carriers_in, replace_carriers
from captum_layermask.errors import InputError, MaskLostError, TrainingModeError
from captum_layermask.mask import Mask
from captum_layermask.registry import Function, give_rule, rule_for

ONE_OPERAND = (
    "relu relu6 leaky_relu prelu rrelu elu selu celu gelu silu mish sigmoid logsigmoid hardsigmoid "
    "hardswish hardtanh hardshrink softshrink tanhshrink softplus softsign tanh threshold "
    "exp expm1 log log1p log2 log10 sqrt rsqrt square abs neg negative positive reciprocal sign "
    "sin cos tan asin acos atan sinh cosh asinh acosh atanh erf erfc expit logit round floor ceil trunc frac "
    "clamp clip clamp_min clamp_max nan_to_num isnan isinf isfinite logical_not bitwise_not "
    "dropout alpha_dropout feature_alpha_dropout dropout1d dropout2d feature_dropout "
    "clone contiguous detach to type type_as float double half bfloat16 bool int long cpu cuda "
    "requires_grad_ alias identity"
)
SEVERAL_OPERANDS = (
    "add sub subtract rsub mul multiply div divide true_divide truediv floor_divide floordiv mod "
    "remainder fmod pow float_power addcmul addcdiv lerp where masked_fill maximum minimum fmax fmin "
    "atan2 hypot copysign eq ne lt le gt ge not_equal less less_equal greater greater_equal "
    "logical_and logical_or logical_xor bitwise_and bitwise_or bitwise_xor and or xor invert"
)


def pointwise(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> MaskedMap:
    """Run the function on the values; the masks of its operands meet (S6)."""
    maps: list[MaskedMap] = list(carriers_in((args, kwargs)))  # type: ignore[arg-type]
    args, kwargs = replace_carriers((args, kwargs), MaskedMap, lambda m: m.raw)
    raw = function(*args, **kwargs)
    if any(raw is arg for arg in args) and not any(raw is m.raw for m in maps):
        raise MaskLostError(
            "this writes a masked activation into a plain tensor, which cannot hold its mask; use an "
            "operation that returns a new tensor."
        )
    target = next((m for m in maps if m.raw is raw), maps[0])
    mask, axes = meeting(maps, raw.shape)
    return target.like(raw, mask, axes)


def meeting(maps: Sequence[MaskedMap], shape: Sequence[int]) -> tuple[Mask, str]:
    """The mask and the axes of what several maps broadcast to."""
    aligned = {m.axes.rjust(len(shape), "C") for m in maps}
    if len(aligned) > 1:
        raise InputError(f"maps with different axes were combined: {', '.join(sorted(aligned))}.")
    axes = aligned.pop()
    mask = functools.reduce(Mask.meet, dict.fromkeys(m.mask for m in maps))
    size = tuple(
        shape[axes.index(axis)] if axis in axes and offset not in axes else length
        for axis, offset, length in zip("HW", "hw", mask.size, strict=True)
    )
    if size != mask.size:
        mask = mask.moved(lambda cells: cells.expand(-1, -1, *size))
    return mask, axes


give_rule(pointwise, *ONE_OPERAND.split(), *SEVERAL_OPERANDS.split())


@rule_for("batch_norm")
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
    raw = torch.nn.functional.batch_norm(
        x.raw, running_mean, running_var, weight, bias, False, *options, **more
    )
    return x.like(raw)
