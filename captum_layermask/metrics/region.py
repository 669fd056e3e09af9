"""Where the most important segments lie."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_layermask.metrics.checks import check_importance, check_k

__all__ = ["top_k_region"]


@torch.no_grad()
def top_k_region(importance: Tensor, segments: Tensor, k: int) -> Tensor:
    """Where the k most important segments lie.

    Most important is what has the largest value, signs included. Of equals the lower id comes first. An
    image with fewer than k segments is covered wholly.

    Args:
        importance: float N×K or K.
        segments: LongTensor N×1×H×W.
        k: how many segments, at least 1.

    Returns:
        bool N×1×H×W.

    Raises:
        InputError: shapes or types do not fit, an importance is not finite, or k is below 1.

    Example:
        ```python
        segments = torch.tensor([[[[0, 0, 1, 1], [2, 2, 3, 3]]]])
        region = top_k_region(torch.tensor([0.1, 0.8, 0.0, -0.9]), segments, k=1)
        region.sum()  # 2 pixels, those of segment 1
        ```
    """
    check_k(k)
    importance, sizes = check_importance(importance, segments)
    ranked = importance.masked_fill(sizes == 0, -torch.inf).argsort(stable=True, dim=1, descending=True)
    chosen = torch.zeros_like(sizes, dtype=torch.bool).scatter(1, ranked[:, :k], True)
    return chosen.gather(1, segments.flatten(1)).view_as(segments)
