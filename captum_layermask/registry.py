"""Each operation has a rule: what it does to a map and its mask."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F

Function = Callable[..., Any]
Rule = Callable[[Function, tuple[Any, ...], dict[str, Any]], Any]

RULES: dict[Function, Rule] = {}


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


def rule_for(*names: str) -> Callable[[Function], Function]:
    """Decorate a function that has the arguments of the named operations and does the masked version."""

    def register(masked: Function) -> Function:
        @functools.wraps(masked)
        def rule(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            return masked(*args, **kwargs)

        give_rule(rule, *names)
        return masked

    return register
