"""Gradients that a masked forward cannot follow are refused, not dropped."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Sequence
from types import CodeType, FrameType
from typing import Any

import torch
from torch import Tensor

from captum_layermask.errors import NoRuleError
from captum_layermask.masking.carrier import Carrier
from captum_layermask.masking.trees import instances


def refuse_lost_gradients(result: Any, carriers: Sequence[Carrier]) -> None:
    """Let backward raise where the model's own ``autograd.Function`` made this of what needs gradients."""
    source = next((c.raw for c in carriers if c.raw.requires_grad), None)
    if source is None or not inside_custom_function():
        return
    for made in instances(result, Carrier):
        if made.raw.is_floating_point() and not made.raw.requires_grad:
            made.raw = refusing(made.raw, source)


def inside_custom_function() -> bool:
    """Whether a ``torch.autograd.Function`` of the model is running its own forward."""
    forwards = {_code(kind) for kind in _subclasses(torch.autograd.Function)}
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code not in forwards:
        frame = frame.f_back
    return frame is not None


def _subclasses(kind: type[Any]) -> Iterator[type[Any]]:
    for subclass in kind.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


def _code(kind: Any) -> CodeType | None:
    return getattr(inspect.unwrap(kind.forward), "__code__", None)


def refusing(values: Tensor, source: Tensor) -> Tensor:
    """The same values, with a history from ``source`` that raises when a gradient comes by."""
    with torch.enable_grad():
        return _Refuse.apply(values, source)


class _Refuse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, source: Tensor) -> Tensor:
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        raise NoRuleError(
            "gradients cannot pass through the model's own torch.autograd.Function in a masked forward; give "
            "the module that uses it a rule with captum_layermask.rule_for, or use plain PyTorch functions."
        )
