"""Operations on single cells leave a mask as it is; operations on several maps let their masks meet."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from captum_layermask.errors import InputError, MaskLostError, NoRuleError
from captum_layermask.masking.activation import MaskedMap
from captum_layermask.masking.layout import NCHW, Axes, paired
from captum_layermask.masking.mask import Mask
from captum_layermask.masking.registry import give_rule, rule_for
from captum_layermask.masking.signatures import Function, argument
from captum_layermask.masking.trees import instances, replaced
from captum_layermask.masking.unruled import writes

ONE_OPERAND = (
    "relu relu6 leaky_relu prelu elu selu celu gelu silu mish sigmoid logsigmoid hardsigmoid "
    "hardswish hardtanh hardshrink softshrink tanhshrink softplus softsign tanh threshold "
    "square abs neg negative positive sign "
    "sin cos atan asinh erf erfc expit round floor ceil trunc frac "
    "clamp clip clamp_min clamp_max nan_to_num isnan isinf isfinite logical_not bitwise_not "
    "clone contiguous detach double half bfloat16 long cpu cuda requires_grad_ "
    "fill zero deg2rad rad2deg sinc sgn signbit isneginf isposinf isreal i0 i0e i1 i1e log_ndtr ndtr "
    "conj conj_physical real imag angle resolve_conj resolve_neg "
)
SEVERAL_OPERANDS = (
    "add sub subtract rsub mul multiply floor_divide floordiv mod "
    "remainder fmod addcmul addcdiv lerp where masked_fill maximum minimum fmax fmin "
    "copysign eq ne lt le gt ge not_equal less less_equal greater greater_equal "
    "polar heaviside nextafter logaddexp2 isclose "
    "logical_and logical_or logical_xor bitwise_and bitwise_or bitwise_xor and or xor invert "
)


SINGULAR = (
    "log log1p log2 log10 sqrt rsqrt reciprocal div divide true_divide truediv pow float_power tan acos "
    "asin acosh atanh erfinv logit xlogy xlog1py digamma lgamma hypot atan2 exp expm1 sinh cosh logaddexp"
)
"""Operations whose values or derivatives may be infinite: with a gradient of 0 that is NaN, not 0 (S15)."""


def pointwise(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> MaskedMap:
    """Run the function on the values; the masks of its operands meet (S6)."""
    maps: list[MaskedMap] = list(instances((args, kwargs), MaskedMap))
    args, kwargs = replaced((args, kwargs), MaskedMap, lambda m: m.raw)
    raw = function(*args, **kwargs)
    target = next((m for m in maps if m.raw is raw), maps[0])
    if any(raw is arg for arg in args) and target.raw is not raw:
        raise MaskLostError(
            "this writes a masked activation into a plain tensor, which cannot hold its mask; use an "
            "operation that returns a new tensor."
        )
    if len(maps) == 1 and raw.shape == target.raw.shape:
        return target.like(raw)
    mask, axes = meeting(maps, raw.shape)
    return target.like(raw, mask, axes, meeting_keys(maps))


def singular(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> MaskedMap:
    """The same; where gradients are recorded, of and to values that are 0 where the result is missing."""
    maps = list(instances((args, kwargs), MaskedMap))
    recorded = torch.is_grad_enabled() and any(m.raw.requires_grad for m in maps)
    if not recorded or writes(function):
        return pointwise(function, args, kwargs)
    args, kwargs = replaced((args, kwargs), MaskedMap, lambda m: m.raw)
    shape = torch.broadcast_shapes(*(t.shape for t in instances((args, kwargs), Tensor)))
    mask, axes = meeting(maps, shape)
    keys = meeting_keys(maps)
    present = maps[0].like(maps[0].raw.expand(shape), mask, axes, keys).present
    args, kwargs = replaced((args, kwargs), Tensor, lambda t: torch.where(present, t, 0))
    return maps[0].like(torch.where(present, function(*args, **kwargs), 0), mask, axes, keys)


def drawing(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> MaskedMap:
    """An operation that draws a random number for every cell, in the order in which they lie in memory.

    That is the plain network's order, so that with one seed a visible cell has the same whatever is missing.
    """
    if not argument(function, args, kwargs, "training", argument(function, args, kwargs, "train", True)):
        return pointwise(function, args, kwargs)
    x, *rest = args
    values = x.raw if x.full or x.axes != NCHW else x.raw.contiguous()
    result = function(values, *rest, **kwargs)
    if result is not values or values is x.raw:
        return x.like(result)
    return x.like(x.raw.copy_(values))


def meeting(maps: Sequence[MaskedMap], shape: Sequence[int]) -> tuple[Mask, Axes]:
    """The mask and the axes of what several maps broadcast to."""
    masks = dict.fromkeys(m.mask for m in maps)
    for sizes in zip(*(m.visible.shape for m in masks), strict=True):
        if len({*sizes} - {1}) > 1:
            named = " and ".join(str(tuple(m.visible.shape)) for m in masks)
            raise InputError(f"maps whose masks are of different sizes were combined: {named}.")
    axes, dims = ["C"] * len(shape), len(shape)
    for m in maps:
        for dim, (axis, length) in enumerate(zip(m.axes, m.raw.shape, strict=True), dims - m.raw.dim()):
            if axis == "C" and (length == 1 or axes[dim] == "C" or paired([axes[dim]])):
                continue
            alike = axes[dim] == axis or paired([axis]) or _only_ones(maps, dim - dims, axes[dim])
            if axes[dim] in ("C", axis) and alike:
                axes[dim] = axis
            elif length > 1:
                raise InputError(
                    f"maps with different axes were combined: {', '.join({m.named for m in maps})}."
                )
    counted = [axis for axis in axes if axis != "C"]
    if len(set(counted)) < len(counted):
        raise NoRuleError(
            f"this pairs positions with positions (axes {' '.join(axes)}) otherwise than by the product of "
            "queries and keys, which has a rule."
        )
    return stretched(functools.reduce(Mask.meet, masks), tuple(axes), shape), tuple(axes)


def meeting_keys(maps: Sequence[MaskedMap]) -> Mask | None:
    """Which keys there are where pairs of positions and keys meet."""
    keys = dict.fromkeys(m.keys for m in maps if m.keys is not None)
    return functools.reduce(Mask.meet, keys) if keys else None


def _only_ones(maps: Sequence[MaskedMap], dim: int, axis: str) -> bool:
    """Whether every map that has this axis, counted from the back, has one cell along it."""
    return all(m.raw.shape[dim] == 1 for m in maps if m.raw.dim() >= -dim and m.axes[dim] == axis)


def stretched(mask: Mask, axes: Axes, shape: Sequence[int]) -> Mask:
    """The mask with its one image, row or column repeated to what values of this shape have."""
    images, (rows, columns) = len(mask.visible), mask.size
    if "N" in axes and images == 1 < shape[axes.index("N")]:
        mask = mask.of_rows([0] * shape[axes.index("N")])
    size = tuple(
        shape[axes.index(axis)] if axis in axes and offset not in axes and length == 1 else length
        for axis, offset, length in zip("HW", "hw", (rows, columns), strict=True)
    )
    if size != mask.size:
        mask = mask.moved(lambda cells: cells.expand(-1, -1, *size))
    return mask


def like_its_first(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """An operation that takes a number type, a device or a shape from its other operands, but no cells."""
    x, rest = args[0], replaced((args[1:], kwargs), MaskedMap, lambda m: m.raw)
    if not isinstance(x, MaskedMap):
        return function(x, *rest[0], **rest[1])
    return pointwise(function, (x, *rest[0]), rest[1])


give_rule(like_its_first, "to", "type", "type_as")
give_rule(pointwise, *(getattr(Tensor, part).__get__ for part in ("real", "imag")))
give_rule(pointwise, torch.complex, Tensor.float, Tensor.bool, Tensor.int, Tensor.data.__get__)  # type: ignore[attr-defined]


def leaving(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The value of one cell that leaves as a number: 0 if it is missing."""
    x: MaskedMap = args[0]
    x.run.left.append(x.mask)
    return function(x.zeroed(), *args[1:], **kwargs)


LEAVING = "item __bool__ __float__ __int__ __index__ __complex__"
give_rule(leaving, *(getattr(Tensor, name) for name in LEAVING.split()))


@rule_for(Tensor.numpy, Tensor.tolist, Tensor.__array__)
def leaving_with_positions(x: MaskedMap, *args: Any, **kwargs: Any) -> None:
    """Refuse: arrays and lists hold no mask."""
    raise MaskLostError(
        "lists and arrays cannot hold the mask of a map; pool or flatten it first, or return the tensor."
    )


DRAWING = "dropout alpha_dropout feature_alpha_dropout dropout1d dropout2d feature_dropout rrelu bernoulli"
give_rule(drawing, *DRAWING.split())
give_rule(pointwise, *ONE_OPERAND.split(), *SEVERAL_OPERANDS.split())
give_rule(singular, *SINGULAR.split())
