"""Runs end when they should, say why, lose nothing, and go on as if they had never stopped."""

import io

import numpy as np
import pytest
import torch
from drawn_games import network_game

from captum_layermask import InputError
from captum_layermask.explain.estimators import base
from captum_layermask.explain.estimators.banzhaf import BanzhafEstimator, banzhaf_values
from captum_layermask.explain.estimators.driver import run
from captum_layermask.explain.estimators.games import Together
from captum_layermask.explain.estimators.leave_one_out import LeaveOneOutEstimator, leave_one_out
from captum_layermask.explain.estimators.lime import LimeEstimator, lime_weights
from captum_layermask.explain.estimators.rise import RiseEstimator
from captum_layermask.explain.estimators.shapley import ShapleyEstimator, shapley_values


def GAME(visible, game=network_game(20, seed=1)):  # noqa: B008
    """Row by row, so that no value depends on those it is computed with."""
    return np.array([game(row[None])[0] for row in visible])


MADE = {
    "shapley": lambda: ShapleyEstimator(20, seed=3),
    "banzhaf": lambda: BanzhafEstimator(20, seed=3),
    "lime": lambda: LimeEstimator(20, seed=3),
    "paired lime": lambda: LimeEstimator(
        20, seed=3, paired=True, energies=np.arange(20), kernel_width=1.0, penalty=0.5
    ),
    "leave one out": lambda: LeaveOneOutEstimator(20),
    "rise": lambda: RiseEstimator((4, 5), seed=3, cells=2, probability=0.4),
}


class Stopping:
    """A game that is interrupted in one of its calls."""

    def __init__(self, game, call, error=KeyboardInterrupt):
        self.game, self.left, self.error = game, call, error

    def __call__(self, visible):
        self.left -= 1
        if self.left == 0:
            raise self.error
        return self.game(visible)


def same(one, two):
    return all(
        np.array_equal(getattr(one, name), getattr(two, name), equal_nan=True)
        for name in ("values", "standard_errors")
    ) and (one.evaluations, one.ended) == (two.evaluations, two.ended)


def through_a_file(estimator):
    """Save and load, without pickles."""
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **estimator.state())
    file.seek(0)
    with np.load(file, allow_pickle=False) as state:
        return type(estimator).from_state(state)


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("goal", [{"budget": 400}, {"tolerance": 0.04, "budget": 3000}])
def test_a_killed_run_goes_on_from_its_file_and_ends_to_the_bit_as_one_that_was_not(name, goal):
    straight = run(MADE[name](), GAME, **goal)
    estimator, files = MADE[name](), []
    call = 1 if name == "leave one out" else 5
    with pytest.raises(RuntimeError):
        run(
            estimator,
            Stopping(GAME, call, RuntimeError),
            on_update=lambda e: files.append(through_a_file(e)),
            **goal,
        )
    resumed = files[-1] if files else through_a_file(estimator)
    assert resumed.evaluations == estimator.evaluations == 32 * (call - 1)
    assert same(run(resumed, GAME, **goal), straight)


@pytest.mark.parametrize("name", MADE)
def test_ctrl_c_returns_what_is_there_and_the_run_can_go_on(name):
    estimator = MADE[name]()
    if name == "leave one out":
        estimator.update(estimator.draw(5), GAME(estimator.draw(5)))
    estimate = run(estimator, Stopping(GAME, 1 if name == "leave one out" else 4), budget=400)
    assert (estimate.ended, estimate.converged) == ("interrupted", False)
    assert estimate.evaluations == (5 if name == "leave one out" else 96)
    assert estimate.values.shape == (20,)
    assert same(run(estimator, GAME, budget=400), run(MADE[name](), GAME, budget=400))


def test_ctrl_c_before_anything_is_there_goes_on():
    with pytest.raises(KeyboardInterrupt):
        run(ShapleyEstimator(20), Stopping(GAME, 1), budget=400)


def test_ctrl_c_while_coalitions_are_drawn_does_not_end_the_stream():
    class Interrupted(ShapleyEstimator):
        calls = 0

        def _coalitions(self):
            for i, row in enumerate(super()._coalitions()):
                if i == 50 and type(self).calls == 0:
                    type(self).calls = 1
                    raise KeyboardInterrupt
                yield row

    estimator = Interrupted(20)
    assert run(estimator, GAME, budget=400).ended == "interrupted"
    assert same(run(estimator, GAME, budget=400), run(ShapleyEstimator(20), GAME, budget=400))


@pytest.mark.parametrize("name", MADE)
def test_a_larger_budget_goes_on_from_a_smaller_one(name):
    estimator, calls = MADE[name](), []

    def game(visible):
        calls.append(len(visible))
        return GAME(visible)

    run(estimator, game, budget=100)
    assert same(run(estimator, game, budget=401), run(MADE[name](), GAME, budget=401))
    assert sum(calls) == estimator.evaluations == (21 if name == "leave one out" else 401)


