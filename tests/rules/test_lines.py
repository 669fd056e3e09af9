"""Windows along rows alone, or columns alone: loops over a map that is one cell wide."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transcription
from cells import CHANNELS, SEEN, X, assert_near, kinds_of, last_step, positions
from transcription import MISSING, VISIBLE

from captum_layermask import NoRuleError

pytestmark = pytest.mark.filterwarnings("ignore::captum_layermask.VanishedWarning")

WEIGHT = torch.randn(3, CHANNELS, 3, dtype=torch.double, generator=torch.Generator().manual_seed(6))


def line(x, along):
    """The mean over the other axis: N×C×L."""
    return x.mean(2 if along == "columns" else 3)


def slow_line(along):
    """The same over what is there, and which of its cells stand for anything: N×C×L and N×L."""
    x, kinds = X, kinds_of()
    if along == "rows":
        x, kinds = x.transpose(2, 3), kinds.transpose(0, 2, 1)
    n, c, height, length = x.shape
    means, seen = torch.zeros(n, c, length, dtype=torch.double), np.zeros((n, length), dtype=bool)
    for at, place, column in positions((n, c, length)):
        there = [x[at, place, i, column].item() for i in range(height) if kinds[at, i, column] == VISIBLE]
        means[at, place, column] = sum(there) / max(len(there), 1)
        seen[at, column] = bool(there)
    return means, seen


def slow_windows(means, seen, kernel, stride, padding, of_window, implicit=0.0):
    """What a function makes of each run of cells (N×C×k), after neighbours have filled what is missing."""
    kinds = np.where(seen, VISIBLE, MISSING)[:, None]
    filled = transcription.neighbor_pad(means[:, :, None], kinds, kernel - 1)[:, :, 0]
    length, results, visible = means.shape[2], [], []
    for start in range(-padding, length + padding - kernel + 1, stride):
        run = range(start, start + kernel)
        outside = torch.full_like(filled[:, :, 0], implicit)
        window = [filled[:, :, i] if 0 <= i < length else outside for i in run]
        results.append(of_window(torch.stack(window, 2)))
        visible.append(seen[:, [i for i in run if 0 <= i < length]].any(1))
    return torch.stack(results, 2), torch.from_numpy(np.stack(visible, 1))


WINDOWS = {
    "convolution": (
        lambda x, kernel, stride, padding: F.conv1d(x, WEIGHT, None, stride, padding),
        lambda w: torch.stack([(w * weights).sum((1, 2)) for weights in WEIGHT], 1),
        0.0,
    ),
    "maximum": (F.max_pool1d, lambda w: w.amax(2), -torch.inf),
    "average": (F.avg_pool1d, lambda w: w.mean(2), 0.0),
}


@pytest.mark.parametrize("along", ["rows", "columns"])
@pytest.mark.parametrize(("stride", "padding"), [(1, 1), (2, 0), (2, 1), (3, 1)])
@pytest.mark.parametrize("name", WINDOWS)
def test_a_window_is_one_cell_wide(name, stride, padding, along):
    function, of_window, implicit = WINDOWS[name]
    step = last_step(lambda x: function(line(x, along), 3, stride, padding))
    expected, visible = slow_windows(*slow_line(along), 3, stride, padding, of_window, implicit)
    assert torch.equal(step.mask.flatten(1), visible)
    assert_near(step.output, torch.where(visible[:, None], expected, 0))


@pytest.mark.parametrize("name", ["avg", "max"])
def test_bins_of_columns(name):
    of_window = {"avg": lambda w: w.mean(2), "max": lambda w: w.amax(2)}[name]
    expected, visible = slow_windows(*slow_line("columns"), 2, 2, 0, of_window)
    step = last_step(lambda x: getattr(F, f"adaptive_{name}_pool1d")(line(x, "columns"), 3))
    assert torch.equal(step.mask.flatten(1), visible)
    assert_near(step.output, torch.where(visible[:, None], expected, 0))


def test_one_bin_is_the_mean_of_what_is_there():
    """A column of which more is there weighs more, as in the mean over rows and columns."""
    step = last_step(lambda x: F.adaptive_avg_pool1d(line(x, "columns"), 1))
    for n, c in positions(X.shape[:2]):
        there = X[n, c][SEEN[n, 0]].tolist()
        assert step.output[n, c, 0].item() == pytest.approx(sum(there) / max(len(there), 1), rel=1e-12)


@pytest.mark.parametrize(
    ("pool", "of_pair"),
    [(F.max_pool1d, max), (F.avg_pool1d, lambda a, b: (a + b) / 2)],
)
def test_pairs_of_channels_of_one_cell(pool, of_pair):
    step = last_step(lambda x: pool(x.flatten(2).transpose(1, 2), 2))
    for n, at, k in positions((4, 24, CHANNELS // 2)):
        i, j = divmod(at, 6)
        a, b = X[n, 2 * k, i, j].item(), X[n, 2 * k + 1, i, j].item()
        assert step.output[n, at, k].item() == pytest.approx(of_pair(a, b) if SEEN[n, 0, i, j] else 0)


def test_a_kernel_of_one_is_a_convolution_of_one_cell():
    step = last_step(lambda x: F.conv1d(x.flatten(2), WEIGHT[..., :1]))
    expected = torch.zeros(4, 3, 24, dtype=torch.double)
    for n, o, at in positions(expected.shape):
        i, j = divmod(at, 6)
        if SEEN[n, 0, i, j]:
            expected[n, o, at] = sum(WEIGHT[o, c, 0] * X[n, c, i, j] for c in range(CHANNELS))
    assert_near(step.output, expected)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.conv1d(x.flatten(2), WEIGHT),
        lambda x: F.max_pool1d(x.flatten(2), 2),
        lambda x: F.max_pool1d(line(x, "rows"), 2, return_indices=True)[0],
    ],
)
def test_a_run_of_positions_that_are_no_neighbours_is_refused(function):
    with pytest.raises(NoRuleError):
        last_step(function)
