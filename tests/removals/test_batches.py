"""Batches of any size, and any number of them, in bounded memory."""

import gc
from dataclasses import dataclass

import pytest
import torch
from support import SmallVGG, mask_families, redraw
from torch import Tensor, nn

from captum_layermask import InputError, LayerMaskedForward
from captum_layermask.masking.mask import Mask

SIZE = 64
IMAGES = torch.randn(7, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(3), dtype=torch.double)
VISIBLE = torch.stack(list(mask_families(SIZE).values())[:7])[:, None]
VISIBLE[3] = False
VISIBLE[3, 0, 41, 43] = True  # a pixel that a stride of 2 skips


@dataclass
class Output:
    logits: Tensor
    extras: dict


class Returns(nn.Module):
    """Returns a dataclass with a dict inside; takes rows and a number."""

    def __init__(self):
        super().__init__()
        self.net = SmallVGG()
        self.batches = []

    def forward(self, x, rows, number):
        """Classify."""
        self.batches.append(len(x))
        x = nn.functional.conv2d(x, torch.eye(3, dtype=x.dtype)[..., None, None], stride=2)
        logits = self.net(x)
        return Output(logits * rows + number, {"twice": logits * 2})


@pytest.mark.filterwarnings("ignore::captum_layermask.VanishedWarning")
def test_a_split_batch_gives_the_same_rows():
    model = redraw(Returns()).double()
    rows = torch.arange(7.0, dtype=torch.double)[:, None]
    whole, parts = (LayerMaskedForward(model, propagation="paper", max_batch=most) for most in (None, 3))
    expected = whole(IMAGES, rows, 5.0, mask=VISIBLE)
    model.batches.clear()
    got = parts(IMAGES, rows, 5.0, mask=VISIBLE)
    assert model.batches == [3, 3, 1]
    assert isinstance(got, Output)
    assert torch.allclose(got.logits, expected.logits, rtol=1e-12)
    assert torch.allclose(got.extras["twice"], expected.extras["twice"], rtol=1e-12)
    assert torch.equal(parts.vanished, whole.vanished)
    assert parts.vanished.tolist() == [False, False, False, True, False, False, False]


def test_an_output_without_rows_cannot_be_split():
    class Loss(nn.Module):
        def forward(self, x):
            return x.mean((1, 2, 3)).sum()

    with pytest.raises(InputError, match="leave out max_batch"):
        LayerMaskedForward(Loss(), max_batch=3)(IMAGES, mask=VISIBLE)
    with pytest.raises(InputError, match="at least 1 image"):
        LayerMaskedForward(Loss(), max_batch=0)


@torch.inference_mode()
def test_ten_thousand_calls_leave_nothing_behind():
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ).eval()
    forward = LayerMaskedForward(model)
    x, visible = torch.randn(1, 1, 6, 6), torch.ones(1, 1, 6, 6)
    visible[..., :3] = 0
    forward(x, mask=visible)
    gc.collect()
    gc.disable()
    try:
        before = ours()
        for _ in range(10_000):
            forward(x, mask=visible)
        assert ours() == before
    finally:
        gc.enable()


def ours():
    """How many tensors and masks there are."""
    return sum(issubclass(type(thing), (Tensor, Mask)) for thing in gc.get_objects())