def test_calls_begin_at_the_same_coalitions_wherever_a_run_was_stopped():
    """What a network computes may depend, in its last bits, on the other images of a batch."""
    estimator, sizes = ShapleyEstimator(20), []
    for budget in (100, 200):
        run(estimator, lambda z: sizes.append(len(z)) or GAME(z), budget=budget)
    assert sizes == [32, 32, 32, 4, 28, 32, 32, 8]


def test_rounding_is_no_scatter_to_go_on_for():
    """Values that are equal but for their last bits in float32 end a run at once."""
    estimate = shapley_values(lambda z: 1 + 1e-7 * np.sin(1e3 * GAME(z)), n_segments=20)
    assert (estimate.ended, estimate.evaluations) == ("tolerance", 96)


@pytest.mark.parametrize("values", [shapley_values, banzhaf_values, lime_weights])
def test_each_goal_ends_a_run_and_says_so(values):
    by_tolerance = values(GAME, n_segments=20, tolerance=0.03)
    assert (by_tolerance.ended, by_tolerance.converged) == ("tolerance", True)
    assert by_tolerance.standard_errors.max() <= 0.03 * np.ptp(by_tolerance.values)
    by_default = values(GAME, n_segments=20)
    assert by_default.ended == "tolerance" and by_default.evaluations < by_tolerance.evaluations
    assert by_default.standard_errors.max() <= 0.05 * np.ptp(by_default.values)
    by_top = values(GAME, n_segments=20, top_k=2)
    assert (by_top.ended, by_top.converged) == ("top_k", True)
    sizes = np.sort(abs(by_top.values))[::-1]
    assert sizes[1] - sizes[2] > 1.96 * by_top.standard_errors.min() * 2**0.5
    by_budget = values(GAME, n_segments=20, budget=96, tolerance=0.001, top_k=2)
    assert (by_budget.ended, by_budget.converged, by_budget.evaluations) == ("budget", False, 96)
    assert by_budget.forecast > 2 * 96


def test_top_k_takes_longer_for_those_that_are_nearly_alike():
    def game(visible):
        mixed = visible.copy()
        mixed[:, 1] = mixed[:, 2] = visible[:, 1] ^ visible[:, 2]  # the same for both, and not linear
        return visible @ np.array([5, 3, 2.9999, *np.zeros(17)]) + GAME(mixed)

    assert shapley_values(game, n_segments=20, top_k=1).evaluations < 200
    assert shapley_values(game, n_segments=20, top_k=2, budget=600).ended == "budget"
    assert shapley_values(game, n_segments=20, top_k=3).evaluations < 200


def test_several_targets_must_all_be_settled():
    both = lambda z: np.stack([GAME(z), network_game(20, seed=5)(z)], 1)  # noqa: E731
    evaluations = [
        shapley_values(game, n_segments=20, tolerance=0.03).evaluations
        for game in (GAME, network_game(20, seed=5), both)
    ]
    assert evaluations[2] == max(evaluations) > min(evaluations)


def test_goals_that_cannot_be_reached_are_refused_before_anything_runs():
    def never(visible):
        raise AssertionError

    for values in (shapley_values, banzhaf_values, lime_weights):
        with pytest.raises(
            InputError, match="the budget is 21 evaluations, and 20 segments take at least 22"
        ):
            values(never, n_segments=20, budget=21)
        with pytest.raises(InputError, match="the budget is 0; give at least 1"):
            values(never, n_segments=20, budget=0)
        for tolerance in (0, 1, -0.1, 5, float("nan")):
            with pytest.raises(InputError, match="give a share of the range"):
                values(never, n_segments=20, tolerance=tolerance)
        for top_k in (0, 20, -1):
            with pytest.raises(InputError, match="of 20 segments; give 1 to 19"):
                values(never, n_segments=20, top_k=top_k)
        with pytest.raises(InputError, match="of 1 segments; leave it out"):
            values(never, n_segments=1, top_k=1)
        with pytest.raises(InputError, match="the number of segments is 0"):
            values(never, n_segments=0, budget=10)
        with pytest.raises(InputError, match="the seed is -1; give a whole number from 0"):
            values(never, n_segments=20, budget=100, seed=-1)
        with pytest.raises(InputError, match="does not tell how many segments it has; give n_segments"):
            values(never, budget=100)


@pytest.mark.parametrize("values", [shapley_values, banzhaf_values])
@pytest.mark.parametrize("n_segments", [1, 2])
def test_one_and_two_segments_are_few_and_exact(values, n_segments):
    game = network_game(n_segments)
    estimate = values(game, n_segments=n_segments)
    assert (estimate.ended, estimate.evaluations) == ("exact", 2**n_segments)
    assert estimate.values.sum() == pytest.approx(np.ptp(game(np.eye(2, n_segments) * 0 + [[0], [1]])), abs=1)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
