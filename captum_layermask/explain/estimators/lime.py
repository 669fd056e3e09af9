"""LIME's weights: a ridge regression on random coalitions, the nearer to the whole image the heavier."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from captum_layermask.errors import InputError
from captum_layermask.explain.estimators.base import Estimator
from captum_layermask.explain.estimators.driver import Game, count_segments, run
from captum_layermask.explain.estimators.estimate import Estimate
from captum_layermask.explain.estimators.least_squares import weighted_fit

__all__ = ["LimeEstimator", "lime_weights", "segment_energies"]


class LimeEstimator(Estimator):
    """The weights that LIME (Ribeiro et al., 2016) gives segments, with the errors of the regression.

    Coalitions show each segment with probability 1/2, the first shows all. They weigh exp(−d² / 2w²), d the
    cosine distance from the whole image, in a ridge regression with an intercept. The defaults are the
    definitions of the lime package (0.2); Captum's ``Lime`` (0.9) measures the distance in pixels, which
    ``energies=segment_energies(image, segments), kernel_width=1`` does.

    Standard errors are robust to heteroscedasticity (HC2, MacKinnon and White, 1985), and with
    ``paired=True`` to pairs that go together. They are of the scatter over seeds: by how much the penalty
    shrinks the weights, which depends on the number of samples too, is part of LIME's definition.

    Args:
        n_segments: S.
        seed: of the stream.
        kernel_width: w.
        energies: float S, how much of the image's squared norm each segment holds, in any unit; None is as
            much in each, so that the distance is that of 0/1 vectors.
        penalty: of the ridge.
        paired: let every other coalition be the complement of the one before. LIME does not.

    Raises:
        InputError: a width or energies that are not positive, or a penalty below 0.
    """

    settings: ClassVar[tuple[str, ...]] = ("n_segments", "kernel_width", "energies", "penalty", "paired")

    def __init__(
        self,
        n_segments: int,
        *,
        seed: int = 0,
        kernel_width: float = 0.25,
        energies: Sequence[float] | np.ndarray | None = None,
        penalty: float = 1.0,
        paired: bool = False,
    ) -> None:
        super().__init__(n_segments, seed=seed)
        if not kernel_width > 0 or not penalty >= 0:
            raise InputError(
                f"the kernel width is {kernel_width} and the penalty {penalty}; give a positive width, such "
                "as 0.25, and a penalty of 0 or more."
            )
        self.energies = np.ones(n_segments) if energies is None else np.array(energies, np.float64)
        positive = (self.energies >= 0).all() and self.energies.sum() > 0
        if self.energies.shape != (n_segments,) or not positive:
            raise InputError(
                f"the energies are {energies!r}; give {n_segments} numbers, one for each segment."
            )
        self.kernel_width, self.penalty, self.paired = kernel_width, penalty, paired

    @property
    def least_budget(self) -> int:
        """The whole image, the intercept, and one for each segment."""
        return self.n_segments + 2

    def _coalitions(self) -> Iterator[np.ndarray]:
        random = np.random.default_rng(self.seed)
        coalition = np.ones(self.n_segments, bool)
        while True:
            yield coalition
            if self.paired:
                yield ~coalition
            coalition = random.random(self.n_segments) < 0.5

    def _estimated(self) -> tuple[np.ndarray, np.ndarray, float]:
        values = self.values.reshape(self.evaluations, -1)
        count = len(values) - len(values) % 2 if self.paired and len(values) > 1 else len(values)
        features, targets = self.coalitions[:count].astype(np.float64), values[:count]
        distances = 1 - np.sqrt(features @ self.energies / self.energies.sum())
        weights = np.exp(-(distances**2) / (2 * self.kernel_width**2))
        shares = weights / weights.sum()
        fit = weighted_fit(
            features - shares @ features,
            targets - shares @ targets,
            weights,
            penalty=self.penalty,
            fitted_before=shares,
        )
        paired = self.paired and count > 1
        # a pair is one observation, and the intercept takes another
        freedom = (count // 2 if paired else count) - 1 - self.n_segments
        return fit.coefficients, fit.standard_errors(paired=paired), float(freedom)


def segment_energies(image: Tensor, segments: Tensor) -> np.ndarray:
    """The sum of squares of the pixels of each segment, by which Captum's LIME measures distances.

    Args:
        image: float 1×C×H×W, as the forward takes it.
        segments: LongTensor 1×1×H×W, ids from 0.

    Returns:
        Float64 S.
    """
    energies = image.detach().double().square().sum(1).flatten()
    return torch.bincount(segments.flatten(), weights=energies).cpu().numpy()


def lime_weights(
    game: Game,
    *,
    budget: int | None = None,
    tolerance: float | None = None,
    top_k: int | None = None,
    n_segments: int | None = None,
    kernel_width: float = 0.25,
    energies: Sequence[float] | np.ndarray | None = None,
    penalty: float = 1.0,
    paired: bool = False,
    seed: int = 0,
    show_progress: bool = False,
) -> Estimate:
    """Estimate LIME's weights (the other arguments, the estimate and the errors: as for ``shapley_values``).

    Args:
        game: bool K×S → float K, or K×T for several targets.
        budget: evaluations in all.
        tolerance: as a share of the range of the weights.
        top_k: how many of the strongest to tell apart from the others.
        n_segments: S, for a game that does not tell.
        kernel_width: as for ``LimeEstimator``.
        energies: likewise.
        penalty: likewise.
        paired: likewise.
        seed: of the coalitions.
        show_progress: show a progress bar on stderr.
    """
    estimator = LimeEstimator(
        count_segments(game, n_segments),
        seed=seed,
        kernel_width=kernel_width,
        energies=energies,
        penalty=penalty,
        paired=paired,
    )
    return run(estimator, game, budget=budget, tolerance=tolerance, top_k=top_k, show_progress=show_progress)
