"""What attention promises: missing keys, gradients, class tokens, refusals (S8, S10, S12, S15)."""

import pytest
import torch
import torch.nn.functional as F
from attention_by_hand import places
from attention_layers import (
    BIAS,
    HEADS,
    IMAGES,
    PATCHES,
    SEEN,
    WIDTH,
    as_map,
    in_heads,
    listed,
    products,
    qkv,
    vit,
)
from small_models import COLUMNS, ROWS, VISIBLE, Net, X, assert_holds, drawn, run
from support import relative
from torch import nn
from versions import compiles
from vision_transformers import PATCH, SIZE

from captum_layermask import LayerMaskedForward, NoRuleError
from captum_layermask.testing import check_masking


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
