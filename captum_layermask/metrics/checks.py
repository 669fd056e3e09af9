"""Class indices that metrics are given are looked at first."""

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
