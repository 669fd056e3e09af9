"""The image may stand anywhere among a model's arguments; no other argument may hold MISSING."""

import pytest
import torch
from captum.attr import FeatureAblation
from torch import nn

from captum_layermask import MISSING, InputError, LayerMaskedForward, make_forward
from captum_layermask.removals.colors import Colors

PARTLY = torch.ones(2, 3, 4, 4)
PARTLY[:, :, :2] = MISSING
MASK = torch.ones(4, 4)
MASK[:2] = 0


class Scaled(nn.Module):
    def forward(self, scale, pixels, *, bias=0.0, more=()):
        return (pixels * scale + bias).mean((2, 3)) + sum(more)


def forwards():
    colors = Colors([0.5] * 3, [0.5] * 3, normalized=False)
    return [make_forward(removal, Scaled().eval(), colors=colors) for removal in ("layer", "grey")]


@pytest.mark.parametrize("forward", forwards(), ids=lambda forward: type(forward).__name__)
@pytest.mark.parametrize("how", ["MISSING", "mask="])
def test_the_image_may_stand_second_or_have_a_name(forward, how):
    x, options = (PARTLY, {}) if how == "MISSING" else (torch.ones(2, 3, 4, 4), {"mask": MASK})
    scale = torch.tensor(2.0)
    expected = forward(scale, x, bias=1.0, **options)
    removed = forward(scale, torch.ones(2, 3, 4, 4), bias=1.0, mask=MASK)
    assert torch.equal(expected, removed)
    assert torch.equal(expected, forward(scale, pixels=x, bias=1.0, **options))
    assert torch.equal(expected, forward(bias=1.0, pixels=x, scale=scale, **options))


def test_a_name_is_enough_for_layer_masking():
    got = LayerMaskedForward(Scaled())(scale=2.0, pixels=PARTLY)
    assert torch.equal(got, torch.full((2, 3), 2.0))


@pytest.mark.parametrize("holder", [lambda h: h, lambda h: [h], lambda h: {"deep": (1, h)}])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_missing_in_any_other_argument_is_refused(holder, dtype):
    h = torch.ones(2, 3, dtype=dtype)
    h[1, 2] = MISSING
    for forward in forwards():
        with pytest.raises(InputError, match=r"MISSING was found in argument 1, .*image .* is argument 2"):
            forward(holder(h), PARTLY)
        with pytest.raises(InputError, match=r"in argument 'bias', .* argument 'pixels'.*baselines="):
            forward(1.0, pixels=PARTLY, bias=holder(h))


def test_captums_tuples_of_inputs():
    class Pair(nn.Module):
        def forward(self, x, h):
            return x.mean((2, 3)) + h.mean((2, 3))

    forward, pair = LayerMaskedForward(Pair()), (torch.rand(1, 3, 4, 4), torch.rand(1, 3, 4, 4))
    masks = ((1 - MASK).long().expand(1, 1, 4, 4), torch.full((1, 1, 4, 4), 2))
    with pytest.raises(InputError, match="argument 2"):
        FeatureAblation(forward).attribute(pair, baselines=(MISSING, MISSING), target=0, feature_mask=masks)
    of_x, of_h = FeatureAblation(forward).attribute(
        pair, baselines=(MISSING, 0.0), target=0, feature_mask=masks
    )
    x, h = (value[0, 0] for value in pair)
    assert of_x[0, 0, 0, 0] == pytest.approx(float(x.mean() - x[2:].mean()), abs=1e-6)
    assert of_h[0, 0, 0, 0] == pytest.approx(float(h.mean()), abs=1e-6)


@pytest.mark.parametrize(
    "other", [torch.zeros(1, 3, 4, 4, dtype=torch.uint8), torch.zeros(1, 3, 4, 4).numpy()]
)
def test_what_looks_like_the_image_first_is_the_image(other):
    with pytest.raises(InputError, match="must be a floating-point tensor"):
        LayerMaskedForward(Scaled())(other, torch.ones(2, 3, 4, 4), mask=MASK)


def test_no_image_at_all():
    with pytest.raises(InputError, match="there is no image"):
        LayerMaskedForward(Scaled())()


def test_rows_of_every_argument_go_with_their_images():
    class Rows(nn.Module):
        def forward(self, x, deep, *, add):
            return x.mean((2, 3)) * deep["scale"][0] + add

    x, scale, add = torch.rand(5, 3, 4, 4), torch.rand(5, 1), torch.rand(5, 3)
    whole = LayerMaskedForward(Rows())(x, {"scale": [scale]}, add=add, mask=MASK)
    parts = LayerMaskedForward(Rows(), max_batch=2)(x, {"scale": [scale]}, add=add, mask=MASK)
    assert torch.equal(whole, parts)


def test_the_trace_takes_the_arguments_of_a_call():
    forward = LayerMaskedForward(Scaled())
    assert str(forward.trace(2.0, pixels=PARTLY)) == str(forward.trace(2.0, PARTLY))
