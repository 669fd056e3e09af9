"""The geometry of operations that read several cells of a map for each cell they write."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Window:
    """The geometry of an operation that slides over a map; every pair is (rows, columns).

    Args:
        kernel: cells the window reads along each axis.
        stride: steps between windows.
        before: cells of implicit padding in front of the first row and column.
        after: cells of implicit padding behind the last row and column.
        dilation: distance between the cells that a window reads.
        ceil_mode: as in ``torch.nn.MaxPool2d``.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    before: tuple[int, int] = (0, 0)
    after: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    ceil_mode: bool = False

    @property
    def reach(self) -> int:
        """Distance (in cells, over both axes) from a visible cell to the farthest cell read with it."""
        return max(d * (k - 1) for k, d in zip(self.kernel, self.dilation, strict=True))

    @property
    def is_identity(self) -> bool:
        """Whether every window is one cell and every cell is one window."""
        return self.reach == 0 and self.stride == (1, 1) and not any(self.before + self.after)

    @property
    def keeps_every_cell(self) -> bool:
        """Whether cell (i, j) lies in window (i, j), and there are as many windows as cells."""
        return self.stride == (1, 1) and all(
            k % 2 == 1 and 2 * b == d * (k - 1) and b == a
            for k, d, b, a in zip(self.kernel, self.dilation, self.before, self.after, strict=True)
        )

    def is_whole(self, size: tuple[int, int]) -> bool:
        """Whether a single window reads every cell of a map of this size."""
        return all(
            self.count(n, axis) == 1 and self.kernel[axis] >= n + self.before[axis]
            for axis, n in enumerate(size)
        )

    def count(self, size: int, axis: int) -> int:
        """How many windows fit along an axis of ``size`` cells (PyTorch's rule, ceil_mode included)."""
        k, s, d = self.kernel[axis], self.stride[axis], self.dilation[axis]
        room = size + self.before[axis] + self.after[axis] - d * (k - 1) - 1
        if not self.ceil_mode:
            return room // s + 1
        count = -(-room // s) + 1
        return count - 1 if (count - 1) * s >= size + self.before[axis] else count

    def any(self, cells: Tensor) -> Tensor:
        """Which windows read at least one of the given cells (bool, … × H × W → … × H' × W')."""
        for axis, dim in enumerate((-2, -1)):
            cells = self._any_along(cells, axis, dim)
        return cells

    def _any_along(self, cells: Tensor, axis: int, dim: int) -> Tensor:
        k, s, d, before = (p[axis] for p in (self.kernel, self.stride, self.dilation, self.before))
        size, count = cells.shape[dim], self.count(cells.shape[dim], axis)
        read = (count - 1) * s + 1
        behind = read + d * (k - 1) - before - size
        if before or behind:
            cells = F.pad(cells, (0, 0) * (-1 - dim) + (before, behind))
        taps = [cells.narrow(dim, i * d, read) for i in range(k)]
        if s > 1:
            taps = [t[..., ::s] if dim == -1 else t[..., ::s, :] for t in taps]
        out = taps[0]
        for tap in taps[1:]:
            out = out | tap
        return out


@dataclass(frozen=True)
class Bins:
    """The bins of PyTorch's adaptive pooling: bin i of m over n cells is ⌊i·n/m⌋ … ⌈(i+1)·n/m⌉ − 1.

    Args:
        size: rows and columns of the map.
        count: rows and columns of bins.
    """

    size: tuple[int, int]
    count: tuple[int, int]
    keeps_every_cell = False

    @property
    def reach(self) -> int:
        """One less than the longest bin."""
        return max(
            -(-(i + 1) * n // m) - i * n // m - 1
            for n, m in zip(self.size, self.count, strict=True)
            for i in range(m)
        )

    @property
    def is_identity(self) -> bool:
        """Whether every bin is one cell and every cell is one bin."""
        return self.size == self.count

    def is_whole(self, size: tuple[int, int]) -> bool:
        """Whether a single bin holds the whole map."""
        return self.count == (1, 1)

    def any(self, cells: Tensor) -> Tensor:
        """Which bins hold at least one of the given cells (bool, … × H × W → … × H' × W')."""
        return F.adaptive_max_pool2d(cells.float(), self.count).bool()
