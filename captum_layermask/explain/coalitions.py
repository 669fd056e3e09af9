"""Coalitions: what a forward predicts when some segments of an image are visible, and the others removed."""

from __future__ import annotations

import inspect
import operator
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor, nn

from captum_layermask.errors import InputError, require_positive
from captum_layermask.explain.explanation import activated, check_image, described, require_activation
from captum_layermask.removals.missing import MISSING

__all__ = ["Coalitions"]


class Coalitions:
    """The function "which segments are visible → value" of one image, as estimators of attributions want it.

    Each coalition is evaluated once; a later call takes its value from a cache. The forward always gets
    ``batch_size`` images, so that what is compiled or tuned for a shape serves all calls: the last batch is
    filled up with coalitions that it holds already. So let ``batch_size`` be at most what a sampler wants at
    once. The forward and the image must not change in between.

    Args:
        forward: N×C×H×W → N×classes, N×1 or N. If it has a parameter ``mask``, as every ``RemovalForward``
            has, it gets the image itself and ``mask=`` bool N×1×H×W, True = visible, and no perturbed
            image is made. If not, or if ``baselines`` is a colour, it gets perturbed images, and must know
            what ``MISSING`` means. Wrap a forward whose ``mask`` means something else:
            ``lambda x: forward(x)``.
        image: float 1×C×H×W.
        segments: LongTensor 1×1×H×W, ids 0, 1, 2 … without gaps (see ``segments.py``).
        target: index of the class whose value is wanted, or several; None takes all that the forward returns.
        baselines: what stands in the other segments: ``MISSING``, or colours, a number or float 1×C×H×W.
        activation: a key of ``ACTIVATIONS`` for probabilities of logits; None takes what the forward returns.
        batch_size: images per call of the forward.
        progress: called whenever coalitions of a call have got their values, with how many; a bar's
            ``update`` will do.

    Attributes:
        n_segments: how many segments the image has.
        evaluations: coalitions evaluated so far.
        forwards: calls of the forward that this took.
        vanished: which coalitions of the last call had visible pixels but lost them all before the
            head of the network, bool K on the CPU, whether from the cache or not; None before the first call,
            after one that failed, and where the forward does not tell.

    Raises:
        InputError: no image, no segments of it, no target, baselines of another shape, or a count below 1.
        UnknownNameError: there is no such activation.

    Example:
        ```python
        coalitions = Coalitions(forward, image, segments, target=281)
        visible = torch.rand(100, int(segments.max()) + 1) < 0.5
        values = coalitions(visible)
        ```
    """

    def __init__(
        self,
        forward: Callable[..., Any],
        image: Tensor,
        segments: Tensor,
        *,
        target: int | Sequence[int] | None = None,
        baselines: float | Tensor = MISSING,
        activation: str | None = None,
        batch_size: int = 16,
        progress: Callable[[int], object] | None = None,
    ) -> None:
        check_image(image, segments)
        if not image.is_floating_point():
            raise InputError(f"the image is {image.dtype}; give floating point, for example image / 255.")
        require_positive("the batch size", batch_size)
        if activation is not None:
            require_activation(activation)
        self.evaluations = self.forwards = 0
        self.vanished: Tensor | None = None
        self._forward, self._image = forward, image.detach()
        self._segments = segments.to(image.device)
        self.n_segments = int(segments.max()) + 1
        self._target, self._activation = _as_target(target), activation
        self._baselines = _as_baselines(baselines, self._image)
        self._masks = _takes_mask(forward) and bool((self._baselines == MISSING).all())
        self._batch_size, self._progress = batch_size, progress
        self._cache: dict[bytes, tuple[Tensor, bool | None]] = {}

    @overload
    def __call__(self, visible: Tensor) -> Tensor: ...
    @overload
    def __call__(self, visible: np.ndarray) -> np.ndarray: ...
    def __call__(self, visible: Tensor | np.ndarray) -> Tensor | np.ndarray:
        """Evaluate coalitions.

        Args:
            visible: bool K×segments, True where a segment is visible; a tensor or a NumPy array.

        Returns:
            One value for each coalition, K, or K×T for several targets or outputs: for a tensor a tensor of
            the forward's type and on its device, for an array float64.

        Raises:
            InputError: other coalitions, a class that the forward does not have, or a forward that returns
                anything else than one row for each image; and what the forward refuses.
        """
        self.vanished = None  # a call that fails leaves nothing of the one before
        rows = self._rows(visible)
        keys = [row.tobytes() for row in np.packbits(rows, axis=1)]
        counts = Counter(keys)
        place = {key: i for i, key in enumerate(keys)}
        new = [key for key in counts if key not in self._cache]
        self._report(len(keys) - sum(counts[key] for key in new))
        for start in range(0, len(new), self._batch_size):
            batch = new[start : start + self._batch_size]
            self._evaluate(batch, rows[[place[key] for key in batch]])
            self._report(sum(counts[key] for key in batch))
        values, vanished = zip(*(self._cache[key] for key in keys), strict=True)
        self.vanished = None if None in vanished else torch.tensor(vanished)
        stacked = torch.stack(values)
        return stacked if isinstance(visible, Tensor) else stacked.double().cpu().numpy()

    @torch.no_grad()
    def _evaluate(self, keys: Sequence[bytes], rows: np.ndarray) -> None:
        """Fill the cache, by one call of the forward."""
        filled = np.resize(rows, (self._batch_size, self.n_segments))
        visible = torch.from_numpy(filled).to(self._image.device)[:, self._segments[0]]
        if self._masks:
            outputs = self._forward(self._image.expand(self._batch_size, -1, -1, -1), mask=visible)
        else:
            outputs = self._forward(torch.where(visible, self._image, self._baselines))
        values = self._values(outputs)[: len(keys)].clone()
        lost = getattr(self._forward, "vanished", None)
        vanished = [None] * len(keys) if lost is None else lost[: len(keys)].tolist()
        self._cache.update(zip(keys, zip(values, vanished, strict=True), strict=True))
        self.evaluations += len(keys)
        self.forwards += 1

    def _values(self, outputs: Any) -> Tensor:
        """Those of the targets: N, or N×T."""
        rows = self._batch_size
        fits = isinstance(outputs, Tensor) and outputs.dim() in (1, 2) and len(outputs) == rows
        if not fits or not outputs.is_floating_point():
            raise InputError(
                f"the forward returned {described(outputs)} for {rows} images; give one that returns "
                f"floating point, {rows}×classes or {rows}."
            )
        if self._activation is not None:
            outputs = activated(outputs, self._activation)
        if self._target is None:
            return outputs[:, 0] if outputs.shape[1:] == (1,) else outputs
        if outputs.dim() == 1:
            raise InputError("the forward returns one number for an image; leave out target.")
        largest = self._target if isinstance(self._target, int) else max(self._target)
        if largest >= outputs.shape[1]:
            raise InputError(
                f"there is no class {largest}; give an index from 0 to {outputs.shape[1] - 1} as target."
            )
        return outputs[:, self._target]

    def _rows(self, visible: Any) -> np.ndarray:
        is_bool = isinstance(visible, (Tensor, np.ndarray)) and visible.dtype in (torch.bool, np.dtype(bool))
        if not is_bool or visible.ndim != 2 or visible.shape[1] != self.n_segments or len(visible) == 0:
            raise InputError(
                f"the coalitions are {described(visible)}; give bool, K×{self.n_segments}, True where a "
                "segment is visible."
            )
        return visible.cpu().numpy() if isinstance(visible, Tensor) else visible

    def _report(self, count: int) -> None:
        if self._progress is not None and count:
            self._progress(count)


