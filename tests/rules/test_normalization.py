"""Normalizations over space take their statistics of the cells that are not missing, one number at a time."""

import math

import pytest
import torch
import torch.nn.functional as F
from cells import CHANNELS, X, assert_is, kinds_of, padded, positions
from transcription import MISSING, Cells

from captum_layermask import LayerMaskedForward, TrainingModeError

pytestmark = pytest.mark.filterwarnings("ignore::captum_layermask.VanishedWarning")

GENERATOR = torch.Generator().manual_seed(7)
EPS = 1e-3
WEIGHT, BIAS = torch.randn(2, CHANNELS, dtype=torch.double, generator=GENERATOR)
SHAPE = (CHANNELS, X.shape[2] + 2, X.shape[3] + 1)
WEIGHTS, BIASES = torch.randn(2, *SHAPE, dtype=torch.double, generator=GENERATOR)


def slow(x, kinds, groups, scale, shift):
    """Each value less the mean of its group of channels, over the group's deviation, scaled and shifted.

    Of the values in a group those in missing cells do not count; frame does.
    """
    out = torch.zeros_like(x)
    size = x.shape[1] // groups
    for n, g in positions((len(x), groups)):
        channels = range(g * size, (g + 1) * size)
        cells = [(i, j) for i, j in positions(x.shape[2:]) if kinds[n, i, j] != MISSING]
        values = [x[n, c, i, j].item() for c in channels for i, j in cells]
        mean = sum(values) / max(len(values), 1)
        variance = sum((v - mean) ** 2 for v in values) / max(len(values), 1)
        for c in channels:
            for i, j in cells:
                normal = (x[n, c, i, j].item() - mean) / math.sqrt(variance + EPS)
                out[n, c, i, j] = normal * scale(c, i, j) + shift(c, i, j)
    return Cells(out, kinds)


def with_frame(x):
    return padded(x, kinds_of())


def by_channel(parameter):
    return lambda c, i, j: parameter[c].item()


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_group_norm(groups):
    expected = slow(*with_frame(X), groups, by_channel(WEIGHT), by_channel(BIAS))
    assert_is(lambda x: F.group_norm(with_frame(x)[0], groups, WEIGHT, BIAS, EPS), expected)


def test_instance_norm():
    expected = slow(*with_frame(X), CHANNELS, by_channel(WEIGHT), by_channel(BIAS))
    assert_is(lambda x: F.instance_norm(with_frame(x)[0], weight=WEIGHT, bias=BIAS, eps=EPS), expected)


def test_layer_norm_over_space():
    def at(parameter):
        return lambda c, i, j: parameter[c, i, j].item()

    expected = slow(*with_frame(X), 1, at(WEIGHTS), at(BIASES))
    assert_is(lambda x: F.layer_norm(with_frame(x)[0], SHAPE, WEIGHTS, BIASES, EPS), expected)


def of_each_cell(x, kinds, mean_is_taken):
    """Channels of one cell over the root of their mean square, less their mean before that or not."""
    out = torch.zeros_like(x)
    for n, i, j in positions(kinds.shape):
        values = x[n, :, i, j].tolist()
        mean = sum(values) / CHANNELS if mean_is_taken else 0.0
        root = math.sqrt(sum((v - mean) ** 2 for v in values) / CHANNELS + EPS)
        for c, v in enumerate(values):
            out[n, c, i, j] = (v - mean) / root * WEIGHT[c].item() + BIAS[c].item() * mean_is_taken
    return Cells(out, kinds)


def channels_last(function):
    return lambda x: function(with_frame(x)[0].permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def test_layer_norm_over_channels_looks_at_one_cell():
    expected = of_each_cell(*with_frame(X), True)
    assert_is(channels_last(lambda x: F.layer_norm(x, (CHANNELS,), WEIGHT, BIAS, EPS)), expected)


def test_rms_norm_over_channels_looks_at_one_cell():
    expected = of_each_cell(*with_frame(X), False)
    assert_is(channels_last(lambda x: F.rms_norm(x, (CHANNELS,), WEIGHT, EPS)), expected)


def test_batch_norm_is_a_fixed_scale_and_shift():
    mean, variance = BIAS * 2, WEIGHT.abs() + 0.5
    x, kinds = with_frame(X)
    out = torch.empty_like(x)
    for n, c, i, j in positions(x.shape):
        normal = (x[n, c, i, j].item() - mean[c].item()) / math.sqrt(variance[c].item() + EPS)
        out[n, c, i, j] = normal * WEIGHT[c].item() + BIAS[c].item()
    options = (mean, variance, WEIGHT, BIAS, False, 0.1, EPS)
    assert_is(lambda x: F.batch_norm(with_frame(x)[0], *options), Cells(out, kinds))


def test_batch_norm_of_the_batch_is_refused():
    mask = torch.ones(X.shape[2:])
    mask[0] = 0
    with pytest.raises(TrainingModeError, match=r"model\.eval"):
        LayerMaskedForward(torch.nn.BatchNorm2d(CHANNELS).double())(X, mask=mask)
