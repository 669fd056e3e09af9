"""Leave one out: what the whole image loses with a segment, which is feature ablation over segments."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from captum_layermask.explain.estimators.base import Estimator
from captum_layermask.explain.estimators.driver import Game, count_segments, run
from captum_layermask.explain.estimators.estimate import Estimate

__all__ = ["LeaveOneOutEstimator", "leave_one_out"]


class LeaveOneOutEstimator(Estimator):
    """The value of the whole image less that without a segment. Nothing is left to chance.

    Until all S + 1 coalitions are evaluated, the values of the others are nan and their errors inf.

    Args:
        n_segments: S.
        seed: not used.
    """

    ends: ClassVar[bool] = True

    @property
    def least_budget(self) -> int:
        """All of it."""
        return self.n_segments + 1

    def _coalitions(self) -> Iterator[np.ndarray]:
        yield np.ones(self.n_segments, bool)
        yield from ~np.eye(self.n_segments, dtype=bool)

    def _estimated(self) -> tuple[np.ndarray, np.ndarray, float]:
        whole, *without = self.values.reshape(self.evaluations, -1)
        values = np.full((self.n_segments, len(whole)), np.nan)
        for segment, value in enumerate(without):
            values[segment] = whole - value
        return values, np.where(np.isnan(values), np.inf, 0.0), np.inf


def leave_one_out(game: Game, *, n_segments: int | None = None, show_progress: bool = False) -> Estimate:
    """Compute what the value of the whole image loses without each segment, by S + 1 evaluations.

    Args:
        game: bool K×S → float K, or K×T for several targets: a ``Coalitions``, or any function of NumPy
            arrays.
        n_segments: S, for a game that does not tell.
        show_progress: show a progress bar on stderr.

    Returns:
        The values, with errors of 0. After Ctrl-C those of segments that are not evaluated are nan.

    Raises:
        InputError: a game that returns something else than one finite number for each coalition and target.
    """
    return run(LeaveOneOutEstimator(count_segments(game, n_segments)), game, show_progress=show_progress)
