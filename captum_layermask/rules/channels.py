"""Operations along one axis are per-pixel along channels; along positions, some have a meaning and a rule."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_layermask.errors import NoRuleError
from captum_layermask.masking.activation import MaskedMap, MaskedVector
from captum_layermask.masking.layout import letters, positions
from captum_layermask.masking.registry import give_rule, rule_for, spellings
from captum_layermask.masking.signatures import Function, argument

_REMEDY = (
    "Let the masked part end in front of it (LayerMaskedForward(model, until=…)), or register a rule with "
    "captum_layermask.rule_for."
)
LEARNED = (
    "it mixes positions by weights that were learned for all of them together, as MLP-mixers do, and there "
    f"are none for a part of them. {_REMEDY}"
)
ORDER = f"it takes positions in an order, one after the other, and has no step for a missing one. {_REMEDY}"


def along_channels(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """An operation along one axis, which must be channels; every tensor in its result is a map."""
    x: MaskedMap = args[0]
    dim = argument(function, args, kwargs, "dim", -1)
    if x.axes[dim] != "C":
        raise NoRuleError(f"this runs along axis {x.axes[dim]} of a map with axes {x.named}: {ORDER}")
    result = function(x.raw, *args[1:], **kwargs)
    if isinstance(result, Tensor):
        return x.like(result)
    return type(result)([x.like(part) for part in result])


give_rule(along_channels, "cumsum", "cumprod", "glu", "sort", "argsort")


@rule_for(torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu)
def recurrence(x: MaskedMap, *args: Any, **kwargs: Any) -> Any:
    """Refuse."""
    raise NoRuleError(f"this runs along positions of a map with axes {x.named}: {ORDER}")


@rule_for("normalize")
def normalize(x: MaskedMap, p: float = 2.0, dim: int = 1, eps: float = 1e-12, **options: Any) -> MaskedMap:
    """Along channels per pixel; along positions missing cells have no weight (S8)."""
    there = x.counted([dim])
    raw = x.raw if there is None else torch.where(there, x.raw, 0)
    return x.like(F.normalize(raw, p, dim, eps, **options))


def softmax(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> MaskedMap:
    """Along channels per pixel; along positions missing cells get no weight (S8)."""
    x: MaskedMap = args[0]
    dim = argument(function, args, kwargs, "dim")
    if dim is None:  # the dimension that F.softmax has always taken
        dim = 0 if x.raw.dim() in (0, 1, 3) else 1
    if "N" in letters(x.axes[dim]) and len(x.mask.visible) > 1:
        raise NoRuleError("a softmax along the images of a batch has no rule.")
    raw, least, there = x.raw, function in _SOFTMIN, x.counted([dim])
    if there is not None:
        end = torch.finfo(raw.dtype)
        raw = torch.where(there, raw, end.max if least else end.min)
    plain = torch.log_softmax if function in _LOG_SOFTMAX else torch.softmax
    result = plain(-raw if least else raw, dim, dtype=argument(function, args, kwargs, "dtype"))
    if x.keys is not None and there is not None and function not in _LOG_SOFTMAX:
        result = torch.where(there, result, 0)  # a position without a key gets nothing
    return x.like(result)


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
        raise NoRuleError(
            f"this is a linear layer along axis {x.axes[-1]} of a map with axes {x.named}: {LEARNED}"
        )
    return x.like(F.linear(x.raw, weight, bias))


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
