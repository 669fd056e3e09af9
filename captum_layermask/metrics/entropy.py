"""Do predictions crowd into a few classes?"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from captum_layermask.errors import InputError
from captum_layermask.metrics.checks import check_classes
from captum_layermask.metrics.mean import Metric

__all__ = ["ClassEntropy"]


class ClassEntropy(Metric):  # type: ignore[misc]
    """Entropy of the histogram of predicted classes, in nats: from 0 (one class) to log(num_classes).

    −Σ p(y) log p(y), where p(y) is the share of images for which y is predicted. It is low where
    predictions crowd into a few classes whatever the images show. NaN before the first update.

    Args:
        num_classes: how many classes there are.
        kwargs: of ``torchmetrics.Metric``.

    Example:
        ```python
        entropy = ClassEntropy(num_classes=10)
        entropy.update(torch.tensor([3, 3, 7, 9]))
        entropy.compute()  # 1.0397, that is 1.5 · log 2
        ```

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
