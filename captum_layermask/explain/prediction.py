"""What a network predicts for an image: one probability for each class."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from captum_layermask.errors import InputError, require_known
from captum_layermask.explain.segments import require_numbered

__all__ = ["ACTIVATIONS", "activated", "check_image", "described", "predict", "require_activation"]

Forward = Callable[[torch.Tensor], torch.Tensor]

ACTIVATIONS: dict[str, Forward] = {"softmax": partial(torch.softmax, dim=1), "sigmoid": torch.sigmoid}
"""What makes probabilities of logits."""


@torch.no_grad()
def predict(forward: Forward, pixels: torch.Tensor, activation: str = "softmax") -> torch.Tensor:
    """Probabilities of the classes: softmax of the logits that ``forward`` returns, or their sigmoid.

    Args:
        forward: N×3×H×W → logits N×classes.
        pixels: float N×3×H×W.
        activation: a key of ``ACTIVATIONS``: ``"softmax"`` where one class of several is right, ``"sigmoid"``
            where each class is right or not by itself (several labels, or the single logit of yes or no).
            The shape of several logits does not tell which.

    Returns:
        Float N×classes; with softmax each row adds up to 1.

    Raises:
        UnknownNameError: there is no such activation.
        InputError: ``forward`` returns anything else than one row of logits per image, a single number for
            softmax, whose softmax is always 1, or probabilities, whose softmax is not theirs.

    Example:
        ```python
        probability, index = predict(LayerMaskedForward(model), pixels)[0].max(0)
        ```
    """
    require_activation(activation)
    return activated(forward(pixels), activation)


def activated(logits: Any, activation: str) -> torch.Tensor:
    """Probabilities of logits N×classes (arguments and errors: ``predict``)."""
    if not isinstance(logits, torch.Tensor) or logits.dim() != 2:
        shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise InputError(
            f"the network returned {shape} where N×classes logits are needed; give a classifier."
        )
    if activation == "softmax":
        _check_for_softmax(logits)
    return ACTIVATIONS[activation](logits)


def require_activation(activation: str) -> None:
    """Raise ``UnknownNameError`` for what is no key of ``ACTIVATIONS``."""
    require_known("activation", activation, ACTIVATIONS)


def _check_for_softmax(logits: torch.Tensor) -> None:
    if logits.shape[1] == 1:
        raise InputError(
            "the network returned a single number for an image, whose softmax is always 1; if it is the "
            "logit of yes or no give activation='sigmoid', and explain a regression with Captum's own "
            "classes, FeatureAblation(forward).attribute(image, baselines=MISSING)."
        )
    sums = logits.double().sum(dim=1)
    if len(logits) and bool((logits >= 0).all() & ((sums - 1).abs() < 1e-3).all()):
        raise InputError(
            "the network returned probabilities where logits are needed, and their softmax would flatten "
            "them; leave out its softmax, or give lambda x: forward(x).log()."
        )


def check_image(pixels: Any, segments: Any) -> None:
    """Refuse what is no image, 1×C×H×W, or are no segments of it."""
    if not isinstance(pixels, torch.Tensor) or pixels.dim() != 4 or pixels.shape[0] != 1:
        raise InputError(f"the pixels are {described(pixels)}; give one image, a tensor 1×3×H×W.")
    shape = (1, 1, *pixels.shape[2:])
    if not isinstance(segments, torch.Tensor) or segments.shape != shape or segments.dtype != torch.long:
        raise InputError(
            f"the segments are {described(segments)}; give a LongTensor of shape {shape}, as the functions "
            "in segments.py return."
        )
    require_numbered(segments)


def described(value: Any) -> str:
    """The type and, if it has one, the shape of what was given, in words."""
    name = getattr(value, "dtype", type(value).__name__)
    return f"{name} of shape {tuple(value.shape)}" if hasattr(value, "shape") else str(name)
