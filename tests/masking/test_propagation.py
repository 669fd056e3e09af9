"""Policies of mask propagation: the anchored one against a literal transcription, and what both promise."""

from unittest import mock

import numpy as np
import pytest
import torch
import torchvision
import transcription
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support import redraw, relative
from torch import nn

from captum_layermask import LayerMaskedForward, UnknownNameError
from captum_layermask.masking import boundary
from captum_layermask.masking.mask import Mask
from captum_layermask.masking.propagation import PROPAGATIONS, Propagation, anchored, paper
from captum_layermask.masking.windows import Spans, Transposed, Window

SAME = Window((3, 3), before=(1, 1), after=(1, 1))
HALF = Window((3, 3), (2, 2), (1, 1), (1, 1))


def kind_after(kinds, anchor, window, i, j):
    """What one window sees, cell by cell: visible?, and in the anchor? (H×W kinds, H×W anchor)."""
    read, owned = [], []
    for axis, at in enumerate((i, j)):
        k, s, d, before = (p[axis] for p in (window.kernel, window.stride, window.dilation, window.before))
        first, extent = at * s - before, d * (k - 1) + 1
        middle = first + int(np.ceil((extent - s) / 2))
        start = min(first, middle) if at == 0 else middle
        stop = middle + s
        if at == window.count(kinds.shape[axis], axis) - 1:
            stop = max(first + extent, stop)
        read.append([r for r in range(first, first + extent, d) if 0 <= r < kinds.shape[axis]])
        owned.append([r for r in range(start, stop) if 0 <= r < kinds.shape[axis]])
    seen, seen_anchor = kinds[np.ix_(*read)], anchor[np.ix_(*read)]
    unanchored = (seen != transcription.FRAME) & ~seen_anchor
    in_anchor = anchor[np.ix_(*owned)].any() or (seen_anchor.any() and not unanchored.any())
    shrinks = max(window.stride) > 1
    visible = in_anchor or (seen_anchor.any() if shrinks else (seen == transcription.VISIBLE).any())
    return visible, in_anchor


@settings(max_examples=120, deadline=None)
@example(seed=0, size=(1, 1), frame=0, kernel=(1, 1), stride=(1, 3), before=2, after=0, dilation=1)
@example(seed=0, size=(1, 1), frame=0, kernel=(1, 4), stride=(1, 1), before=0, after=3, dilation=1)
@given(
    seed=st.integers(0, 2**31),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    frame=st.integers(0, 2),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    before=st.integers(0, 3),
    after=st.integers(0, 3),
    dilation=st.integers(1, 2),
)
def test_anchored_masks_equal_the_transcription(seed, size, frame, kernel, stride, before, after, dilation):
    if any(s + before + after < dilation * (k - 1) + 1 for s, k in zip(size, kernel, strict=True)):
        return
    generator = torch.Generator().manual_seed(seed)
    border = torch.zeros(1, 1, *size, dtype=torch.bool)
    border[..., :frame, :] = True
    visible = (torch.rand(2, 1, *size, generator=generator) < 0.4) & ~border
    anchor = visible & (torch.rand(2, 1, *size, generator=generator) < 0.6)
    window = Window(kernel, stride, (before,) * 2, (after,) * 2, (dilation,) * 2)
    after = Mask(visible, anchor, border).after(window, anchored)
    kinds = np.where(visible[:, 0], transcription.VISIBLE, transcription.MISSING)
    kinds = np.where(border[0], transcription.FRAME, kinds)
    for n, i, j in np.ndindex(after.visible[:, 0].shape):
        if window.is_identity:
            return
        expected = kind_after(kinds[n], anchor[n, 0].numpy(), window, i, j)
        assert (bool(after.visible[n, 0, i, j]), bool(after.anchor[n, 0, i, j])) == expected
    assert (after.visible | ~after.anchor).all()


def test_growth_lasts_while_maps_keep_their_size_and_is_forgotten_where_they_shrink():
    visible = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    visible[..., :4] = True
    mask = Mask(visible)
    grown = mask.after(SAME, anchored).after(SAME, anchored)
    assert torch.equal(grown.visible, mask.after(SAME, paper).after(SAME, paper).visible)
    assert grown.visible[..., 5].all() and torch.equal(grown.anchor, visible)
    assert torch.equal(grown.after(HALF, anchored).visible, mask.after(HALF, anchored).visible)
    assert not torch.equal(grown.after(HALF, paper).visible, mask.after(HALF, paper).visible)


def test_a_shortcut_and_its_block_have_the_same_anchor():
    mask = Mask(torch.rand(2, 1, 16, 16) > 0.7)
    block = mask.after(HALF, anchored).after(SAME, anchored)
    shortcut = mask.after(Window((1, 1), (2, 2)), anchored)
    assert torch.equal(block.anchor, shortcut.anchor)
    assert torch.equal(block.anchor, torch.nn.functional.max_pool2d(mask.visible.float(), 2).bool())


