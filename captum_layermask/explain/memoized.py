"""A forward that is asked the same question twice answers from memory."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from captum_layermask.removals.base import RemovalForward
from captum_layermask.removals.missing import MISSING

__all__ = ["Memoized"]


class Memoized:
    """Runs a forward once for every set of missing pixels, as long as the image stays the same.

    Args:
        forward: N×C×H×W, with MISSING pixels → logits N×classes.
    """

    def __init__(self, forward: RemovalForward) -> None:
        self.forward = forward
        self._answers: dict[tuple[int, bytes], Tensor] = {}

    def __call__(self, x: Tensor) -> Tensor:
        """What the forward answered when it first saw these pixels missing."""
        missing = (x == MISSING).all(1).cpu().numpy()
        key = len(x), np.packbits(missing).tobytes()
        if key not in self._answers:
            self._answers[key] = self.forward(x)
        return self._answers[key]
