"""What a model's code can see of an activation behaves as on the plain tensor (S14)."""

import copy
import dataclasses
import pickle

import pytest
import torch
import torch.nn.functional as F
from small_models import VISIBLE, Net, X, conv, drawn, run, wide
from support import relative
from torch import nn

from captum_layermask import (
    InplaceError,
    InputError,
    LayerMaskedForward,
    MaskLostError,
    NoRuleError,
    UnknownNameError,
    rule_for,
)
from captum_layermask.errors import MisfitError
from captum_layermask.masking.activation import MaskedMap
from captum_layermask.masking.carrier import Carrier
from captum_layermask.masking.layout import NCHW
from captum_layermask.masking.mask import Mask
from captum_layermask.masking.registry import MODULE_RULES, RULES, spellings
from captum_layermask.masking.trees import instances

pytestmark = pytest.mark.filterwarnings("ignore::captum_layermask.VanishedWarning")


# masks fit


def test_a_rule_that_returns_the_mask_of_another_map_is_an_error_that_names_it():
    class Half(nn.Module):
        def forward(self, x):
            return x[..., ::2]

    @rule_for(Half)
    def half(module, x):
        return x.like(x.raw[..., ::2])

    try:
        with pytest.raises(MisfitError, match=r"\(5, 4, 12, 8\) with axes N C H W .* 12×16 cells"):
            run(Half(), X)
    finally:
        del MODULE_RULES[Half]


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((2, 3, 4, 6), NCHW),
        ((1, 3, 4, 5), NCHW),
        ((2, 3, 21), ("N", "C", "HW")),
        ((2, 3, 4), ("N", "C", "H")),
    ],
)
def test_values_that_do_not_fit_a_mask_make_no_map(shape, axes):
    with pytest.raises(MisfitError):
        MaskedMap(torch.zeros(shape), Mask(torch.ones(2, 1, 4, 5, dtype=torch.bool)), axes, None)


# inner batches


def doubled(x):
    return torch.cat([x, x.flip(3)])


@pytest.mark.parametrize(
    "inner",
    [
        lambda f, x: sum(f(doubled(x)).chunk(2)),
        lambda f, x: sum(f(doubled(x)).unflatten(0, (2, -1))),
        lambda f, x: sum(map(f, (x, x.flip(3)))),
        lambda f, x: torch.cat([f(v) + f(v.flip(3)) for v in x.split(1)]),
        lambda f, x: torch.cat([f(v[None]) + f(v.flip(2)[None]) for v in x]),
        lambda f, x: torch.stack([(f(x[i][None]) + f(x[i : i + 1].flip(3)))[0] for i in range(len(x))]),
        lambda f, x: torch.cat([f(v) + f(v.flip(3)) for v in (x[:2], x[2:])]),
    ],
)
def test_an_inner_batch_may_have_any_size(inner):
    head = drawn(nn.Linear(8, 3))

    def network(x):
        return head(wide(x).relu().mean((2, 3)))

    forward = LayerMaskedForward(Net(lambda x: inner(network, x)))
    mask = VISIBLE.clone()
    mask[1] = False
    with torch.no_grad():
        together = forward(X, mask=mask)
        expected = run(network, X, mask) + run(network, X.flip(3), mask.flip(3))
        assert relative(together, expected) <= 1e-12
        assert not forward.vanished.any()
        assert forward.vanished.shape == (5,)


def test_vanishing_is_told_image_by_image_in_an_inner_batch():
    mask = torch.zeros(5, 1, 12, 16)
    mask[:, :, 3, 3] = 1
    mask[2, :, 4, 4] = 1
    forward = LayerMaskedForward(Net(lambda x: doubled(x)[..., ::2, ::2].mean((2, 3))[: len(x)]))
    with torch.no_grad():
        forward(X, mask=mask)
    assert forward.vanished.tolist() == [True, True, False, True, True]


def test_a_batch_of_one_broadcast_by_a_plain_tensor_is_filled_everywhere():
    scale = torch.tensor([1.0, 2.0, 3.0], dtype=torch.double)
    got = run(lambda x: conv(x * scale.view(3, 1, 1, 1)), X[3:4], VISIBLE[3:4])
    expected = torch.cat([run(lambda x, s=s: conv(x * s), X[3:4], VISIBLE[3:4]) for s in scale])
    assert relative(got, expected) <= 1e-12


# memory is the engine's own business


@pytest.mark.parametrize("view", [lambda x: x.view(x.size(0), -1), lambda x: x.view(len(x), 4, -1).mean(2)])
def test_a_view_that_the_plain_network_can_take_works_masked(view):
    for layer in (conv, nn.MaxPool2d(2), nn.AdaptiveAvgPool2d((3, 2))):
        assert (
            relative(run(lambda x, f=layer: view(f(x))), run(lambda x, f=layer: view(f(x).contiguous())))
            <= 1e-12
        )


