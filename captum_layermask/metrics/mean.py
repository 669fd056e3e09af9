"""The mean of a number over images, whoever saw them."""

from __future__ import annotations

from typing import Any

import torch

from captum_layermask.errors import MissingPackageError

try:
    from torchmetrics import MeanMetric, Metric
except ModuleNotFoundError as error:
    if error.name != "torchmetrics":
        raise
    raise MissingPackageError(
        "this needs the Python package torchmetrics, which is not installed; "
        "run: pip install 'captum-layermask[evaluate]'",
        name="torchmetrics",
    ) from error

__all__ = ["Mean", "Metric"]


class Mean(MeanMetric):  # type: ignore[misc]
    """torchmetrics' mean, summed in float64, so that 50 000 images in any order give one number to 1e-12."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(nan_strategy="error", **kwargs)
        self.set_dtype(torch.float64)
