"""The geometry of windows (S3, S5) against loops, and what masked pools and convolutions make of it."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transcription
from hypothesis import example, given, settings
from hypothesis import strategies as st
from small_models import Net
from support import relative
from torch import nn

from captum_layermask import LayerMaskedForward
from captum_layermask.masking.boundary import partial
from captum_layermask.masking.mask import Mask
from captum_layermask.masking.windows import Spans, Transposed, Window

pytestmark = pytest.mark.filterwarnings("ignore::captum_layermask.VanishedWarning")

seeds = st.integers(0, 2**31)


def pairs(low, high):
    return st.tuples(st.integers(low, high), st.integers(low, high))


def accepted(function, *args, **kwargs):
    """What PyTorch returns, or None where it refuses the arguments."""
    try:
        return function(*args, **kwargs)
    except RuntimeError:
        return None


def taps(window, size):
    """For each axis and each window along it: its first and last cell, and the cells of the map it reads."""
    for axis, n in enumerate(size):
        k, s, d = window.kernel[axis], window.stride[axis], window.dilation[axis]
        starts = [i * s - window.before[axis] for i in range(window.count(n, axis))]
        ends = [(a, a + d * (k - 1)) for a in starts]
        yield ends, [[a + t * d for t in range(k) if 0 <= a + t * d < n] for a in starts]


def owned(window, size):
    """For each axis, the cells of the map that each window along it owns."""
    for axis, (n, (ends, _)) in enumerate(zip(size, taps(window, size), strict=True)):
        cells, s = [], window.stride[axis]
        for i, (first, last) in enumerate(ends):
            start = first + math.ceil((last - first + 1 - s) / 2)
            stop = max(start + s, last + 1) if i == len(ends) - 1 else start + s
            start = 0 if i == 0 else start
            cells.append(list(range(max(start, 0), min(stop, n))))
        yield cells


def over_windows(cells, rows, columns, join):
    out = [[join(cells[r][:, c]) for c in columns] for r in rows]
    return np.array(out).reshape(len(rows), len(columns))


@settings(max_examples=300, deadline=None)
@example(
    size=(3, 3), kernel=(3, 3), stride=(3, 3), before=(0, 0), after=(0, 0), dilation=(2, 2), ceil=True, seed=0
)
@example(
    size=(3, 1),
    kernel=(11, 1),
    stride=(1, 1),
    before=(8, 0),
    after=(0, 0),
    dilation=(1, 1),
    ceil=False,
    seed=1,
)
@given(
    size=pairs(1, 12), kernel=pairs(1, 5), stride=pairs(1, 5), before=pairs(0, 5), after=pairs(0, 5),
    dilation=pairs(1, 3), ceil=st.booleans(), seed=seeds,
)  # fmt: skip
def test_windows_equal_loops(size, kernel, stride, before, after, dilation, ceil, seed):
    window = Window(kernel, stride, before, after, dilation, ceil)
    if any(window.count(n, axis) < 1 for axis, n in enumerate(size)):
        return
    cells = np.random.default_rng(seed).random(size) < 0.3
    given_cells = torch.from_numpy(cells)[None, None]
    rows, columns = (reads for _, reads in taps(window, size))
    assert window.is_whole(size) == (rows == [list(range(size[0]))] and columns == [list(range(size[1]))])
    assert window.always_reads(size) == (all(rows) and all(columns))
    assert (window.any(given_cells)[0, 0].numpy() == over_windows(cells, rows, columns, np.any)).all()
    assert (window.sum(given_cells)[0, 0].numpy() == over_windows(cells, rows, columns, np.sum)).all()
    expected = over_windows(cells, *owned(window, size), np.any)
    assert (window.owns_any(given_cells)[0, 0].numpy() == expected).all()


geometries = {
    "size": pairs(1, 12), "kernel": pairs(1, 5), "stride": pairs(1, 5), "padding": pairs(0, 3),
    "dilation": pairs(1, 3), "ceil": st.booleans(),
}  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(**geometries)
def test_there_are_as_many_windows_as_pytorch_makes(size, kernel, stride, padding, dilation, ceil):
    x = torch.zeros(1, 1, *size)
    max_pooled = accepted(F.max_pool2d, x, kernel, stride, padding, dilation, ceil)
    mean_pooled = accepted(F.avg_pool2d, x, kernel, stride, padding, ceil) if dilation == (1, 1) else None
    convolved = None
    if not ceil:
        convolved = accepted(F.conv2d, x, torch.zeros(1, 1, *kernel), None, stride, padding, dilation)
    window = Window(kernel, stride, padding, padding, dilation, ceil)
    for y in (max_pooled, mean_pooled, convolved):
        if y is not None:
            assert tuple(y.shape[2:]) == (window.count(size[0], 0), window.count(size[1], 1))


def oracle(x, kinds, window, value):
    """S3, S5, S7 and S8 by loops: the outputs, and which of them are visible.

    Args:
        x: N×C×H×W.
        kinds: N×H×W.
        window: the geometry.
        value: from an output's cells (C×rows×columns), their rows and columns, and the kinds of these cells,
            those of one window over everything with its missing cells left out, to its value.
    """
    (row_ends, rows), (column_ends, columns) = taps(window, x.shape[2:])
    whole = all(len(r) == 1 and len(r[0]) == n for r, n in zip((rows, columns), x.shape[2:], strict=True))
    filled = x if whole else transcription.neighbor_pad(x, kinds, window.reach)
    visible = np.zeros((len(x), len(rows), len(columns)), bool)
    out = torch.zeros(len(x), x.shape[1], *visible.shape[1:], dtype=x.dtype)
    for n, i, j in np.ndindex(visible.shape):
        at = np.ix_(rows[i], columns[j])
        visible[n, i, j] = (kinds[n][at] == transcription.VISIBLE).any()
        if visible[n, i, j]:
            there = torch.from_numpy(kinds[n][at] != transcription.MISSING) if whole else None
            cells = filled[n][:, rows[i]][:, :, columns[j]]
            out[n, :, i, j] = value(cells, row_ends[i], column_ends[j], there)
    return out, torch.from_numpy(visible)[:, None]


def maximum(cells, rows, columns, there):
    return (cells if there is None else cells.where(there, -torch.inf)).amax((1, 2))


def mean_of(window, size, include_pad):
    def mean(cells, rows, columns, there):
        counted = 1
        for axis, (first, last) in enumerate((rows, columns)):
            edge = window.before[axis] if include_pad else 0
            counted *= min(last + 1, size[axis] + edge) - max(first, -edge)
        if there is not None:
            cells, counted = cells.where(there, 0), counted - int((~there).sum())
        return cells.sum((1, 2)) / counted

    return mean


def assert_masked_equals(op, x, seed, window, value):
    plain = accepted(op, x)
    if plain is None:
        return
    forward = LayerMaskedForward(Net(op), propagation="paper")
    assert torch.equal(forward(x), plain)
    generator = torch.Generator().manual_seed(seed)
    share = torch.rand(len(x), 1, 1, 1, generator=generator)
    visible = torch.rand(len(x), 1, *x.shape[2:], generator=generator) < share
    visible[0] = True
    kinds = np.where(visible[:, 0], transcription.VISIBLE, transcription.MISSING)
    expected, reached = oracle(x.where(visible, 0), kinds, window, value)
    got = forward(x, mask=visible)
    assert torch.allclose(got[0], plain[0], rtol=1e-12, atol=0, equal_nan=True)
    assert relative(got.where(reached, 0), expected) <= 1e-12


@settings(max_examples=150, deadline=None)
@example(size=(3, 3), kernel=(3, 3), stride=(3, 3), padding=(0, 0), dilation=(2, 2), ceil=True, seed=0)
@given(**geometries, seed=seeds)
def test_masked_max_pools_equal_loops(size, kernel, stride, padding, dilation, ceil, seed):
    x = torch.randn(3, 2, *size, dtype=torch.double, generator=torch.Generator().manual_seed(seed))
    window = Window(kernel, stride, padding, padding, dilation, ceil)
    options = (kernel, stride, padding, dilation, ceil)
    assert_masked_equals(lambda v: F.max_pool2d(v, *options), x, seed, window, maximum)


@settings(max_examples=150, deadline=None)
@example(
    size=(2, 2),
    kernel=(3, 3),
    stride=(3, 3),
    padding=(1, 1),
    dilation=(1, 1),
    ceil=False,
    include_pad=True,
    seed=0,
)
@given(**geometries | {"dilation": st.just((1, 1))}, include_pad=st.booleans(), seed=seeds)
def test_masked_average_pools_equal_loops(size, kernel, stride, padding, dilation, ceil, include_pad, seed):
    x = torch.randn(3, 2, *size, dtype=torch.double, generator=torch.Generator().manual_seed(seed))
    window = Window(kernel, stride, padding, padding, ceil_mode=ceil)
    options, mean = (kernel, stride, padding, ceil, include_pad), mean_of(window, size, include_pad)
    assert_masked_equals(lambda v: F.avg_pool2d(v, *options), x, seed, window, mean)


@settings(max_examples=100, deadline=None)
@given(**geometries | {"ceil": st.just(False)}, seed=seeds)
def test_masked_convolutions_equal_loops(size, kernel, stride, padding, dilation, ceil, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(3, 2, *size, dtype=torch.double, generator=generator)
    weight = torch.randn(2, 2, *kernel, dtype=torch.double, generator=generator)
    window = Window(kernel, stride, padding, padding, dilation)
    if window.is_whole(size):
        return  # one window over everything is special in pools alone, and the loops know pools

    def weighted(cells, rows, columns, there):
        (top, _), (left, _) = rows, columns
        at = [
            [t for t in range(k) if 0 <= first + t * d < n]
            for k, d, n, first in zip(kernel, dilation, size, (top, left), strict=True)
        ]
        return torch.einsum("oirc,irc->o", weight[:, :, at[0]][..., at[1]], cells)

    options = (None, stride, padding, dilation)
    assert_masked_equals(lambda v: F.conv2d(v, weight, *options), x, seed, window, weighted)


GEOMETRIES = [
    Window((64, 64), before=(32, 32), after=(31, 31)),
    Window((300, 300)),
    Spans.bins((300, 300), (1, 2)),
    Transposed(Window((64, 64), (1, 1))),
]


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda g: type(g).__name__)
def test_counts_are_exact_however_many_cells_there_are(geometry):
    cells = torch.ones(1, 1, 300, 300, dtype=torch.bool)
    cells[..., 150, 150] = False
    missed = geometry.sum(torch.ones_like(cells)) - geometry.sum(cells)
    assert torch.equal(missed, geometry.sum(~cells)) and missed.max() == 1
    assert geometry.any(~cells).sum() == missed.sum()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("size", [80, 300])
def test_partial_windows_weigh_exactly_in_half_precision(size, dtype):
    visible = torch.zeros(1, 1, size, size, dtype=torch.bool)
    visible[..., :3, :2] = True
    window, cells = Window((size, size)), torch.full((1, 1, size, size), size / 2, dtype=dtype)

    def mean(v):
        return v.double().mean((2, 3), keepdim=True).to(dtype)

    got = partial(mean, cells, Mask(visible), window, 0, True)
    assert relative(got.double(), torch.full_like(got, size / 2).double()) <= 4 * torch.finfo(dtype).eps


def test_partial_windows_without_missing_cells_are_the_plain_ones():
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3, padding=1)
    nn.init.constant_(conv.bias, 1e3)
    x, visible = torch.randn(2, 3, 9, 9), torch.ones(2, 1, 9, 9, dtype=torch.bool)
    visible[1, :, :4] = False
    got = LayerMaskedForward(conv, padding="partial")(x, mask=visible)
    assert torch.equal(got[0], conv(x)[0]) and torch.equal(got[1, :, 5:], conv(x)[1, :, 5:])
