"""Which of Captum's methods calls a forward, read from the call stack: the arguments do not tell."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any
from weakref import WeakSet

from torch import Tensor
from torch.utils import _pytree as pytree

from captum_layermask.errors import FewSamplesWarning, InputError
from captum_layermask.removals.missing import MISSING

__all__ = ["Perturbing", "note_samples", "perturbing", "refuse_mixing", "warn_if_few"]

#: Attributions that have been warned about, each once.
_warned: WeakSet[Any] = WeakSet()


@dataclass(frozen=True)
class Perturbing:
    """A method that is removing parts of images.

    Attributes:
        name: of its class.
        images: how many it explains.
    """

    name: str
    images: int


def perturbing() -> Perturbing | None:
    """Captum's perturbation method that is running on this thread, the outermost; None where none is."""
    found = None
    for method, values in _attributions():
        attr = sys.modules["captum.attr"]
        if isinstance(method, attr.LayerAttribution):  # removes parts of a layer's output, not pixels
            found = None
        elif isinstance(method, attr.PerturbationAttribution):
            tensors = [leaf for leaf in pytree.tree_leaves(values.get("inputs")) if isinstance(leaf, Tensor)]
            found = Perturbing(type(method).__name__, len(tensors[0]) if tensors else 1)
    return found


def refuse_mixing() -> None:
    """Refuse a method that adds something to MISSING, or a part of it to an image.

    What arrives then holds no MISSING any more. Only Captum's own methods on this thread are seen: a mixture
    is a very dark picture like others, so that of a loop by hand cannot be told.

    Raises:
        InputError: a gradient method or ``NoiseTunnel`` was given MISSING.
    """
    for method, values in _attributions():
        attr = sys.modules["captum.attr"]
        mixes = isinstance(method, (attr.GradientAttribution, attr.NoiseTunnel))
        if mixes and _holds_missing((values.get("inputs"), values.get("baselines"))):
            raise InputError(
                f"{type(method).__name__} mixes MISSING with colours or noise, and a mixture is not missing; "
                "give it a colour as the baseline and a whole image, or use a perturbation method such as "
                "FeatureAblation, Occlusion, Lime, KernelShap or ShapleyValueSampling."
            )


def note_samples() -> None:
    """Warn if Captum's ``Lime`` or ``KernelShap`` is running on this thread with too few samples."""
    for method, values in _attributions():
        if isinstance(method, sys.modules["captum.attr"].LimeBase) and method not in _warned:
            # The user's own call does not hold the number of segments; a call beneath it does.
            segments = values.get("kwargs", {}).get("num_interp_features", 0)
            if warn_if_few(values["n_samples"], segments):
                _warned.add(method)


def warn_if_few(samples: int, segments: int) -> bool:
    """Warn, and return True, if a model of so many segments is fitted to fewer than twice as many samples."""
    few = samples < 2 * segments
    if few:
        warnings.warn(
            f"{samples} samples for {segments} segments: with fewer than two for each, chance draws much of "
            f"the map; take at least {2 * segments} samples, or fewer segments.",
            FewSamplesWarning,
            stacklevel=2,
        )
    return few


def _attributions() -> Iterator[tuple[Any, dict[str, Any]]]:
    """Captum's methods that are running on this thread, the innermost first, and their variables."""
    captum = sys.modules.get("captum.attr")
    frame: FrameType | None = sys._getframe(1) if captum is not None else None
    while frame is not None:
        if frame.f_code.co_name == "attribute":
            values = frame.f_locals
            if isinstance(values.get("self"), captum.Attribution):  # type: ignore[union-attr]
                yield values["self"], values
        frame = frame.f_back


def _holds_missing(values: Any) -> bool:
    return any(
        bool((leaf == MISSING).any()) if isinstance(leaf, Tensor) else leaf == MISSING
        for leaf in pytree.tree_leaves(values)
    )
