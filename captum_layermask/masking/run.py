"""What all activations of one masked forward share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.overrides import resolve_name

from captum_layermask.errors import LayerMaskError
from captum_layermask.masking.boundary import Boundary, neighbor
from captum_layermask.masking.compiling import constant, tracing
from captum_layermask.masking.mask import Mask
from captum_layermask.masking.propagation import PROPAGATIONS, Propagation
from captum_layermask.masking.signatures import Function

if TYPE_CHECKING:
    from captum_layermask.masking.carrier import Carrier

Observer = Callable[["Run", Function, str, Any], None]


@dataclass
class Run:
    """One masked forward: what all of its carriers share.

    Args:
        model: the network that runs.
        observe: called as ``observe(run, function, rule name, result)`` after every operation, or None.
        padded: whether the operation now running filled missing cells.
        concat: which cells of concatenated maps are visible, "intersection" or "union".
        padding: what windows read in the missing region.
        propagation: mask propagation through windows.
        masked_windows: how many operations that slide a window are masked; None for all.
        windows: how many have slid a window.
        ended: the rest of the network runs as usual, with 0 in what is missing (the option ``until``): the
            last masked module has returned, or a window after the last masked one was reached.
        over: the forward has returned; what is left of it are plain tensors with 0 in what was missing.
        left: the masks of activations whose values left as numbers, lists or arrays.
        refusal: the last error that a ``Guarded`` raised, which TorchScript reports as one of its own.
        grad: whether gradients were recorded when it began.
    """

    model: nn.Module | None = None
    observe: Observer | None = None
    padded: bool = False
    concat: str = "intersection"
    padding: Boundary = neighbor
    propagation: Propagation = PROPAGATIONS["anchored"]
    masked_windows: int | None = None
    windows: int = 0
    ended: bool = False
    over: bool = False
    left: list[Mask] = field(default_factory=list)
    refusal: LayerMaskError | None = None
    grad: bool = field(default_factory=torch.is_grad_enabled)

    def apply(self, rule: Function, args: Any, kwargs: Any, carriers: Iterable[Carrier]) -> Any:
        """What a rule returns: for masked maps, or once masking has ended for maps with 0 in missing cells.

        Whether an operation slides a window is known once its rule has run, so the first one after the last
        masked window runs twice.
        """
        if not self.ended:
            result = rule(*args, **kwargs)
            if self.masked_windows is None or self.windows <= self.masked_windows:
                return result
            self.ended = True
        for carrier in carriers:
            carrier.unmask()
        return rule(*args, **kwargs)

    def here(self) -> str:
        """The path of the innermost module whose forward is running, '' for the model itself."""
        modules = () if self.model is None else self.model.named_modules(remove_duplicate=False)
        names = {id(module): name for name, module in modules}
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            owner = frame.f_locals.get("self")
            if isinstance(owner, nn.Module) and id(owner) in names:
                return names[id(owner)]
            frame = frame.f_back
        return ""

    def whereabouts(self) -> str:
        """The same as a phrase for messages; ``torch.compile`` cannot trace the search."""
        if tracing():
            return "a compiled forward"
        path = self.here()
        return f"module {path!r}" if path else "the model's own forward"


@constant
def function_name(function: Function) -> str:
    """The name under which PyTorch's users know a function."""
    return resolve_name(function) or getattr(function, "__qualname__", str(function))
