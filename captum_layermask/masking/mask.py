"""A mask tells which cells of a map are visible, missing or frame.

*Visible* cells hold evidence from the image, *missing* cells hold nothing, and *frame* cells are the
constant padding that the model itself put around the map (``nn.ZeroPad2d``, ``F.pad``, "same" padding):
they keep the value that the plain model gives them and are neither filled nor averaged into a fill.
"""

from __future__ import annotations

import functools
import math
import weakref
from collections.abc import Callable, Hashable, Sequence
from operator import attrgetter
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_layermask.masking.compiling import tracing
from captum_layermask.masking.windows import Geometry

T = TypeVar("T")

#: From a mask and a window to the visible outputs and their anchor (see ``propagation``).
Policy = Callable[["Mask", Geometry], tuple[Tensor, Tensor]]
#: A mask, the first row and column that are taken of it, and the steps.
Phase = tuple["Mask", tuple[int, int], tuple[int, int]]


class Mask:
    """Which cells of a batch of maps are visible, missing or frame; it never changes.

    Whatever is derived from a mask (the mask of a window's output, a padding plan) is computed once and
    memoized here, so it lives exactly as long as the mask does.

    Args:
        visible: bool, N×1×H×W.
        anchor: the visible cells that it did not grow by (bool, N×1×H×W); None for all of them.
        frame: bool, 1×1×H×W or N×1×H×W on the CPU (it depends on sizes only), or None where there is none.
        full: True where it is known that no cell is missing.
        shares: in the mask of a map that was averaged over its rows or columns, which share of the cells that
            each cell stands for was there (float64, N×1×H×W); None where that is all of them.
        images: for every row of the batch which images of the outer batch it comes from, a bit for each; None
            where row i is image i.
        grid: in the mask of a list of cells (rows, in one column) where a grid begins in it, and that grid's
            rows and columns; None where there is none, or it is no list.
        phase: in the mask of every so many rows and columns of a map, the mask of all of them, and the first
            row and column and the steps; else None.

    Example:
        ```python
        mask = Mask(torch.rand(2, 1, 8, 8) > 0.5)  # two images of 8×8 cells
        padded = mask.framed((1, 1, 1, 1))
        padded.size, padded.present.sum() - mask.visible.sum()  # (10, 10), 72 cells of frame
        ```
    """

    def __init__(
        self,
        visible: Tensor,
        anchor: Tensor | None = None,
        frame: Tensor | None = None,
        *,
        full: bool = False,
        shares: Tensor | None = None,
        images: tuple[int, ...] | None = None,
        grid: tuple[int, int, int] | None = None,
        phase: Phase | None = None,
    ) -> None:
        self.visible = visible
        self.frame = frame if frame is not None and (tracing() or bool(frame.any())) else None
        self.full = full
        self.anchor = visible if anchor is None else anchor
        self.shares, self.images, self.grid, self.phase = shares, images, grid, phase
        self._memo: dict[Hashable, object] = {}
        self._met: weakref.WeakKeyDictionary[Mask, Mask] = weakref.WeakKeyDictionary()
        self._grown_from: weakref.ref[Mask] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy has the cells, and derives the rest anew."""
        make = functools.partial(Mask, full=self.full, shares=self.shares, images=self.images, grid=self.grid)
        return make, (self.visible, self.anchor, self.frame)

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.visible.shape[-2], self.visible.shape[-1]

    @property
    def missing(self) -> Tensor:
        """bool, N×1×H×W."""
        return self.memoize("missing", lambda: ~self.present)

    @property
    def present(self) -> Tensor:
        """Visible or frame: the cells whose values mean something (bool, N×1×H×W)."""
        return self.memoize("present", lambda: self._with_frame(self.visible))

    @property
    def unanchored(self) -> Tensor:
        """Neither anchor nor frame (bool, N×1×H×W)."""
        return self.memoize("unanchored", lambda: ~self._with_frame(self.anchor))

    def _with_frame(self, cells: Tensor) -> Tensor:
        return cells if self.frame is None else cells | self.frame.to(cells.device)

    def memoize(self, key: Hashable, make: Callable[[], T]) -> T:
        """What ``make`` returned when it was first called for this key."""
        if key not in self._memo:
            self._memo[key] = make()
        return self._memo[key]  # type: ignore[return-value]

    def after(self, window: Geometry, policy: Policy) -> Mask:
        """The mask of a windowed operation's output.

        A window that reads nothing but frame is frame (implicit padding counts as frame); which of the
        others are visible is decided by the policy.
        """
        if window.is_identity:
            return self
        return self.memoize((window, policy), lambda: self._after(window, policy))

    def _after(self, window: Geometry, policy: Policy) -> Mask:
        frameless = self.frame is None and window.always_reads(self.size)
        frame = None if frameless else self._frame_after(window.any)
        mask = Mask(*policy(self, window), frame, full=self.full, images=self.images)
        if window.keeps_every_cell and self.frame is None:
            mask._grown_from = weakref.ref(self)
        return mask

    def _frame_after(self, any_of: Callable[[Tensor], Tensor]) -> Tensor:
        return ~any_of(~self._frame_or_none().expand(-1, 1, *self.size))

    def gathered(self, any_of: Callable[[Tensor], Tensor]) -> Mask:
        """The mask of outputs that read several cells; ``any_of`` finds the outputs that read any of some."""
        return Mask(*self._both(any_of), self._frame_after(any_of), full=self.full, images=self.images)

    def averaged(self, dim: int) -> Mask:
        """The mask of a map averaged over its rows (2) or columns (3): it knows what each cell stands for."""

        def average() -> Mask:
            mask = self.reduced(dim)
            if self.full and self.shares is None:
                return mask
            there = self.present.double() if self.shares is None else self.shares * self.present
            shares = there.mean(dim, keepdim=True)
            return Mask(
                mask.visible, mask.anchor, mask.frame, full=mask.full, shares=shares, images=mask.images
            )

        return self.memoize(("averaged", dim), average)

    def reduced(self, dim: int) -> Mask:
        """The mask of a map reduced over its rows (2) or columns (3): visible where any is, else frame.

        What is missing has no weight in a reduction (S8), so beside frame it makes nothing missing.
        """

        def reduce() -> Mask:
            frame = None if self.frame is None else self.frame.any(dim, keepdim=True)
            visible = self._both(lambda cells: cells.any(dim, keepdim=True))
            return Mask(*visible, frame, full=self.full, images=self.images)

        return self.memoize(("reduced", dim), reduce)

    def meet(self, other: Mask) -> Mask:
        """The mask of a sum, product or concatenation of two maps.

        A cell is missing if either is, else visible if either is, else frame. Sizes broadcast.
        """
        for inner, outer in ((self, other), (other, self)):
            if outer._descends_from(inner):
                return inner
        if other not in self._met:
            self._met[other] = self._meet(other)
        return self._met[other]

    def _descends_from(self, other: Mask) -> bool:
        mask: Mask | None = self
        while mask is not None and mask is not other:
            mask = mask._grown_from() if mask._grown_from is not None else None
        return mask is other

    def _meet(self, other: Mask) -> Mask:
        if self.frame is None and other.frame is None:
            return self._joined_with(other, torch.logical_and, None)

        def met(cells: Tensor, others: Tensor) -> Tensor:
            return self._with_frame(cells) & other._with_frame(others) & (cells | others)

        return self._joined_with(other, met, self._frame_or_none() & other._frame_or_none())

    def unite(self, other: Mask) -> Mask:
        """Visible if either is, else missing if either is, else frame; sizes must agree."""
        return self._joined_with(other, torch.logical_or, self._frame_or_none() & other._frame_or_none())

    def _joined_with(
        self, other: Mask, join: Callable[[Tensor, Tensor], Tensor], frame: Tensor | None
    ) -> Mask:
        full, images = self.full and other.full, self._images_with(other)
        shares = self.shares if other.shares is None else other.shares
        if self.shares is not None and other.shares is not None:
            shares = torch.minimum(self.shares, other.shares)
        grid = self.grid if self.grid == other.grid else None
        return Mask(*self._both_with(other, join), frame, full=full, shares=shares, images=images, grid=grid)

    def _images_with(self, other: Mask) -> tuple[int, ...] | None:
        if self.images is other.images and len(self.visible) == len(other.visible):
            return self.images
        rows = max(len(self.visible), len(other.visible))
        both = ([mask.row_images(i) for i in range(rows)] for mask in (self, other))
        return tuple(a | b for a, b in zip(*both, strict=True))

    def row_images(self, row: int) -> int:
        """Which images of the outer batch a row of the batch comes from, a bit for each."""
        row = row if len(self.visible) > 1 else 0
        return 1 << row if self.images is None else self.images[row]

    def _both(self, change: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """The same change of the visible cells and of the anchor."""
        visible = change(self.visible)
        return visible, visible if self.anchor is self.visible else change(self.anchor)

    def _both_with(self, other: Mask, join: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """The same combination of the visible cells of two masks and of their anchors."""
        visible = join(self.visible, other.visible)
        grown = self.anchor is not self.visible or other.anchor is not other.visible
        return visible, join(self.anchor, other.anchor) if grown else visible

    def _frame_or_none(self) -> Tensor:
        return torch.zeros(1, 1, 1, 1, dtype=torch.bool) if self.frame is None else self.frame

    def moved(self, move: Callable[[Tensor], Tensor]) -> Mask:
        """The mask after its cells were moved, copied or cropped (N×1×H×W → N×1×H'×W')."""
        frame = None if self.frame is None else move(self.frame)
        shares = None if self.shares is None else move(self.shares)
        return Mask(*self._both(move), frame, full=self.full, shares=shares, images=self.images)

    def listed(self) -> Mask:
        """The mask of a list of the cells, row after row, that knows its grid."""
        cells = self.moved(lambda c: c.reshape(len(c), 1, -1, 1))
        visible, anchor = cells.visible, cells.anchor
        options: Any = {"full": self.full, "shares": cells.shares, "images": self.images}
        return Mask(visible, anchor, cells.frame, grid=(0, *self.size), **options)

    def part_of_list(self, cells: range) -> Mask | None:
        """The mask of the grid, if these cells of the list are it."""
        start, *size = self.grid or (0, 0, 0)
        if self.grid is None or cells != range(start, start + math.prod(size)):
            return None
        whole = slice(cells.start, cells.stop)
        return self.memoize("grid", lambda: self.moved(lambda c: c[:, :, whole].reshape(len(c), 1, *size)))

    def of_rows(self, rows: Sequence[int]) -> Mask:
        """The mask of some rows of the batch, in any order and any number of times."""
        index = list(rows) or slice(0, 0)
        frame, shares = (t if t is None or len(t) == 1 else t[index] for t in (self.frame, self.shares))
        images = tuple(self.row_images(row) for row in rows)
        return Mask(
            *self._both(lambda cells: cells[index]), frame, full=self.full, shares=shares, images=images
        )

    def of_images(self, part: slice) -> Mask:
        """The mask of a run of rows of the batch."""
        rows = range(*part.indices(len(self.visible)))
        return self if rows == range(len(self.visible)) else self.of_rows(rows)

    @staticmethod
    def constant(like: Mask) -> Mask:
        """The mask of a constant of the same size: all of it is frame."""
        frame = torch.ones(1, 1, *like.size, dtype=torch.bool)
        return Mask(torch.zeros_like(like.visible), frame=frame, full=True, images=(0,) * len(like.visible))

    def with_part(self, region: tuple[slice, slice, slice], part: Mask) -> Mask:
        """The mask after some images, rows and columns were overwritten with cells of another mask."""
        rows = range(len(self.visible))[region[0]]
        where = (region[0], slice(None), *region[1:])

        def put(cells: Tensor, new: Tensor, images: int) -> Tensor:
            cells = cells.expand(images, 1, *self.size).clone()
            cells[
                where if images > 1 or len(rows) == 1 == len(self.visible) else (slice(None), *where[1:])
            ] = new
            return cells

        shared = (
            len(rows) == len(self.visible) and len(part._frame_or_none()) == len(self._frame_or_none()) == 1
        )
        frame = put(self._frame_or_none(), part._frame_or_none(), 1 if shared else len(self.visible))
        images = [self.row_images(row) for row in range(len(self.visible))]
        for at, row in enumerate(rows):
            images[row] |= part.row_images(at)
        visible, anchor = (
            put(mine, new, len(self.visible))
            for mine, new in ((self.visible, part.visible), (self.anchor, part.anchor))
        )
        return Mask(visible, anchor, frame, full=self.full and part.full, images=tuple(images))

    def same_cells(self, other: Mask) -> bool:
        """Whether the same cells are visible, anchor and frame; False while ``torch.compile`` traces."""
        return not tracing() and all(
            torch.equal(*torch.broadcast_tensors(mine, theirs))
            for mine, theirs in (
                (self.visible, other.visible),
                (self.anchor, other.anchor),
                (self._frame_or_none(), other._frame_or_none()),
            )
        )

    def unmasked(self) -> Mask:
        """The same frame, and everything else visible."""
        visible = (~self._frame_or_none()).to(self.visible.device).expand_as(self.visible)
        return self.memoize(
            "unmasked", lambda: Mask(visible, frame=self.frame, full=True, images=self.images)
        )

    @staticmethod
    def joined(masks: Sequence[Mask], dim: int) -> Mask:
        """The mask of maps laid end to end along their rows (2) or columns (3), or of both batches (0)."""
        full = all(m.full for m in masks)
        images = masks[0].images
        if dim == 0:
            images = tuple(m.row_images(row) for m in masks for row in range(len(m.visible)))
        elif any(m.images is not images for m in masks):
            images = functools.reduce(Mask.meet, (m.reduced(2).reduced(3) for m in masks)).images

        def together(parts: Sequence[Tensor]) -> Tensor:
            rows = [len(p) if dim > 0 else len(m.visible) for p, m in zip(parts, masks, strict=True)]
            most = max(rows)
            return torch.cat(
                [p.expand(n if dim == 0 else most, 1, -1, -1) for p, n in zip(parts, rows, strict=True)], dim
            )

        frame = shares = None
        if any(m.frame is not None for m in masks):
            frames = [m._frame_or_none().expand(-1, 1, *m.size) for m in masks]
            same = dim == 0 and all(torch.equal(frames[0], f) for f in frames)
            frame = frames[0] if same else together(frames)
        if any(m.shares is not None for m in masks):
            shares = together([m.visible.double() * 0 + 1 if m.shares is None else m.shares for m in masks])
        visible, anchor = (
            together([cells(m) for m in masks]) for cells in (attrgetter("visible"), attrgetter("anchor"))
        )
        grid = None
        grids = [(i, m.grid) for i, m in enumerate(masks) if m.grid is not None]
        if dim == 2 and len(grids) == 1:
            ((at, (start, rows, columns)),) = grids
            grid = (start + sum(m.size[0] for m in masks[:at]), rows, columns)
        return Mask(visible, anchor, frame, full=full, shares=shares, images=images, grid=grid)

    def framed(self, pad: tuple[int, int, int, int]) -> Mask:
        """The mask after constant padding (left, right, top, bottom): the new cells are frame."""
        frame = F.pad(self._frame_or_none().expand(-1, 1, *self.size), pad, value=True)
        shares = None if self.shares is None else F.pad(self.shares, pad, value=1)
        visible = self._both(lambda cells: F.pad(cells, pad))
        return Mask(*visible, frame, full=self.full, shares=shares, images=self.images)