def _as_target(target: Any) -> int | list[int] | None:
    if target is None:
        return None
    several = isinstance(target, Iterable) and not isinstance(target, str) and getattr(target, "ndim", 1) == 1
    try:
        indices = [operator.index(index) for index in (target if several else [target])]
    except TypeError:
        indices = []
    if not indices or min(indices) < 0:
        raise InputError(
            f"the target is {target!r}; give the index of a class, or several in a list, or leave it out for "
            "all that the forward returns."
        )
    return indices if several else indices[0]


def _as_baselines(baselines: float | Tensor, image: Tensor) -> Tensor:
    colors = torch.as_tensor(baselines, dtype=image.dtype, device=image.device).detach()
    if colors.dim() and colors.shape != image.shape:
        raise InputError(
            f"the baselines have shape {tuple(colors.shape)}; give a number, or the shape of the image, "
            f"{tuple(image.shape)}."
        )
    return colors


def _takes_mask(forward: Callable[..., Any]) -> bool:
    """Whether the forward has a parameter ``mask``; that of a module stands in its ``forward``."""
    original = inspect.unwrap(getattr(forward, "_orig_mod", forward))  # of torch.compile, of a decorator
    try:
        signature = inspect.signature(original.forward if isinstance(original, nn.Module) else original)
    except (TypeError, ValueError):  # functions written in C tell no signature
        return False
    return "mask" in signature.parameters
