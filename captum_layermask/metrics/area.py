"""One number for a metric measured while more and more of each image is removed: the area under its curve."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import trapezoid

from captum_layermask.errors import InputError

__all__ = ["area_under_curve"]


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

    Example:
        ```python
        area_under_curve([0.9, 0.6, 0.1], fractions=[0, 0.5, 1])  # 0.55
        ```

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
