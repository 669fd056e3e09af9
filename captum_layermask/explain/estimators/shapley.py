"""Shapley values: what a segment adds, on average over all orders in which segments may appear."""

from __future__ import annotations

import numpy as np

from captum_layermask.explain.estimators.design import shapley_weights
from captum_layermask.explain.estimators.driver import Game, count_segments, run
from captum_layermask.explain.estimators.estimate import Estimate
from captum_layermask.explain.estimators.paired import PairedEstimator

__all__ = ["ShapleyEstimator", "shapley_values"]


class ShapleyEstimator(PairedEstimator):
    """Shapley values by the constrained regression of KernelSHAP (Lundberg and Lee, 2017), of pairs.

    They add up to the value of the whole image less that of the empty one, exactly. Their errors are those of
    the regression, robust to pairs that scatter differently (HC2), less what sizes have no chance left that
    were drawn in part or altogether: the correction for finite populations, by which errors end at 0 when
    all 2^S coalitions have been drawn.

    Args:
        n_segments: S.
        seed: of the stream.
        sampling: see ``BanzhafEstimator``.

    Example:
        ```python
        estimator = ShapleyEstimator(63)
        estimate = run(estimator, coalitions, budget=512)
        estimate = run(estimator, coalitions, budget=1024)  # goes on from there
        banzhaf = BanzhafEstimator.from_state(estimator.state()).estimate()
        ```
    """

    _efficient = True

    def __init__(self, n_segments: int, *, seed: int = 0, sampling: str = "shapley") -> None:
        super().__init__(n_segments, seed=seed, sampling=sampling)

    def _weights(self) -> np.ndarray:
        return shapley_weights(self.n_segments)


def shapley_values(
    game: Game,
    *,
    budget: int | None = None,
    tolerance: float | None = None,
    top_k: int | None = None,
    n_segments: int | None = None,
    seed: int = 0,
    show_progress: bool = False,
) -> Estimate:
    """Estimate Shapley values, as ``ShapleyEstimator`` does.

    Args:
        game: bool K×S → float K, or K×T for several targets: a ``Coalitions``, or any function of NumPy
            arrays.
        budget: evaluations in all. Where it allows all 2^S coalitions, the values are exact.
        tolerance: end when the largest standard error is at most this share of the range of the values. It is
            0.05 if no goal is given.
        top_k: end when the k values that are largest in size are told apart from the others at 95 %.
        n_segments: S, for a game that does not tell.
        seed: of the coalitions; the same seed gives the same values.
        show_progress: show a progress bar on stderr.

    Returns:
        Values and standard errors, and what ended the run: the goal that was reached first, or Ctrl-C.

    Raises:
        InputError: a budget below S + 2 (and 2^S), a goal that cannot be reached, or a game that returns
            something else than one finite number for each coalition and target.

    Example:
        ```python
        coalitions = Coalitions(forward, image, segments, target=281, activation="softmax")
        estimate = shapley_values(coalitions, tolerance=0.05)
        low, high = estimate.interval()
        ```
    """
    estimator = ShapleyEstimator(count_segments(game, n_segments), seed=seed)
    return run(estimator, game, budget=budget, tolerance=tolerance, top_k=top_k, show_progress=show_progress)