def test_a_view_that_had_to_be_copied_is_refused_once_it_is_out_of_date():
    def stale(x):
        y = conv(x)
        flat = y.view(len(y), -1)
        flat += 1
        return y.mean((2, 3)) if use else flat

    use = False
    run(stale)
    use = True
    with pytest.raises(InplaceError, match="changed in place since"):
        run(stale)


def test_hooks_keep_what_works_after_the_forward():
    kept = []
    model = nn.Sequential(copy.deepcopy(conv), nn.ReLU())
    model[0].register_forward_hook(lambda module, inputs, output: kept.append(output))
    with torch.no_grad():
        LayerMaskedForward(model)(X, mask=VISIBLE)
    (y,) = kept
    expected = torch.where(VISIBLE.expand_as(X), y.detach() + 0, 0)
    for use in (
        lambda y: y + 0,
        lambda y: torch.from_numpy(y.numpy()),
        lambda y: torch.tensor(y.tolist(), dtype=torch.double),
        lambda y: pickle.loads(pickle.dumps(y)),
        copy.deepcopy,
        lambda y: torch.cat([y[:, :2], y[:, 2:]], 1),
        lambda y: torch.stack(list(y)),
    ):
        assert type(use(y)) is torch.Tensor
        assert use(y).isfinite().all()
        assert torch.equal(torch.where(VISIBLE, use(y), 0), torch.where(VISIBLE, expected, 0))
    assert "tensor(" in repr(y)
    other = LayerMaskedForward(Net(lambda x: conv(x) + y))(X, mask=VISIBLE)
    assert relative(other, run(lambda x: conv(x) + use(y))) <= 1e-12


def test_memory_may_be_given_back_early():
    def reversible(x):
        a, b = (part.contiguous() for part in conv(x).chunk(2, 1))
        y = torch.cat([a, b + a], 1)
        a.set_()
        b.set_()
        return y

    assert (
        relative(
            run(reversible), run(lambda x: torch.cat([conv(x)[:, :2], conv(x)[:, 2:] + conv(x)[:, :2]], 1))
        )
        <= 1e-12
    )


# what leaves


@dataclasses.dataclass
class Result:
    """A dataclass of the model."""

    logits: torch.Tensor
    anchors: torch.Tensor


class Own:
    """An object of the model."""

    def __init__(self, logits):
        self.logits = logits


@pytest.mark.parametrize(
    "leave",
    [
        lambda y: y.tolist(),
        lambda y: y.numpy(),
        lambda y: {"logits": y, "scale": torch.ones(3)},
        lambda y: Own(y),
        lambda y: iter([y]),
        lambda y: {y},
        lambda y: Result(y, torch.zeros(7)),
        lambda y: (y, y.max(1).values, y.topk(2).indices, y.max(1)[0].item() if len(y) == 1 else 0),
    ],
)
def test_any_output_is_handed_out_plain_and_tells_no_false_vanishing(leave):
    forward = LayerMaskedForward(Net(lambda x: leave(x.mean((2, 3)))))
    with torch.no_grad():
        output = forward(X, mask=VISIBLE)
    assert not forward.vanished.any()
    parts = (
        vars(output) if isinstance(output, Own) else list(output) if hasattr(output, "__iter__") else output
    )
    assert not list(instances(parts, Carrier))


def test_constants_beside_the_logits_are_returned_as_they_are():
    scale = nn.Parameter(torch.ones(3))
    logits, same = run(lambda x: (x.mean((2, 3)), scale))
    assert same is scale
    assert logits.shape == (5, 4)
    with pytest.raises(MaskLostError):
        run(lambda x: scale * 1)


@pytest.mark.parametrize(
    "convert", [lambda b, x: b.to(x), lambda b, x: b.type_as(x), lambda b, x: b.view_as(x[0, 0])]
)
def test_a_constant_that_is_converted_like_a_map_stays_a_constant(convert):
    buffer = torch.ones(12, 16)
    kept = []
    run(lambda x: kept.append(convert(buffer, x)) or x)
    assert type(kept[0]) is torch.Tensor


