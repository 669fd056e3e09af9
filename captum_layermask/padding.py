"""The rim of a hole is filled from its visible neighbours (the paper's Algorithm 1).

For a given mask the fill is linear: every cell of a ring around the visible cells is a weighted sum of its 8
neighbours. So it is planned once per mask, as rows to read, weights and rows to write in an (N·H·W) × C
table of cells, and costs each map that comes by no more than the cells it touches.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_layermask.mask import Mask
from captum_layermask.windows import Window

_NEIGHBOURS = tuple((row, column) for row in (-1, 0, 1) for column in (-1, 0, 1) if (row, column) != (0, 0))


def neighbor_pad(cells: Tensor, mask: Mask, rounds: int) -> Tensor:
    """Fill missing cells, ring by ring, with the mean of their neighbours.

    In each round every missing cell that has visible or already filled cells among its 8 neighbours
    becomes exactly their mean. Frame cells are neither filled nor averaged. Missing cells that only frame
    keeps from being filled are 0; those farther than ``rounds`` from every visible cell hold anything.

    Args:
        cells: N×C×H×W, floating point. Without autograd its missing cells (whose values mean nothing) may
            be written to; visible and frame cells never are.
        mask: what ``cells`` are.
        rounds: rings to fill.

    Returns:
        N×C×H×W, channels-last in memory.

    Source: Algorithm 1 of Balasubramanian & Feizi, without its ε, and with ``rounds`` chosen by the caller.
    """
    if rounds == 0 or mask.full:
        return cells
    n, c, h, w = cells.shape
    table = cells.permute(0, 2, 3, 1).reshape(-1, c).contiguous()
    in_place = not (torch.is_grad_enabled() and cells.requires_grad)
    for ring in mask.remember(("rings", rounds, cells.dtype), lambda: plan(mask, rounds, cells.dtype)):
        filled = F.embedding_bag(ring.sources, table, mode="sum", per_sample_weights=ring.weights)
        write = table.index_copy_ if in_place else table.index_copy
        table = write(0, ring.cells, filled)
    return table.view(n, h, w, c).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Ring:
    """The cells that one round fills; cells are counted through the images, row by row.

    Attributes:
        cells: the M cells to write.
        sources: the M×8 cells to read.
        weights: their M×8 weights: 1 / (number of known neighbours), 0 for the others.
    """

    cells: Tensor
    sources: Tensor
    weights: Tensor


def plan(mask: Mask, rounds: int, dtype: torch.dtype) -> list[Ring]:
    """The rings around the visible cells, from the innermost outwards."""
    n, _, h, w = mask.visible.shape
    device = mask.visible.device
    known, missing = (F.pad(cells[:, 0], (1, 1, 1, 1)) for cells in (mask.visible, mask.missing))
    number = F.pad(torch.arange(n * h * w, device=device).view(n, h, w), (1, 1, 1, 1)).flatten()
    steps = torch.tensor([row * (w + 2) + column for row, column in _NEIGHBOURS], device=device)
    rings = []
    for _ in range(rounds):
        ring = F.pad(_any_neighbour(known), (1, 1, 1, 1)) & missing & ~known
        cells = ring.flatten().nonzero()[:, 0]
        if not len(cells):
            break
        around = cells[:, None] + steps
        counts = known.flatten()[around]
        first = around.gather(1, counts.to(torch.uint8).argmax(1, keepdim=True))
        weights = counts.to(dtype) / counts.sum(1, keepdim=True)
        rings.append(Ring(number[cells], number[torch.where(counts, around, first)], weights))
        known = known | ring
    if mask.frame is not None:
        rings.append(_cut_off(mask, rounds, known[:, 1:-1, 1:-1], dtype))
    return rings


def _any_neighbour(known: Tensor) -> Tensor:
    """Which cells have a known one in their 3×3 (N×(H+2)×(W+2) → N×H×W)."""
    rows = known[:, :-2] | known[:, 1:-1] | known[:, 2:]
    return rows[..., :-2] | rows[..., 1:-1] | rows[..., 2:]


def _cut_off(mask: Mask, rounds: int, known: Tensor, dtype: torch.dtype) -> Ring:
    """Missing cells within reach that frame keeps from being filled, as a ring of zero weights."""
    edge = (rounds, rounds)
    reached = Window((2 * rounds + 1, 2 * rounds + 1), before=edge, after=edge).any(mask.visible)
    cells = (reached & mask.missing & ~known[:, None]).flatten().nonzero()
    sources = mask.visible.flatten().nonzero()[:1].expand(len(cells), 8)
    return Ring(cells[:, 0], sources, torch.zeros(sources.shape, dtype=dtype, device=sources.device))
