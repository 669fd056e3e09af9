"""What windows read where they reach into the missing region: neighbor padding, or one of its rivals."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from captum_layermask.masking.mask import Mask
from captum_layermask.masking.neighbor_padding import neighbor_pad
from captum_layermask.masking.windows import Geometry

Op = Callable[[Tensor], Tensor]

#: From an operation, its input, the input's mask, what each output reads, how many rings it needs filled, and
#: whether the operation is linear but for a constant, to its output.
Boundary = Callable[[Op, Tensor, Mask, Geometry, int, bool], Tensor]


def neighbor(op: Op, cells: Tensor, mask: Mask, window: Geometry, rounds: int, linear: bool) -> Tensor:
    """The mean of visible neighbours, ring by ring (Algorithm 1)."""
    return op(neighbor_pad(cells, mask, rounds))


def zero(op: Op, cells: Tensor, mask: Mask, window: Geometry, rounds: int, linear: bool) -> Tensor:
    """Zeros (the paper's ablation, Table 3)."""
    return op(_zeroed(cells, mask))


def partial(op: Op, cells: Tensor, mask: Mask, window: Geometry, rounds: int, linear: bool) -> Tensor:
    """Zeros, and linear operations weigh what they do read up (partial convolution, Liu et al. 2018, eq. 1).

    The sum without its bias is multiplied by (cells in the window) / (those that are not missing), where
    cells of the implicit padding do not count.
    """
    if not linear or mask.full:
        return op(_zeroed(cells, mask))

    def weights() -> tuple[Tensor, Tensor]:
        read, there = window.sum(torch.ones_like(mask.present)), window.sum(mask.present)
        # In single precision at least: half precision ends at 65504, and counts to 2048.
        exact = torch.promote_types(cells.dtype, torch.float32)
        return there == read, (read.to(exact) / there.clamp(min=1)).to(cells.dtype)

    whole, weight = mask.memoize(("partial", window, cells.dtype), weights)
    bias = op(torch.zeros_like(cells[:1]))
    read = op(_zeroed(cells, mask))
    return torch.where(whole, read, (read - bias) * weight + bias)


def _zeroed(cells: Tensor, mask: Mask) -> Tensor:
    return cells if mask.full else torch.where(mask.present, cells, 0)


BOUNDARIES: dict[str, Boundary] = {"neighbor": neighbor, "zero": zero, "partial": partial}
