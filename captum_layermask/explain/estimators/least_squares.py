"""Weighted least squares over coalitions, and how far its coefficients may be off."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Fit", "weighted_fit"]

#: Directions in which the coalitions differ by less than this share of the most are none.
_NEGLIGIBLE = 1e-10


@dataclass(frozen=True)
class Fit:
    """Coefficients of S segments, fitted to N observations of T targets.

    Attributes:
        coefficients: float64 S×T.
        influence: float64 S×N; ``influence @ targets`` are the coefficients.
        residuals: float64 N×T, each divided by √(1 − its leverage): MacKinnon and White's (1985) HC2, by
            which its square has the variance of the error that it stands for, where all variances are alike.
        spare: how many more observations there are than directions that they determine.
    """

    coefficients: np.ndarray
    influence: np.ndarray
    residuals: np.ndarray
    spare: int

    def standard_errors(self, chance: np.ndarray | None = None, *, paired: bool = False) -> np.ndarray:
        """Heteroscedasticity-robust standard errors (White, 1980, in the version HC2): float64 S×T.

        Args:
            chance: float N, the share of each observation's variance that is left; 0 if it was bound to be
                drawn.
            paired: whether observations 0 and 1, 2 and 3, … were drawn together, so that their errors go
                together.
        """
        scatter = self.residuals**2
        if chance is not None:
            scatter = scatter * chance[:, None]
        if self.spare <= 0 and scatter.any():
            return np.full_like(self.coefficients, np.inf)
        variances = self.influence**2 @ scatter
        if paired:
            influence, residuals = self.influence, self.residuals
            variances += 2 * (influence[:, ::2] * influence[:, 1::2]) @ (residuals[::2] * residuals[1::2])
        return np.sqrt(np.maximum(variances, 0.0))


def weighted_fit(
    features: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray,
    *,
    penalty: float = 0.0,
    fitted_before: np.ndarray | float = 0.0,
) -> Fit:
    """Minimise Σ w (target − features · β)² + penalty · |β|²; of all that do, take the shortest β.

    Args:
        features: float64 N×S.
        targets: float64 N×T.
        weights: float64 N, not negative.
        penalty: of the ridge; 0 is none.
        fitted_before: float N, leverages of what was taken off the features and targets, such as their mean.
    """
    weighted = features * weights[:, None]
    scales, directions = np.linalg.eigh(weighted.T @ features + penalty * np.eye(features.shape[1]))
    found = scales > _NEGLIGIBLE * scales[-1]
    inverse = (directions[:, found] / scales[found]) @ directions[:, found].T
    influence = inverse @ weighted.T
    coefficients = influence @ targets
    leverages = np.einsum("ns,sn->n", features, influence) + fitted_before
    unexplained = np.maximum(1 - leverages, _NEGLIGIBLE)
    residuals = (targets - features @ coefficients) / np.sqrt(unexplained)[:, None]
    return Fit(coefficients, influence, residuals, spare=len(features) - int(found.sum()))
