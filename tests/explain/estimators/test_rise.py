"""RISE: the mean over the masks that show a pixel, visible as often as the smooth masks are bright."""

import itertools

import numpy as np
import pytest
import torch
from support import small_classifier

from captum_layermask import InputError, LayerMaskedForward
from captum_layermask.explain.coalitions import Coalitions
from captum_layermask.explain.estimators.rise import RiseEstimator, rise
from captum_layermask.explain.segments import grid

SHAPE = (10, 14)


def masks(count, seed=0, **options):
    return RiseEstimator(SHAPE, seed=seed, **options).draw(count).reshape(count, *SHAPE)


def game(visible):
    """A third of the image counts, and together with another part more."""
    drawn = visible.reshape(len(visible), *SHAPE)
    left = drawn[:, :, :5].mean((1, 2))
    return left + left * drawn[:, :3, 8:].mean((1, 2))


@pytest.mark.parametrize("probability", [0.2, 0.5, 0.7])
@pytest.mark.parametrize("cells", [1, 4, 7])
def test_every_pixel_is_visible_with_the_probability(probability, cells):
    shown = masks(3000, cells=cells, probability=probability).mean(0)
    assert shown.mean() == pytest.approx(probability, abs=0.04)
    assert abs(shown - probability).max() < 0.06


def test_masks_are_of_pieces_about_as_large_as_cells():
    drawn = masks(500, cells=3).astype(float)
    near = np.corrcoef(drawn[:, 4, 6], drawn[:, 4, 7])[0, 1]
    far = np.corrcoef(drawn[:, 1, 1], drawn[:, 9, 13])[0, 1]
    assert near > 0.7 and abs(far) < 0.2


def test_saliency_is_the_mean_over_the_masks_that_show_a_pixel():
    estimator = RiseEstimator(SHAPE)
    drawn = estimator.draw(300)
    values = game(drawn)
    estimator.update(drawn, values)
    estimate = estimator.estimate()
    for pixel in (0, 17, 139):
        chosen = values[drawn[:, pixel]]
        assert estimate.values[pixel] == pytest.approx(chosen.mean())
        assert estimate.standard_errors[pixel] == pytest.approx(chosen.std(ddof=1) / len(chosen) ** 0.5)


def test_intervals_cover_what_they_say():
    truth = rise(game, SHAPE, budget=20_000, seed=10**6).values
    estimates = [rise(game, SHAPE, budget=128, seed=seed) for seed in range(200)]
    covered = [(low <= truth) & (truth <= high) for low, high in (e.interval() for e in estimates)]
    assert 0.92 <= np.mean(covered) <= 0.98


def test_a_pixel_that_no_mask_showed_has_an_unknown_error():
    estimator = RiseEstimator(SHAPE, cells=1, probability=0.01)
    drawn = estimator.draw(4)
    assert not drawn.any()
    estimator.update(drawn, np.ones((4, 2)))
    estimate = estimator.estimate()
    assert (estimate.values == 1).all() and np.isinf(estimate.standard_errors).all()


@torch.no_grad()
def test_the_masks_go_to_the_forward():
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    forward = LayerMaskedForward(small_classifier(4))
    coalitions = Coalitions(forward, image, grid(image, size=1), target=[0, 2], batch_size=8)
    estimate = rise(coalitions, (16, 16), budget=40)
    drawn = torch.from_numpy(RiseEstimator((16, 16)).draw(40)).reshape(40, 16, 16)
    values = torch.stack([forward(image, mask=mask)[0, [0, 2]] for mask in drawn]).double()
    shown = drawn[:, 3, 5]
    assert estimate.values.reshape(16, 16, 2)[3, 5] == pytest.approx(values[shown].mean(0).numpy(), abs=1e-6)
    assert estimate.vanished == 0


def test_it_ends_by_tolerance():
    estimate = rise(game, SHAPE, tolerance=0.1)
    assert estimate.ended == "tolerance"
    assert estimate.standard_errors.max() <= 0.1 * np.ptp(estimate.values)


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((0, 4), {}, "give height and width"),
        ((4,), {}, "give height and width"),
        (SHAPE, {"cells": 0}, "the number of cells is 0"),
        *((SHAPE, {"probability": p}, "give one between 0 and 1") for p in (0, 1, float("nan"))),
    ],
)
def test_what_makes_no_sense_is_refused(shape, options, message):
    with pytest.raises(InputError, match=message):
        rise(game, shape, budget=10, **options)


def test_streams_differ_by_seed():
    first, second = (masks(20, seed=seed) for seed in (0, 1))
    assert all(not np.array_equal(a, b) for a, b in itertools.product(first[:3], second[:3]))
