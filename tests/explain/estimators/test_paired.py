"""Shapley and Banzhaf values: exact as by definition, or with errors that are true."""

import numpy as np
import pytest
from drawn_games import by_definition, network_game, table_game
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from captum_layermask.explain.estimators.banzhaf import BanzhafEstimator, banzhaf_values
from captum_layermask.explain.estimators.driver import run
from captum_layermask.explain.estimators.games import Together
from captum_layermask.explain.estimators.shapley import ShapleyEstimator, shapley_values

KINDS = {"shapley": shapley_values, "banzhaf": banzhaf_values}
ESTIMATORS = {"shapley": ShapleyEstimator, "banzhaf": BanzhafEstimator}


def tables(n_segments):
    return arrays(np.float64, 2**n_segments, elements=st.floats(-1, 1, allow_subnormal=False))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_segments", [1, 2, 3, 4, 7, 10])
def test_where_the_budget_allows_all_coalitions_values_are_exact(kind, n_segments):
    for targets in (None, 3):
        game = network_game(n_segments, targets=targets)
        estimate = KINDS[kind](game, budget=2**n_segments, n_segments=n_segments)
        assert estimate.values == pytest.approx(by_definition(game, n_segments, kind), abs=1e-12)
        assert (
            estimate.standard_errors == 0
        ).all() and estimate.values.shape == estimate.standard_errors.shape
        assert (estimate.ended, estimate.converged) == ("exact", True)
        assert estimate.evaluations == estimate.forecast == 2**n_segments


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sampling", KINDS)
def test_either_value_comes_from_either_stream(kind, sampling):
    game = network_game(8)
    estimator = ESTIMATORS[sampling](8)
    run(estimator, game, budget=256)
    estimate = ESTIMATORS[kind].from_state(estimator.state()).estimate()
    assert estimate.values == pytest.approx(by_definition(game, 8, kind), abs=1e-12)


@given(table=tables(4), factor=st.floats(-2, 2), budget=st.integers(6, 15))
@settings(max_examples=40, deadline=None)
def test_shapley_values_add_up_however_few_the_evaluations(table, factor, budget):
    estimate = shapley_values(table_game(table * factor), n_segments=4, budget=budget)
    assert estimate.values.sum() == pytest.approx((table[-1] - table[0]) * factor, abs=1e-9)


@given(tables(4), tables(4), st.floats(-2, 2), st.integers(6, 16))
@settings(max_examples=40, deadline=None)
def test_values_are_linear_in_the_game(first, second, factor, budget):
    for values in KINDS.values():
        one, two, both = (
            values(table_game(table), n_segments=4, budget=budget).values
            for table in (first, second, first + factor * second)
        )
        assert both == pytest.approx(one + factor * two, abs=1e-9)


@given(tables(3))
@settings(max_examples=40, deadline=None)
def test_a_segment_that_never_counts_has_none_and_two_alike_have_the_same(table):
    """Segment 3 never counts; 0 and 1 are alike when only their number counts."""
    dummy = table_game(np.concatenate([table, table]))
    alike = lambda visible: table[2 * (visible[:, :2].sum(1)) + visible[:, 2]]  # noqa: E731
    table = np.resize(table, 8)
    for values in KINDS.values():
        assert values(dummy, n_segments=4, budget=16).values[3] == pytest.approx(0, abs=1e-12)
        same = values(alike, n_segments=3, budget=8).values
        assert same[0] == pytest.approx(same[1], abs=1e-12)


def test_interactions_of_two_segments_leave_no_error():
    random = np.random.default_rng(0)
    single, double = random.normal(size=20), random.normal(size=(20, 20))
    estimate = shapley_values(lambda z: 3 + z @ single + ((z @ double) * z).sum(1), n_segments=20, budget=60)
    expected = single + np.diag(double) + (double + double.T - 2 * np.diag(np.diag(double))).sum(1) / 2
    assert estimate.values == pytest.approx(expected, abs=1e-9)
    assert estimate.standard_errors.max() < 1e-9


@pytest.mark.parametrize("kind", KINDS)
def test_what_depends_on_how_many_segments_are_visible_leaves_no_error(kind):
    """Curves of odd degree up to 5 over the share that is visible, and of any even degree."""
    single = np.random.default_rng(0).normal(size=16)

    def game(visible):
        share = visible.mean(1) - 0.5
        return visible @ single + 3 * share + 20 * share**3 - 50 * share**5 + share**2 + share**6

    truth = KINDS[kind](game, n_segments=16, budget=2**16).values
    estimate = KINDS[kind](game, n_segments=16, budget=80)
    assert estimate.values == pytest.approx(truth, abs=1e-8) and estimate.standard_errors.max() < 1e-8


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n_segments", "budget"), [(12, 96), (40, 300)])
def test_intervals_cover_what_they_say(kind, n_segments, budget):
    """Over 200 seeds, of all segments; the standard error of that share is under 1 %."""
    game = network_game(n_segments, seed=1)
    truth = (
        by_definition(game, n_segments, kind)
        if n_segments < 13
        else KINDS[kind](game, n_segments=n_segments, budget=20_000, seed=10**6).values
    )
    estimates = [KINDS[kind](game, n_segments=n_segments, budget=budget, seed=seed) for seed in range(200)]
    covered = [(low <= truth) & (truth <= high) for low, high in (e.interval() for e in estimates)]
    assert 0.92 <= np.mean(covered) <= 0.98
    errors = np.array([estimate.values - truth for estimate in estimates])
    told = np.mean([estimate.standard_errors**2 for estimate in estimates])
    assert told == pytest.approx(np.square(errors).mean(), rel=0.2)
    assert abs(errors.mean(0)).max() < 5 * errors.std(0).max() / 200**0.5


