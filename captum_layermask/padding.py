"""The rim of a hole is filled from its visible neighbours (the paper's Algorithm 1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_layermask.mask import Mask
from captum_layermask.windows import Window

_NEIGHBOURS = Window(kernel=(3, 3), before=(1, 1), after=(1, 1))


def neighbor_pad(cells: Tensor, mask: Mask, rounds: int) -> Tensor:
    """Fill missing cells, ring by ring, with the mean of their neighbours.

    In each round every missing cell that has visible or already filled cells among its 8 neighbours
    becomes exactly their mean. Frame cells are neither filled nor averaged. Missing cells that no round
    reached hold unspecified values: they are farther than ``rounds`` from every visible cell.

    Args:
        cells: N×C×H×W, floating point; never written to.
        mask: what ``cells`` are.
        rounds: rings to fill.

    Returns:
        N×C×H×W.

    Source: Algorithm 1 of Balasubramanian & Feizi, without its ε and with ``rounds`` chosen by the caller.
    """
    if rounds == 0 or mask.full:
        return cells
    padded = torch.where(mask.visible, cells, 0)
    for weight in mask.remember(("rings", rounds, cells.dtype), lambda: _rings(mask, rounds, cells.dtype)):
        padded = padded.addcmul(_sum_of_neighbours(padded), weight)
    if mask.frame is None:
        return padded
    return torch.where(mask.frame.to(cells.device), cells, padded)


def _rings(mask: Mask, rounds: int, dtype: torch.dtype) -> list[Tensor]:
    """For each round, 1 / (number of known neighbours) in the cells it fills and 0 elsewhere."""
    known, weights = mask.visible, []
    for _ in range(rounds):
        ring = mask.missing & ~known & _NEIGHBOURS.any(known)
        count = _sum_of_neighbours(known.to(dtype))
        weights.append(torch.where(ring, 1 / count, 0))
        known = known | ring
    return weights


def _sum_of_neighbours(cells: Tensor) -> Tensor:
    return F.avg_pool2d(cells, 3, stride=1, padding=1, divisor_override=1)
