"""The geometry of operations that read several cells of a map for each cell they write."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Join = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Window:
    """The geometry of an operation that slides over a map; every pair is (rows, columns).

    Args:
        kernel: cells the window reads along each axis.
        stride: steps between windows.
        before: cells of implicit padding in front of the first row and column.
        after: cells of implicit padding after the last row and column.
        dilation: distance between the cells that a window reads.
        ceil_mode: as in ``torch.nn.MaxPool2d``.

    Example:
        ```python
        window = Window(kernel=(3, 3), stride=(2, 2), before=(1, 1), after=(1, 1))
        window.any(torch.ones(1, 1, 8, 8, dtype=torch.bool)).shape  # torch.Size([1, 1, 4, 4])
        ```
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
    def step(self) -> int:
        """The largest distance from one window to the next, in cells."""
        return max(self.stride)

    @property
    def shrinks(self) -> bool:
        """Whether there are fewer windows than cells because they step over some."""
        return self.step > 1

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
        return all(self.reads(n, axis) == [range(n)] for axis, n in enumerate(size))

    def always_reads(self, size: tuple[int, int]) -> bool:
        """Whether every window reads a cell of a map of this size, not implicit padding alone."""
        return all(all(self.reads(n, axis)) for axis, n in enumerate(size))

    def reads(self, size: int, axis: int) -> list[range]:
        """For every window along an axis of ``size`` cells, those of them that it reads."""
        s, d = self.stride[axis], self.dilation[axis]
        span = d * (self.kernel[axis] - 1) + 1
        starts = (i * s - self.before[axis] for i in range(self.count(size, axis)))
        return [range(a if a >= 0 else a % d, min(a + span, size), d) for a in starts]

    def along(self, axes: tuple[str, str]) -> Window:
        """The window over rows (H) and columns (W) of one that slides over these axes, others left out."""

        def pair(sizes: tuple[int, int], alone: int) -> tuple[int, int]:
            named = dict(zip(axes, sizes, strict=True))
            return named.get("H", alone), named.get("W", alone)

        return Window(
            pair(self.kernel, 1),
            pair(self.stride, 1),
            pair(self.before, 0),
            pair(self.after, 0),
            pair(self.dilation, 1),
            self.ceil_mode,
        )

    def over_blocks(self, block: tuple[int, int]) -> Window:
        """The window over cells of one that reads cells of the same place in blocks, a block at a time."""

        def times(sizes: tuple[int, int]) -> tuple[int, int]:
            return sizes[0] * block[0], sizes[1] * block[1]

        return Window(self.kernel, (1, 1), times(self.before), times(self.after), times(self.dilation))

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
        return self._joined(cells, torch.bitwise_or)

    def sum(self, cells: Tensor) -> Tensor:
        """How many of the given cells each window reads (bool, … × H × W → int32, … × H' × W')."""
        return self._joined(cells.int(), torch.add)

    def _joined(self, cells: Tensor, join: Join) -> Tensor:
        """What each window reads, joined into one."""
        for axis, dim in enumerate((-2, -1)):
            k, s, d, before = (p[axis] for p in (self.kernel, self.stride, self.dilation, self.before))
            cells = _joined_taps(join, cells, dim, self.count(cells.shape[dim], axis), k, s, d, before)
        return cells

    def owns_any(self, cells: Tensor) -> Tensor:
        """Which windows own at least one of the given cells (bool, … × H × W → … × H' × W').

        A window owns as many cells as it steps over, those in its middle; the first and the last window own
        what lies before and after these, as far as they reach. So every cell that is read has an owner.
        At stride 1 and with an odd kernel it is the window whose centre the cell is.
        """
        for axis, dim in enumerate((-2, -1)):
            s, reach = self.stride[axis], self.dilation[axis] * (self.kernel[axis] - 1)
            size, count = cells.shape[dim], self.count(cells.shape[dim], axis)
            before = self.before[axis] + (s - 1 - reach) // 2
            owned = _joined_taps(torch.bitwise_or, cells, dim, count, s, s, 1, before)
            last = (count - 1) * s - self.before[axis] + reach + 1
            ends = ((0, 0, min(-before, size)), (count - 1, max(count * s - before, 0), min(last, size)))
            for window, start, stop in ends:
                if start < stop:
                    more = cells.narrow(dim, start, stop - start).any(dim, keepdim=True)
                    at = torch.arange(count, device=cells.device) == window
                    owned = owned | (more & (at if dim == -1 else at[:, None]))
            cells = owned
        return cells


def _between(cells: Tensor, dim: int, start: int, stop: int) -> Tensor:
    """The cells from start to stop along an axis, 0 where there are none."""
    ahead, beyond = max(-start, 0), max(stop - cells.shape[dim], 0)
    if ahead or beyond:
        cells = F.pad(cells, (0, 0) * (-1 - dim) + (ahead, beyond))
    return cells.narrow(dim, start + ahead, stop - start)


def _joined_taps(
    join: Join, cells: Tensor, dim: int, count: int, k: int, s: int, d: int, before: int
) -> Tensor:
    """The k cells, d apart, of each of ``count`` runs along an axis, s cells apart, joined into one.

    The first run starts ``before`` cells in front of the first cell; where there is no cell is 0.
    """
    read = (count - 1) * s + 1
    cells = _between(cells, dim, -before, read + d * (k - 1) - before)
    taps = [cells.narrow(dim, i * d, read) for i in range(k)]
    if s > 1:
        taps = [t[..., ::s] if dim == -1 else t[..., ::s, :] for t in taps]
    return functools.reduce(join, taps)


