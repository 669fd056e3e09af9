"""What an estimator knows so far: values, their errors, and why it ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import stdtrit

__all__ = ["Ended", "Estimate"]

Ended = Literal["exact", "tolerance", "top_k", "budget", "interrupted"]


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
