"""Attention: a missing key gets no weight, and what a query found is missing where the query is (S8).

Scores are a map of pairs: each position (the query) with others (the keys), and the masks of both. What is
per entry (biases, scaling) has the rules of any map, and what normalises scores over keys (a softmax, a sum)
those of any reduction: over what is not missing. Here are the two products that make pairs and end them, and
the functions of PyTorch that do all of it at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_layermask.errors import NoRuleError
from captum_layermask.masking.activation import MaskedMap
from captum_layermask.masking.layout import AS_KEYS, laid_out, paired, positions
from captum_layermask.masking.mask import Mask
from captum_layermask.masking.registry import rule_for
from captum_layermask.rules.reductions import like


def scores(words: Sequence[str], result: str, queries: MaskedMap, keys: MaskedMap) -> MaskedMap | None:
    """Every position of one map with positions of another, channels summed.

    Args:
        words: a letter for every dimension of either map, as in ``einsum``; dimensions that share one
            (images, heads, windows) are those of one batch.
        result: the letters that are left.
        queries: whose mask the result has.
        keys: their mask is that of the result's keys.

    Returns:
        None where the product does not pair positions, or sums some away.
    """
    mine, theirs = (
        dict(zip(word, m.axes, strict=True)) for word, m in zip(words, (queries, keys), strict=True)
    )
    own, other = (
        [x for x in result if x in these and x not in those and positions([these[x]])]
        for these, those in ((mine, theirs), (theirs, mine))
    )
    summed = (mine.keys() | theirs.keys()) - set(result)
    if not own or not other or any(axes.get(x, "C") != "C" for x in summed for axes in (mine, theirs)):
        return None
    apart = {mine[x]: theirs[x] for x in mine.keys() & theirs.keys() if "C" not in (mine[x], theirs[x])}
    if any(axis != other for axis, other in apart.items()):
        raise NoRuleError(
            f"queries with axes {queries.named} and keys with axes {keys.named} are of different windows."
        )
    named = {x: axis.translate(AS_KEYS) if x in other else axis for x, axis in theirs.items()}
    named |= {x: axis for x, axis in mine.items() if axis != "C" or x not in theirs}
    raw = torch.einsum(f"{words[0]},{words[1]}->{result}", queries.products(), keys.products())
    return MaskedMap(raw, queries.mask, tuple(named[x] for x in result), queries.run, keys.mask)


def weighted(words: Sequence[str], result: str, weights: MaskedMap, values: Any) -> MaskedMap | None:
    """What each query found: the sum of the values of the keys that are there, weighted.

    Args:
        words: a letter for every dimension of the weights and of the values, as in ``einsum``.
        result: the letters that are left.
        weights: pairs of positions and keys; where it is the positions that are summed, they change places.
        values: a map of the keys, or a table of the model with a row for each (a tensor).

    Returns:
        None where it is not the keys, all of them, that are summed.
    """
    if any(x in result for x, axis in zip(words[0], weights.axes, strict=True) if paired([axis])):
        weights = weights.of_keys()
    own = dict(zip(words[0], weights.axes, strict=True))
    keys = [x for x in own if paired([own[x]])]
    theirs = dict(zip(words[1], values.axes, strict=True)) if isinstance(values, MaskedMap) else {}
    if weights.keys is None or any(x in result for x in keys):
        return None
    if theirs and any(theirs.get(x, "C").translate(AS_KEYS) != own[x] for x in keys):
        return None
    there = weights.counted([words[0].index(x) for x in keys])
    given = weights.products() if there is None else torch.where(there, weights.products(), 0)
    found = values.zeroed() if isinstance(values, MaskedMap) else values
    raw = torch.einsum(f"{words[0]},{words[1]}->{result}", given, found)
    axes = tuple(own[x] if own.get(x, "C") != "C" else theirs.get(x, "C") for x in result)
    return weights.like(raw, attended(weights.mask, weights.keys), axes, getattr(values, "keys", None))


def attended(mask: Mask, keys: Mask) -> Mask:
    """The mask of what queries found.

    Tokens that are no place of the image (class tokens, registers) are frame; once they have found something
    that is visible they hold evidence, and are visible too.
    """
    frame = mask.frame
    if frame is None:
        return mask

    def attend() -> Mask:
        found = frame.to(mask.visible.device) & keys.visible.flatten(1).any(1)[:, None, None, None]
        visible, anchor = mask.visible | found, mask.anchor | found
        return Mask(visible, anchor, frame, full=mask.full, images=mask.images, grid=mask.grid)

    return mask.memoize(("attended", keys), attend)


@rule_for("scaled_dot_product_attention")
def scaled_dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """PyTorch's fused kernel, with a mask of the keys that are there; elsewhere its definition."""
    if is_causal:
        raise NoRuleError(
            "causal attention has no rule: it reads positions in an order, where a missing one has no place."
        )
    apart = isinstance(query, MaskedMap) and query.axes[:-2] != getattr(key, "axes", ())[:-2]
    if apart or dropout_p or isinstance(attn_mask, MaskedMap) or not _is_list(key, value):
        return _by_definition(query, key, value, attn_mask, dropout_p, scale)
    options: dict[str, Any] = {"scale": scale, "enable_gqa": enable_gqa}
    k, v = key.products(), value.zeroed()
    q = query.products() if isinstance(query, MaskedMap) else query
    if key.mask.full:
        raw = F.scaled_dot_product_attention(q, k, v, attn_mask, **options)
    else:
        there = laid_out(key.mask.present, key.dimensions).transpose(-1, -2)
        if attn_mask is None:
            # without any key all values are 0, and so is what is found
            raw = F.scaled_dot_product_attention(q, k, v, there | ~there.any(-1, keepdim=True), **options)
        else:
            bias = _allowed(attn_mask, there)
            found = (bias if bias.dtype is torch.bool else bias > -math.inf).any(-1, keepdim=True)
            bias = bias | ~found if bias.dtype is torch.bool else torch.where(found, bias, 0)
            raw = torch.where(found, F.scaled_dot_product_attention(q, k, v, bias, **options), 0)
    if not isinstance(query, MaskedMap):
        return key.pooled(raw)
    return query.like(raw, attended(query.mask, key.mask))


