"""Attention: a missing key gets no weight, and the result is there where the query is (S8)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_layermask.errors import NoRuleError
from captum_layermask.masking.activation import MaskedMap, MaskedVector, laid_out, paired
from captum_layermask.masking.layout import AS_KEYS, positions
from captum_layermask.masking.mask import Mask
from captum_layermask.masking.registry import rule_for


def paired_product(words: Sequence[str], result: str, maps: Sequence[MaskedMap]) -> MaskedMap | None:
    """A product of two maps that pairs positions with positions, or sums over such pairs.

    Args:
        words: a letter for every dimension of either map, as in ``einsum``.
        result: the letters that are left.
        maps: queries and keys, whose channels are summed; or scores and values, whose keys are summed.

    Returns:
        Scores, or what the queries found; None where the product is neither.
    """
    for weights, values in ((0, 1), (1, 0)):
        if maps[weights].keys is not None:
            return _weighted(words[weights], words[values], result, maps[weights], maps[values])
    a, b = (
        {x: axis for x, axis in zip(word, m.axes, strict=True)} for word, m in zip(words, maps, strict=True)
    )
    alone = [
        [x for x in result if x in own and x not in other and positions([own[x]])]
        for own, other in ((a, b), (b, a))
    ]
    if not all(alone):
        return None
    summed = (a.keys() | b.keys()) - set(result)
    if any(axes.get(x, "C") != "C" for x in summed for axes in (a, b)):
        return None
    queries, keys = maps
    named = {x: axis.translate(AS_KEYS) if x in alone[1] else axis for x, axis in b.items()} | {
        x: axis for x, axis in a.items() if axis != "C" or x not in b
    }
    raw = torch.einsum(f"{words[0]},{words[1]}->{result}", queries.zeroed(), keys.zeroed())
    axes = tuple(named[x] for x in result)
    return MaskedMap(raw, queries.mask, axes, queries.run, keys.mask)


def _weighted(word: str, other: str, result: str, scores: MaskedMap, values: MaskedMap) -> MaskedMap | None:
    """What each query finds: the values of the keys that are there, weighted."""
    own = dict(zip(word, scores.axes, strict=True))
    theirs = dict(zip(other, values.axes, strict=True))
    keys = [x for x in word if paired([own[x]])]
    if any(x in result or theirs.get(x, "C").translate(AS_KEYS) != own[x] for x in keys):
        return None
    weights = scores.raw
    if not scores.keys.full:
        weights = torch.where(scores.over_keys(scores.keys.present), weights, 0)
    raw = torch.einsum(f"{word},{other}->{result}", weights, values.zeroed())
    axes = tuple(own.get(x, "C") if own.get(x, "C") != "C" else "C" for x in result)
    axes = tuple(
        a if a != "C" or x not in theirs or x in own else theirs[x] for a, x in zip(axes, result, strict=True)
    )
    return MaskedMap(raw, attended(scores.mask, scores.keys), axes, scores.run)


def attended(mask: Mask, keys: Mask) -> Mask:
    """The mask of what queries found.

    Tokens that are no place of the image (class tokens, registers) are frame until they have found something
    that is visible.
    """
    if mask.frame is None:
        return mask

    def attend() -> Mask:
        frame = mask.frame.to(mask.visible.device)
        found = frame & keys.visible.flatten(1).any(1)[:, None, None, None]
        return Mask(
            mask.visible | found,
            mask.anchor | found,
            mask.frame,
            full=mask.full,
            images=mask.images,
            grid=mask.grid,
        )

    return mask.memoize(("attended", keys), attend)


@rule_for("scaled_dot_product_attention")
def scaled_dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    **options: Any,
) -> MaskedMap | MaskedVector:
    """A missing key gets no weight; a query whose keys are all missing finds 0."""
    if not isinstance(key, MaskedMap) or not isinstance(value, MaskedMap):
        raise NoRuleError("attention to keys or values that are no map, from a map, has no rule.")
    if is_causal or dropout_p:
        raise NoRuleError("causal attention, or attention with dropout, has no rule.")
    if key.axes[-1] != "C" or not positions([key.axes[-2]]) or value.axes != key.axes:
        raise NoRuleError(f"attention to keys with axes {key.named}, values {value.named}, has no rule.")
    q = query.zeroed() if isinstance(query, MaskedMap) else query
    k, v, there = key.zeroed(), value.zeroed(), None
    if not key.mask.full:
        there = laid_out(key.mask.present, key.dimensions).transpose(-1, -2)
        any_there = there.any(-1, keepdim=True)
        there = there | ~any_there
        if attn_mask is None:
            attn_mask = there
        elif attn_mask.dtype is torch.bool:
            attn_mask = attn_mask & there
        else:
            attn_mask = torch.where(there, attn_mask, -torch.inf)
    raw = F.scaled_dot_product_attention(q, k, v, attn_mask, **options)
    if there is not None:
        raw = torch.where(any_there, raw, 0)
    if not isinstance(query, MaskedMap):
        return key.pooled(raw)
    return query.like(raw, attended(query.mask, key.mask))


@rule_for("multi_head_attention_forward")
def multi_head_attention(
    query: Any,
    key: Any,
    value: Any,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Any,
    bias_v: Any,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Any = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Any = None,
    static_v: Any = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Any, Any]:
    """``nn.MultiheadAttention`` by its parts."""
    others = (bias_k, bias_v, key_padding_mask, static_k, static_v)
    if any(other is not None for other in others) or add_zero_attn or is_causal or (training and dropout_p):
        raise NoRuleError("multi-head attention with these options has no rule.")
    if use_separate_proj_weight:
        weights: Sequence[Any] = (q_proj_weight, k_proj_weight, v_proj_weight)
    else:
        weights = in_proj_weight.chunk(3)  # type: ignore[union-attr]
    biases: Sequence[Any] = (None,) * 3 if in_proj_bias is None else in_proj_bias.chunk(3)

    def heads(x: Any, weight: Tensor, bias: Tensor | None) -> Any:
        x = F.linear(x, weight, bias).unflatten(-1, (num_heads, -1))
        return x.permute(1, 2, 0, 3) if x.dim() == 4 else x.transpose(0, 1)

    parts = zip((query, key, value), weights, biases, strict=True)
    q, k, v = (heads(*part) for part in parts)
    mask = attn_mask
    if mask is not None and mask.dim() == 3:
        mask = mask.unflatten(0, (-1, num_heads))
    found = F.scaled_dot_product_attention(q, k, v, mask)
    found = found.permute(2, 0, 1, 3) if found.dim() == 4 else found.transpose(0, 1)
    result = F.linear(found.flatten(-2), out_proj_weight, out_proj_bias)
    if not need_weights:
        return result, None
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    scores = scores if mask is None else scores + mask
    weights_found = scores.softmax(-1)
    return result, weights_found.mean(-3) if average_attn_weights else weights_found
