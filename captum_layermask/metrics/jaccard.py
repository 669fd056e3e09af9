"""Do the most important segments cover the object?"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from captum_layermask.metrics.checks import check_k, check_mask
from captum_layermask.metrics.mean import Mean
from captum_layermask.metrics.region import top_k_region

__all__ = ["TopKJaccard", "top_k_jaccard"]


@torch.no_grad()
def top_k_jaccard(importance: Tensor, segments: Tensor, mask: Tensor, k: int) -> Tensor:
    """Jaccard similarity of the k most important segments and the object, pixel by pixel, in [0, 1].

    Σ min(t, m) / Σ max(t, m) over the pixels, where t is 1 in ``top_k_region`` and 0 elsewhere: for a
    mask of zeros and ones, intersection over union.

    Args:
        importance: float N×K or K.
        segments: LongTensor N×1×H×W.
        mask: bool or float in [0, 1], N×1×H×W.
        k: how many segments, at least 1.

    Returns:
        float64 N.

    Raises:
        InputError: shapes, types or ranges do not fit, an importance is not finite, or k is below 1.

    Example:
        ```python
        segments = torch.tensor([[[[0, 0, 1, 1], [2, 2, 3, 3]]]])
        importance = torch.tensor([0.1, 0.8, 0.0, -0.3])
        top_k_jaccard(importance, segments, mask=segments % 2 == 1, k=2)  # 0.3333
        ```

    Source: §4.4.2 (c) of Balasubramanian & Feizi, who do not say what is counted; here it is pixels.
    """
    region = top_k_region(importance, segments, k).flatten(1).double()
    pixels = check_mask(mask, segments).flatten(1)
    return torch.minimum(region, pixels).sum(1) / torch.maximum(region, pixels).sum(1)


class TopKJaccard(Mean):
    """Mean of ``top_k_jaccard`` over images, in [0, 1].

    Args:
        k: how many segments are compared with the object, at least 1.
        kwargs: of ``torchmetrics.Metric``.

    Example:
        ```python
        segments = torch.tensor([[[[0, 0, 1, 1], [2, 2, 3, 3]]]])
        jaccard = TopKJaccard(k=2)
        jaccard.update(torch.tensor([0.1, 0.8, 0.0, -0.3]), segments, mask=segments % 2 == 1)
        jaccard.compute()  # 0.3333: segments 0 and 1 against 1 and 3
        ```

    Source: §4.4.2 (c) of Balasubramanian & Feizi.
    """

    is_differentiable = False
    higher_is_better = True

    def __init__(self, k: int = 20, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_k(k)
        self.k = k

    def update(self, importance: Tensor, segments: Tensor, mask: Tensor) -> None:
        """Add explanations; arguments and errors are those of ``top_k_jaccard``."""
        super().update(top_k_jaccard(importance, segments, mask, self.k))
