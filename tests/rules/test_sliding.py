"""Windows fill first: loops over windows of a map whose neighbour padding is a loop over cells."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transcription
from cells import CHANNELS, SEEN, X, assert_is, assert_near, kinds_of, last_step, padded, positions
from hypothesis import given, settings
from hypothesis import strategies as st
from transcription import FRAME, MISSING, VISIBLE, Cells

from captum_layermask import NoRuleError

pytestmark = pytest.mark.filterwarnings("ignore::captum_layermask.VanishedWarning")

few = settings(max_examples=25, deadline=None)
pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
GENERATOR = torch.Generator().manual_seed(5)


def with_frame(x, kinds=None):
    """The map beside a column and two rows of constants."""
    return padded(x, kinds_of() if kinds is None else kinds)


def slow_windows(x, kinds, kernel, stride, padding, dilation, of_window, implicit=0.0):
    """What a function makes of each window (N×C×rows×columns) of the filled map, and its kind (S3, S5).

    Implicit padding is frame and holds a constant.
    """
    rounds = max(d * (k - 1) for k, d in zip(kernel, dilation, strict=True))
    filled = transcription.neighbor_pad(x, kinds, rounds)
    (top, left), (height, width) = padding, x.shape[2:]
    size = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, p, k, s, d in zip((height, width), padding, kernel, stride, dilation, strict=True)
    ]
    results, behind = [], np.empty((len(x), *size), dtype=int)
    for i, j in positions(size):
        window = torch.full((*x.shape[:2], *kernel), implicit, dtype=x.dtype)
        seen = [set() for _ in range(len(x))]
        for a, b in positions(kernel):
            row, column = i * stride[0] + a * dilation[0] - top, j * stride[1] + b * dilation[1] - left
            if 0 <= row < height and 0 <= column < width:
                window[:, :, a, b] = filled[:, :, row, column]
                for n in range(len(x)):
                    seen[n].add(kinds[n, row, column])
        for n, here in enumerate(seen):
            behind[n, i, j] = VISIBLE if VISIBLE in here else MISSING if MISSING in here else FRAME
        results.append(of_window(window))
    return Cells(torch.stack(results, -1).unflatten(-1, size), behind)


@few
@given(kernel=pairs, stride=pairs, dilation=pairs, padding=st.tuples(st.integers(0, 2), st.integers(0, 2)))
def test_convolution(kernel, stride, dilation, padding):
    weight = torch.randn(6, CHANNELS // 2, *kernel, dtype=torch.double, generator=GENERATOR)
    bias = torch.randn(6, dtype=torch.double, generator=GENERATOR)
    if any(n + 2 * p < d * (k - 1) + 1 for n, p, d, k in zip((6, 7), padding, dilation, kernel, strict=True)):
        return

    def of_window(window):
        parts = zip(window.chunk(2, 1), weight.chunk(2), strict=True)  # two groups
        return torch.stack([(part * w).sum((1, 2, 3)) for part, ws in parts for w in ws], 1) + bias

    expected = slow_windows(*with_frame(X), kernel, stride, padding, dilation, of_window)
    assert_is(lambda x: F.conv2d(with_frame(x)[0], weight, bias, stride, padding, dilation, 2), expected)


POOLS = {
    "max": (lambda w: w.amax((2, 3)), -torch.inf, lambda x, k, s, p: F.max_pool2d(x, k, s, p)),
    "average": (lambda w: w.mean((2, 3)), 0.0, lambda x, k, s, p: F.avg_pool2d(x, k, s, p)),
    "sums by a divisor": (
        lambda w: w.sum((2, 3)) / 5,
        0.0,
        lambda x, k, s, p: F.avg_pool2d(x, k, s, p, divisor_override=5),
    ),
    "windows as channels": (lambda w: w.flatten(1), 0.0, None),
}


@few
@given(name=st.sampled_from([*POOLS]), kernel=pairs, stride=pairs, data=st.data())
def test_pools(name, kernel, stride, data):
    of_window, implicit, function = POOLS[name]
    padding = tuple(data.draw(st.integers(0, k // 2)) for k in kernel)

    def pool(x):
        x = with_frame(x)[0]
        if function is not None:
            return function(x, kernel, stride, padding)
        size = [
            (n + 2 * p - k) // s + 1 for n, p, k, s in zip(x.shape[2:], padding, kernel, stride, strict=True)
        ]
        return F.unfold(x, kernel, 1, padding, stride).unflatten(2, size)

    expected = slow_windows(*with_frame(X), kernel, stride, padding, (1, 1), of_window, implicit)
    assert_is(pool, expected)


def test_powers_are_filled_and_averaged():
    """``F.lp_pool2d``: a root of the cells of a window times their average power."""
    cubes = slow_windows(
        X.relu() ** 3, kinds_of(), (2, 2), (2, 2), (0, 0), (1, 1), lambda w: (w.mean((2, 3)) * 4) ** (1 / 3)
    )
    assert_is(lambda x: F.lp_pool2d(x.relu(), 3, 2), cubes)


def bins(size, count):
    return [range(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]


@pytest.mark.parametrize("function", [F.adaptive_avg_pool2d, F.adaptive_max_pool2d])
@pytest.mark.parametrize("size", [(2, 3), (4, 4), (1, 3), (7, 2)])
def test_adaptive_pools(function, size):
    rows, columns = bins(4, size[0]), bins(6, size[1])
    filled = transcription.neighbor_pad(X, kinds_of(), max(map(len, rows + columns)) - 1)
    out = torch.empty(4, CHANNELS, *size, dtype=torch.double)
    kinds = np.empty((4, *size), dtype=int)
    for i, j in positions(size):
        window = torch.stack([filled[:, :, a, b] for a in rows[i] for b in columns[j]])
        out[:, :, i, j] = window.mean(0) if function is F.adaptive_avg_pool2d else window.amax(0)
        seen = np.stack([kinds_of()[:, a, b] for a in rows[i] for b in columns[j]])
        kinds[:, i, j] = np.where((seen == VISIBLE).any(0), VISIBLE, MISSING)
    assert_is(lambda x: function(x, size), Cells(out, kinds))


ONE_WINDOW = {
    "mean": (lambda x: F.adaptive_avg_pool2d(x, 1), lambda v: v.mean(), 0),
    "mean, spelled": (lambda x: F.avg_pool2d(x, x.shape[2:]), lambda v: v.mean(), 0),
    "mean with padding": (lambda x: F.avg_pool2d(x, (6, 8), padding=1), lambda v: v.mean(), 24),
    "maximum": (lambda x: F.adaptive_max_pool2d(x, 1), lambda v: v.max(), 0),
    "maximum, spelled": (lambda x: F.max_pool2d(x, (4, 6)), lambda v: v.max(), 0),
}


@pytest.mark.parametrize("name", ONE_WINDOW)
def test_one_window_over_everything_reads_what_is_there(name):
    function, of_values, zeros = ONE_WINDOW[name]
    found = last_step(function).output.flatten(1)
    for n, c in positions(found.shape):
        there = torch.cat([X[n, c][SEEN[n, 0]], torch.zeros(zeros, dtype=torch.double)])
        expected = of_values(there) if SEEN[n].any() else torch.tensor(0.0)
        assert_near(found[n, c], expected.double())


def test_the_place_of_a_maximum_is_that_of_a_cell_that_was_not_filled():
    step = last_step(lambda x: F.max_pool2d(x, 2, return_indices=True)[1] * 1)
    for n, c, i, j in positions(step.output.shape):
        there = [(a, b) for a in (2 * i, 2 * i + 1) for b in (2 * j, 2 * j + 1) if SEEN[n, 0, a, b]]
        if there:
            a, b = max(there, key=lambda at: X[n, c, at[0], at[1]].item())
            assert step.output[n, c, i, j] == a * 6 + b


@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.adaptive_max_pool2d(x, 2, return_indices=True)[0],
        lambda x: F.conv2d(x.transpose(1, 2), torch.ones(1, 4, 1, 1, dtype=torch.double)),
    ],
)
def test_a_window_that_is_not_over_rows_and_columns_is_refused(function):
    with pytest.raises(NoRuleError):
        last_step(function)
