"""What all activations of one masked forward share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.overrides import resolve_name

from captum_layermask.errors import LayerMaskError
from captum_layermask.masking.boundary import Boundary, neighbor
from captum_layermask.masking.mask import Mask
from captum_layermask.masking.propagation import PROPAGATIONS, Propagation
from captum_layermask.masking.signatures import Function

if TYPE_CHECKING:
    from captum_layermask.masking.activation import MaskedMap

Observer = Callable[["Run", Function, str, Any], None]


@dataclass
class Run:
    """One masked forward: what all of its carriers share.

    Args:
        model: the network that runs.
        observe: called as ``observe(run, function, rule name, result)`` after every operation, or None.
        padded: whether the operation now running filled the rim of a hole.
        concat: which cells of concatenated maps are visible, "intersection" or "union".
        padding: what windows read where cells are missing.
        propagation: how masks travel through windows.
        windows_left: how many operations that slide a window are still masked; negative for all.
        ended: from here on the network runs as usual, with 0 in what is missing.
        over: the forward has returned; what is left of it are plain tensors with 0 in what was missing.
        left: the masks of activations whose values left as numbers, lists or arrays.
        refusal: the last error raised behind PyTorch's back, which TorchScript reports as one of its own.
        grad: whether gradients were recorded when it began.
    """

    model: nn.Module | None = None
    observe: Observer | None = None
    padded: bool = False
    concat: str = "intersection"
    padding: Boundary = neighbor
    propagation: Propagation = PROPAGATIONS["anchored"]
    windows_left: int = -1
    ended: bool = False
    over: bool = False
    left: list[Mask] = field(default_factory=list)
    refusal: LayerMaskError | None = None
    grad: bool = field(default_factory=torch.is_grad_enabled)

    def count_window(self, x: MaskedMap) -> None:
        """Note that an operation is about to slide a window over ``x``."""
        if self.windows_left == 0:
            self.ended = True
            x.uncover()
        self.windows_left -= 1

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
        if torch.compiler.is_compiling():
            return "a compiled forward"
        path = self.here()
        return f"module {path!r}" if path else "the model's own forward"


@torch.compiler.assume_constant_result
def function_name(function: Function) -> str:
    """The name under which PyTorch's users know a function."""
    return resolve_name(function) or getattr(function, "__qualname__", str(function))
