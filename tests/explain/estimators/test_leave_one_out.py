"""Leave one out is feature ablation over segments."""

import numpy as np
import pytest
import torch
from captum.attr import FeatureAblation
from drawn_games import network_game

from captum_layermask.explain.estimators.driver import run
from captum_layermask.explain.estimators.leave_one_out import LeaveOneOutEstimator, leave_one_out


@pytest.mark.parametrize("n_segments", [1, 2, 40])
def test_the_values_are_captums_feature_ablation(n_segments):
    game = network_game(n_segments)
    ablation = FeatureAblation(lambda x: torch.from_numpy(game(x.numpy() > 0)))
    estimate = leave_one_out(game, n_segments=n_segments)
    captums = ablation.attribute(torch.ones(1, n_segments, dtype=torch.double))[0]
    assert estimate.values == pytest.approx(captums.numpy(), abs=1e-12)
    assert (estimate.standard_errors == 0).all()
    assert (estimate.ended, estimate.evaluations) == ("exact", n_segments + 1)


def test_several_targets():
    game = network_game(6, targets=3)
    estimate = leave_one_out(game, n_segments=6)
    alone = leave_one_out(lambda z: game(z)[:, 1], n_segments=6)
    assert estimate.values.shape == (6, 3) and np.array_equal(estimate.values[:, 1], alone.values)


def test_what_is_not_evaluated_is_no_number():
    estimator = LeaveOneOutEstimator(6)
    estimator.update(estimator.draw(3), [1.0, 0.5, 0.25])
    estimate = estimator.estimate()
    assert np.array_equal(estimate.values, [0.5, 0.75, *[np.nan] * 4], equal_nan=True)
    assert np.array_equal(estimate.standard_errors, [0, 0, *[np.inf] * 4])
    assert estimate.ended == "interrupted"
    assert run(estimator, network_game(6)).ended == "exact"