def test_a_scripted_function_is_a_typed_error():
    @torch.jit.script
    def swish(x):
        return x * x.sigmoid()

    class Swish(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return swish(x)

    for function in (swish, Swish.apply):
        with pytest.raises(MaskLostError, match="scripted functions"):
            run(function)


def test_compiled_networks_run_as_what_they_were_made_from():
    model = nn.Sequential(copy.deepcopy(conv), nn.ReLU())
    with torch.no_grad():
        expected = LayerMaskedForward(model)(X, mask=VISIBLE)
        for compiled in (torch.compile(model), nn.Sequential(torch.compile(model[0]), nn.ReLU())):
            assert torch.equal(LayerMaskedForward(compiled)(X, mask=VISIBLE), expected)
        own = copy.deepcopy(model)
        own.compile()
        assert torch.equal(LayerMaskedForward(own)(X, mask=VISIBLE), expected)


# numbers


def test_the_mean_of_a_large_half_precision_map_is_what_the_plain_one_is():
    x = torch.full((1, 1, 112, 112), 60.0, dtype=torch.float16)
    mask = torch.ones(112, 112)
    mask[:56] = 0
    for spelling in (
        lambda x: x.mean((2, 3)),
        lambda x: F.adaptive_avg_pool2d(x, 1),
        lambda x: x.mean(3).mean(2),
    ):
        assert torch.equal(run(spelling, x, mask).flatten(), torch.tensor([60.0], dtype=torch.float16))


def test_a_standard_deviation_of_one_cell_has_the_gradient_0():
    x = X[:1].clone().requires_grad_()
    mask = torch.zeros(12, 16)
    mask[3, 4] = 1
    LayerMaskedForward(Net(lambda x: x.std((2, 3), correction=0)))(x, mask=mask).sum().backward()
    assert torch.equal(x.grad, torch.zeros_like(x))


@pytest.mark.parametrize(
    "draw",
    [
        lambda y: F.dropout(y, training=True),
        lambda y: F.dropout(y, training=True, inplace=True),
        lambda y: F.dropout2d(y, training=True),
        lambda y: F.rrelu(y, training=True),
        lambda y: y * (torch.rand_like(y) > 0.5),
    ],
)
def test_with_one_seed_a_visible_cell_draws_the_same_whatever_is_missing(draw):
    def drawn_from(mask):
        def network(x):
            y = conv(x)
            return draw(y * 0 - 1)

        torch.manual_seed(0)
        with torch.no_grad():
            return LayerMaskedForward(Net(network))(X, mask=mask)

    seen = VISIBLE.expand_as(X)
    assert torch.equal(drawn_from(VISIBLE)[seen], drawn_from(torch.ones_like(VISIBLE))[seen])


# registration


@pytest.mark.parametrize(
    "function",
    [lambda x: F.conv2d(torch.ones(1, 4, 5, 5).double(), x), lambda x: F.linear(x.new_ones(2, 16), x)],
)
def test_an_activation_in_the_place_of_weights_is_a_typed_error(function):
    with pytest.raises(NoRuleError):
        run(function)


def test_a_name_that_pytorch_does_not_have_is_an_error():
    with pytest.raises(UnknownNameError, match="softmax"):
        rule_for("softmx")(lambda x: x)
    with pytest.raises(UnknownNameError, match="softmax"):
        spellings("softmx")  # as the lists of names in this package are read


def test_a_second_rule_is_an_error_unless_it_is_to_replace_the_first():
    before = RULES[torch.relu]
    with pytest.raises(InputError, match="replace=True"):
        rule_for(torch.relu)(lambda x: x)
    assert RULES[torch.relu] is before
    try:
        rule_for(torch.relu, replace=True)(lambda x: x.like(x.raw * 0))
        assert torch.equal(run(torch.relu), torch.zeros_like(X))
    finally:
        RULES[torch.relu] = before


def test_a_cell_of_a_notebook_may_run_again():
    class Layer(nn.Module):
        def forward(self, x):
            return x

    def cell(factor):
        @rule_for(Layer)
        def layer(module, x):
            return x.like(x.raw * factor)

    try:
        cell(1)
        cell(2)
        assert relative(run(Layer()), run(lambda x: x * 2)) <= 1e-12
        with pytest.raises(InputError, match="replace=True"):
            rule_for(Layer)(lambda module, x: x)
    finally:
        MODULE_RULES.pop(Layer, None)


def test_frames_that_differ_are_joined_with_their_images():
    def network(x):
        return torch.cat([F.pad(x, (2, 0)), F.pad(x, (0, 2))])

    def pooled(x):
        return F.avg_pool2d(network(x), 3, 1)

    got = run(pooled)
    expected = torch.cat([run(lambda x, p=p: F.avg_pool2d(F.pad(x, p), 3, 1)) for p in ((2, 0), (0, 2))])
    assert relative(got, expected) <= 1e-12


def test_an_operation_that_has_no_rule_is_named_in_a_container_too():
    with pytest.raises(NoRuleError, match=r"torch\.fft"):
        run(lambda x: torch.fft.fft2(x).real)
