"""What predictions are worth while more and more of the images is removed: §4.1 of the paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import trapezoid
from torch import Tensor

from captum_layermask.errors import InputError
from captum_layermask.metrics.checks import check_classes, check_pair
from captum_layermask.metrics.mean import Mean, Metric
from captum_layermask.metrics.wordnet import wu_palmer_table

__all__ = ["ClassEntropy", "UnchangedPredictions", "WordNetSimilarity", "area_under_curve"]


class ClassEntropy(Metric):  # type: ignore[misc]
    """Entropy of the histogram of predicted classes, in nats: from 0 (one class) to log(num_classes).

    −Σ p(y) log p(y), where p(y) is the share of images for which y is predicted. It is low where
    predictions crowd into a few classes whatever the images show. NaN before the first update.

    Args:
        num_classes: how many classes there are.
        kwargs: of ``torchmetrics.Metric``.

    Source: §4.1 of Balasubramanian & Feizi.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    histogram: Tensor

    def __init__(self, num_classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if num_classes < 1:
            raise InputError(f"num_classes is {num_classes}; give at least 1.")
        self.add_state("histogram", torch.zeros(num_classes, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, predictions: Tensor) -> None:
        """Count predictions.

        Args:
            predictions: integers N, class indices from 0 to num_classes − 1.

        Raises:
            InputError: ``predictions`` are anything else.
        """
        check_classes("predictions", predictions, len(self.histogram))
        self.histogram += predictions.bincount(minlength=len(self.histogram))

    def compute(self) -> Tensor:
        """The entropy: float64, 0-d."""
        share = self.histogram.double() / self.histogram.sum()
        return torch.special.entr(share).sum()


class UnchangedPredictions(Mean):
    """Share of predictions that equal the one on the intact image, in [0, 1].

    Source: §4.1 of Balasubramanian & Feizi.
    """

    is_differentiable = False
    higher_is_better = True

    def update(self, predictions: Tensor, intact: Tensor) -> None:
        """Compare predictions.

        Args:
            predictions: integers N, class indices.
            intact: integers N, the classes predicted for the same images with nothing removed.

        Raises:
            InputError: the two are not such indices, or of different lengths.
        """
        check_pair(("predictions", predictions), ("intact", intact))
        super().update((predictions == intact).double())


class WordNetSimilarity(Mean):
    """Mean Wu–Palmer similarity of predicted and true ImageNet classes, in (0, 1].

    A near miss counts more than a far one. An exact hit counts 1 for 893 of the classes, and 0.72
    to 0.93 for the others: see ``captum_layermask.metrics.wordnet.wu_palmer``, which follows nltk.

    Source: §4.1 of Balasubramanian & Feizi.
    """

    is_differentiable = False
    higher_is_better = True

    table: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.register_buffer("table", torch.tensor(wu_palmer_table()), persistent=False)

    def update(self, predictions: Tensor, labels: Tensor) -> None:
        """Look similarities up.

        Args:
            predictions: integers N, indices of ImageNet classes, 0 to 999.
            labels: integers N, those of the true classes.

        Raises:
            InputError: the two are not such indices, or of different lengths.
        """
        check_pair(("predictions", predictions), ("labels", labels), num_classes=len(self.table))
        super().update(self.table[predictions.long(), labels.long()])


def area_under_curve(values: ArrayLike, fractions: Sequence[float]) -> NDArray[np.float64]:
    """Area under metrics as functions of the fraction removed, on the scale of the metrics.

    The trapezoid rule, divided by the span of the fractions: a metric that stays at v has area v.

    Args:
        values: …×F, one value for each fraction.
        fractions: F of them, at least two, increasing.

    Returns:
        float64 …, 0-d for one curve.

    Raises:
        InputError: shapes do not fit, or the fractions do not increase.

    Source: §4.1 and Table 1 of Balasubramanian & Feizi.
    """
    heights, where = np.asarray(values, dtype=np.float64), np.asarray(fractions, dtype=np.float64)
    if where.ndim != 1 or len(where) < 2 or not (np.diff(where) > 0).all():
        raise InputError(f"fractions are {fractions}; give two or more that increase.")
    if heights.shape[-1:] != where.shape:
        raise InputError(
            f"there are values of shape {heights.shape} for {len(where)} fractions; give one value for each, "
            "along the last axis."
        )
    return np.asarray(trapezoid(heights, where, axis=-1) / (where[-1] - where[0]))
