"""Neighbor padding (S3) and the masks of windows' outputs (S5), on arbitrary masks and shapes."""

import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transcription
from hypothesis import given, settings
from hypothesis import strategies as st
from support import relative
from torch import nn

from captum_layermask import LayerMaskedForward
from captum_layermask.masking.mask import Mask
from captum_layermask.masking.neighbor_padding import neighbor_pad
from captum_layermask.masking.propagation import paper
from captum_layermask.masking.windows import Spans, Window

seeds = st.integers(0, 2**31)
sizes = st.tuples(st.integers(1, 9), st.integers(1, 9))


def draw(seed, size, frame):
    generator = torch.Generator().manual_seed(seed)
    share = torch.rand(2, 1, 1, 1, generator=generator)
    visible = torch.rand(2, 1, *size, generator=generator) < share
    border = torch.zeros(1, 1, *size, dtype=torch.bool)
    if frame:
        border[..., : frame[0], :] = True
        border[..., frame[1] :] = True
    mask = Mask(visible & ~border, frame=border)
    kinds = np.where(mask.visible[:, 0], transcription.VISIBLE, transcription.MISSING)
    kinds = np.where(border[:, 0], transcription.FRAME, kinds)
    return mask, kinds, torch.randn(2, 3, *size, generator=generator, dtype=torch.double)


frames = st.none() | st.tuples(st.integers(0, 2), st.integers(3, 9))


@settings(max_examples=60, deadline=None)
@given(seeds, sizes, frames, st.integers(0, 5))
def test_padding_equals_transcription(seed, size, frame, rounds):
    mask, kinds, x = draw(seed, size, frame)
    if rounds == 0:
        assert neighbor_pad(x, mask, 0) is x
        return
    expected = transcription.neighbor_pad(x, kinds, rounds)
    read = mask.visible
    for _ in range(rounds):
        read = Window((3, 3), before=(1, 1), after=(1, 1)).any(read)
    got, read = neighbor_pad(x, mask, rounds), read | mask.present
    assert relative(torch.where(read, got, 0), torch.where(read, expected, 0)) <= 1e-12


@settings(max_examples=60, deadline=None)
@given(seeds, sizes, st.integers(1, 6))
def test_padding_ignores_missing_cells_and_writes_nothing_else(seed, size, rounds):
    mask, _, x = draw(seed, size, None)
    before, near = x.clone(), mask.visible
    for _ in range(rounds):
        near = Window((3, 3), before=(1, 1), after=(1, 1)).any(near)
    other = torch.where(mask.visible, x, torch.nan).to(memory_format=torch.channels_last)
    one, two = neighbor_pad(x, mask, rounds), neighbor_pad(other, mask, rounds)
    assert torch.equal(torch.where(near, one, 0), torch.where(near, two, 0))
    assert torch.equal(torch.where(mask.present, x, 0), torch.where(mask.present, before, 0))
    tracked = before.clone().requires_grad_()
    neighbor_pad(tracked, mask, rounds)
    assert torch.equal(tracked, before)


@settings(max_examples=20, deadline=None)
@given(seeds, sizes, frames, st.integers(1, 4))
def test_padding_is_linear_and_differentiable(seed, size, frame, rounds):
    mask, _, x = draw(seed, size, frame)
    x.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda t: torch.where(mask.visible, neighbor_pad(t, mask, rounds), 0), (x,), fast_mode=True
    )


def test_fill_is_the_mean_of_known_neighbours():
    visible = torch.zeros(1, 1, 3, 4, dtype=torch.bool)
    visible[..., 0, 0] = visible[..., 2, 0] = True
    x = torch.zeros(1, 1, 3, 4)
    x[..., 0, 0], x[..., 2, 0] = 2.0, 4.0
    one = neighbor_pad(x, Mask(visible), 1)[0, 0]
    assert one[:, :2].tolist() == [[2, 2], [3, 3], [4, 4]]
    two = neighbor_pad(x, Mask(visible), 2)[0, 0]
    assert two[:, 2].tolist() == [2.5, 3, 3.5]


