"""Mask propagation through windows: which outputs are visible, and what a mask forgets.

A policy sees masks only, never activations. It gives two sets of outputs: the *visible* ones, and the
*anchor*, those of them that the mask did not grow by.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from captum_layermask.masking.mask import Mask, Policy
from captum_layermask.masking.windows import Geometry


def paper(mask: Mask, window: Geometry) -> tuple[Tensor, Tensor]:
    """A window with a visible cell is visible (the max-pool of the paper, §3.2); nothing is forgotten."""
    visible = window.any(mask.visible)
    return visible, visible


def anchored(mask: Mask, window: Geometry) -> tuple[Tensor, Tensor]:
    """As in the paper while maps keep their size; where a map shrinks, it forgets what its mask had grown by.

    The anchor holds the cells whose own part of the image has a visible pixel: windows that own a cell of the
    anchor in front, or that read one and nothing else that could be missing. Where windows shrink the map,
    those that read a cell of the anchor are visible; elsewhere, as in the paper, those that read a visible
    cell. The anchor itself is always visible, so no window loses evidence.
    """
    if mask.full:
        return paper(mask, window)
    if window.keeps_every_cell and mask.frame is None:
        return window.any(mask.visible), mask.anchor
    reading = window.any(mask.anchor)
    anchor = window.owns_any(mask.anchor) | (reading & ~window.any(mask.unanchored))
    return (reading if window.shrinks else window.any(mask.visible)) | anchor, anchor


@dataclass(frozen=True)
class Propagation:
    """A policy, and how far from a visible cell its visible windows read.

    Attributes:
        policy: from a mask and a window to the visible outputs and their anchor (bool, N×1×H'×W' each).
        rounds: from a window to the rings that it needs filled (S3).
    """

    policy: Policy
    rounds: Callable[[Geometry], int]


PROPAGATIONS = {
    "anchored": Propagation(anchored, lambda window: max(window.reach, window.step - 1)),
    "paper": Propagation(paper, lambda window: window.reach),
}
