"""Attention under layer masking (S8a–S8e): a missing token gets no weight, and nothing else changes."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from attention_by_hand import Key, found, heads, over_lists, places
from small_models import COLUMNS, ROWS, VISIBLE, Net, X, assert_holds, drawn, images, run
from support import mask_families, relative
from timm.layers import AttentionPool2d
from timm.models import swin_transformer as timm_swin
from timm.models.xcit import XCA
from torch import nn
from torchvision.models.maxvit import PartitionAttentionLayer
from torchvision.models.swin_transformer import PatchMerging, ShiftedWindowAttention, ShiftedWindowAttentionV2
from versions import compiles
from vision_transformers import PATCH, SIZE, TIMM, timm_vit, torchvision_vit

from captum_layermask import LayerMaskedForward, NoRuleError, make_forward
from captum_layermask.testing import check_masking

WIDTH, HEADS = 4, 2
TOKENS = X.permute(0, 2, 3, 1)
SEEN = VISIBLE[:, 0]
FAMILIES = mask_families(SIZE)
PATCHES = torch.stack([FAMILIES[name] for name in ("patches", "all", "none", "patches")])[:, None]
PATCHES[3] = ~PATCHES[0]
IMAGES = images(3, SIZE, SIZE)[: len(PATCHES)]

qkv = drawn(nn.Linear(WIDTH, 3 * WIDTH))
out = drawn(nn.Linear(WIDTH, WIDTH))
BIAS = torch.randn(HEADS, ROWS * COLUMNS, ROWS * COLUMNS, dtype=torch.double)


def vit(name, fused):
    """A small vision transformer, its attention by the fused function or by products."""
    model = torchvision_vit() if name == "torchvision" else timm_vit(**TIMM[name])
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = fused
    return model


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


def listed(y):
    """A map N×C×H×W as tokens N×HW×C."""
    return y.flatten(2).transpose(1, 2)


def as_map(t):
    """Tokens N×HW×C as a map N×C×H×W."""
    return t.transpose(1, 2).unflatten(2, (ROWS, COLUMNS))


def in_heads(t, order=(0, 2, 1, 3)):
    """Tokens N×HW×C by heads: N×heads×HW×C."""
    return t.unflatten(-1, (HEADS, -1)).permute(order)


def products(q, k, v, bias):
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    return (scores if bias is None else scores + bias).softmax(-1) @ v


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


def check(network, by_hand, rows=slice(None)):
    """The masked output of a network that returns a map equals one by hand (N×H×W×C) in visible cells."""
    ours = run(network)[rows].permute(0, 2, 3, 1)
    there = SEEN[rows][..., None]
    assert relative(torch.where(there, ours, 0), torch.where(there, by_hand, 0).detach()) <= 1e-9


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


def test_queries_without_a_key_find_nothing():
    away = torch.ones(ROWS * COLUMNS, ROWS * COLUMNS, dtype=torch.bool).tril(-1)

    def network(x, attend):
        q, k, v = (in_heads(t) for t in qkv(listed(x)).chunk(3, -1))
        return as_map(attend(q, k, v, away).transpose(1, 2).flatten(2))

    def by_parts(q, k, v, allowed):
        return (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).masked_fill(~allowed, -torch.inf).softmax(
            -1
        ) @ v

    for attend in (F.scaled_dot_product_attention, by_parts):
        result = run(lambda x, attend=attend: network(x, attend))
        assert result[1:].isfinite().all()
        for image, seen in zip(result[1:], SEEN[1:], strict=True):
            first = places(seen)[0]
            assert not image[(slice(None), *first)].any() and image.any()


def test_attention_to_other_places_than_those_of_the_queries():
    smaller = drawn(nn.Conv2d(WIDTH, 2 * WIDTH, 2, 2))

    def network(x):
        q = in_heads(qkv(listed(x))[..., :WIDTH])
        k, v = (in_heads(t) for t in listed(smaller(x)).chunk(2, -1))
        return as_map(products(q, k, v, None).transpose(1, 2).flatten(2))

    def fused(x):
        q = in_heads(qkv(listed(x))[..., :WIDTH])
        k, v = (in_heads(t) for t in listed(smaller(x)).chunk(2, -1))
        return as_map(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    assert_holds(network)
    assert relative(run(network), run(fused)) <= 1e-12


REDUCTIONS = {
    "mean": lambda s: s.mean(-1),
    "variance": lambda s: s.var(-1),
    "maximum": lambda s: s.max(-1)[0],
    "where the maximum is": lambda s: s.argmax(-1).double(),
    "norm": lambda s: s.norm(dim=-1),
    "mean of all pairs": lambda s: s.mean((1, 2)),
    "layer norm": lambda s: F.layer_norm(s, s.shape[-1:]).relu().sum(-1),
}


@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions_over_keys(name):
    def scores(x):
        return qkv(listed(x))[..., :WIDTH] @ x.flatten(2)

    assert_holds(lambda x: REDUCTIONS[name](scores(x)))
    ours, plain = (f(lambda x: REDUCTIONS[name](scores(x))) for f in (run, lambda g: g(X)))
    for image, seen, result in zip(X, SEEN, ours, strict=True):
        there = seen.flatten()
        by_hand = REDUCTIONS[name](scores(image[None])[:, there][..., there])[0].detach()
        if name != "where the maximum is":
            assert torch.allclose(result[there] if result.dim() else result, by_hand, rtol=1e-9, atol=1e-12)
    assert relative(ours[:1], plain[:1].detach()) <= 1e-12


def test_a_reduction_over_queries_leaves_the_keys():
    def network(x):
        q, k, _ = (in_heads(t) for t in qkv(listed(x)).chunk(3, -1))
        received = (q @ k.transpose(-2, -1)).softmax(-1).sum((1, 2))
        return (received.unsqueeze(1) * x.flatten(2)).sum(2)

    assert_holds(network)


REFUSED = {
    "a linear layer over tokens": (
        lambda x: F.linear(x.flatten(2), BIAS[0]),
        "linear layer along axis HW .* learned .* until=",
    ),
    "a product with positions": (lambda x: BIAS[0] @ listed(x), "learned .* until="),
    "causal attention": (
        lambda x: F.scaled_dot_product_attention(*[in_heads(listed(x))] * 3, is_causal=True),
        "causal attention .* in an order",
    ),
    "a sum along positions": (lambda x: listed(x).cumsum(1), "in an order, .* until="),
    "pairs by a sum": (
        lambda x: (listed(x)[..., :1] + listed(x)[..., :1].transpose(1, 2)).softmax(-1),
        "otherwise than by the product of queries and keys",
    ),
    "the largest keys": (lambda x: (listed(x) @ x.flatten(2)).topk(3, -1), "some of the positions"),
    "keys of its own": (
        lambda x: drawn(nn.MultiheadAttention(WIDTH, 2, add_zero_attn=True, batch_first=True))(
            *[listed(x)] * 3
        ),
        "keys or values of its own",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_meaning_says_why(name):
    function, message = REFUSED[name]
    with pytest.raises(NoRuleError, match=message):
        run(function)


MODELS = ["torchvision", "class token", "registers", "avg, no class token", "attention pool"]


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_promises_of_whole_networks(name, fused):
    model, x, mask = vit(name, fused), IMAGES[:2], PATCHES[:1].roll((3, 3), (2, 3)).expand(2, -1, -1, -1)
    forward = LayerMaskedForward(model)
    check = check_masking(forward, x, mask)
    assert check.passed, str(check)
    mixed = torch.stack([mask[0], torch.ones_like(mask[0])])
    with torch.no_grad():
        together = forward(x, mask=mixed)
        assert relative(together[1:], model(x[1:])) <= 1e-12
        assert relative(together[:1], forward(x[:1], mask=mixed[:1])) <= 1e-12
        nothing = forward(x, mask=torch.zeros(SIZE, SIZE))
    assert nothing.isfinite().all() and torch.equal(nothing[0], nothing[1])


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_gradients(name, fused):
    forward = LayerMaskedForward(vit(name, fused))
    mask = PATCHES[:1].roll((3, 3), (2, 3))
    x = torch.where(mask, IMAGES[:1], torch.nan).requires_grad_()
    (gradient,) = torch.autograd.grad(forward(x, mask=mask).square().sum(), x)
    assert gradient.isfinite().all() and not gradient[~mask.expand_as(x)].any()
    generator = torch.Generator().manual_seed(5)
    step = torch.randn(x.shape, generator=generator, dtype=torch.double) * 1e-5
    with torch.no_grad():
        up, down = (forward(x + sign * step, mask=mask).square().sum() for sign in (1, -1))
    assert float((up - down) / 2) == pytest.approx(float((gradient * step).sum()), rel=1e-6)


def test_gradients_through_products_of_what_is_infinite_in_missing_cells():
    def network(x):
        t = listed(x)
        q, k, v = (in_heads(part) for part in (1 / t, t.log(), t.exp()))
        return as_map(products(q, k, v, None).transpose(1, 2).flatten(2)).mean((2, 3))

    x = torch.where(VISIBLE, X.abs() + 0.5, 0).requires_grad_()
    LayerMaskedForward(Net(network))(x, mask=VISIBLE).sum().backward()
    assert x.grad.isfinite().all() and x.grad.any()


@pytest.mark.parametrize("name", ["torchvision", "class token", "avg", "attention pool"])
def test_class_tokens_know_whether_they_have_seen_anything(name):
    model = vit(name, True)
    mask = torch.zeros(3, 1, SIZE, SIZE, dtype=torch.bool)
    mask[0, :, 4:6, 4:6] = mask[1] = True
    forward = LayerMaskedForward(model)
    forward(IMAGES[:3], mask=mask)
    assert forward.vanished.tolist() == [False, False, False]
    dropping = nn.Sequential(
        nn.Conv2d(3, 3, 1, stride=2, dtype=torch.double), nn.Upsample(scale_factor=2), model
    )
    mask[2, :, 5, 5] = True
    forward = LayerMaskedForward(dropping.eval(), propagation="paper")
    with pytest.warns(match="none reached the head"):
        forward(IMAGES[:3], mask=mask)
    assert forward.vanished.tolist() == [False, False, True]


def test_a_class_token_that_leaves_its_list_and_comes_back():
    token = torch.randn(1, 1, WIDTH, dtype=torch.double)
    layer = drawn(nn.MultiheadAttention(WIDTH, HEADS, batch_first=True))

    def network(x):
        t = listed(x)
        everything = torch.cat([token.expand(len(t), -1, -1), t], 1)
        found = layer(everything[:, 0].unsqueeze(1), everything, everything, need_weights=False)[0]
        return torch.cat([found, t], 1)[:, 0]

    forward = LayerMaskedForward(Net(network))
    forward(X, mask=VISIBLE)
    assert not forward.vanished.any()
    assert_holds(network)


@compiles
@pytest.mark.parametrize("name", MODELS)
def test_a_compiled_forward(name):
    torch.compiler.reset()
    forward = LayerMaskedForward(vit(name, True))
    compiled = torch.compile(forward, backend="eager", fullgraph=False)
    with torch.inference_mode():
        ours = compiled(IMAGES, mask=PATCHES)
        assert relative(ours, forward(IMAGES, mask=PATCHES)) <= 1e-12


def test_a_trace_shows_tokens():
    trace = LayerMaskedForward(vit("class token", True)).trace(IMAGES[:1], mask=PATCHES[:1], outputs=True)
    share = float(PATCHES[0].double().mean())
    steps = [step for step in trace if step.rule == "scaled_dot_product_attention"]
    assert [step.shape for step in steps] == [(1, 2, (SIZE // PATCH) ** 2 + 1, 8)] * 2
    tokens = (SIZE // PATCH) ** 2
    assert [step.visible for step in steps] == [pytest.approx((share * tokens + 1) / (tokens + 1))] * 2
    present = steps[0].present.expand(steps[0].output.shape)
    assert present[0, :, 0].all() and present[0, 0, 1:, 0].double().mean() == pytest.approx(share)
