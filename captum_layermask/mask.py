"""A mask says of every cell of a map whether it is visible, missing or frame.

*Visible* cells hold evidence from the image, *missing* cells hold nothing, and *frame* cells are the
constant padding that the model itself put around the map (``nn.ZeroPad2d``, ``F.pad``, "same" padding):
they keep the value that the plain model gives them and are neither filled nor averaged into a fill.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_layermask.windows import Geometry

T = TypeVar("T")


class Mask:
    """Which cells of a batch of maps are visible, missing or frame; it never changes.

    Whatever is derived from a mask (the mask behind a window, a padding plan) is computed once and
    remembered here, so it lives exactly as long as the mask does.

    Args:
        visible: bool, N×1×H×W.
        frame: bool, 1×1×H×W on the CPU (it depends on sizes only), or None where there is no frame.
        full: True where it is known that no cell is missing.

    Attributes:
        counts: in the mask of a map that was averaged over its rows or columns, how many cells each of its
            cells stands for (int, N×1×H×1 or N×1×1×W); else None.
    """

    def __init__(self, visible: Tensor, frame: Tensor | None = None, *, full: bool = False) -> None:
        self.visible = visible
        self.frame = (
            frame if frame is not None and (torch.compiler.is_compiling() or bool(frame.any())) else None
        )
        self.full = full
        self.counts: Tensor | None = None
        self._memo: dict[Hashable, object] = {}
        self._met: weakref.WeakKeyDictionary[Mask, Mask] = weakref.WeakKeyDictionary()
        self._grown_from: weakref.ref[Mask] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.visible.shape[-2], self.visible.shape[-1]

    @property
    def missing(self) -> Tensor:
        """bool, N×1×H×W."""
        return self.remember("missing", lambda: ~self.kept)

    @property
    def kept(self) -> Tensor:
        """Visible or frame: the cells whose values mean something (bool, N×1×H×W)."""
        return self.remember("kept", lambda: self._with_frame(self.visible))

    def _with_frame(self, cells: Tensor) -> Tensor:
        return cells if self.frame is None else cells | self.frame.to(cells.device)

    def remember(self, key: Hashable, make: Callable[[], T]) -> T:
        """What ``make`` returned when first asked for under this key."""
        if key not in self._memo:
            self._memo[key] = make()
        return self._memo[key]  # type: ignore[return-value]

    def behind(self, window: Geometry) -> Mask:
        """The mask of a windowed operation's output.

        A window with a visible cell is visible, else one with a missing cell is missing, else it is
        frame; implicit padding counts as frame (the max-pool of the paper, §3.2).
        """
        if window.is_identity:
            return self
        return self.remember(window, lambda: self._behind(window))

    def _behind(self, window: Geometry) -> Mask:
        if self.frame is None and window.always_reads(self.size):
            mask = Mask(window.any(self.visible), full=self.full)
        else:
            mask = self.gathered(window.any)
        if window.keeps_every_cell and self.frame is None:
            mask._grown_from = weakref.ref(self)
        return mask

    def gathered(self, any_of: Callable[[Tensor], Tensor]) -> Mask:
        """The mask of outputs that read several cells; ``any_of`` finds the outputs that read any of some."""
        frame = ~any_of(~self._frame_or_none().expand(1, 1, *self.size))
        return Mask(any_of(self.visible), frame, full=self.full)

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
        full = self.full and other.full
        if self.frame is None and other.frame is None:
            return Mask(self.visible & other.visible, full=full)
        frame = self._frame_or_none() & other._frame_or_none()
        visible = self.kept & other.kept & (self.visible | other.visible)
        return Mask(visible, frame, full=full)

    def unite(self, other: Mask) -> Mask:
        """Visible if either is, else missing if either is, else frame; sizes must agree."""
        frame = self._frame_or_none() & other._frame_or_none()
        return Mask(self.visible | other.visible, frame, full=self.full and other.full)

    def _frame_or_none(self) -> Tensor:
        return torch.zeros(1, 1, 1, 1, dtype=torch.bool) if self.frame is None else self.frame

    def moved(self, move: Callable[[Tensor], Tensor]) -> Mask:
        """The mask after its cells were moved, copied or cropped (N×1×H×W → N'×1×H'×W')."""
        frame = None if self.frame is None else move(self.frame)
        return Mask(move(self.visible), frame, full=self.full)

    def of_images(self, part: slice) -> Mask:
        """The mask of some of the images."""
        return Mask(self.visible[part], self.frame, full=self.full)

    def uncovered(self) -> Mask:
        """The same frame, and everything else visible."""
        visible = (~self._frame_or_none()).to(self.visible.device).expand_as(self.visible)
        return self.remember("uncovered", lambda: Mask(visible, self.frame, full=True))

    @staticmethod
    def joined(masks: Sequence[Mask], dim: int) -> Mask:
        """The mask of maps laid end to end along their rows (2) or columns (3)."""
        frames = [m._frame_or_none().expand(1, 1, *m.size) for m in masks]
        visible = torch.cat([m.visible for m in masks], dim)
        return Mask(visible, torch.cat(frames, dim), full=all(m.full for m in masks))

    def framed(self, pad: tuple[int, int, int, int]) -> Mask:
        """The mask after constant padding (left, right, top, bottom): the new cells are frame."""
        frame = F.pad(self._frame_or_none().expand(1, 1, *self.size), pad, value=True)
        return Mask(F.pad(self.visible, pad), frame, full=self.full)
