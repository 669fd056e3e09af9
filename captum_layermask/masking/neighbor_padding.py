"""Neighbor padding: the boundary of the missing region is filled from its visible neighbours (Algorithm 1).

For a given mask the fill is linear: every cell of a ring around the visible cells is a weighted sum of its 8
neighbours. So it is planned once per mask, as rows to read, weights and rows to write in an (N·H·W) × C
table of cells, and costs each map that comes by no more than the cells it touches.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_layermask.errors import NoRuleError
from captum_layermask.masking.compiling import one_operation, tracing
from captum_layermask.masking.mask import Mask
from captum_layermask.masking.windows import Window

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
    if not cells.is_floating_point():
        raise NoRuleError(
            "windows over whole numbers have no rule: a missing one has no mean to be filled with."
        )
    n, c, h, w = cells.shape
    table = cells.permute(0, 2, 3, 1).reshape(-1, c).contiguous()
    in_place = not (torch.is_grad_enabled() and cells.requires_grad)
    plan = mask.memoize(("plan", rounds, cells.dtype), lambda: planned(mask, rounds, cells.dtype))
    for ring in plan.rings:
        filled = F.embedding_bag(ring.sources, table, mode="sum", per_sample_weights=ring.weights())
        write = table.index_copy_ if in_place else table.index_copy
        table = write(0, ring.cells, filled)
    if plan.cut_off is not None:
        erase = table.index_fill_ if in_place else table.index_fill
        table = erase(0, plan.cut_off, 0)
    return table.view(n, h, w, c).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Ring:
    """The cells that one round fills; cells are counted through the images, row by row.

    Attributes:
        cells: the M cells to write.
        sources: the M×8 cells to read, known neighbours all.
        kinds: which of their neighbours are known, a bit for each (uint8, M).
        weights_of_kinds: what each source weighs, for every kind (256×8).
    """

    cells: Tensor
    sources: Tensor
    kinds: Tensor
    weights_of_kinds: Tensor

    def weights(self) -> Tensor:
        """What each source weighs, M×8; not stored, since it takes as much memory as all else together."""
        return self.weights_of_kinds.index_select(0, self.kinds.int())


@dataclass(frozen=True)
class Plan:
    """How the missing cells of a mask are filled.

    Attributes:
        rings: from the innermost outwards.
        cut_off: the cells to set to 0, since only frame keeps them from being filled; None for no cells.
    """

    rings: list[Ring]
    cut_off: Tensor | None


def planned(mask: Mask, rounds: int, dtype: torch.dtype) -> Plan:
    """The plan that fills so many rings around the visible cells."""
    rings, known = _rings(mask, rounds, dtype)
    return Plan(rings, _cut_off(mask, rounds, known))


def _rings(mask: Mask, rounds: int, dtype: torch.dtype) -> tuple[list[Ring], Tensor]:
    """The rings, and the cells that are visible or filled by them (bool, N×1×H×W).

    Waits for the mask's device once for every eight rounds: for the number of cells in each ring.
    """
    offsets, weights = _neighbourhoods(mask.size[1], dtype, mask.visible.device)
    if mask.visible.numel() < 2**31:
        offsets = offsets.int()
    grow = _grow_as_one if tracing() else _grow
    known = mask.visible
    made: list[Ring] = []
    while rounds > len(made):
        grown, around, known = grow(known, mask.missing, min(_RINGS_AT_ONCE, rounds - len(made)))
        counts = torch.stack([ring.count_nonzero() for ring in grown]).tolist()
        for ring, kinds, count in zip(grown, around, counts, strict=True):
            if not tracing() and not count:
                return made, known
            cells = torch.nonzero_static(ring.flatten(), size=count)[:, 0]
            kinds = kinds.flatten()[cells]
            sources = offsets.index_select(0, kinds.int()).add_(cells[:, None])
            made.append(Ring(cells, sources, kinds, weights))
    return made, known


def _grow(known: Tensor, missing: Tensor, rounds: int) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """The next rings (bool, N×1×H×W), the known neighbours of each cell then, and what is known at last."""
    rings, seen = [], []
    for _ in range(rounds):
        around = _known_neighbours(known)
        rings.append((around > 0) & missing & ~known)
        seen.append(around)
        known = known | rings[-1]
    return rings, seen, known


def _grow_on_paper(known: Tensor, missing: Tensor, rounds: int) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """What ``_grow`` returns, without its values."""
    rings = [torch.empty_like(known) for _ in range(rounds)]
    return rings, [torch.empty_like(ring, dtype=torch.uint8) for ring in rings], torch.empty_like(known)


_grow_as_one = one_operation(
    "grow(Tensor known, Tensor missing, int rounds) -> (Tensor[], Tensor[], Tensor)", _grow, _grow_on_paper
)


def _known_neighbours(known: Tensor) -> Tensor:
    """Which of the 8 neighbours of each cell are known, a bit for each (bool → uint8, N×1×H×W)."""
    cells = F.pad(known.view(torch.uint8), (1, 1, 1, 1))
    left, here, right = (cells[..., i : i + known.shape[-1]] for i in range(3))
    row, sides = left.add(here, alpha=2).add_(right, alpha=4), left.add(right, alpha=2)
    return row[..., :-2, :].add(sides[..., 1:-1, :], alpha=8).add_(row[..., 2:, :], alpha=32)


def _shares() -> tuple[Tensor, Tensor]:
    """For each of the 256 neighbourhoods, which 8 known neighbours to read, and their weights (256×8 each).

    A weight of 0 would make NaN of an infinite value, so the first of k known neighbours is read 9 − k
    times. Its copies share its weight: the last has 1/2 of it, the one in front 1/4 and so on, and the first
    two are alike. So every partial sum is exact, and the whole is that of reading it once.
    """
    known = torch.arange(256, device="cpu")[:, None] >> torch.arange(8, device="cpu") & 1
    count, slot = known.sum(1, keepdim=True).clamp(min=1), torch.arange(8, device="cpu")
    in_order = known.argsort(dim=1, descending=True, stable=True)
    halvings = (9 - count - slot.clamp(min=1)).clamp(min=0)
    return in_order.gather(1, (slot + count - 8).clamp(min=0)), 0.5 ** halvings.double() / count


_READ, _WEIGHTS = _shares()


def _neighbourhoods(width: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """For each of the 256 neighbourhoods, how far off the cells to read are, and their weights (256×8)."""
    steps = torch.tensor([row * width + column for row, column in _NEIGHBOURS], device="cpu")
    return steps[_READ].to(device), _WEIGHTS.to(device, dtype)


def _cut_off(mask: Mask, rounds: int, known: Tensor) -> Tensor | None:
    """Missing cells within reach that frame keeps from being filled."""
    if mask.frame is None:
        return None
    edge = (rounds, rounds)
    reached = Window((2 * rounds + 1, 2 * rounds + 1), before=edge, after=edge).any(mask.visible)
    cells = (reached & mask.missing & ~known).flatten()
    return torch.nonzero_static(cells, size=int(cells.count_nonzero()))[:, 0]
