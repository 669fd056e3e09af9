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
_RINGS_AT_ONCE = 8


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
        filled = F.embedding_bag(ring.sources, table, mode="sum", per_sample_weights=ring.weights())
        write = table.index_copy_ if in_place else table.index_copy
        table = write(0, ring.cells, filled)
    return table.view(n, h, w, c).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Ring:
    """The cells that one round fills; cells are counted through the images, row by row.

    Attributes:
        cells: the M cells to write.
        sources: the M×8 cells to read.
        kinds: which of their neighbours are known, a bit for each (uint8, M).
        weights_of_kinds: 1 / (number of known neighbours) for those, 0 for the others (256×8).
    """

    cells: Tensor
    sources: Tensor
    kinds: Tensor
    weights_of_kinds: Tensor

    def weights(self) -> Tensor:
        """What each source weighs, M×8; not kept, since it takes as much memory as all else together."""
        return self.weights_of_kinds.index_select(0, self.kinds.int())


def plan(mask: Mask, rounds: int, dtype: torch.dtype) -> list[Ring]:
    """The rings around the visible cells, from the innermost outwards.

    Waits for the mask's device once for every eight rounds: for the number of cells in each ring.
    """
    offsets, weights = _neighbourhoods(mask.size[1], dtype, mask.visible.device)
    if mask.visible.numel() < 2**31:
        offsets = offsets.int()
    compiling = torch.compiler.is_compiling()
    known = mask.visible
    planned: list[Ring] = []
    while rounds > len(planned):
        some = min(_RINGS_AT_ONCE, rounds - len(planned))
        rings, around, known = (_grow_as_one_node if compiling else _grow)(known, mask.missing, some)
        counts = torch.stack([ring.count_nonzero() for ring in rings]).tolist()
        for ring, kinds, count in zip(rings, around, counts, strict=True):
            if not compiling and not count:
                return planned + _cut_off(mask, rounds, known, weights)
            cells = torch.nonzero_static(ring.flatten(), size=count)[:, 0]
            kinds = kinds.flatten()[cells]
            sources = offsets.index_select(0, kinds.int()).add_(cells[:, None])
            planned.append(Ring(cells, sources, kinds, weights))
    return planned + _cut_off(mask, rounds, known, weights)


def _grow(known: Tensor, missing: Tensor, rounds: int) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """The next rings (bool, N×1×H×W), the known neighbours of each cell then, and what is known at last."""
    rings, seen = [], []
    for _ in range(rounds):
        around = _known_neighbours(known)
        rings.append((around > 0) & missing & ~known)
        seen.append(around)
        known = known | rings[-1]
    return rings, seen, known


@torch.library.custom_op("captum_layermask::grow", mutates_args=())
def _grow_as_one_node(
    known: Tensor, missing: Tensor, rounds: int
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """The same as an operation that ``torch.compile`` does not take apart: its code for bytes is slower."""
    return _grow(known, missing, rounds)


@_grow_as_one_node.register_fake
def _(known: Tensor, missing: Tensor, rounds: int) -> tuple[list[Tensor], list[Tensor], Tensor]:
    rings = [torch.empty_like(known) for _ in range(rounds)]
    return rings, [torch.empty_like(ring, dtype=torch.uint8) for ring in rings], torch.empty_like(known)


def _known_neighbours(known: Tensor) -> Tensor:
    """Which of the 8 neighbours of each cell are known, a bit for each (bool → uint8, N×1×H×W)."""
    cells = F.pad(known.view(torch.uint8), (1, 1, 1, 1))
    left, here, right = (cells[..., i : i + known.shape[-1]] for i in range(3))
    row, sides = left.add(here, alpha=2).add_(right, alpha=4), left.add(right, alpha=2)
    return row[..., :-2, :].add(sides[..., 1:-1, :], alpha=8).add_(row[..., 2:, :], alpha=32)


def _neighbourhoods(width: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """For each of the 256 neighbourhoods: how far off its known cells are, and their weights (256×8 each).

    A neighbour that is not known has weight 0, and the place of one that is.
    """
    known = torch.arange(256)[:, None] >> torch.arange(8) & 1
    steps = torch.tensor([row * width + column for row, column in _NEIGHBOURS])
    offsets = torch.where(known > 0, steps, steps[known.argmax(1, keepdim=True)])
    weights = known.double() / known.sum(1, keepdim=True).clamp(min=1)
    return offsets.to(device), weights.to(device, dtype)


def _cut_off(mask: Mask, rounds: int, known: Tensor, weights: Tensor) -> list[Ring]:
    """Missing cells within reach that frame keeps from being filled: no neighbour known, so all weights 0."""
    if mask.frame is None:
        return []
    edge = (rounds, rounds)
    reached = Window((2 * rounds + 1, 2 * rounds + 1), before=edge, after=edge).any(mask.visible)
    ring = (reached & mask.missing & ~known).flatten()
    cells = torch.nonzero_static(ring, size=int(ring.count_nonzero()))[:, 0]
    some_visible = mask.visible.flatten().byte().argmax()
    kinds = torch.zeros(len(cells), dtype=torch.uint8, device=cells.device)
    return [Ring(cells, some_visible.expand(len(cells), 8), kinds, weights)]
