"""Captum's attribution methods over a probability, with the arguments that segments ask for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from captum._utils.models.linear_model import SkLearnRidge
from captum.attr import FeatureAblation, KernelShap, Lime, Occlusion, ShapleyValueSampling

from captum_layermask.explain.prediction import Forward
from captum_layermask.explain.sampling import averaged, fitted

__all__ = ["attributed", "image_count", "occlusion_window", "occlusion_windows"]


def attributed(
    method: str, forward: Forward, pixels: torch.Tensor, options: Mapping[str, Any]
) -> tuple[torch.Tensor, float | None]:
    """The attributions, 1×C×H×W, and how far two halves of the samples agree."""
    if method == "lime":
        return fitted(Lime(forward, interpretable_model=SkLearnRidge(alpha=1.0)), pixels, **options)
    if method == "kernel-shap":
        return fitted(KernelShap(forward), pixels, **options)
    if method == "shapley-sampling":
        return averaged(ShapleyValueSampling(forward), pixels, **options)
    classes = {"feature-ablation": FeatureAblation, "occlusion": Occlusion}
    return classes[method](forward).attribute(pixels, **options), None


def occlusion_window(segments: torch.Tensor) -> tuple[int, int]:
    """Side and stride of a square of about a segment's average area.

    The side is twice the stride, so that windows overlap in squares of the stride and in nothing smaller.
    """
    height, width = segments.shape[2:]
    side = math.sqrt(height * width / (int(segments.max()) + 1))
    stride = max(1, round(side / 2))
    return min(2 * stride, height, width), stride


def occlusion_windows(pixels: torch.Tensor, segments: torch.Tensor) -> dict[str, Any]:
    """Arguments of Captum's ``Occlusion``, in all channels at once."""
    channels = pixels.shape[1]
    size, stride = occlusion_window(segments)
    return {
        "sliding_window_shapes": (channels, size, size),
        "strides": (channels, stride, stride),
    }


def image_count(method: str, pixels: torch.Tensor, options: Mapping[str, Any]) -> int | None:
    """How many images the forward is given where Captum's own progress bar would be wrong, else None."""
    if method == "occlusion":  # Captum counts a window for each pixel and channel; the truth is far fewer
        sizes = zip(pixels.shape[1:], options["sliding_window_shapes"], options["strides"], strict=True)
        return 1 + math.prod(1 + math.ceil((side - size) / stride) for side, size, stride in sizes)
    if method == "shapley-sampling":  # two calls of Captum's, each of which begins with the empty image
        samples = options["n_samples"]
        return min(2, samples) + samples * (int(options["feature_mask"].max()) + 1)
    return None
