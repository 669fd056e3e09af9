"""Variants of layer masking that the paper compares, against the same computed by hand."""

import pytest
import torch
import torch.nn.functional as F
from support import SmallVGG, mask_families, redraw
from torch import nn

from captum_layermask import InputError, LayerMaskedForward, UnknownNameError, rule_for
from captum_layermask.masking.module_rules import with_module_rules
from captum_layermask.masking.windows import Window
from captum_layermask.rules.sliding import slide

SIZE = 32
IMAGES = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(3), dtype=torch.double)
VISIBLE = torch.stack([mask_families(SIZE)[name] for name in ("patches", "blobs")])[:, None]
OPTIONS = [{"padding": "zero"}, {"padding": "partial"}, {"until": 1}, {"until": "block"}]


class Residual(nn.Module):
    """Two convolutions, a shortcut and a head."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.block = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6))
        self.last = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        """Classify."""
        x = self.stem(x)
        x = F.relu(x + self.block(x))
        return self.head(self.last(x).mean((2, 3)))


@pytest.fixture(scope="module")
def model():
    return redraw(Residual()).double()


def any_window(visible, stride=1):
    return F.max_pool2d(visible.double(), 3, stride, 1) > 0


@pytest.mark.parametrize("options", OPTIONS)
def test_s1_and_s2(options, model):
    for network in (model, redraw(SmallVGG()).double()):
        if options.get("until") == "block" and network is not model:
            options = {"until": "3"}
        forward = LayerMaskedForward(network, **options)
        plain, masked = network(IMAGES), forward(IMAGES, mask=VISIBLE)
        assert torch.allclose(forward(IMAGES), plain, rtol=1e-12)
        assert not torch.allclose(masked, plain)
        assert not torch.allclose(masked, LayerMaskedForward(network)(IMAGES, mask=VISIBLE))
        assert torch.equal(forward(torch.where(VISIBLE, IMAGES, torch.nan), mask=VISIBLE), masked)
        assert forward(IMAGES, mask=torch.zeros(SIZE, SIZE)).isfinite().all()


def test_zero_padding_reads_zeros(model):
    m = any_window(VISIBLE)
    x = model.stem(torch.where(VISIBLE, IMAGES, 0)) * m
    y = model.block(x)
    x = F.relu(x + y) * m
    x, m = model.last(x), any_window(m, 2)
    expected = model.head((x * m).sum((2, 3)) / m.sum((2, 3)))
    assert torch.allclose(
        LayerMaskedForward(model, propagation="paper", padding="zero")(IMAGES, mask=VISIBLE), expected
    )


def partial_conv(conv, x, m):
    """Liu et al. 2018, equation 1, window by window."""
    out = torch.zeros_like(conv(x))
    k, p, s = conv.kernel_size[0], conv.padding[0], conv.stride[0]
    for i in range(out.shape[2]):
        for j in range(out.shape[3]):
            top, left = max(i * s - p, 0), max(j * s - p, 0)
            bottom, right = min(i * s - p + k, x.shape[2]), min(j * s - p + k, x.shape[3])
            window, seen = x[..., top:bottom, left:right], m[..., top:bottom, left:right].double()
            weight = conv.weight[
                ..., top - i * s + p : bottom - i * s + p, left - j * s + p : right - j * s + p
            ]
            total = torch.einsum("nchw,ochw->no", window * seen, weight)
            there = seen.sum((1, 2, 3))
            scale = torch.where(there > 0, seen[0].numel() / there.clamp(min=1), 0)
            out[..., i, j] = total * scale[:, None] + conv.bias
    return out


def test_partial_convolution_weighs_up_what_it_reads(model):
    m = any_window(VISIBLE)
    x = model.stem[1:](partial_conv(model.stem[0], IMAGES, VISIBLE)) * m
    y = model.block[1](partial_conv(model.block[0], x, m))
    x = F.relu(x + y) * m
    x, m = partial_conv(model.last, x, m), any_window(m, 2)
    expected = model.head((x * m).sum((2, 3)) / m.sum((2, 3)))
    assert torch.allclose(
        LayerMaskedForward(model, propagation="paper", padding="partial")(IMAGES, mask=VISIBLE), expected
    )


def test_a_partial_average_pool_is_the_mean_of_what_it_reads():
    pool = nn.AvgPool2d(4, 3, ceil_mode=True)
    got = LayerMaskedForward(pool, padding="partial")(IMAGES, mask=VISIBLE)
    total = F.avg_pool2d(IMAGES * VISIBLE, 4, 3, ceil_mode=True)
    share = F.avg_pool2d(VISIBLE.double(), 4, 3, ceil_mode=True)
    expected = torch.where(share > 0, total / share, 0)
    assert torch.allclose(got, expected)


@pytest.mark.parametrize("until", ["stem", 1])
def test_after_the_last_masked_layer_the_plain_network_runs(until, model):
    stem = LayerMaskedForward(model.stem)(IMAGES, mask=VISIBLE)  # 0 in missing cells
    rest = F.relu(stem + model.block(stem))
    expected = model.head(model.last(rest).mean((2, 3)))
    assert torch.allclose(LayerMaskedForward(model, until=until)(IMAGES, mask=VISIBLE), expected)


def test_until_the_last_module_is_layer_masking(model):
    everything = LayerMaskedForward(model)(IMAGES, mask=VISIBLE)
    assert torch.equal(LayerMaskedForward(model, until="head")(IMAGES, mask=VISIBLE), everything)
    assert torch.equal(LayerMaskedForward(model, until=3)(IMAGES, mask=VISIBLE), everything)


class OwnPool(nn.Module):
    """A pool whose rule slides a window."""

    def forward(self, x):
        return F.max_pool2d(x, 3, 1, 1)


@rule_for(OwnPool)
def own_pool(module, x):
    return slide(x, Window((3, 3), before=(1, 1), after=(1, 1)), module, linear=False)


@pytest.mark.parametrize("until", ["0", 1])
def test_a_module_with_a_rule_runs_as_usual_after_the_last_masked_layer(until):
    convolution = redraw(nn.Conv2d(3, 4, 3, padding=1)).double()
    forward = LayerMaskedForward(nn.Sequential(convolution, OwnPool()), until=until)
    expected = OwnPool()(LayerMaskedForward(convolution)(IMAGES, mask=VISIBLE))
    assert torch.equal(forward(IMAGES, mask=VISIBLE), expected)


@pytest.mark.parametrize("until", ["stem", 1])
def test_a_trace_has_each_operation_once(until, model):
    steps = LayerMaskedForward(model, until=until).trace(IMAGES, mask=VISIBLE)
    assert [s.operation for s in steps] == [s.operation for s in LayerMaskedForward(model).trace(IMAGES)]
    assert [s.visible == 1 for s in steps][2:4] == [False, True]


def test_the_model_is_left_as_it_was(model):
    modules = list(model.named_modules())
    LayerMaskedForward(model, until="block.0")(IMAGES, mask=VISIBLE)
    assert list(model.named_modules()) == modules


def test_a_compiled_model_is_left_as_it_was_too(model):
    forward = LayerMaskedForward(torch.compile(model, backend="eager"), until="_orig_mod.block")
    modules = list(model._modules)
    with_module_rules(forward.model, "_orig_mod.block")
    assert list(model._modules) == modules


def test_wrong_options_are_refused(model):
    with pytest.raises(UnknownNameError, match="did you mean 'zero'"):
        LayerMaskedForward(model, padding="zeros")
    with pytest.raises(UnknownNameError, match="did you mean 'block'"):
        LayerMaskedForward(model, until="blok")
    with pytest.raises(InputError, match="at least 1"):
        LayerMaskedForward(model, until=0)
