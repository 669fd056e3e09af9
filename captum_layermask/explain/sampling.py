"""Captum's methods that draw samples, and whether two halves of the samples agree."""

from __future__ import annotations

import copy
from typing import Any

from captum.attr import Lime, ShapleyValueSampling
from scipy.stats import spearmanr
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from captum_layermask.explain.segments import region_means

__all__ = ["averaged", "fitted", "rank_correlation"]


def fitted(method: Lime, pixels: Tensor, **options: Any) -> tuple[Tensor, float | None]:
    """Attribute by a model that is fitted to samples, as ``Lime`` and ``KernelShap`` do.

    Args:
        method: Captum's.
        pixels: as for its ``attribute``.
        options: likewise.

    Returns:
        What ``attribute`` returns, and the rank correlation of the models that are fitted to every other
        sample and to the rest.
    """
    method.interpretable_model = halved = _Halved(method.interpretable_model)
    attributions: Tensor = method.attribute(pixels, **options)
    return attributions, rank_correlation(*halved.of_halves) if len(halved.of_halves) == 2 else None


def averaged(
    method: ShapleyValueSampling, pixels: Tensor, *, n_samples: int, feature_mask: Tensor, **options: Any
) -> tuple[Tensor, float | None]:
    """Attribute by the average of samples, as ``ShapleyValueSampling`` does.

    Args:
        method: Captum's.
        pixels: as for its ``attribute``.
        n_samples: likewise. They are drawn in two calls, which are the same samples as those of one.
        feature_mask: likewise, 1×1×H×W.
        options: likewise.

    Returns:
        What ``attribute`` returns, and the rank correlation of both calls.
    """
    counts = [count for count in (n_samples - n_samples // 2, n_samples // 2) if count]
    halves = [method.attribute(pixels, n_samples=n, feature_mask=feature_mask, **options) for n in counts]
    attributions = sum(n * half for n, half in zip(counts, halves, strict=True)) / n_samples
    of_segments = [region_means(half[:, :1], feature_mask) for half in halves]
    return attributions, rank_correlation(*of_segments) if len(halves) == 2 else None


def rank_correlation(a: Tensor, b: Tensor) -> float | None:
    """Spearman's correlation of two attributions of the same segments.

    Args:
        a: float K, one number per segment.
        b: float K.

    Returns:
        From −1 to 1; None where one of them gives all segments the same, so that there is no order.
    """
    if bool((a == a[0]).all() | (b == b[0]).all()):
        return None
    return float(spearmanr(a.cpu(), b.cpu()).statistic)


class _Halved:
    """An interpretable model of Captum's, of which copies are fitted to either half of the samples.

    Samples in which everything, or nothing, is visible are in both halves: by them ``KernelShap`` ties the
    sum of its values to the whole image.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.of_halves: list[Tensor] = []

    def fit(self, data: DataLoader[Any], **options: Any) -> Any:
        """Fit to all samples: which segments are visible, what the forward returned, what they weigh."""
        visible, outputs, weights = data.dataset.tensors  # type: ignore[attr-defined]
        whole_or_empty = visible.bool().all(1) | ~visible.bool().any(1)
        for start in range(min(2, len(visible))):
            half = whole_or_empty.clone()
            half[start::2] = True
            model = copy.deepcopy(self.model)
            part = TensorDataset(visible[half], outputs[half], weights[half])
            model.fit(DataLoader(part, batch_size=len(part)), **options)
            self.of_halves.append(model.representation().flatten())
        return self.model.fit(data, **options)

    def representation(self) -> Tensor:
        """The coefficients from all samples."""
        coefficients: Tensor = self.model.representation()
        return coefficients