@pytest.mark.parametrize("targets", [None, 2])
def test_a_value_that_is_no_number_is_named(wrong, targets):
    def game(visible):
        values = network_game(20, targets=targets)(visible)
        values[(visible == [True] * 20).all(1)] = wrong
        return values

    message = rf"returned \[.*{wrong}.*\] for the coalition of all segments \(evaluation 1, from 0\); it must"
    with pytest.raises(InputError, match=message):
        shapley_values(game, n_segments=20, budget=100)
    with pytest.raises(InputError, match=r"coalition of all segments but 4 \(evaluation 5"):
        leave_one_out(lambda z: np.where(z[:, 4], 1.0, np.nan), n_segments=20)
    rows = [np.eye(20, dtype=bool)[3], ~np.eye(20, dtype=bool)[3], np.zeros(20, bool)]
    described = [base._described(row) for row in rows]
    assert described == ["segments 3", "all segments but 3", "no segment"]


def test_after_a_value_that_is_no_number_the_rest_is_kept():
    calls = []

    def game(visible):
        calls.append(1)
        return np.full(len(visible), np.nan) if len(calls) == 3 else GAME(visible)

    estimator = ShapleyEstimator(20)
    with pytest.raises(InputError, match="evaluation 64"):
        run(estimator, game, budget=200)
    assert estimator.evaluations == 64
    assert same(run(estimator, GAME, budget=200), run(ShapleyEstimator(20), GAME, budget=200))


@pytest.mark.parametrize("shape", [(31,), (32, 0), (32, 2, 2), ()])
def test_values_of_another_shape_are_refused(shape):
    with pytest.raises(InputError, match="a number for each coalition and target"):
        shapley_values(lambda z: np.zeros(shape), n_segments=20, budget=100)
    calls = []

    def game(visible):
        calls.append(1)
        return np.zeros((32, 2)) if len(calls) == 2 else np.zeros(32)

    with pytest.raises(InputError, match="give 32, a number"):
        shapley_values(game, n_segments=20, budget=100)


def test_coalitions_must_be_those_that_were_drawn():
    estimator = ShapleyEstimator(20)
    drawn = estimator.draw(8)
    assert np.array_equal(estimator.draw(8), drawn)
    for other in (~drawn, drawn[1:], drawn[:0], drawn[0], drawn[:, :19]):
        with pytest.raises(InputError, match="not the coalitions that come next"):
            estimator.update(other, np.zeros(len(other)))
    with pytest.raises(InputError, match="nothing is evaluated yet"):
        estimator.estimate()
    estimator.update(drawn, torch.zeros(8))
    assert estimator.evaluations == 8 and not np.array_equal(estimator.draw(8), drawn)
    assert np.array_equal(estimator.coalitions, drawn) and estimator.values.dtype == np.float64


def test_a_state_of_another_stream_is_refused():
    estimator = ShapleyEstimator(20)
    run(estimator, GAME, budget=64)
    with pytest.raises(InputError, match="not those that are drawn from the seed here"):
        ShapleyEstimator.from_state(estimator.state() | {"seed": np.array(1)})


def test_vanished_coalitions_are_counted():
    class Vanishing:
        n_segments = 20
        vanished = None

        def __call__(self, visible):
            self.vanished = torch.from_numpy(visible.sum(1) == 1)
            return torch.from_numpy(GAME(visible))

    estimator = ShapleyEstimator(20)
    estimate = run(estimator, Vanishing(), budget=200)
    assert estimate.vanished == (estimator.coalitions.sum(1) == 1).sum() > 0
    assert ShapleyEstimator.from_state(estimator.state()).vanished == estimate.vanished
    assert run(ShapleyEstimator(20), Together([Vanishing(), GAME]), budget=200).vanished == estimate.vanished
    assert run(ShapleyEstimator(20), GAME, budget=200).vanished is None


def test_games_of_different_segments_are_not_together():
    class Sized:
        def __init__(self, n_segments):
            self.n_segments = n_segments

    with pytest.raises(InputError, match=r"2 games, of \[3, 4\] segments"):
        Together([Sized(3), Sized(4)])
    with pytest.raises(InputError, match="0 games"):
        Together([])
    assert Together([Sized(3), GAME]).n_segments == 3
    with pytest.raises(InputError, match="the game has 3 segments, and n_segments is 4"):
        shapley_values(Sized(3), n_segments=4)


def test_the_bar_counts_evaluations_towards_the_forecast(capsys):
    shapley_values(GAME, n_segments=20, budget=200, show_progress=True)
    assert "200/200" in capsys.readouterr().err
    shapley_values(GAME, n_segments=20, tolerance=0.03)
    assert not capsys.readouterr().err