def _allowed(attn_mask: Tensor, there: Tensor) -> Tensor:
    """A mask or a bias of the model's own that allows no missing keys either."""
    return attn_mask & there if attn_mask.dtype is torch.bool else torch.where(there, attn_mask, -math.inf)


def _is_list(key: Any, value: Any) -> bool:
    """Whether keys and values are maps with their positions in the last dimension but one."""
    if not isinstance(key, MaskedMap) or not isinstance(value, MaskedMap) or key.mask is not value.mask:
        return False
    return key.axes == value.axes and key.axes[-1] == "C" and bool(positions([key.axes[-2]]))


def _by_definition(query: Any, key: Any, value: Any, bias: Any, dropout: float, scale: float | None) -> Any:
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    pairs = (query * factor) @ key.transpose(-1, -2)
    if bias is not None:
        pairs = pairs + bias if bias.is_floating_point() else pairs.masked_fill(bias.logical_not(), -math.inf)
    return F.dropout(pairs.softmax(-1), dropout, dropout > 0) @ value


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
    if add_zero_attn or any(o is not None for o in (bias_k, bias_v, key_padding_mask, static_k, static_v)):
        raise NoRuleError(
            "multi-head attention with keys or values of its own (add_bias_kv, add_zero_attn, "
            "key_padding_mask) has no rule; which positions are missing tells the mask."
        )
    weights: Sequence[Any] = (q_proj_weight, k_proj_weight, v_proj_weight)
    if not use_separate_proj_weight and in_proj_weight is not None:
        weights = in_proj_weight.chunk(3)
    biases: Sequence[Any] = (None,) * 3 if in_proj_bias is None else in_proj_bias.chunk(3)
    if query is key is value and weights[0].shape == weights[1].shape == weights[2].shape:
        together = torch.cat(list(weights)) if in_proj_weight is None else in_proj_weight
        projected = _projected(query, together, in_proj_bias).chunk(3, -1)
    else:
        parts = zip((query, key, value), weights, biases, strict=True)
        projected = tuple(_projected(*part) for part in parts)
    q, k, v = (_in_heads(x, raw, num_heads) for x, raw in zip((query, key, value), projected, strict=True))
    bias = attn_mask
    if bias is not None and bias.dtype is torch.bool:
        bias = torch.zeros(bias.shape, dtype=q.dtype, device=bias.device).masked_fill(bias, -math.inf)
    if bias is not None and bias.dim() == 3 and q.dim() == 4:
        bias = bias.unflatten(0, (-1, num_heads))
    dropout = dropout_p if training else 0.0
    found = scaled_dot_product_attention(q, k, v, bias, dropout, is_causal)
    raw = F.linear(found.raw.transpose(-2, -3).flatten(-2), out_proj_weight, out_proj_bias)
    raw = raw.transpose(0, -2)
    if isinstance(found, MaskedMap):
        result: Any = found.like(raw, axes=(found.axes[-2], *found.axes[:-3], "C"))
    else:
        result = like(found, raw)
    if not need_weights:
        return result, None
    pairs = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    shares = (pairs if bias is None else pairs + bias).softmax(-1)
    return result, shares.mean(-3) if average_attn_weights else shares


def _projected(x: Any, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Tokens (L×N×C, or L×C) as N×L×C', or L×C': a model whose batch comes first has them in this order."""
    if isinstance(x, MaskedMap) and x.axes[-1] != "C":
        raise NoRuleError(f"attention looks for channels in the last dimension, and here are axes {x.named}.")
    raw = x.raw if isinstance(x, MaskedMap) else x
    return F.linear(raw.transpose(0, -2), weight, bias)


def _in_heads(x: Any, projected: Tensor, heads: int) -> Any:
    raw = projected.unflatten(-1, (heads, -1)).transpose(-2, -3)
    return x.like(raw, axes=(*x.axes[1:-1], "C", x.axes[0], "C")) if isinstance(x, MaskedMap) else raw