def test_the_forecast_halves_the_errors():
    game = network_game(40, seed=1)
    first = shapley_values(game, n_segments=40, budget=320)
    second = shapley_values(game, n_segments=40, budget=first.forecast)
    ratio = np.sqrt((second.standard_errors**2).mean() / (first.standard_errors**2).mean())
    assert 0.4 < ratio < 0.6


def test_pairs_leave_smaller_errors_than_captums_draws():
    """Captum's ``KernelShap`` draws single coalitions by KernelSHAP's weights."""
    import torch
    from captum.attr import KernelShap

    game = network_game(30, seed=2)
    truth = shapley_values(game, n_segments=30, budget=20_000, seed=10**6).values
    ours, captums = [], []
    captum = KernelShap(lambda x: torch.from_numpy(game(x.numpy() > 0)))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for seed in range(4):
            ours.append(shapley_values(game, n_segments=30, budget=240, seed=seed).values)
            drawn = captum.attribute(torch.ones(1, 30), n_samples=240, perturbations_per_eval=240)
            captums.append(drawn[0].numpy())
    assert np.square(captums - truth).mean() > 1.3 * np.square(ours - truth).mean()


def test_shap_agrees_within_the_errors():
    shap = pytest.importorskip("shap")
    game = network_game(12)
    exact = by_definition(game, 12, "shapley")
    nothing, whole = np.zeros((1, 12)), np.ones((1, 12))
    by_rows = lambda rows: game(rows > 0)  # noqa: E731
    kernel = shap.KernelExplainer(by_rows, nothing).shap_values(
        whole, nsamples=5000, l1_reg=False, silent=True
    )
    assert kernel[0] == pytest.approx(exact, abs=1e-6)
    masker = shap.maskers.Independent(nothing)
    permutation = shap.PermutationExplainer(by_rows, masker, seed=0)(whole, max_evals=250, silent=True)
    ours = shapley_values(game, n_segments=12, budget=250)
    assert ours.values == pytest.approx(permutation.values[0], abs=10 * ours.standard_errors.max())
    assert ours.values == pytest.approx(exact, abs=4 * ours.standard_errors.max())


def test_shapiq_agrees_within_the_errors():
    shapiq = pytest.importorskip("shapiq")
    game = network_game(12)
    one_or_more = lambda rows: game(np.atleast_2d(rows))  # noqa: E731
    exact = shapiq.ExactComputer(one_or_more, n_players=12)("SV", 1).get_n_order_values(1)
    theirs = shapiq.KernelSHAP(n=12, random_state=0).approximate(500, one_or_more).get_n_order_values(1)
    ours = shapley_values(game, n_segments=12, budget=500)
    assert ours.values == pytest.approx(exact, abs=4 * ours.standard_errors.max())
    assert ours.values == pytest.approx(theirs, abs=10 * ours.standard_errors.max())


def test_before_it_is_determined_the_errors_are_unknown():
    for values in KINDS.values():
        estimate = values(network_game(20), n_segments=20, budget=22)
        assert np.isinf(estimate.standard_errors).all() and np.isfinite(estimate.values).all()


def test_a_game_of_equal_values_has_none():
    for values in KINDS.values():
        estimate = values(lambda z: np.full(len(z), 0.3), n_segments=30)
        assert (estimate.values == 0).all() and (estimate.standard_errors == 0).all()
        assert (estimate.ended, estimate.evaluations) == ("tolerance", 128)


def test_the_difference_of_two_games_is_surer_than_either():
    first = network_game(15)
    second = lambda z: 0.9 * first(z) + 0.005 * network_game(15, seed=1)(z)  # noqa: E731
    estimator = ShapleyEstimator(15)
    both = run(estimator, Together([first, second]), budget=200)
    difference = estimator.combined(np.array([1.0, -1.0])).estimate()
    assert both.values.shape == (15, 2) and difference.values.shape == (15,)
    assert difference.values == pytest.approx(both.values[:, 0] - both.values[:, 1])
    alone = shapley_values(lambda z: first(z) - second(z), n_segments=15, budget=200)
    assert difference.standard_errors == pytest.approx(alone.standard_errors)
    assert (difference.standard_errors < both.standard_errors.min(1) / 2).all()


def test_the_targets_are_estimated_as_if_alone():
    game = network_game(10, targets=3)
    together = shapley_values(game, n_segments=10, budget=200)
    for target in range(3):
        alone = shapley_values(lambda z, t=target: game(z)[:, t], n_segments=10, budget=200)
        assert together.values[:, target] == pytest.approx(alone.values, abs=1e-12)
        assert together.standard_errors[:, target] == pytest.approx(alone.standard_errors)
