"""A linear model fitted to pairs of complements, which gives Shapley and Banzhaf values."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from captum_layermask.explain.estimators.base import Estimator
from captum_layermask.explain.estimators.design import (
    banzhaf_weights,
    pair_counts,
    pairs,
    shapley_shares,
    size_curves,
)
from captum_layermask.explain.estimators.least_squares import weighted_fit

__all__ = ["PairedEstimator"]

_SHARES = {"shapley": shapley_shares, "banzhaf": banzhaf_weights}


class PairedEstimator(Estimator):
    """A linear model of the game, Σ φ over the visible segments, fitted to pairs of complements.

    Of a pair's two values only half their difference counts, a regression on the features ±1/2: the rest of
    them cancels in the normal equations. So the interactions of two segments, and all of even order, leave
    no error. (Covert and Lee, AISTATS 2021, section 4.)

    Args:
        n_segments: S.
        seed: of the stream.
        sampling: the values that the stream of coalitions is drawn for, ``"shapley"`` or ``"banzhaf"``. Both
            values can be estimated from either stream, each best from its own.
    """

    settings: ClassVar[tuple[str, ...]] = ("n_segments", "sampling")
    _efficient: ClassVar[bool]

    def __init__(self, n_segments: int, *, seed: int = 0, sampling: str) -> None:
        self.sampling = sampling
        super().__init__(n_segments, seed=seed)

    @property
    def least_budget(self) -> int:
        """The empty coalition, the whole image, and one for each segment; or all that there are."""
        return min(self.n_segments + 2, 2**self.n_segments)

    def forecast(self, factor: float) -> int:
        """About how many evaluations, those so far included, would multiply the errors by ``factor``.

        What determines S values has no error to spare: it is the rest that the variance falls with.
        """
        spare = max(1, len(self.values) // 2 - self.n_segments)
        return min(2 * (self.n_segments + round(spare / factor**2)), 2**self.n_segments)

    @abstractmethod
    def _weights(self) -> np.ndarray:
        """Of all pairs of each size together, as the functions of ``design.py`` give them."""

    def _coalitions(self) -> Iterator[np.ndarray]:
        for coalition in pairs(self.n_segments, _SHARES[self.sampling](self.n_segments), self.seed):
            yield coalition
            yield ~coalition

    def _estimated(self) -> tuple[np.ndarray, np.ndarray, float]:
        count = len(self.values) // 2 * 2  # a pair of which one half is evaluated waits for the other
        values = self.values.reshape(len(self.values), -1)[:count]
        if not count:
            nothing = np.zeros((self.n_segments, values.shape[1]))
            return nothing, np.full_like(nothing, np.inf), 0.0
        features = self.coalitions[:count:2] - 0.5
        targets = (values[::2] - values[1::2]) / 2
        sizes = (features > 0).sum(1)
        drawn = np.bincount(sizes, minlength=self.n_segments // 2 + 1)
        weights = (self._weights() / np.maximum(drawn, 1))[sizes]
        chance = (1 - drawn / pair_counts(self.n_segments))[sizes]
        curves = size_curves(self._weights(), self.n_segments)
        share = np.zeros_like(targets[0])
        if self._efficient:
            # The empty coalition and the whole image come first. What the values must add up to is shared out
            # evenly, and the regression is on how they differ, which no curve over the sizes can tell.
            share = -2 * targets[0] / self.n_segments
            targets = targets - features.sum(1, keepdims=True) * share
            features = features - features.mean(1, keepdims=True)
        else:
            curves = curves[:, 1:]  # the straight one is the sum of the features
        used = weights > 0
        fit = weighted_fit(np.hstack([features, curves[sizes]])[used], targets[used], weights[used])
        errors = fit.standard_errors(chance[used])
        return fit.coefficients[: self.n_segments] + share, errors[: self.n_segments], fit.spare
