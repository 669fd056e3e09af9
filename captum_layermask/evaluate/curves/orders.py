"""Segments are removed in an order."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_layermask.evaluate.seeds import shuffled
from captum_layermask.names import ORDERS

__all__ = ["ORDERS", "removal_order", "segment_sums"]


def segment_sums(segments: Tensor, saliency: Tensor) -> Tensor:
    """The saliency of each segment, which is the sum of that of its pixels (§4.1 of the paper).

    Args:
        segments: LongTensor 1×1×H×W, ids from 0 to K − 1.
        saliency: float 1×1×H×W.

    Returns:
        Float64 K.

    Example:
        ```python
        sums = segment_sums(segments, gradient.abs().amax(1, keepdim=True))
        ```
    """
    return segments.flatten().bincount(saliency.flatten().double())


def removal_order(order: str, sums: Tensor, seed: int) -> Tensor:
    """The ids of the segments, the first to be removed first.

    Args:
        order: a key of ``ORDERS``. Of segments that are equally salient the lower id comes first.
        sums: float K, the saliency of each segment.
        seed: of the random order, which is the same with every version (``shuffled``).

    Returns:
        LongTensor K.

    Example:
        ```python
        order = removal_order("most-salient", segment_sums(segments, saliency), seed=0)
        ```
    """
    if order == "random":
        return torch.tensor(shuffled(range(len(sums)), seed))
    return sums.argsort(descending=order == "most-salient", stable=True)
