"""Fills that depend on the missing pixels themselves, so that what was removed still shows."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from captum_layermask.errors import InputError
from captum_layermask.masking.mask import Mask
from captum_layermask.removals.blurring import gaussian_blur
from captum_layermask.removals.filled import FilledForward
from captum_layermask.removals.missing import MISSING


class LeakingFillForward(FilledForward):
    """Missing pixels get those of another picture, which was computed from the original image.

    Args:
        model: the network.
        picture: 1×C×H×W (or N×C×H×W, for batches of N), on the scale of the images.

    Example:
        ```python
        forward = LeakingFillForward(model, image.flip(3))  # missing pixels get those on the other side
        logits = forward(image, mask=visible)
        ```
    """

    leaks: ClassVar[bool] = True
    picture: Tensor

    def __init__(self, model: nn.Module, picture: Tensor) -> None:
        super().__init__(model)
        self.register_buffer("picture", picture)

    def fill(self, image: Tensor, mask: Mask) -> Tensor:
        """The other picture (see ``FilledForward.fill``)."""
        if self.picture.shape[1:] != image.shape[1:] or self.picture.shape[0] not in (1, image.shape[0]):
            raise InputError(
                f"the reference is {tuple(self.picture.shape)} and the image {tuple(image.shape)}; give the "
                "original image that pixels are removed from."
            )
        return self.picture.to(image)


class BlurredForward(LeakingFillForward):
    """Missing pixels get a Gaussian blur of the original image (Fong & Vedaldi, 2017): this leaks them.

    Args:
        model: the network.
        reference: the original image, 1×C×H×W (or N×C×H×W).
        sigma: standard deviation in pixels.

    Raises:
        InputError: no reference, one that is no floating-point image or has missing pixels, or a ``sigma``
            that is not positive.

    Example:
        ```python
        logits = BlurredForward(model, image, sigma=5.0)(image, mask=visible)
        ```
    """

    def __init__(self, model: nn.Module, reference: Tensor | None, sigma: float = 10.0) -> None:
        if not sigma > 0:
            raise InputError(f"sigma is {sigma}; give a positive number of pixels.")
        super().__init__(model, gaussian_blur(_original(reference), sigma))


class SegmentMeanForward(LeakingFillForward):
    """Missing pixels get the mean colour of their segment in the original image: this leaks them.

    It is what the lime package does unless told otherwise (``hide_color=None``).

    Args:
        model: the network.
        reference: the original image, 1×C×H×W.
        segments: LongTensor 1×1×H×W, an id for each pixel.

    Raises:
        InputError: no reference or segments, or shapes that do not fit.

    Example:
        ```python
        forward = SegmentMeanForward(model, image, segments)
        logits = forward(image, mask=visible)
        ```
    """

    def __init__(self, model: nn.Module, reference: Tensor | None, segments: Tensor | None) -> None:
        if segments is None:
            raise InputError("the mean of a segment needs the segments; pass segments=, 1×1×H×W.")
        super().__init__(model, _segment_means(_original(reference), segments))


def _segment_means(image: Tensor, segments: Tensor) -> Tensor:
    if segments.shape != (1, 1, *image.shape[2:]) or segments.dtype != torch.long:
        raise InputError(
            f"segments are {segments.dtype} of shape {tuple(segments.shape)}; give a LongTensor "
            f"of shape {(1, 1, *image.shape[2:])}."
        )
    values = image.flatten(2)
    _, ids, sizes = segments.flatten().to(image.device).unique(return_inverse=True, return_counts=True)
    sums = values.new_zeros(*values.shape[:2], len(sizes)).index_add(2, ids, values)
    return (sums / sizes.to(values))[..., ids].view_as(image)


def _original(reference: Tensor | None) -> Tensor:
    if reference is None:
        raise InputError(
            "this removal fills missing pixels with a mixture of their own values; pass them too: "
            "reference=, the original image."
        )
    if not reference.is_floating_point() or reference.dim() != 4:
        raise InputError(
            f"the reference is {reference.dtype} of shape {tuple(reference.shape)}; give a floating-point "
            "image, 1×C×H×W."
        )
    if bool((reference == MISSING).all(1).any()):
        raise InputError("the reference has missing pixels; give the original image.")
    return reference.detach()
