"""Each operation has a rule: what it does to a map and its mask."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_layermask.errors import InputError, NoRuleError, UnknownNameError
from captum_layermask.masking.signatures import Function, learn

Rule = Callable[[Function, tuple[Any, ...], dict[str, Any]], Any]

RULES: dict[Function, Rule] = {}
MODULE_RULES: dict[type[nn.Module], Function] = {}
SPACES = (torch, torch.Tensor, F, torch.special, torch.linalg)


def no_rule(func: Function, args: Any, kwargs: Any) -> Any:
    """The rule of every operation that has none."""
    if isinstance(func, _COMPILED) or getattr(func, "__module__", "").startswith("torch.jit"):
        raise NoRuleError(
            "a scripted, traced or exported module does not call the functions that have rules; pass the "
            "Python module that it was made from."
        )
    raise NoRuleError("this operation has no layer-masking rule; give it one with captum_layermask.rule_for.")


_COMPILED = (torch.ScriptMethod, torch.ScriptFunction, torch._ops.OpOverload, torch._ops.OpOverloadPacket)


def spellings(name: str) -> list[Function]:
    """Every function that PyTorch calls by this name: ``torch.relu``, ``Tensor.relu_``, ``F.relu`` …

    Raises:
        UnknownNameError: there is none. Names in this package are those that every supported version has.
    """
    words = (name, f"{name}_", f"__{name}__", f"__i{name}__", f"__r{name}__")
    found = [getattr(space, word, None) for space in SPACES for word in words]
    functions = [function for function in found if callable(function)]
    if not functions:
        known = {name.strip("_") for space in SPACES for name in dir(space)}
        raise UnknownNameError("operation", name, sorted(known), "Give a name that PyTorch has.")
    return functions


def give_rule(rule: Rule, *targets: str | Function, replace: bool = False) -> None:
    """Let one rule, ``rule(function, args, kwargs)``, serve functions, or every spelling of a name.

    Raises:
        UnknownNameError: PyTorch has no operation of that name.
        InputError: a function has another rule already, and ``replace`` is False.
    """
    for target in targets:
        functions = spellings(target) if isinstance(target, str) else [target]
        for function in functions:
            if not replace and not _is_again(rule, RULES.get(function, rule)):
                raise InputError(
                    f"{getattr(function, '__qualname__', function)} has a rule already; "
                    "say rule_for(…, replace=True) to put yours in its place."
                )
            RULES[function] = rule
            learn(function)


def _is_again(rule: Function, before: Function) -> bool:
    """Whether a rule is the one from before, or has its name and module, as when a cell runs again."""
    names = [(getattr(r, "__module__", None), getattr(r, "__qualname__", "<")) for r in (rule, before)]
    return rule is before or (names[0] == names[1] and "<lambda>" not in names[0][1])


def rule_for(
    *targets: str | Function | type[nn.Module], replace: bool = False
) -> Callable[[Function], Function]:
    """Decorate the masked version of an operation.

    Args:
        *targets: what it is the masked version of: a function that PyTorch dispatches (``torch.cumsum``, or
            your own that calls ``torch.overrides.handle_torch_function``), the name of a PyTorch operation
            in all its spellings (``"relu"``), or a module class (exactly it, not its subclasses).
        replace: whether it may take the place of a rule that there is already.

    Raises:
        UnknownNameError: PyTorch has no operation of that name; near matches are offered.
        InputError: one of the targets has another rule already, and ``replace`` is False. A function of the
            same name in the same module is no other one, so that a notebook's cell can run again.

    The decorated function takes the arguments of the function it stands for, or the module and then the
    arguments of its ``forward``. Activations arrive as ``MaskedMap``; return ``x.like(values, mask)``, or
    ``x.pooled(values)`` once there are no positions left. However the call was spelled, required arguments
    arrive by position and the others under PyTorch's own names (``dim`` where the model wrote ``axis``).

    Example:
        ```python
        @rule_for(torch.cummax)
        def cummax(x, dim):
            assert x.axes[dim] == "C"
            values, indices = torch.cummax(x.raw, dim)
            return x.like(values), x.like(indices)
        ```
    """

    def register(masked: Function) -> Function:
        parameters = list(inspect.signature(masked).parameters.values())
        of_a_map = bool(parameters) and str(parameters[0].annotation) == "MaskedMap"

        @functools.wraps(masked)
        def rule(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if of_a_map and args and type(args[0]) in (Tensor, nn.Parameter):
                raise NoRuleError("a masked activation stands here where weights or options are taken.")
            return masked(*args, **kwargs)

        for target in targets:
            if not (isinstance(target, type) and issubclass(target, nn.Module)):
                give_rule(rule, target, replace=replace)
            elif replace or _is_again(masked, MODULE_RULES.get(target, masked)):
                MODULE_RULES[target] = masked
            else:
                raise InputError(
                    f"{target.__qualname__} has a rule already; say rule_for(…, replace=True) to put yours "
                    "in its place."
                )
        return masked

    return register
