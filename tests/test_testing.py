"""The check of a masked model finds each broken promise, and where."""

import pytest
import torch
from support import SmallVGG, redraw
from torch import nn

from captum_layermask import InputError, LayerMaskedForward, rule_for
from captum_layermask.masking import registry
from captum_layermask.masking.windows import Window
from captum_layermask.rules.sliding import slide
from captum_layermask.testing import check_masking

WINDOW = Window(kernel=(3, 3))
MASK = torch.ones(24, 24, dtype=torch.bool)
MASK[6:18, 5:15] = False
IMAGE = torch.randn(2, 3, 24, 24, dtype=torch.double, generator=torch.Generator().manual_seed(0))


class Median(nn.Module):
    def forward(self, x):
        return x.unfold(2, 3, 1).unfold(3, 3, 1).flatten(-2).median(-1).values


@pytest.fixture(autouse=True)
def no_rule_is_left():
    yield
    registry.MODULE_RULES.pop(Median, None)


def right(module, x):
    return slide(x, WINDOW, module, linear=False)


def forgets_to_fill(module, x):
    return x.like(module(x.raw), x.after(WINDOW))


def invents_evidence(module, x):
    mask = x.after(WINDOW)
    return x.like(module(torch.where(x.mask.visible, x.raw, 0)), type(mask)(torch.ones_like(mask.visible)))


def checked(rule, first=False):
    rule_for(Median)(rule)
    body = [Median()] if first else [nn.Conv2d(3, 4, 3), nn.ReLU(), Median()]
    channels = 3 if first else 4
    head = [nn.Conv2d(channels, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return check_masking(LayerMaskedForward(redraw(nn.Sequential(*body, *head)).double()), IMAGE, MASK)


@pytest.mark.parametrize("options", [{}, {"padding": "zero"}, {"until": "7"}, {"until": 1}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_supported_model_passes(options, dtype):
    forward = LayerMaskedForward(redraw(SmallVGG()).to(dtype), **options)
    check = check_masking(forward, IMAGE.to(dtype), MASK)
    assert check.passed, str(check)
    assert str(check).count("ok ") == 5
    assert "FAIL" not in str(check)


@pytest.mark.parametrize("first", [False, True])
def test_a_right_rule_passes(first):
    assert checked(right, first).passed


@pytest.mark.parametrize("first", [False, True])
def test_a_rule_that_reads_missing_cells_is_named(first):
    check = checked(forgets_to_fill, first)
    assert not check.passed
    assert check.pixels, "NaN in missing pixels does not show it"
    assert check.cells > 1
    assert f"first in {0 if first else 2}: Median (rule" in str(check)
    assert check.invents is None


def test_a_rule_that_sees_something_in_nothing_is_named():
    check = checked(invents_evidence)
    assert not check.passed
    assert check.invents is not None
    assert check.invents.module == "model.2"
    assert "first in 2: Median (rule" in str(check)


def test_something_must_be_missing():
    with pytest.raises(InputError, match="nothing is missing"):
        check_masking(LayerMaskedForward(SmallVGG().eval()), IMAGE.float(), torch.ones(24, 24))


def test_the_model_and_its_forward_are_left_as_they_were():
    model = redraw(SmallVGG()).double()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    forward = LayerMaskedForward(model)
    check_masking(forward, IMAGE, MASK)
    assert forward.model is model
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class Mixing(nn.Module):
    def forward(self, x):
        return x


def test_a_rule_that_mixes_images_is_found():
    @rule_for(Mixing)
    def mixed(module, x):
        return x.like(x.raw + x.raw.mean((0, 2, 3), keepdim=True) * (len(x.raw) - 1))

    try:
        model = nn.Sequential(nn.Conv2d(3, 4, 3), Mixing(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        check = check_masking(LayerMaskedForward(redraw(model).double()), IMAGE, MASK)
    finally:
        del registry.MODULE_RULES[Mixing]
    assert not check.passed
    assert check.company > check.tolerance
    assert "FAIL  alone or in company, the same" in str(check)


def test_dropout_that_is_left_on_draws_the_same_for_every_check():
    model = redraw(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Dropout(), nn.Flatten(), nn.Linear(3872, 5))).double()
    model[1].train()
    before = torch.get_rng_state()
    check = check_masking(LayerMaskedForward(model), IMAGE, MASK)
    assert check.identity <= check.tolerance
    assert check.cells <= check.tolerance
    assert check.pixels
    assert torch.equal(torch.get_rng_state(), before)
