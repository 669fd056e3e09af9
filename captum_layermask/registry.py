"""Each operation has a rule: what it does to a map and its mask."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

Function = Callable[..., Any]
Rule = Callable[[Function, tuple[Any, ...], dict[str, Any]], Any]

RULES: dict[Function, Rule] = {}
MODULE_RULES: dict[type[nn.Module], Function] = {}


def spellings(name: str) -> Iterator[Function]:
    """Every function that PyTorch calls by this name: ``torch.relu``, ``Tensor.relu_``, ``F.relu`` …"""
    for space in (torch, torch.Tensor, F, torch.special):
        for spelling in (name, f"{name}_", f"__{name}__", f"__i{name}__", f"__r{name}__"):
            function = getattr(space, spelling, None)
            if callable(function):
                yield function


def give_rule(rule: Rule, *names: str) -> None:
    """Let one rule, ``rule(function, args, kwargs)``, serve every spelling of the named operations."""
    for name in names:
        for function in spellings(name):
            RULES[function] = rule


def rule_for(*targets: str | Function | type[nn.Module]) -> Callable[[Function], Function]:
    """Decorate the masked version of an operation.

    Args:
        *targets: what it is the masked version of: a function that PyTorch dispatches (``torch.cumsum``, or
            your own that calls ``torch.overrides.handle_torch_function``), the name of a PyTorch operation
            in all its spellings (``"relu"``), or a module class (exactly it, not its subclasses).

    The decorated function takes the arguments of the function it stands for, or the module and then the
    arguments of its ``forward``. Activations arrive as ``MaskedMap``; return ``x.like(values, mask)``, or
    ``x.pooled(values)`` once there are no positions left. A later rule replaces an earlier one.
    """

    def register(masked: Function) -> Function:
        @functools.wraps(masked)
        def rule(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            return masked(*args, **kwargs)

        for target in targets:
            if isinstance(target, str):
                give_rule(rule, target)
            elif isinstance(target, type) and issubclass(target, nn.Module):
                MODULE_RULES[target] = masked
            else:
                RULES[target] = rule
        return masked

    return register