@settings(max_examples=80, deadline=None)
@given(
    seeds, sizes, frames, st.tuples(st.integers(1, 4), st.integers(1, 4)), st.integers(1, 3),
    st.integers(0, 2), st.integers(1, 2), st.booleans(),
)  # fmt: skip
def test_mask_after_a_window_equals_transcription(seed, size, frame, kernel, stride, pad, dilation, ceil):
    pad = min(pad, min(kernel) // 2)
    if any(s + 2 * pad < dilation * (k - 1) + 1 for s, k in zip(size, kernel, strict=True)):
        return
    mask, kinds, _ = draw(seed, size, frame)
    window = Window(kernel, (stride,) * 2, (pad,) * 2, (pad,) * 2, (dilation,) * 2, ceil)
    expected = transcription.window_kinds(kinds, kernel, stride, dilation, pad, ceil)
    after = mask.after(window, paper)
    assert (after.visible[:, 0].numpy() == (expected == transcription.VISIBLE)).all()
    assert (after.missing[:, 0].numpy() == (expected == transcription.MISSING)).all()


@given(st.integers(1, 12), st.integers(1, 12))
@settings(deadline=None)
def test_bins_reach_as_far_as_the_longest_bin(n, m):
    lengths = [-(-(i + 1) * n // m) - i * n // m for i in range(m)]
    assert Spans.bins((n, n), (m, m)).reach == max(lengths) - 1
    cells = torch.eye(n, dtype=torch.bool)[:, None, :, None].expand(n, 1, n, n).contiguous()
    hit = Spans.bins((n, n), (m, m)).any(cells)[:, 0, :, 0]
    for cell in range(n):
        assert hit[cell].tolist() == [i * n // m <= cell < -(-(i + 1) * n // m) for i in range(m)]


def test_meeting_ones_ancestor_gives_the_ancestor_back():
    mask = Mask(torch.rand(2, 1, 8, 8) > 0.5)
    grown = mask.after(Window((3, 3), before=(1, 1), after=(1, 1)), paper)
    assert grown.meet(mask) is mask and mask.meet(grown) is mask
    assert torch.equal(grown.visible & mask.visible, mask.visible)
    shifted = mask.after(Window((3, 3), before=(2, 2), after=(0, 0)), paper)
    assert torch.equal(shifted.meet(mask).visible, shifted.visible & mask.visible)


def test_memos_die_with_their_masks():
    import gc
    import weakref

    gc.disable()
    try:
        mask = Mask(torch.rand(1, 1, 8, 8) > 0.5)
        grown = mask.after(Window((3, 3), before=(1, 1), after=(1, 1)), paper)
        met = grown.meet(Mask(torch.rand(1, 1, 8, 8) > 0.5))
        neighbor_pad(torch.zeros(1, 1, 8, 8), mask, 2)
        watched = [weakref.ref(m) for m in (mask, grown, met)]
        del mask, grown, met
        assert [ref() for ref in watched] == [None] * 3
    finally:
        gc.enable()


@settings(max_examples=80, deadline=None)
@given(
    seeds, sizes, frames, st.integers(1, 4), st.sampled_from([torch.float64, torch.float32, torch.float16])
)
def test_an_infinite_neighbour_makes_an_infinite_mean(seed, size, frame, rounds, dtype):
    mask, kinds, x = draw(seed, size, frame)
    x = torch.where(x > 1, torch.inf, x).to(dtype)
    expected = transcription.neighbor_pad(x.double(), kinds, rounds).to(dtype)
    near = mask.visible
    for _ in range(rounds):
        near = Window((3, 3), before=(1, 1), after=(1, 1)).any(near)
    near |= mask.present
    got = neighbor_pad(x.where(mask.present, torch.nan), mask, rounds)
    got, expected = got.where(near, 0), expected.where(near, 0)
    assert torch.equal(got.isinf(), expected.isinf()) and not got.isnan().any()


def test_a_mean_is_to_the_bit_that_of_its_neighbours_read_once_each():
    patterns = torch.arange(256)[:, None] >> torch.arange(8) & 1
    visible = torch.zeros(256, 1, 3, 3, dtype=torch.bool)
    around = [i for i in range(9) if i != 4]
    visible.view(256, 9)[:, around] = patterns.bool()
    x = torch.randn(256, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    expected = torch.zeros(256)
    for i in around:
        share = 1 / visible.sum((1, 2, 3)).clamp(min=1).double()
        expected = torch.where(
            visible.view(256, 9)[:, i], expected + x.view(256, 9)[:, i] * share.float(), expected
        )
    got = neighbor_pad(x.clone(), Mask(visible), 1)[1:, 0, 1, 1]
    assert (got == expected[1:]).float().mean() > 0.9  # the others: multiplied and added in one rounding
    assert torch.allclose(got, expected[1:], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("value", [torch.inf, torch.nan])
def test_what_frame_cuts_off_is_zero_whatever_another_image_holds(value):
    visible, frame = torch.zeros(2, 1, 4, 3, dtype=torch.bool), torch.zeros(1, 1, 4, 3, dtype=torch.bool)
    visible[..., 0, :], frame[..., 1, :] = True, True
    x = torch.randn(2, 2, 4, 3)
    x[0, :, 0] = value
    for tracked in (False, True):
        got = neighbor_pad(x.clone().requires_grad_(tracked), Mask(visible, frame=frame), 2)
        assert torch.equal(got[:, :, 2], torch.zeros(2, 2, 3))


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_constant_rows_keep_an_image_from_reaching_another(value):
    class Cut(nn.Module):
        def forward(self, x):
            x = torch.cat([x[:, :, :2], torch.zeros(len(x), 3, 1, x.shape[3]), x[:, :, 2:]], 2).log()
            return F.conv2d(x, torch.ones(1, 3, 5, 5), padding=2).clamp(-1e3, 1e3)

    forward = LayerMaskedForward(Cut())
    x, visible = torch.rand(2, 3, 6, 6) + 1, torch.ones(2, 1, 6, 6, dtype=torch.bool)
    visible[1, :, 2:], x[0] = False, value
    assert torch.equal(
        forward(x, mask=visible)[1:].nan_to_num(), forward(x[1:], mask=visible[1:]).nan_to_num()
    )


def test_the_package_needs_no_annotations_that_some_versions_of_torch_do_not_read():
    code = """
import torch

custom_op = torch.library.custom_op

def unread(name, *args, **kwargs):
    assert not name.startswith("captum_layermask"), name
    return custom_op(name, *args, **kwargs)

torch.library.custom_op = unread
import captum_layermask.masking.neighbor_padding
assert torch.ops.captum_layermask.grow.default._schema.is_mutable is False
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
