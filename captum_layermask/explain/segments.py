"""Regions of an image that can be removed, as a Captum feature mask."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import overload

import numpy as np
import torch
from skimage import segmentation

from captum_layermask.errors import InputError

__all__ = ["SEGMENTATIONS", "grid", "quickshift", "region_means", "renumbered", "require_numbered", "slic"]

#: Segments that quickshift finds in a photo of P pixels are about P / (90 · kernel_size²).
_QUICKSHIFT_PIXELS_PER_KERNEL_AREA = 90.0


def grid(image: torch.Tensor, size: int = 16) -> torch.Tensor:
    """Cut the image into squares.

    Args:
        image: C×H×W or 1×C×H×W; only its shape matters.
        size: side of a square in pixels. Squares at the right and bottom edges are cut off
            where ``size`` does not divide the image.

    Returns:
        LongTensor 1×1×H×W on the image's device, ids 0, 1, 2 … in reading order.

    Raises:
        InputError: ``image`` has another shape, or ``size`` is not at least 1.

    Example:
        ```python
        segments = grid(image, size=16)  # 14 × 14 squares of 224 × 224 pixels
        ```
    """
    height, width = _size_of(image, rgb=False)
    _require_positive("size", size)
    rows = torch.arange(height, device=image.device) // size
    columns = torch.arange(width, device=image.device) // size
    return (rows[:, None] * math.ceil(width / size) + columns)[None, None]


def slic(image: torch.Tensor, n_segments: int = 64, compactness: float = 20.0) -> torch.Tensor:
    """Find SLIC superpixels (Achanta et al., 2012) with scikit-image.

    Args:
        image: float 3×H×W or 1×3×H×W, RGB in [0, 1], not normalised.
        n_segments: about how many segments to look for; connected segments are often fewer.
        compactness: larger makes segments more square, smaller makes them follow colours.

    Returns:
        LongTensor 1×1×H×W on the image's device, contiguous ids from 0.

    Raises:
        InputError: ``image`` has another shape, type or range, or a number is not positive.

    Example:
        ```python
        segments = slic(pixels, n_segments=100)
        ```
    """
    pixels = _as_array(image)
    _require_positive("n_segments", n_segments)
    _require_positive("compactness", compactness)
    labels = segmentation.slic(
        pixels, n_segments=n_segments, compactness=compactness, start_label=0, channel_axis=-1
    )
    return _as_feature_mask(labels, image.device)


def quickshift(image: torch.Tensor, n_segments: int = 64, ratio: float = 0.5) -> torch.Tensor:
    """Find quickshift segments (Vedaldi and Soatto, 2008) with scikit-image.

    Quickshift takes the width of a density kernel, not a number of segments; the kernel is chosen
    so that photos get about ``n_segments``.

    Args:
        image: float 3×H×W or 1×3×H×W, RGB in [0, 1], not normalised.
        n_segments: about how many segments to look for. Time grows as they get fewer.
        ratio: weight of colour against nearness, in [0, 1].

    Returns:
        LongTensor 1×1×H×W on the image's device, contiguous ids from 0.

    Raises:
        InputError: ``image`` has another shape, type or range, or a number is out of range.

    Example:
        ```python
        segments = quickshift(pixels, n_segments=100)
        ```
    """
    pixels = _as_array(image)
    _require_positive("n_segments", n_segments)
    if not 0 <= ratio <= 1:
        raise InputError(f"ratio is {ratio}; give a number from 0 to 1.")
    height, width = pixels.shape[:2]
    kernel_size = math.sqrt(height * width / (_QUICKSHIFT_PIXELS_PER_KERNEL_AREA * n_segments))
    labels = segmentation.quickshift(
        pixels, kernel_size=max(1.0, kernel_size), max_dist=200.0, ratio=ratio, channel_axis=-1
    )
    return _as_feature_mask(labels, image.device)


@overload
def renumbered(segments: torch.Tensor) -> torch.Tensor: ...
@overload
def renumbered(segments: np.ndarray) -> np.ndarray: ...
def renumbered(segments: torch.Tensor | np.ndarray) -> torch.Tensor | np.ndarray:
    """Number segments 0, 1, 2 … without gaps, in the order of the ids that they have.

    Args:
        segments: integers of any shape, a tensor or a NumPy array.

    Returns:
        The same shape and kind, 64-bit integers.

    Raises:
        InputError: anything else than integers.

    Example:
        ```python
        labels = skimage.segmentation.felzenszwalb(array)  # cut, merged, loaded from a file …
        segments = renumbered(torch.from_numpy(labels)[None, None])
        ```
    """
    if isinstance(segments, torch.Tensor):
        integers = not (segments.is_floating_point() or segments.is_complex())
        if integers and segments.numel():
            return segments.unique(return_inverse=True)[1]
    elif isinstance(segments, np.ndarray) and segments.dtype.kind in "iub" and segments.size:
        ids: np.ndarray = np.unique(segments, return_inverse=True)[1]
        return ids.reshape(segments.shape)
    found = f"{segments.dtype} of shape {tuple(segments.shape)}" if hasattr(segments, "dtype") else segments
    raise InputError(f"the segments are {found}; give integers, an id for each pixel.")


def require_numbered(segments: torch.Tensor | np.ndarray) -> None:
    """Raise ``InputError`` for integers other than 0, 1, 2 … without gaps."""
    ids = np.unique(segments.cpu().numpy() if isinstance(segments, torch.Tensor) else segments)
    if ids[0] != 0 or ids[-1] != len(ids) - 1:
        raise InputError(
            f"the {len(ids)} segments have ids from {ids[0]} to {ids[-1]}, where 0, 1, 2 … without gaps are "
            "needed; give renumbered(segments), which is in captum_layermask.explain.segments."
        )


def region_means(values: torch.Tensor, regions: torch.Tensor) -> torch.Tensor:
    """The mean of every region.

    Args:
        values: float 1×1×H×W.
        regions: LongTensor of the same shape, ids 0, 1, 2 … without gaps.

    Returns:
        Float K, entry i for id i.

    Example:
        ```python
        brightness = region_means(image.mean(1, keepdim=True), segments)
        ```
    """
    ids = regions.flatten()
    sums = torch.zeros(int(ids.max()) + 1, device=ids.device, dtype=values.dtype)
    return sums.index_add(0, ids, values.flatten()) / ids.bincount()


def _grid_of_about(image: torch.Tensor, n_segments: int = 196) -> torch.Tensor:
    """Cut the image into about ``n_segments`` squares."""
    height, width = _size_of(image, rgb=False)
    _require_positive("n_segments", n_segments)
    return grid(image, size=max(1, round(math.sqrt(height * width / n_segments))))


SEGMENTATIONS: dict[str, Callable[..., torch.Tensor]] = {
    "grid": _grid_of_about,
    "slic": slic,
    "quickshift": quickshift,
}
"""Name → function of the image and, if wanted, of ``n_segments``, about how many to make."""


def _size_of(image: torch.Tensor, rgb: bool = True) -> tuple[int, int]:
    shape = tuple(image.shape)
    if len(shape) == 4 and shape[0] == 1:
        shape = shape[1:]
    if len(shape) != 3 or (rgb and shape[0] != 3) or 0 in shape:
        channels = "3" if rgb else "C"
        raise InputError(
            f"cannot segment a tensor of shape {tuple(image.shape)}; give one image, {channels}×H×W or "
            f"1×{channels}×H×W."
        )
    return shape[1], shape[2]


def _as_array(image: torch.Tensor) -> np.ndarray:
    height, width = _size_of(image)
    if not image.is_floating_point():
        raise InputError(
            f"cannot segment pixels of type {image.dtype}; give floats in [0, 1], for example image / 255."
        )
    if not bool(((image >= 0) & (image <= 1)).all()):
        raise InputError("cannot segment pixels outside [0, 1]; give the image before it is normalised.")
    channels_first = image.detach().reshape(3, height, width)
    return channels_first.permute(1, 2, 0).double().cpu().numpy()


def _as_feature_mask(labels: np.ndarray, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(renumbered(labels)).long().to(device)[None, None]


def _require_positive(name: str, value: float) -> None:
    if not value > 0:
        raise InputError(f"{name} is {value}; give a positive number.")
