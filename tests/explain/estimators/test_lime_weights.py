"""LIME's weights are those of the lime package and of Captum, and their errors are true."""

import numpy as np
import pytest
import torch
from drawn_games import network_game
from lime.lime_base import LimeBase
from sklearn.linear_model import Ridge
from sklearn.metrics import pairwise_distances

from captum_layermask import InputError
from captum_layermask.explain.estimators.driver import run
from captum_layermask.explain.estimators.lime import LimeEstimator, lime_weights, segment_energies
from captum_layermask.explain.segments import grid

GAME = network_game(15, seed=1)


def test_the_weights_are_those_of_the_lime_package():
    estimator = LimeEstimator(15)
    estimate = run(estimator, GAME, budget=100)
    rows = estimator.coalitions.astype(float)
    assert rows[0].all() and 0.4 < rows[1:].mean() < 0.6
    lime = LimeBase(lambda d: np.sqrt(np.exp(-(d**2) / 0.25**2)), random_state=np.random.RandomState(0))
    distances = pairwise_distances(rows, rows[:1], metric="cosine").ravel()
    labels = estimator.values[:, None]
    _, weights, *_ = lime.explain_instance_with_data(rows, labels, distances, 0, 10**5)
    assert estimate.values == pytest.approx([weight for _, weight in sorted(weights)], abs=1e-10)


def test_with_energies_the_weights_are_captums():
    from captum.attr._core.lime import get_exp_kernel_similarity_function

    image = torch.rand(1, 3, 12, 20, generator=torch.Generator().manual_seed(0)).double()
    segments = grid(image, size=4)
    energies = segment_energies(image, segments)
    assert energies.shape == (15,) and energies.sum() == pytest.approx(float(image.square().sum()))
    estimator = LimeEstimator(15, energies=energies, kernel_width=1.0)
    estimate = run(estimator, GAME, budget=100)
    kernel = get_exp_kernel_similarity_function("cosine", kernel_width=1.0)
    shown = torch.from_numpy(estimator.coalitions)[:, segments[0]]
    similar = [kernel(image, image * mask, None) for mask in shown]
    ridge = Ridge(alpha=1.0).fit(estimator.coalitions, estimator.values, sample_weight=np.array(similar))
    assert estimate.values == pytest.approx(ridge.coef_, abs=1e-8)


@pytest.mark.parametrize("paired", [False, True])
def test_intervals_cover_what_they_say(paired):
    """The truth is the mean over seeds at this number of samples, since the penalty shrinks by it."""
    estimates = [
        lime_weights(GAME, n_segments=15, budget=120, seed=seed, paired=paired) for seed in range(300)
    ]
    truth = np.mean([estimate.values for estimate in estimates], axis=0)
    covered = [(low <= truth) & (truth <= high) for low, high in (e.interval() for e in estimates)]
    assert 0.92 <= np.mean(covered) <= 0.98


def test_pairs_are_complements_and_leave_smaller_errors():
    estimator = LimeEstimator(15, paired=True)
    estimate = run(estimator, GAME, budget=200)
    assert np.array_equal(estimator.coalitions[::2], ~estimator.coalitions[1::2])
    single = lime_weights(GAME, n_segments=15, budget=200)
    assert np.square(estimate.standard_errors).mean() < np.square(single.standard_errors).mean()


def test_half_a_pair_waits_for_the_other():
    estimator = LimeEstimator(15, paired=True)
    before = run(estimator, GAME, budget=100)
    half = run(estimator, GAME, budget=101)
    assert np.array_equal(before.values, half.values) and half.evaluations == 101


def test_equal_values_have_no_weights():
    estimate = lime_weights(lambda z: np.full(len(z), 0.3), n_segments=15)
    assert estimate.values == pytest.approx(0, abs=1e-12) and estimate.ended == "tolerance"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_width": 0}, "give a positive width"),
        ({"penalty": -1}, "a penalty of 0 or more"),
        ({"energies": [1.0, 2.0]}, "give 15 numbers, one for each segment"),
        ({"energies": [-1.0] * 15}, "give 15 numbers"),
        ({"energies": [0.0] * 15}, "give 15 numbers"),
    ],
)
def test_what_makes_no_sense_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        lime_weights(GAME, n_segments=15, budget=100, **options)
