"""What an estimator knows so far: values, their errors, and why it ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import stdtrit

__all__ = ["Ended", "Estimate", "in_words"]

Ended = Literal["exact", "tolerance", "top_k", "budget", "interrupted"]

_ENDINGS: dict[Ended, str] = {
    "exact": "nothing is left to chance",
    "tolerance": "the tolerance is reached",
    "top_k": "the strongest are told apart",
    "budget": "the budget is spent",
    "interrupted": "interrupted",
}


@dataclass(frozen=True)
class Estimate:
    """Attributions of the segments of one image, and how sure they are.

    Attributes:
        values: float64 S, one number per segment; S×T for several targets. In the units of the game.
        standard_errors: float64 of the same shape: the standard deviation of ``values`` over seeds, as
            estimated from this run. 0 where nothing is left to chance, inf where there are too few
            evaluations to tell.
        freedom: degrees of freedom: how many observations the standard errors rest on, beyond those that
            determine the values; inf where that plays no part.
        evaluations: coalitions evaluated.
        forecast: about how many evaluations, these included, would halve the errors.
        vanished: how many of the coalitions had visible pixels and lost them all on the way to the head; None
            where the game does not tell.
        ended: what ended the run: ``"exact"``, all that counts was evaluated; ``"tolerance"`` or ``"top_k"``,
            what was wanted was reached; ``"budget"``; or ``"interrupted"``, which an estimate in between is
            too.

    Example:
        ```python
        estimate = shapley_values(coalitions, budget=512)
        low, high = estimate.interval()  # 95 %
        ```
    """

    values: np.ndarray
    standard_errors: np.ndarray
    freedom: float
    evaluations: int
    forecast: int
    vanished: int | None
    ended: Ended

    @property
    def converged(self) -> bool:
        """Whether it ended because the answer was settled."""
        return self.ended in ("exact", "tolerance", "top_k")

    def interval(self, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper ends of Student's confidence intervals, each of the shape of ``values``."""
        errors = float(stdtrit(min(max(self.freedom, 1.0), 1e9), (1 + confidence) / 2))
        reach = errors * self.standard_errors
        return self.values - reach, self.values + reach


def in_words(estimate: Estimate) -> str:
    """How many evaluations, the largest error, what ended it, and what it takes to halve the errors."""
    largest = float(estimate.standard_errors.max())
    error = f"largest standard error {largest:.2g}" if np.isfinite(largest) else "errors not known yet"
    told = f"{estimate.evaluations} evaluations, {error}: {_ENDINGS[estimate.ended]}"
    further = estimate.ended != "exact" and estimate.forecast > estimate.evaluations
    return f"{told}; about {estimate.forecast} would halve the errors" if further else told
