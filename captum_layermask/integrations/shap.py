"""The shap package explains images from which segments are removed."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from captum_layermask.errors import InputError, MissingPackageError
from captum_layermask.explain.segments import require_numbered
from captum_layermask.integrations.image_classifier import require_floats
from captum_layermask.removals.missing import MISSING

__all__ = ["SegmentMasker"]
try:
    import shap
except ModuleNotFoundError as error:
    if error.name != "shap":
        raise
    raise MissingPackageError(
        "this needs the Python package shap, which is not installed; "
        "run: pip install 'captum-layermask[shap]'",
        name="shap",
    ) from error


class SegmentMasker(shap.maskers.Masker):  # type: ignore[misc]
    """A masker for shap (written for 0.51) whose features are segments of an image, never single channels.

    It marks what shap masks as MISSING. Give it to ``shap.Explainer`` with an ``ImageClassifier`` as the
    model and images N×H×W×C; the values come back per segment, N×segments×classes.

    Args:
        segments: integers, H×W or 1×1×H×W (as the functions of ``segments.py`` return), ids 0, 1, 2 …
            without gaps.
        clustered: whether neighbouring segments form a tree of groups. With it ``shap.Explainer`` chooses
            the partition explainer, and every explainer of shap computes Owen values of that tree. Without it
            the exact and the permutation explainer compute Shapley values proper.

    Raises:
        InputError: the segments have another shape or type, or their ids have gaps.

    Example:
        ```python
        masker = SegmentMasker(slic(pixels))
        explanation = shap.Explainer(ImageClassifier(forward), masker)(images)
        masker.to_pixels(explanation.values)
        ```
    """

    image_data: bool
    immutable_outputs = True
    fixed_background = True

    def __init__(self, segments: np.ndarray | Tensor, *, clustered: bool = True) -> None:
        self.segments = _as_ids(segments)
        count = int(self.segments.max()) + 1
        self.shape = (1, count)
        self.image_data = clustered
        self.clustering = _halvings(_centres(self.segments)) if clustered else None

    @classmethod
    def of_pixels(cls, height: int, width: int, *, clustered: bool = True) -> SegmentMasker:
        """Make each pixel a feature, in reading order.

        Args:
            height: rows of the image, in pixels.
            width: columns of the image, in pixels.
            clustered: as for the class.
        """
        return cls(np.arange(height * width).reshape(height, width), clustered=clustered)

    def __call__(self, mask: bool | np.ndarray, x: np.ndarray) -> tuple[np.ndarray]:
        """Remove segments from an image.

        Args:
            mask: bool, one per segment, True = visible; or True or False for all of them.
            x: the image, floating point, H×W×C.

        Returns:
            1×H×W×C of the image's type, MISSING in every channel of the removed segments.

        Raises:
            InputError: an integer image, or one of another size than the segments.
        """
        x = np.asarray(x)
        require_floats(x)
        if x.ndim != 3 or x.shape[:2] != self.segments.shape:
            height, width = self.segments.shape
            raise InputError(f"the image has shape {x.shape} but the segments want {height}×{width}×C.")
        visible = self._standardize_mask(mask, x)[self.segments]
        return (np.where(visible[..., None], x, x.dtype.type(MISSING))[None],)

    def mask_shapes(self, x: np.ndarray) -> list[tuple[int, ...]]:
        """Tell shap the shape of a mask of the image ``x``: one value per segment."""
        return [self.shape[1:]]

    def feature_names(self, x: np.ndarray) -> list[list[str]]:
        """Name the segments of the image ``x`` for shap's plots."""
        return [[f"segment {i}" for i in range(self.shape[1])]]

    def data_transform(self, x: np.ndarray) -> list[np.ndarray]:
        """Tell shap's plots the value of each feature of the image ``x``: the mean over a segment."""
        ids = self.segments.ravel()
        return [np.bincount(ids, weights=x.mean(-1).ravel()) / np.bincount(ids)]

    def to_pixels(self, values: np.ndarray) -> np.ndarray:
        """Give every pixel the value of its segment.

        Args:
            values: N×segments×…, as in ``shap.Explanation.values``.

        Returns:
            N×H×W×…; shap.image_plot takes it, one class at a time, with a last axis for the channels.

        Raises:
            InputError: the second axis is not one value per segment.
        """
        if values.ndim < 2 or values.shape[1] != self.shape[1]:
            raise InputError(f"the values have shape {values.shape}; give N×{self.shape[1]}×….")
        return values[:, self.segments]


def _as_ids(segments: np.ndarray | Tensor) -> np.ndarray:
    ids: Any = segments.cpu().numpy() if isinstance(segments, Tensor) else np.asarray(segments)
    if ids.ndim == 4 and ids.shape[:2] == (1, 1):
        ids = ids[0, 0]
    if ids.ndim != 2 or ids.size == 0 or not np.issubdtype(ids.dtype, np.integer):
        raise InputError(f"segments are {ids.dtype} of shape {ids.shape}; give integers, H×W or 1×1×H×W.")
    require_numbered(ids)
    return ids


def _centres(ids: np.ndarray) -> np.ndarray:
    """Row and column of the middle of each segment: segments × 2."""
    places = np.indices(ids.shape).reshape(2, -1)
    sums = np.stack([np.bincount(ids.ravel(), weights=place) for place in places], axis=1)
    return sums / np.bincount(ids.ravel())[:, None]


def _halvings(centres: np.ndarray) -> np.ndarray:
    """Split the points in two across their longer side, again and again.

    Returns:
        The tree as SciPy's linkage matrix, (points − 1) × 4: both children, the distance (here the part of
        all points that the node holds), the number of points.
    """
    rows: list[tuple[float, ...]] = []

    def node(points: np.ndarray) -> int:
        if len(points) == 1:
            return int(points[0])
        places = centres[points]
        order = points[places[:, np.ptp(places, axis=0).argmax()].argsort(kind="stable")]
        half = len(order) // 2
        rows.append((node(order[:half]), node(order[half:]), len(points) / len(centres), len(points)))
        return len(centres) + len(rows) - 1

    node(np.arange(len(centres)))
    return np.array(rows).reshape(-1, 4)
