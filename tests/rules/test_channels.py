"""Operations along channels look at one cell, and weighted sums over positions at those that are there."""

import math

import pytest
import torch
import torch.nn.functional as F
from cells import CHANNELS, SEEN, X, assert_is, assert_near, kinds_of, last_step, positions
from transcription import Cells

from captum_layermask import NoRuleError

pytestmark = pytest.mark.filterwarnings("ignore::captum_layermask.VanishedWarning")

WEIGHT = torch.randn(3, CHANNELS, dtype=torch.double, generator=torch.Generator().manual_seed(8))
BIAS = torch.randn(3, dtype=torch.double, generator=torch.Generator().manual_seed(9))
HEAD = torch.randn(CHANNELS, 24, dtype=torch.double, generator=torch.Generator().manual_seed(10))


def softmax(values):
    total = sum(math.exp(v) for v in values)
    return [math.exp(v) / total for v in values]


def running(values, join):
    out = []
    for v in values:
        out.append(v if not out else join(out[-1], v))
    return out


def across(values, c):
    """The sum of squares of the channels beside one (three of them), over three."""
    return sum(v * v for v in values[max(c - 1, 0) : c + 2]) / 3


def last(function):
    """An operation on channels-last maps, back in their usual place."""
    return lambda x: function(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def dot(weights, values):
    return sum(w * v for w, v in zip(weights, values, strict=True))


# What each makes of the channels of one cell (lists of numbers).
OF_A_CELL = {
    "softmax": (lambda x: x.softmax(1), softmax),
    "log_softmax": (lambda x: F.log_softmax(x, 1), lambda v: [math.log(p) for p in softmax(v)]),
    "softmin": (lambda x: F.softmin(x, 1), lambda v: softmax([-a for a in v])),
    "cumsum": (lambda x: x.cumsum(1), lambda v: running(v, lambda a, b: a + b)),
    "cumprod": (lambda x: x.cumprod(1), lambda v: running(v, lambda a, b: a * b)),
    "sort": (lambda x: x.sort(1).values * 1, sorted),
    "normalize": (lambda x: F.normalize(x, dim=1), lambda v: [a / math.hypot(*v) for a in v]),
    "glu": (lambda x: F.glu(x, 1), lambda v: [v[i] / (1 + math.exp(-v[i + 2])) for i in range(2)]),
    "shuffle": (lambda x: F.channel_shuffle(x, 2), lambda v: [v[0], v[2], v[1], v[3]]),
    "local response": (
        lambda x: F.local_response_norm(x, 3, alpha=0.5, beta=0.75, k=2.0),
        lambda v: [a / (2.0 + 0.5 * across(v, c)) ** 0.75 for c, a in enumerate(v)],
    ),
    "linear": (
        last(lambda x: F.linear(x, WEIGHT, BIAS)),
        lambda v: [dot(w, v) + b for w, b in zip(WEIGHT.tolist(), BIAS.tolist(), strict=True)],
    ),
    "matmul": (last(lambda x: x @ WEIGHT.T), lambda v: [dot(w, v) for w in WEIGHT.tolist()]),
    "matmul from the left": (
        lambda x: torch.matmul(WEIGHT, x.flatten(2)).unflatten(2, (4, 6)),
        lambda v: [dot(w, v) for w in WEIGHT.tolist()],
    ),
    "einsum": (
        lambda x: torch.einsum("nchw,dc->ndhw", x, WEIGHT),
        lambda v: [dot(w, v) for w in WEIGHT.tolist()],
    ),
    "conv3d": (
        lambda x: F.conv3d(x[:, None], torch.ones(1, 1, 2, 1, 1, dtype=x.dtype))[:, 0],
        lambda v: [v[c] + v[c + 1] for c in range(3)],
    ),
}


@pytest.mark.parametrize("name", OF_A_CELL)
def test_the_channels_of_a_cell(name):
    function, of_cell = OF_A_CELL[name]
    width = len(of_cell(X[0, :, 0, 0].tolist()))
    out = torch.empty(4, width, 4, 6, dtype=torch.double)
    for n, i, j in positions((4, 4, 6)):
        out[n, :, i, j] = torch.tensor(of_cell(X[n, :, i, j].tolist()), dtype=torch.double)
    assert_is(function, Cells(out, kinds_of()))


def test_a_product_of_two_maps_is_missing_where_either_is():
    met = SEEN & SEEN.flip(3)
    step = last_step(lambda x: torch.einsum("nchw,nchw->nchw", x, x.flip(3)))
    assert torch.equal(step.mask, met)
    assert_near(step.output, torch.where(met, X * X.flip(3), 0))


def there(n):
    """The positions of an image that are not missing, as (number, row, column)."""
    return [(6 * i + j, i, j) for i, j in positions((4, 6)) if SEEN[n, 0, i, j]]


def test_weights_of_positions_are_those_of_what_is_there_and_sum_to_1():
    step = last_step(lambda x: x.flatten(2).softmax(2))
    for n, c in positions((4, CHANNELS)):
        expected = torch.zeros(24, dtype=torch.double)
        weights = softmax([X[n, c, i, j].item() for _, i, j in there(n)])
        for (at, *_), weight in zip(there(n), weights, strict=True):
            expected[at] = weight
        assert_near(step.output[n, c], expected)


def test_a_context_is_a_weighted_sum_of_what_is_there():
    def context(x):
        weights = x[:, :1].flatten(2).softmax(2)
        return torch.bmm(x.flatten(2), weights.transpose(1, 2))

    step = last_step(context)
    for n, c in positions((4, CHANNELS)):
        weights = softmax([X[n, 0, i, j].item() for _, i, j in there(n)])
        expected = sum(w * X[n, c, i, j] for w, (_, i, j) in zip(weights, there(n), strict=True))
        assert_near(step.output[n, c, 0], torch.as_tensor(expected, dtype=torch.double))


BILINEAR = {
    "bmm": lambda x: torch.bmm(x.flatten(2), x.flatten(2).transpose(1, 2)),
    "einsum": lambda x: torch.einsum("nchw,ndhw->ncd", x, x),
}


@pytest.mark.parametrize("name", BILINEAR)
def test_a_bilinear_pool_sums_what_is_there(name):
    step = last_step(BILINEAR[name])
    for n, c, d in positions((4, CHANNELS, CHANNELS)):
        expected = sum(X[n, c, i, j].item() * X[n, d, i, j].item() for _, i, j in there(n))
        assert step.output[n, c, d].item() == pytest.approx(expected, abs=1e-12)


HEADS = {
    "linear": lambda x: F.linear(x.flatten(1), HEAD.flatten()[None]),
    "matmul": lambda x: x.flatten(1) @ HEAD.flatten()[:, None],
}


@pytest.mark.parametrize("name", HEADS)
def test_a_head_has_a_weight_for_each_position(name):
    step = last_step(HEADS[name])
    for n in range(4):
        expected = sum(dot(HEAD[:, at].tolist(), X[n, :, i, j].tolist()) for at, i, j in there(n))
        assert step.output[n, 0].item() == pytest.approx(expected, abs=1e-12)


LINES = {
    "linear": lambda x: F.linear(x, HEAD[:1, :6]),
    "matmul": lambda x: x @ HEAD[0, :6, None],
}


@pytest.mark.parametrize("name", LINES)
def test_a_head_on_the_means_of_columns_has_a_weight_for_each(name):
    step = last_step(lambda x: LINES[name](x[:, 0].mean(1)))
    for n in range(4):
        columns = [[X[n, 0, i, j].item() for i in range(4) if SEEN[n, 0, i, j]] for j in range(6)]
        means = [sum(column) / max(len(column), 1) for column in columns]
        assert step.output[n, 0].item() == pytest.approx(dot(HEAD[0, :6].tolist(), means), abs=1e-12)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.cumsum(3),
        lambda x: x.sort(2).values,
        lambda x: F.linear(x, torch.ones(2, 6, dtype=x.dtype)),
        lambda x: x.softmax(0),
        lambda x: F.rms_norm(x, (6,)),
        lambda x: torch.einsum("nchw,w->nch", x, torch.ones(6, dtype=x.dtype)),
        lambda x: F.conv3d(x[:, None], torch.ones(1, 1, 1, 3, 3, dtype=x.dtype)),
    ],
)
def test_what_mixes_positions_is_refused(function):
    with pytest.raises(NoRuleError):
        last_step(function)
