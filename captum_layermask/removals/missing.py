"""``MISSING`` marks the pixels that are not there."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from captum_layermask.errors import InputError

MISSING = 2.0**-24
"""The value of a pixel that was removed, in every channel; exact in every floating-point type.

Use it where Captum takes ``baselines`` or lime takes ``hide_color``. Being nearly 0 it leaves Captum's
default similarity kernel for LIME as it is for a grey baseline: ``image[..., 8:16, 8:16] = MISSING``.
"""


def visible_pixels(x: Tensor, mask: Tensor | None) -> tuple[Tensor, bool, bool]:
    """Find out which pixels are there.

    Args:
        x: the images, N×C×H×W, floating point.
        mask: None, or bool or 0/1, 1 = visible, of shape N×1×H×W, N×H×W, 1×1×H×W or H×W.

    Returns:
        The visible pixels (bool, N×1×H×W), whether that is all of them, and whether ``x`` held
        ``MISSING``.

    Raises:
        InputError: for anything else, a pixel that is MISSING in some of its channels only, or an ``x``
            that holds MISSING and requires gradients.
    """
    if isinstance(x, (list, tuple)):
        raise InputError(
            f"the image must be one tensor, N×C×H×W, not a {type(x).__name__}; torch.stack makes one of "
            "images of one size. A detector that takes a list can be explained from its backbone on: see "
            "docs/semantics.md."
        )
    if not isinstance(x, Tensor):
        raise InputError(
            f"the image must be a floating-point tensor, N×C×H×W, not {type(x).__name__}; lime and shap, "
            "which hand over NumPy images, need an ImageClassifier(forward)."
        )
    if not x.is_floating_point():
        raise InputError(
            f"the image must be a floating-point tensor, not {x.dtype}: integers cannot hold MISSING; "
            "convert it with .float() before removing pixels."
        )
    if x.dim() != 4:
        raise InputError(f"the image must be N×C×H×W, not {_shape(x)}; {_REMEDIES.get(x.dim(), _NO_IMAGE)}.")
    marked = (x == MISSING).split(1, dim=1)
    missing = functools.reduce(torch.bitwise_and, marked)
    parts = functools.reduce(torch.bitwise_or, marked) ^ missing
    visible = ~missing
    if mask is not None:
        given, other_values = _as_visible(mask, x)
        visible = visible & given
    else:
        other_values = torch.zeros((), dtype=torch.bool, device=x.device)
    some, partly, invalid, everything = torch.stack(
        [missing.any(), parts.any(), other_values, visible.all()]
    ).tolist()
    if partly:
        raise InputError(
            "some pixels are MISSING in some of their channels only; a feature mask must cover all "
            "channels of a pixel (use shape 1×1×H×W)."
        )
    if invalid:
        raise InputError("the mask must be bool or hold only 0 (missing) and 1 (visible).")
    if some and x.requires_grad:
        raise InputError(
            "the image holds MISSING and requires gradients; gradient methods interpolate towards the "
            "baseline, which means nothing here: use a perturbation method, or pass mask= instead."
        )
    return visible, everything, some


_REMEDIES = {
    2: "add channels and batch with x[None, None], if it is a grey image",
    3: "add the batch with x[None]",
}
_NO_IMAGE = "pixels can be removed from images alone"


def _as_visible(mask: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """The mask as N×1×H×W bool, and whether it held anything but 0 and 1 (a bool scalar)."""
    n, _, *size = x.shape
    allowed = [(n, 1, *size), (n, *size), (1, 1, *size), tuple(size)]
    if not isinstance(mask, Tensor) or tuple(mask.shape) not in allowed:
        found = _shape(mask) if isinstance(mask, Tensor) else type(mask).__name__
        names = " or ".join("×".join(map(str, shape)) for shape in dict.fromkeys(allowed))
        raise InputError(f"the mask must be a tensor of shape {names} for this image, not {found}.")
    mask = mask.to(x.device)
    visible = mask.bool().reshape(-1, 1, *size).expand(n, 1, *size)
    return visible, (mask != mask.bool()).any()


def _shape(x: Tensor) -> str:
    return "×".join(map(str, x.shape)) or "a scalar"
