"""The time of a forward's calls and the samples that vanished in them are noted."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from captum_layermask.removals.base import RemovalForward

__all__ = ["Watch"]


class Watch:
    """Watches the calls of a forward from now on.

    Args:
        forward: a way to remove pixels.

    Attributes:
        seconds: spent in its calls.
        last: which of the last call's samples had visible pixels but lost them all on the way, bool N; all
            False for ways that lose none.
        vanished: how many there were in all calls.
    """

    def __init__(self, forward: RemovalForward) -> None:
        self.seconds = 0.0
        self.vanished = 0
        self.last = torch.zeros(0, dtype=torch.bool)
        self._start = 0.0
        forward.register_forward_pre_hook(self._before)
        forward.register_forward_hook(self._after)

    def _before(self, forward: Any, inputs: Any) -> None:
        self._start = time.perf_counter()

    def _after(self, forward: Any, inputs: tuple[Tensor, ...], output: Any) -> None:
        self.seconds += time.perf_counter() - self._start
        vanished = getattr(forward, "vanished", None)
        self.last = torch.zeros(len(inputs[0]), dtype=torch.bool) if vanished is None else vanished
        self.vanished += int(self.last.sum())