def test_other_geometries_keep_the_anchor_visible():
    mask = Mask(torch.rand(2, 1, 9, 9) > 0.7).after(SAME, anchored)
    for geometry in (
        Spans.bins((9, 9), (4, 3)),
        Spans.bins((9, 9), (13, 13)),
        Transposed(Window((3, 3), (2, 2))),
    ):
        after = mask.after(geometry, anchored)
        assert torch.equal(after.anchor, geometry.any(mask.anchor))
        assert torch.equal(after.visible, geometry.any(mask.anchor if geometry.shrinks else mask.visible))


@pytest.mark.parametrize("propagation", PROPAGATIONS)
@pytest.mark.parametrize("padding", [0, 1, 2, 3])
@pytest.mark.parametrize("framed", [False, True])
@torch.no_grad()
def test_an_intact_image_beside_masked_ones_loses_nothing(propagation, padding, framed):
    pad, implicit = (padding, 0) if framed else (0, padding)
    net = nn.Sequential(
        *(nn.ZeroPad2d(pad), nn.Conv2d(3, 4, 3, 1, implicit), nn.ReLU()),
        *(nn.ZeroPad2d(pad), nn.Conv2d(4, 4, 3, 2, implicit), nn.ReLU()),
        *(nn.Conv2d(4, 4, 1, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    )
    net, x = redraw(net).double(), torch.randn(2, 3, 21, 24, dtype=torch.double)
    visible = torch.ones(2, 21, 24, dtype=torch.bool)
    visible[1, :9] = False
    assert relative(LayerMaskedForward(net, propagation=propagation)(x, mask=visible)[0], net(x)[0]) <= 1e-12


def lite0():
    from efficientnet_lite_pytorch import EfficientNet

    return EfficientNet.from_name("efficientnet-lite0")


NETWORKS = {
    "lite0": lite0,
    "resnet18": lambda: torchvision.models.resnet18(num_classes=5),
    "resnet50": lambda: torchvision.models.resnet50(num_classes=5),
    "mobilenet_v2": lambda: torchvision.models.mobilenet_v2(num_classes=5),
    "vgg11": lambda: nn.Sequential(
        torchvision.models.vgg11().features, nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_a_visible_pixel_never_vanishes(name):
    forward = LayerMaskedForward(redraw(NETWORKS[name]()))
    visible = torch.zeros(36, 1, 64, 64, dtype=torch.bool)
    places = torch.randint(64, (32, 2), generator=torch.Generator().manual_seed(0))
    places = torch.cat([places, torch.tensor([[0, 0], [0, 63], [63, 0], [63, 63]])])
    visible[torch.arange(36), 0, places[:, 0], places[:, 1]] = True
    forward(torch.randn(36, 3, 64, 64), mask=visible)
    assert not forward.vanished.any()


@torch.no_grad()
def test_a_slice_with_a_step_stands_for_what_it_steps_over():
    """As the strided convolution beside it does, where the cell that it takes is visible itself."""

    class Shortcut(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.down = nn.Conv2d(3, 3, 3, 1, 1), nn.Conv2d(3, 3, 3, 2, 1)

        def forward(self, x):
            x = self.stem(x)
            return self.down(self.down(x) + x[:, :, ::2, ::2])

    visible = torch.zeros(1, 1, 16, 16, dtype=torch.bool)
    visible[..., 5, 5] = True
    steps = LayerMaskedForward(redraw(Shortcut())).trace(
        torch.randn(1, 3, 16, 16), mask=visible, outputs=True
    )
    (summed,) = [step for step in steps if step.operation.endswith("add")]
    assert summed.mask[0, 0].nonzero().tolist() == [[2, 2], [2, 3], [3, 2], [3, 3]]
    assert steps[-1].mask[0, 0].nonzero().tolist() == [[1, 1]]


def test_an_unknown_policy_is_refused():
    with pytest.raises(UnknownNameError, match="did you mean 'anchored'"):
        LayerMaskedForward(nn.Conv2d(3, 3, 3), propagation="anchor")


def test_a_propagation_and_a_padding_of_ones_own_are_taken_as_they_are():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1)).double()
    x = torch.randn(2, 3, 12, 12, dtype=torch.double)
    visible = torch.rand(2, 1, 12, 12) > 0.5
    for name, known in PROPAGATIONS.items():
        own = LayerMaskedForward(model, propagation=Propagation(known.policy, known.rounds))
        assert torch.equal(own(x, mask=visible), LayerMaskedForward(model, propagation=name)(x, mask=visible))
    for name in ("neighbor", "zero"):
        padding = mock.Mock(wraps=getattr(boundary, name))
        own = LayerMaskedForward(model, padding=padding)
        assert torch.equal(own(x, mask=visible), LayerMaskedForward(model, padding=name)(x, mask=visible))
        assert padding.call_count == 2
    for wrong in ({"propagation": PROPAGATIONS["paper"].policy}, {"padding": 3}, {"concat": len}):
        with pytest.raises(UnknownNameError, match="Use one of"):
            LayerMaskedForward(model, **wrong)
