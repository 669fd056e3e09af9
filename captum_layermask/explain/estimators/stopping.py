"""When the answer is settled: by budget, by tolerance, or by the k strongest."""

from __future__ import annotations

import numpy as np

from captum_layermask.errors import InputError, require_positive
from captum_layermask.explain.estimators.base import Estimator
from captum_layermask.explain.estimators.estimate import Ended, Estimate

__all__ = ["Goals"]

#: What is wanted if nothing is.
_TOLERANCE = 0.05

#: How many standard errors the difference of two values must have to be told from 0, at 95 %.
_TOLD_APART = 1.96

#: Errors below this share of the largest value of the game are those of float32, and more evaluations leave
#: them.
_ROUNDING = 2.0**-20


class Goals:
    """What ends a run of an estimator, apart from its budget.

    Args:
        estimator: the one that runs.
        budget: evaluations in all.
        tolerance: the largest standard error, as a share of the range of the values; 0.05 if nothing ends
            the run.
        top_k: how many values, largest in size, are to be told apart from the others. Several targets must
            all reach a goal.

    Raises:
        InputError: a budget that is too small, or a goal that cannot be reached.
    """

    def __init__(
        self, estimator: Estimator, *, budget: int | None, tolerance: float | None, top_k: int | None
    ) -> None:
        segments = estimator.n_segments
        require_positive("the budget", budget)
        if budget is not None and budget < estimator.least_budget:
            raise InputError(
                f"the budget is {budget} evaluations, and {segments} segments take at least "
                f"{estimator.least_budget}; give a larger one, or fewer segments."
            )
        if tolerance is not None and not 0 < tolerance < 1:
            raise InputError(
                f"the tolerance is {tolerance}; give a share of the range of the values between 0 and 1, "
                "such as 0.05."
            )
        if top_k is not None and not 1 <= top_k < segments:
            some = f"give 1 to {segments - 1}" if segments > 1 else "leave it out"
            raise InputError(f"top_k is {top_k} of {segments} segments; {some}.")
        if budget is tolerance is top_k is None and not estimator.ends:
            tolerance = _TOLERANCE
        self._estimator, self._budget, self._tolerance, self._top_k = estimator, budget, tolerance, top_k

    def reached(self) -> Ended | None:
        """Which goal the estimator has reached, if it has reached one."""
        if (self._tolerance, self._top_k) == (None, None):
            return None
        if self._estimator.evaluations < self._estimator.trusted_from:
            return None
        estimate = self._estimator.estimate()
        if self._tolerance is not None and self._excess(estimate) <= 1:
            return "tolerance"
        if self._top_k is not None and self._told_apart(estimate):
            return "top_k"
        return None

    def forecast(self) -> int | None:
        """About how many evaluations the run will take in all; None where nothing tells."""
        known = self._estimator.evaluations >= self._estimator.trusted_from
        if self._tolerance is None or not known:
            return self._budget
        excess = self._excess(self._estimator.estimate())
        wanted = self._estimator.forecast(1 / max(excess, 1.0))
        return wanted if self._budget is None else min(wanted, self._budget)

    def _excess(self, estimate: Estimate) -> float:
        """By how much the largest error is too large."""
        assert self._tolerance is not None
        allowed = np.maximum(self._tolerance * np.ptp(estimate.values, axis=0), self._rounding())
        errors = estimate.standard_errors.max(axis=0)
        return float(np.divide(errors, allowed, out=np.zeros_like(errors), where=errors > 0).max())

    def _told_apart(self, estimate: Estimate) -> bool:
        """Whether each of the k strongest is larger in size than each other one, by more than chance."""
        assert self._top_k is not None
        sizes, errors = (
            column.reshape(len(column), -1) for column in (abs(estimate.values), estimate.standard_errors)
        )
        order = (-sizes).argsort(axis=0, kind="stable")
        sizes, errors = (np.take_along_axis(column, order, axis=0) for column in (sizes, errors))
        leads = sizes[: self._top_k, None] - sizes[None, self._top_k :]
        variances = errors[: self._top_k, None] ** 2 + errors[None, self._top_k :] ** 2
        return bool((leads > _TOLD_APART * np.sqrt(variances)).all())

    def _rounding(self) -> np.ndarray:
        return _ROUNDING * abs(self._estimator.values).max(axis=0)
