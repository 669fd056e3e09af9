"""The loop of every estimator: draw, evaluate, and stop when the answer is settled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tqdm.auto import tqdm

from captum_layermask.errors import InputError
from captum_layermask.explain.estimators.base import Estimator
from captum_layermask.explain.estimators.estimate import Ended, Estimate
from captum_layermask.explain.estimators.stopping import Goals

__all__ = ["Game", "count_segments", "run"]

#: bool K×S, True = visible → K or K×T numbers. ``Coalitions`` is one.
Game = Callable[[Any], Any]

#: Coalitions per call of the game. Calls begin at multiples of it, so that a run that was stopped and goes
#: on makes the calls that one at a stretch makes: a network's rounding may depend on the images of a batch.
_CALL = 32


def run(
    estimator: Estimator,
    game: Game,
    *,
    budget: int | None = None,
    tolerance: float | None = None,
    top_k: int | None = None,
    show_progress: bool = False,
    on_update: Callable[[Estimator], object] | None = None,
) -> Estimate:
    """Evaluate the estimator's coalitions until a goal is reached; what it holds already counts.

    Args:
        estimator: it draws, and keeps what came back; run it again to go on.
        game: bool K×S → float K or K×T, a ``Coalitions`` or any function of NumPy arrays.
        budget: evaluations in all.
        tolerance: end when the largest standard error is at most this share of the range of the values.
        top_k: end when the k values that are largest in size are told apart from the others at 95 %.
        show_progress: show a progress bar on stderr, towards the end that is forecast.
        on_update: called with the estimator after each call of the game, to save its state, for example.

    Returns:
        The estimate, which says what ended it: the first goal that was reached, or Ctrl-C, after which all
        that was evaluated is there. (Before anything was, the ``KeyboardInterrupt`` goes on.) Without any
        goal, ``tolerance`` is 0.05.

    Raises:
        InputError: a budget that is too small, a goal that cannot be reached, or a game that returns
            something else than one finite number for each coalition and target.
    """
    goals = Goals(estimator, budget=budget, tolerance=tolerance, top_k=top_k)
    ended: Ended | None = None
    with tqdm(disable=not show_progress, unit="coalition", initial=estimator.evaluations) as bar:
        try:
            while not estimator.finished:
                done = estimator.evaluations
                ended = goals.reached() if _is_checked(done) else None
                if ended is None and budget is not None and done >= budget:
                    ended = "budget"
                if ended is not None:
                    break
                until = (done // _CALL + 1) * _CALL
                coalitions = estimator.draw((until if budget is None else min(until, budget)) - done)
                estimator.update(coalitions, game(coalitions), getattr(game, "vanished", None))
                if show_progress:
                    bar.total = goals.forecast()
                bar.update(len(coalitions))
                if on_update is not None:
                    on_update(estimator)
        except KeyboardInterrupt:
            if estimator.evaluations == 0:
                raise
            ended = "interrupted"
    return replace(estimator.estimate(), ended=ended or "exact")


def count_segments(game: Game, n_segments: int | None) -> int:
    """How many segments a game has: those of a ``Coalitions``, and of other functions what is given.

    Raises:
        InputError: neither tells, or both do, and differ.
    """
    known = getattr(game, "n_segments", None)
    if known is None and n_segments is None:
        raise InputError("the game does not tell how many segments it has; give n_segments.")
    if None not in (known, n_segments) and known != n_segments:
        raise InputError(f"the game has {known} segments, and n_segments is {n_segments}; leave it out.")
    return n_segments if n_segments is not None else int(known)  # type: ignore[arg-type]


def _is_checked(evaluations: int) -> bool:
    """Whether goals are looked at after so many: at steps of an eighth, and of 32 at least.

    That depends on nothing else, so a run that was stopped in between ends where one at a stretch does.
    """
    check = 0
    while check < evaluations:
        check += max(_CALL, check // 8 // _CALL * _CALL)
    return check == evaluations
