"""What metrics are given is checked first: class indices, importance of segments, masks of objects."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_layermask.errors import InputError


def check_classes(name: str, classes: Tensor, num_classes: int | None = None) -> None:
    """Refuse what is not class indices, integers N, from 0 to ``num_classes`` − 1 where that is known."""
    integer = not (classes.is_floating_point() or classes.is_complex() or classes.dtype == torch.bool)
    if classes.dim() != 1 or not integer:
        raise InputError(
            f"{name} are {classes.dtype} of shape {tuple(classes.shape)}; give class indices, integers N, "
            "for example logits.argmax(1)."
        )
    if num_classes is not None and len(classes) and not 0 <= classes.min() <= classes.max() < num_classes:
        raise InputError(f"{name} hold an index outside 0 … {num_classes - 1}; give class indices.")


def check_pair(a: tuple[str, Tensor], b: tuple[str, Tensor], num_classes: int | None = None) -> None:
    """Refuse two arguments, given with their names, that are not class indices of the same images."""
    for name, classes in (a, b):
        check_classes(name, classes, num_classes)
    if len(a[1]) != len(b[1]):
        raise InputError(
            f"there are {len(a[1])} {a[0]} and {len(b[1])} {b[0]}; give one of each for every image."
        )


def check_k(k: int) -> None:
    """Refuse less than one segment."""
    if k < 1:
        raise InputError(f"k is {k}; give at least 1 segment.")


def check_importance(importance: Tensor, segments: Tensor) -> tuple[Tensor, Tensor]:
    """Importance as float64 N×K, 0 where an image has no such segment, and the segments' sizes, long N×K."""
    if segments.dtype != torch.long or segments.dim() != 4 or segments.shape[1] != 1 or 0 in segments.shape:
        raise InputError(
            f"segments are {segments.dtype} of shape {tuple(segments.shape)}; give a LongTensor N×1×H×W, "
            "as the functions in captum_layermask.explain.segments return."
        )
    rows = importance[None] if importance.dim() == 1 else importance
    if not rows.is_floating_point() or rows.dim() != 2 or len(rows) != len(segments):
        raise InputError(
            f"importance is {importance.dtype} of shape {tuple(importance.shape)} for {len(segments)} "
            "image(s); give floats N×K, a value for each segment."
        )
    if not 0 <= segments.min() <= segments.max() < rows.shape[1]:
        raise InputError(
            f"segment ids go from {segments.min()} to {segments.max()}, but there are {rows.shape[1]} "
            "values of importance; give ids from 0 and a value for each."
        )
    ids = segments.flatten(1)
    sizes = torch.zeros_like(rows, dtype=torch.long).scatter_add(1, ids, torch.ones_like(ids))
    rows = rows.double().masked_fill(sizes == 0, 0)
    if not rows.isfinite().all():
        raise InputError("importance holds NaN or infinity; give a finite value for each segment.")
    return rows, sizes


def check_mask(mask: Tensor, segments: Tensor) -> Tensor:
    """The mask as float64; refuse what is no mask of the segments' images."""
    if mask.shape != segments.shape or not (mask.is_floating_point() or mask.dtype == torch.bool):
        raise InputError(
            f"the mask is {mask.dtype} of shape {tuple(mask.shape)}; give bool or float of the "
            f"segments' shape {tuple(segments.shape)}."
        )
    pixels = mask.double()
    if not ((pixels >= 0) & (pixels <= 1)).all():
        raise InputError("the mask has values outside [0, 1]; give 1 where the object is and 0 elsewhere.")
    return pixels


def scaled(vectors: Tensor) -> Tensor:
    """Each row divided by its largest magnitude, so that no square or sum leaves the range of floats."""
    largest = vectors.abs().amax(1, keepdim=True)
    return vectors / largest.masked_fill(largest == 0, 1)
