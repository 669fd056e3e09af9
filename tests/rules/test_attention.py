"""Attention under layer masking (S8a–S8e): a missing token gets no weight, and nothing else changes."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from attention_by_hand import Key, found, heads, over_lists, places
from attention_layers import (
    BIAS,
    HEADS,
    IMAGES,
    PATCHES,
    SEEN,
    TOKENS,
    WIDTH,
    as_map,
    check,
    in_heads,
    listed,
    out,
    products,
    qkv,
    vit,
)
from small_models import COLUMNS, ROWS, X, assert_holds, drawn, run
from support import relative
from timm.layers import AttentionPool2d
from timm.models import swin_transformer as timm_swin
from timm.models.xcit import XCA
from torch import nn
from torchvision.models.maxvit import PartitionAttentionLayer
from torchvision.models.swin_transformer import PatchMerging, ShiftedWindowAttention, ShiftedWindowAttentionV2
from vision_transformers import TIMM

from captum_layermask import LayerMaskedForward, make_forward


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("name", ["torchvision", *TIMM])
@torch.no_grad()
def test_masks_that_follow_patches_equal_dropped_tokens(name, fused):
    if (name, fused) == ("torchvision", False):
        pytest.skip("torchvision's vision transformer has one spelling")
    model = vit(name, fused)
    seen = PATCHES.flatten(1).any(1)  # of no tokens at all, a pool finds what its author thought of
    masked = LayerMaskedForward(model)(IMAGES, mask=PATCHES)[seen]
    dropped = make_forward("drop-tokens", model)(IMAGES, mask=PATCHES)[seen]
    assert relative(masked, dropped) <= 1e-9
    assert not relative(masked[:1], model(IMAGES[:1])) <= 1e-3, "nothing was missing"


def einsums(q, k, v, bias):
    scores = torch.einsum("bhqd,bhkd->bhqk", q, k) * q.shape[-1] ** -0.5
    return torch.einsum("bhqk,bhkd->bhqd", (scores if bias is None else scores + bias).softmax(-1), v)


def keys_first(q, k, v, bias):
    scores = torch.matmul(k, q.transpose(-2, -1)).div(q.shape[-1] ** 0.5)
    scores = scores if bias is None else scores + bias.transpose(-2, -1)
    return (v.transpose(-2, -1) @ scores.softmax(-2)).transpose(-2, -1)


def batched(q, k, v, bias):
    n = len(q)
    q, k, v = (t.flatten(0, 1) for t in (q, k, v))
    if bias is None:
        scores = torch.bmm(q, k.transpose(1, 2)) * q.shape[-1] ** -0.5
    else:
        scores = torch.baddbmm(bias.repeat(n, 1, 1), q, k.transpose(1, 2), alpha=q.shape[-1] ** -0.5)
    return torch.bmm(scores.softmax(-1), v).unflatten(0, (n, HEADS))


def normalised_later(q, k, v, bias):
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    scores = scores if bias is None else scores + bias
    weights = (scores - scores.amax(-1, keepdim=True)).exp()
    return (weights / weights.sum(-1, keepdim=True).clamp(min=1e-30)) @ v


SPELLINGS = {
    "products": products,
    "einsum": einsums,
    "keys first": keys_first,
    "bmm and baddbmm": batched,
    "exp and sum": normalised_later,
    "fused": lambda q, k, v, bias: F.scaled_dot_product_attention(q, k, v, bias),
    "fused, one window": lambda q, k, v, bias: F.scaled_dot_product_attention(
        *(t.unsqueeze(1) for t in (q, k, v)), bias
    ).squeeze(1),
}


@pytest.mark.parametrize("bias", [None, BIAS], ids=["", "biased"])
@pytest.mark.parametrize("name", SPELLINGS)
def test_global_attention(name, bias):
    def network(x):
        q, k, v = (in_heads(t) for t in qkv(listed(x)).chunk(3, -1))
        return as_map(out(SPELLINGS[name](q, k, v, bias).transpose(1, 2).flatten(2)))

    def biased(head, query, key):
        numbers = [row * COLUMNS + column for row, column in (query, key)]
        return 0.0 if bias is None else bias[(head, *numbers)]

    everywhere = list(itertools.product(range(ROWS), range(COLUMNS)))
    by_hand = over_lists(
        TOKENS, SEEN, lambda t: qkv(t).chunk(3), lambda query: everywhere, HEADS, bias=biased
    )
    check(network, out(by_hand))
    assert_holds(network)


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
def test_multi_head_attention(batch_first, need_weights):
    layer = drawn(nn.MultiheadAttention(WIDTH, HEADS, batch_first=batch_first))
    everywhere = list(itertools.product(range(ROWS), range(COLUMNS)))
    shares = []

    def network(x):
        t = listed(x) if batch_first else listed(x).transpose(0, 1)
        y, weights = layer(t, t, t, need_weights=need_weights)
        shares.append(weights)
        return as_map(y if batch_first else y.transpose(0, 1))

    def project(token):
        return F.linear(token, layer.in_proj_weight, layer.in_proj_bias).chunk(3)

    check(network, layer.out_proj(over_lists(TOKENS, SEEN, project, lambda query: everywhere, HEADS)))
    assert (shares[0] is not None) == need_weights
    if need_weights:
        weights, seen = shares[0].plain(), SEEN.flatten(1)
        assert torch.allclose(weights.sum(2), seen.double()), "the weights of what is there sum to 1"
        assert not (weights * ~seen[:, None]).any() and not (weights * ~seen[:, :, None]).any()
    assert_holds(network)


def window_of(size, shift, rows, columns):
    """From a cell to the cells of its window, in a map that was padded and shifted; and its own regions."""

    def padded(n):
        return -(-n // size) * size

    height, width = padded(rows), padded(columns)

    def shifted(place):
        return (place[0] - shift) % height, (place[1] - shift) % width

    def listed(place):
        top, left = (i // size * size for i in shifted(place))
        return [
            ((top + i + shift) % height, (left + j + shift) % width)
            for i, j in itertools.product(range(size), repeat=2)
        ]

    def region(place):
        sides = zip(shifted(place), (height, width), strict=True)
        return [(i >= n - size) + (i >= n - shift) if shift else 0 for i, n in sides]

    return listed, shifted, region


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("shift", [0, 2])
def test_windows_with_shift_and_padding(shift, cosine):
    size = 5
    kind = ShiftedWindowAttentionV2 if cosine else ShiftedWindowAttention
    layer = drawn(kind(WIDTH, [size, size], [shift, shift], HEADS))
    listed, shifted, region = window_of(size, shift, ROWS, COLUMNS)
    table = layer.get_relative_position_bias()[0]
    scale = layer.logit_scale.clamp(max=100.0).exp() if cosine else None

    def project(token):
        bias = layer.qkv.bias.clone()
        bias[WIDTH : 2 * WIDTH] *= not cosine
        q, k, v = F.linear(token, layer.qkv.weight, bias).chunk(3)
        if cosine:
            q, k = (torch.cat([F.normalize(h, dim=0) for h in heads(t, HEADS)]) for t in (q, k))
            q = torch.cat([h * s for h, s in zip(heads(q, HEADS), scale.flatten(), strict=True)])
        return q, k, v

    def bias(head, query, key):
        (a, b), (c, d) = shifted(query), shifted(key)
        mine, theirs = (a % size) * size + b % size, (c % size) * size + d % size
        return table[head, mine, theirs] - 100.0 * (region(query) != region(key))

    def network(x):
        return layer(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    by_hand = over_lists(
        TOKENS,
        SEEN,
        project,
        listed,
        HEADS,
        1.0 if cosine else None,
        bias,
        torch.zeros(WIDTH, dtype=torch.double),
    )
    check(network, layer.proj(by_hand))
    assert_holds(network)


@pytest.mark.parametrize("kind", ["window", "grid"])
def test_blocks_and_grids(kind):
    side, size = 12, 4
    layer = drawn(
        PartitionAttentionLayer(WIDTH, 2, size, kind, (side, side), 2, nn.GELU, nn.LayerNorm, 0.0, 0.0, 0.0)
    )
    norm, attention = layer.attn_layer[0], layer.attn_layer[1]
    table = attention.get_relative_positional_bias()[0]
    step = side // size

    def listed(place):
        if kind == "window":
            top, left = (i // size * size for i in place)
            return [(top + i, left + j) for i, j in itertools.product(range(size), repeat=2)]
        return [
            (place[0] % step + step * i, place[1] % step + step * j) for i in range(size) for j in range(size)
        ]

    def number(place):
        i, j = (n % size if kind == "window" else n // step for n in place)
        return i * size + j

    x, seen = X[..., :side], SEEN[..., :side]
    tokens = x.permute(0, 2, 3, 1)
    by_hand = attention.merge(
        over_lists(
            tokens,
            seen,
            lambda t: attention.to_qkv(norm(t)).chunk(3),
            listed,
            HEADS,
            attention.scale_factor,
            lambda head, query, key: table[head, number(query), number(key)],
        )
    )
    by_hand = tokens + by_hand
    by_hand = by_hand + layer.mlp_layer(by_hand)
    ours = run(layer, x, seen[:, None]).permute(0, 2, 3, 1)
    there = seen[..., None]
    assert relative(torch.where(there, ours, 0), torch.where(there, by_hand, 0).detach()) <= 1e-9


@pytest.mark.parametrize("fused", [True, False])
def test_attention_pooling(fused):
    pool = drawn(AttentionPool2d(WIDTH, (ROWS, COLUMNS), out_features=5, embed_dim=WIDTH, num_heads=HEADS))
    pool.fused_attn = fused
    rows = []
    for image, seen in zip(TOKENS, SEEN, strict=True):
        cells = places(seen)
        mean = sum(image[place] for place in cells) / len(cells)
        tokens = [mean + pool.pos_embed[0]]
        tokens += [image[place] + pool.pos_embed[1 + place[0] * COLUMNS + place[1]] for place in cells]
        parts = [pool.qkv(token).chunk(3) for token in tokens]
        result = []
        for head in range(HEADS):
            query = heads(parts[0][0], HEADS)[head]
            keys = [Key((0, 0), heads(k, HEADS)[head], heads(v, HEADS)[head]) for _, k, v in parts]
            result.append(found(query, keys, len(query) ** -0.5))
        rows.append(pool.proj(torch.cat(result)))
    assert relative(run(pool), torch.stack(rows).detach()) <= 1e-9
    assert_holds(pool)


def linear_by_context(q, k, v):
    return (q @ (k.transpose(-2, -1) @ v)) / (q @ k.sum(-2, keepdim=True).transpose(-2, -1) + 1e-6)


def linear_by_scores(q, k, v):
    scores = q @ k.transpose(-2, -1)
    return scores @ v / (scores.sum(-1, keepdim=True) + 1e-6)


def linear_by_einsum(q, k, v):
    context = torch.einsum("bhnd,bhne->bhde", k, v)
    return torch.einsum("bhnd,bhde->bhne", q, context) / (
        torch.einsum("bhnd,bhd->bhn", q, k.sum(2)).unsqueeze(-1) + 1e-6
    )


@pytest.mark.parametrize("attend", [linear_by_context, linear_by_scores, linear_by_einsum])
def test_linear_attention(attend):
    def network(x):
        q, k, v = (in_heads(t) for t in qkv(listed(x)).chunk(3, -1))
        return as_map(attend(q.relu() + 0.1, k.relu() + 0.1, v).transpose(1, 2).flatten(2))

    result = torch.zeros_like(TOKENS)
    for image, seen, into in zip(TOKENS, SEEN, result, strict=True):
        cells = [(place, qkv(image[place]).chunk(3)) for place in places(seen)]
        for place, (query, _, _) in cells:
            parts = []
            for head in range(HEADS):
                mine = heads(query, HEADS)[head].relu() + 0.1
                shares = [(mine @ (heads(k, HEADS)[head].relu() + 0.1)).item() for _, (_, k, _) in cells]
                values = [heads(v, HEADS)[head] for _, (_, _, v) in cells]
                parts.append(sum(s * v for s, v in zip(shares, values, strict=True)) / (sum(shares) + 1e-6))
            into[place] = torch.cat(parts).detach()
    check(network, result)
    assert_holds(network)


@pytest.mark.parametrize("fused", [True, False])
def test_cross_covariance(fused):
    layer = drawn(XCA(WIDTH, HEADS, qkv_bias=True))
    layer.fused_attn = fused
    result = torch.zeros_like(TOKENS)
    for image, seen, into in zip(TOKENS, SEEN, result, strict=True):
        cells = places(seen)
        q, k, v = (
            torch.stack(part) for part in zip(*(layer.qkv(image[c]).chunk(3) for c in cells), strict=True)
        )
        parts = []
        for head in range(HEADS):
            mine = [torch.stack([heads(row, HEADS)[head] for row in t]) for t in (q, k, v)]
            unit = [[column / column.norm() for column in t.T] for t in mine[:2]]
            scores = torch.tensor([[float(a @ b) for b in unit[1]] for a in unit[0]], dtype=torch.double)
            weights = (scores * layer.temperature[head]).softmax(1)
            parts.append(mine[2] @ weights.T)
        for at, place in enumerate(cells):
            into[place] = layer.proj(torch.cat([part[at] for part in parts])).detach()
    check(lambda x: as_map(layer(listed(x))), result)
    assert_holds(lambda x: as_map(layer(listed(x))))


def test_patch_merging_is_a_window_however_it_is_spelled():
    by_slices, by_view = drawn(PatchMerging(WIDTH)), drawn(timm_swin.PatchMerging(WIDTH))
    by_view.load_state_dict(by_slices.state_dict())

    def merged(x):
        blocks = F.pixel_unshuffle(x, 2).unflatten(1, (WIDTH, 2, 2)).permute(0, 4, 5, 3, 2, 1).flatten(3)
        return by_slices.reduction(by_slices.norm(blocks))

    ours = [run(lambda x, f=f: f(x.permute(0, 2, 3, 1))) for f in (by_slices, by_view)]
    for result in ours:
        assert relative(result, run(merged)) <= 1e-12
    assert relative(ours[0][1:], by_slices(TOKENS[1:]).detach()) > 1e-3
