"""MISSING and ``mask=``: what they mean, and one clear sentence for everything else."""

import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from captum_layermask import MISSING, InputError, LayerMaskedForward, NothingMissingWarning
from captum_layermask.removals.missing import visible_pixels

keep = nn.Identity().eval()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_captums_arithmetic_keeps_missing_and_visible_pixels_exact(dtype):
    x = torch.randn(1, 3, 64, 64).to(dtype)
    present = torch.rand(1, 1, 64, 64) > 0.5
    m = present.to(dtype)
    perturbed = x * m + MISSING * (1 - m)
    visible, everything, held = visible_pixels(perturbed, None)
    assert torch.equal(visible, present) and held and not everything
    assert torch.equal(torch.where(present, perturbed, 0), torch.where(present, x, 0))


@given(
    st.integers(0, 2**31), st.integers(1, 4), st.sampled_from(["N1HW", "NHW", "11HW", "HW"]), st.booleans()
)
def test_every_shape_of_mask_means_the_same(seed, n, shape, as_float):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 3, 5, 7, generator=generator)
    full = torch.rand(n if "N" in shape else 1, 1, 5, 7, generator=generator) > 0.5
    given_shape = {"N1HW": (n, 1, 5, 7), "NHW": (n, 5, 7), "11HW": (1, 1, 5, 7), "HW": (5, 7)}[shape]
    mask = full.reshape(given_shape)
    out = LayerMaskedForward(keep)(x, mask=mask.float() if as_float else mask)
    assert torch.equal(out, torch.where(full, x, 0))


def test_mask_and_missing_add_up():
    x = torch.ones(1, 3, 2, 2)
    x[..., 0, 0] = MISSING
    out = LayerMaskedForward(keep)(x, mask=torch.tensor([[1, 1], [1, 0]]))
    assert out[0, 0].tolist() == [[0, 1], [1, 0]]


def test_the_mask_is_copied_at_the_entrance():
    mask = torch.ones(4, 4, dtype=torch.bool)

    class Meddling(nn.Module):
        def forward(self, x):
            mask.zero_()
            return x + 0

    assert (LayerMaskedForward(Meddling())(torch.ones(1, 3, 4, 4), mask=mask) == 1).all()


@pytest.mark.parametrize(
    ("x", "mask", "message"),
    [
        (torch.zeros(1, 3, 4, 4, dtype=torch.uint8), None, r"uint8.*\.float\(\)"),
        (torch.zeros(3, 4, 4), None, r"3×4×4.*x\[None\]"),
        ([[0.0]], None, "list"),
        (torch.zeros(2, 3, 4, 4), torch.ones(4, 5), r"2×1×4×4 or 2×4×4 or 1×1×4×4 or 4×4.*not 4×5"),
        (torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4), "not 2×3×4×4"),
        (torch.zeros(2, 3, 4, 4), torch.full((4, 4), 0.5), "only 0 .* and 1"),
        (torch.zeros(2, 3, 4, 4), torch.full((4, 4), torch.nan), "only 0 .* and 1"),
        (torch.tensor([MISSING, 0, 0]).reshape(1, 3, 1, 1), None, "some of their channels.*1×1×H×W"),
        (torch.full((1, 3, 2, 2), MISSING, requires_grad=True), None, "gradient.*mask="),
    ],
)
def test_bad_input_is_told_what_to_do(x, mask, message):
    with pytest.raises(InputError, match=message):
        LayerMaskedForward(keep)(x, mask=mask)


def test_a_forward_that_never_sees_a_missing_pixel_warns_once():
    forward = LayerMaskedForward(keep)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(40):
            forward(torch.randn(1, 3, 4, 4))
    assert [w.category for w in caught] == [NothingMissingWarning]
    assert "inside" in str(caught[0].message)


@pytest.mark.parametrize("how", ["missing pixel", "mask"])
def test_one_missing_pixel_is_enough_not_to_warn(how):
    forward = LayerMaskedForward(keep)
    x = torch.ones(1, 3, 4, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if how == "mask":
            forward(x, mask=torch.ones(4, 4))
        else:
            forward(torch.full_like(x, MISSING))
        for _ in range(40):
            forward(x)


def test_preprocessing_inside_keeps_the_mask():
    class Normalize(nn.Module):
        def forward(self, x):
            return (x - x.new_tensor([0.5, 0.4, 0.3]).view(3, 1, 1)) / 0.25

    x = torch.rand(1, 3, 4, 4)
    x[..., :2] = MISSING
    out = LayerMaskedForward(nn.Sequential(Normalize(), nn.Identity()))(x)
    assert (out[..., :2] == 0).all()
    assert torch.equal(out[..., 2:], Normalize()(x)[..., 2:])


def test_extras_reach_the_model_untouched():
    class TwoInputs(nn.Module):
        def forward(self, x, scale, flag):
            assert type(scale) is torch.Tensor and flag == "on"
            return x * scale

    scale = torch.tensor(3.0)
    assert (LayerMaskedForward(TwoInputs())(torch.ones(1, 3, 2, 2), scale, "on") == 3).all()


def test_containers_come_back_with_plain_tensors():
    class Both(nn.Module):
        def forward(self, x):
            return {"map": x * 2, "list": [x.mean((2, 3)), None], "name": "both"}

    out = LayerMaskedForward(Both())(torch.ones(1, 3, 2, 2), mask=torch.tensor([[1, 0], [1, 1]]))
    assert type(out["map"]) is torch.Tensor and type(out["list"][0]) is torch.Tensor
    assert out["map"][0, 0].tolist() == [[2, 0], [2, 2]]
    assert out["list"][1] is None and out["name"] == "both"
