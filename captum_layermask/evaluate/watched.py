"""The time of a forward's calls and the samples that vanished in them are noted."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Watch"]


class Watch:
    """Watches the calls of a forward, from the beginning of a ``with`` block to its end.

    Args:
        forward: the network, or a ``RemovalForward``.

    Attributes:
        seconds: spent in its calls.
        last: which of the last call's samples had visible pixels but lost them all on the way to the head,
            bool N; all False where the forward does not tell (``vanished``).
        vanished: how many there were in all calls.

    Example:
        ```python
        with Watch(forward) as watch:
            forward(image, mask=visible)
        print(watch.seconds, watch.vanished)
        ```
    """

    def __init__(self, forward: nn.Module) -> None:
        self.seconds = 0.0
        self.vanished = 0
        self.last = torch.zeros(0, dtype=torch.bool)
        self._forward = forward
        self._start = 0.0

    def __enter__(self) -> Watch:
        before = self._forward.register_forward_pre_hook(self._before)
        self._hooks = (before, self._forward.register_forward_hook(self._after))
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _before(self, forward: Any, inputs: Any) -> None:
        self._start = time.perf_counter()

    def _after(self, forward: Any, inputs: tuple[Tensor, ...], output: Any) -> None:
        self.seconds += time.perf_counter() - self._start
        vanished = getattr(forward, "vanished", None)
        self.last = torch.zeros(len(inputs[0]), dtype=torch.bool) if vanished is None else vanished
        self.vanished += int(self.last.sum())
