"""Does the prediction change once the most important segments are removed?"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from captum_layermask.metrics.checks import check_k, check_pair
from captum_layermask.metrics.mean import Mean
from captum_layermask.metrics.region import top_k_region

__all__ = ["TopKAblation"]


class TopKAblation(Mean):
    """Accuracy once the k most important segments are removed, in [0, 1]; low for good explanations.

    The forward decides how they are removed; the paper makes them grey.

    Example:
        ```python
        segments = torch.tensor([[[[0, 0, 1, 1], [2, 2, 3, 3]]]])
        ablation = TopKAblation(k=1)
        visible = ablation.visible(torch.tensor([0.1, 0.8, 0.0, -0.3]), segments)
        predictions = torch.tensor([7])  # forward(image, mask=visible).argmax(1)
        ablation.update(predictions, labels=torch.tensor([1]))
        ablation.compute()  # 0
        ```

    Args:
        k: how many segments are removed, at least 1.
        kwargs: of ``torchmetrics.Metric``.

    Source: §4.4.2 (a) of Balasubramanian & Feizi.
    """

    is_differentiable = False
    higher_is_better = False

    def __init__(self, k: int = 20, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_k(k)
        self.k = k

    def visible(self, importance: Tensor, segments: Tensor) -> Tensor:
        """The mask to give to a forward: bool N×1×H×W, False in ``top_k_region``."""
        return ~top_k_region(importance, segments, self.k)

    def update(self, predictions: Tensor, labels: Tensor) -> None:
        """Compare predictions on what is left of the images with the true classes.

        Args:
            predictions: integers N, class indices.
            labels: integers N, those of the true classes.

        Raises:
            InputError: the two are not such indices, or of different lengths.
        """
        check_pair(("predictions", predictions), ("labels", labels))
        super().update((predictions == labels).double())