Runs = tuple[tuple[int, int], ...]
"""For every output along an axis, the first cell that it reads and the one after the last."""

_LINES_AT_ONCE = 256


@dataclass(frozen=True)
class Spans:
    """Outputs that each read one run of rows and one run of columns, of any length.

    Args:
        rows: what every row of the output reads.
        columns: what every column of it reads.
        size: rows and columns of the map that is read.
    """

    rows: Runs
    columns: Runs
    size: tuple[int, int]
    keeps_every_cell = False
    step = 1

    @classmethod
    def bins(cls, size: tuple[int, int], count: tuple[int, int]) -> Spans:
        """PyTorch's adaptive pooling: bin i of m over n cells is ⌊i·n/m⌋ … ⌈(i+1)·n/m⌉ − 1."""
        rows, columns = (
            tuple((i * n // m, -(-(i + 1) * n // m)) for i in range(m))
            for n, m in zip(size, count, strict=True)
        )
        return cls(rows, columns, size)

    @property
    def reach(self) -> int:
        """Distance (in cells, over both axes) from a visible cell to the farthest cell read with it."""
        return max(stop - start for start, stop in self.rows + self.columns) - 1

    def always_reads(self, size: tuple[int, int]) -> bool:
        """Whether every output reads at least one cell."""
        return all(start < stop for start, stop in self.rows + self.columns)

    @property
    def is_identity(self) -> bool:
        """Whether every output is one cell and every cell is one output."""
        return all(
            runs == tuple((i, i + 1) for i in range(n))
            for runs, n in zip((self.rows, self.columns), self.size, strict=True)
        )

    def is_whole(self, size: tuple[int, int]) -> bool:
        """Whether a single output reads every cell."""
        return (self.rows, self.columns) == (((0, size[0]),), ((0, size[1]),))

    def any(self, cells: Tensor) -> Tensor:
        """Which outputs read at least one of the given cells (bool, … × H × W → … × H' × W')."""
        return self.sum(cells) > 0

    owns_any = any

    @property
    def shrinks(self) -> bool:
        """Whether there are fewer outputs than cells along an axis."""
        return len(self.rows) < self.size[0] or len(self.columns) < self.size[1]

    def sum(self, cells: Tensor) -> Tensor:
        """How many of the given cells each output reads (bool, … × H × W → int32, … × H' × W')."""
        for dim, runs in ((-2, self.rows), (-1, self.columns)):
            ahead = F.pad(cells.cumsum(dim, dtype=torch.int32), (0, 0) * (-1 - dim) + (1, 0))
            starts, stops = torch.tensor(runs, device=cells.device).T
            cells = ahead.index_select(dim, stops) - ahead.index_select(dim, starts)
        return cells


def runs_read(op: Callable[[Tensor], Tensor], shape: tuple[int, int], axis: int, like: Tensor) -> Runs:
    """What a linear, separable operation reads along one axis, found by what it does to single lines.

    Args:
        op: the operation, on contiguous maps (1×C×H×W).
        shape: rows and columns of the maps to try it on.
        axis: 0 for rows, 1 for columns.
        like: a tensor of the device and the number type whose rounding decides which weights are 0.
    """
    size, weights = shape[axis], []
    for start in range(0, size, _LINES_AT_ONCE):
        lines = like.new_zeros(1, min(_LINES_AT_ONCE, size - start), size)
        lines.diagonal(start, 1, 2).fill_(1)
        maps = lines.unsqueeze(3 - axis).expand(1, -1, *shape).contiguous()
        weights.append(op(maps)[0].select(2 - axis, 0))
    reads = (torch.cat(weights) != 0).byte()
    first, stop = reads.argmax(0), size - reads.flip(0).argmax(0)
    return tuple(zip(first.tolist(), stop.tolist(), strict=True))


@dataclass(frozen=True)
class Transposed:
    """The geometry of a transposed convolution, which writes a window for every cell it reads.

    Args:
        window: that of the convolution it transposes.
        output_padding: rows and columns added at the end.
    """

    window: Window
    output_padding: tuple[int, int] = (0, 0)
    is_identity = False
    keeps_every_cell = False
    shrinks = False
    step = 1

    def always_reads(self, size: tuple[int, int]) -> bool:
        """Whether every output is written to: where the windows of neighbours touch, and nothing is added."""
        w = self.window
        return (
            not any(self.output_padding)
            and w.dilation == (1, 1)
            and all(k >= s for k, s in zip(w.kernel, w.stride, strict=True))
        )

    @property
    def reach(self) -> int:
        """Distance (in cells, over both axes) between cells that are written to the same place."""
        w = self.window
        return max(d * (k - 1) // s for k, s, d in zip(w.kernel, w.stride, w.dilation, strict=True))

    def any(self, cells: Tensor) -> Tensor:
        """Which outputs at least one of the given cells is written to (bool, … × H × W → … × H' × W')."""
        return self.sum(cells) > 0

    owns_any = any

    def sum(self, cells: Tensor) -> Tensor:
        """How many of the given cells are written to each output (bool, N×1×H×W → int32, N×1×H'×W')."""
        w, cells = self.window, cells.float()
        options = (w.stride, w.before, self.output_padding, 1, w.dilation)
        return F.conv_transpose2d(cells, cells.new_ones(1, 1, *w.kernel), None, *options).round().int()


Geometry = Window | Spans | Transposed
