"""Operations along one axis are per-pixel along channels; along positions, only weighted sums have a rule."""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_layermask.errors import NoRuleError
from captum_layermask.masking.activation import MaskedMap, MaskedVector
from captum_layermask.masking.layout import letters, positions
from captum_layermask.masking.mask import Mask
from captum_layermask.masking.registry import give_rule, rule_for, spellings
from captum_layermask.masking.signatures import Function, argument
from captum_layermask.rules.pointwise import stretched

TOKENS = (
    "here every position sees every other, as in attention and MLP-mixers, which layer masking cannot mean. "
    "For a vision transformer drop tokens instead; in a CNN let the masked part end in front of it "
    "(LayerMaskedForward(model, until=…)), or register a rule with captum_layermask.rule_for."
)


def along_channels(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """An operation along one axis, which must be channels; every tensor in its result is a map."""
    x: MaskedMap = args[0]
    dim = argument(function, args, kwargs, "dim", -1)
    if x.axes[dim] != "C":
        raise NoRuleError(f"this runs along axis {x.axes[dim]} of a map with axes {x.named}: {TOKENS}")
    result = function(x.raw, *args[1:], **kwargs)
    if isinstance(result, Tensor):
        return x.like(result)
    return type(result)([x.like(part) for part in result])


give_rule(along_channels, "cumsum", "cumprod", "glu", "normalize", "sort", "argsort")


def softmax(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> MaskedMap:
    """Along channels per pixel; along positions missing cells get no weight (S8)."""
    x: MaskedMap = args[0]
    dim = argument(function, args, kwargs, "dim")
    if dim is None:  # the dimension that F.softmax has always taken
        dim = 0 if x.raw.dim() in (0, 1, 3) else 1
    if "N" in letters(x.axes[dim]) and len(x.mask.visible) > 1:
        raise NoRuleError("a softmax along the images of a batch has no rule.")
    raw, least = x.raw, function in _SOFTMIN
    if x.axes[dim] != "C" and not x.mask.full:
        end = torch.finfo(raw.dtype)
        raw = torch.where(x.over(x.mask.present), raw, end.max if least else end.min)
    plain = torch.log_softmax if function in _LOG_SOFTMAX else torch.softmax
    return x.like(plain(-raw if least else raw, dim, dtype=argument(function, args, kwargs, "dtype")))


_SOFTMIN, _LOG_SOFTMAX = set(spellings("softmin")), set(spellings("log_softmax"))
give_rule(softmax, "softmax", "log_softmax", "softmin")


def between_channels(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> MaskedMap:
    """An operation across the channels of one pixel that always looks for them in the second dimension."""
    x: MaskedMap = args[0]
    if x.axes[1] != "C":
        raise NoRuleError(f"this takes axis {x.axes[1]} of a map with axes {x.named} for channels.")
    return x.like(function(x.raw, *args[1:], **kwargs))


give_rule(between_channels, "local_response_norm", "channel_shuffle", "native_channel_shuffle")


def is_flat(x: MaskedMap, dim: int) -> bool:
    """Whether a dimension holds all positions, and there is nothing beside it but images: a vector (S9)."""
    dim %= x.raw.dim()
    others = [axis for d, axis in enumerate(x.axes) if d != dim and x.raw.shape[d] > 1]
    return bool(positions([x.axes[dim]])) and not set(others) - {"N"} and x.raw.dim() <= 2


@rule_for("linear")
def linear(x: Any, weight: Any, bias: Any = None) -> MaskedMap | MaskedVector:
    """A 1×1 convolution of a channels-last map; of flattened positions the head (S9)."""
    if not isinstance(x, MaskedMap):
        raise NoRuleError("a linear layer whose weights are made of a map has no rule.")
    if is_flat(x, -1):
        return x.pooled(F.linear(x.zeroed(), weight, bias))
    if x.axes[-1] != "C":
        raise NoRuleError(f"linear mixes the positions of axis {x.axes[-1]}: {TOKENS}")
    return x.like(F.linear(x.raw, weight, bias))


@rule_for("scaled_dot_product_attention", "multi_head_attention_forward", "baddbmm")
def attention(*args: Any, **kwargs: Any) -> MaskedMap:
    """Refuse: there is no masked version of attention in a convolutional sense."""
    raise NoRuleError(TOKENS)


@rule_for("conv3d")
def conv3d(
    x: MaskedMap,
    weight: Tensor,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> MaskedMap:
    """Along channels alone, one cell wide over rows and columns, an operation on single cells."""
    raw = F.conv3d(x.raw, weight, bias, stride, padding, dilation, groups)
    moves = tuple(weight.shape[-2:]) != (1, 1) or raw.shape[-2:] != x.raw.shape[-2:]
    if moves or x.raw.dim() != 5 or x.axes[1:3] != ("C", "C"):
        raise NoRuleError(f"a convolution of volumes (axes {x.named}) has no rule.")
    return x.like(raw)


def products(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> MaskedMap | MaskedVector:
    """Per-pixel where the summed axis is channels; a weighted sum over positions (S8)."""
    a, b = args
    if isinstance(a, MaskedMap) and isinstance(b, MaskedMap):
        if a.raw.dim() == b.raw.dim() > 1:
            return _summed(_product_letters(a.raw.dim()), [a, b])
    elif isinstance(a, MaskedMap):
        if is_flat(a, -1):
            return a.pooled(torch.matmul(a.zeroed(), b))
        raw = torch.matmul(a.raw, b) if a.axes[-1] == "C" else None
        if raw is not None and b.dim() == 1:
            return a.like(raw, axes=a.axes[:-1])
        if raw is not None and raw.dim() == a.raw.dim():
            return a.like(raw)
    elif b.axes[-2:-1] == ("C",):
        raw = torch.matmul(a, b.raw)
        if raw.dim() == b.raw.dim():
            return b.like(raw)
    raise NoRuleError(TOKENS)


give_rule(products, "matmul", "bmm", "mm")


def _product_letters(dims: int) -> str:
    batch = "abcdefg"[: dims - 2]
    return f"{batch}xy,{batch}yz->{batch}xz"


@rule_for("einsum")
def einsum(equation: str, *operands: Any) -> MaskedMap | MaskedVector:
    """A sum over the channels of each pixel is per-pixel; one over all positions a weighted sum (S8)."""
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = tuple(operands[0])
    if not isinstance(equation, str) or "." in equation:
        raise NoRuleError("write einsum's equation as a string, with a letter for every dimension.")
    return _summed(equation.replace(" ", ""), list(operands))


def _summed(equation: str, operands: list[Any]) -> MaskedMap | MaskedVector:
    """A product of operands, summed over the letters that the result does not have."""
    inputs, arrow, result = equation.partition("->")
    words = inputs.split(",")
    if not arrow:
        result = "".join(sorted(c for c in set(inputs) - {","} if inputs.count(c) == 1))
    maps = [m for m in operands if isinstance(m, MaskedMap)]
    counts: dict[str, str] = {}
    for word, operand in zip(words, operands, strict=True):
        for letter, axis in zip(
            word, operand.axes if isinstance(operand, MaskedMap) else "C" * len(word), strict=True
        ):
            known = counts.get(letter, "C")
            if "C" not in (known, axis) and known != axis:
                raise NoRuleError(f"einsum {equation} joins axis {known} with axis {axis}: {TOKENS}")
            counts[letter] = axis if known == "C" else known
    summed = {letter for letter, axis in counts.items() if letter not in result and letters(axis) != "C"}
    if not summed:
        raws = [m.raw if isinstance(m, MaskedMap) else m for m in operands]
        raw = torch.einsum(equation, *raws)
        axes = tuple(counts[letter] for letter in result)
        named = [a for a in axes if a != "C"]
        if len(set(named)) < len(named):
            raise NoRuleError(f"einsum {equation} pairs positions with positions: {TOKENS}")
        mask = functools.reduce(Mask.meet, dict.fromkeys(m.mask for m in maps))
        return MaskedMap(raw, stretched(mask, axes, raw.shape), axes, maps[0].run)
    left = positions([counts[letter] for letter in result])
    weights = all(
        isinstance(m, MaskedMap) for m, word in zip(operands, words, strict=True) if set(word) & summed
    )
    if left or not weights or any("N" in letters(counts[s]) for s in summed):
        raise NoRuleError(f"einsum {equation} sums positions away: {TOKENS}")
    raw = torch.einsum(equation, *(m.zeroed() if isinstance(m, MaskedMap) else m for m in operands))
    return MaskedVector(raw, tuple(dict.fromkeys(m.mask for m in maps)), maps[0].run)
