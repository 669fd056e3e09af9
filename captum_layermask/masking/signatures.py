"""Where PyTorch's own signatures have the arguments of a call.

PyTorch takes one call in many spellings: by position or by keyword, ``axis`` for ``dim``, numbers one by one
or as a tuple. Here each becomes the same call, before a rule sees it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Function = Callable[..., Any]

_ALIASES = {"axis": "dim", "keepdims": "keepdim", "x2": "other"}
_OPTIONAL = re.compile(r"^Optional\[(.*)\]$")
_FIRST = ("self", "input", "x", "a", "x1")
_KINDS: dict[str, Callable[[Any], bool]] = {
    "Tensor": lambda value: isinstance(value, Tensor),
    "int": lambda value: isinstance(value, (int, torch.SymInt)) and not isinstance(value, bool),
    "bool": lambda value: isinstance(value, bool),
    "List[int]": lambda value: (
        isinstance(value, (int, torch.SymInt, tuple, list)) and not isinstance(value, bool)
    ),
    "number": lambda value: isinstance(value, (int, float, complex, torch.SymInt, torch.SymFloat)),
    "float": lambda value: isinstance(value, (int, float, torch.SymInt, torch.SymFloat)),
}


@dataclass(frozen=True)
class Signature:
    """One form in which a function can be called.

    Attributes:
        names: of the arguments that may stand by position, in their order.
        kinds: what each of them may be, or None where anything may stand.
        defaults: of those that may be left out.
        keywords: names of the arguments that must be given by keyword.
        packs: whether numbers may stand one by one for the tuple that is its one argument.
    """

    names: tuple[str, ...]
    kinds: dict[str, Callable[[Any], bool] | None]
    defaults: dict[str, Any]
    keywords: frozenset[str]
    packs: bool = False

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any] | None:
        """The arguments by name, or None where this is not how the function was called."""
        if self.packs and len(args) > 2 and all(isinstance(a, (int, torch.SymInt)) for a in args[1:]):
            args = (args[0], tuple(args[1:]))
        if len(args) > len(self.names):
            return None
        given = dict(zip(self.names, args, strict=False))
        for key, value in kwargs.items():
            name = self._name(key)
            if name is None or name in given:
                return None
            given[name] = value
        for name in self.names:
            if name in given:
                kind = self.kinds[name]
                if kind is not None and not kind(given[name]) and given[name] is not None:
                    return None
            elif name not in self.defaults:
                return None
        return given

    def _name(self, key: str) -> str | None:
        if key in self.keywords or key in self.names:
            return key
        if key in _FIRST and self.names[:1] and self.names[0] in _FIRST:
            return self.names[0]
        name = _ALIASES.get(key)
        return name if name in self.names or name in self.keywords else None

    def call(self, args: tuple[Any, ...], given: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The same arguments: those that must be given by position, and those that were, the rest by name."""
        most = max(len(args), sum(name not in self.defaults for name in self.names))
        if self.packs:
            most = min(most, 2)
        by_position = self.names[:most]
        return tuple(given.pop(n) for n in by_position), given


SIGNATURES: dict[Function, tuple[Signature, ...]] = {}


def learn(function: Function) -> None:
    """Look a function's signatures up, once."""
    if function not in SIGNATURES:
        SIGNATURES[function] = _python(function) or _native(function)


def _python(function: Function) -> tuple[Signature, ...]:
    if inspect.isfunction(function):  # F.max_pool2d and others choose by a flag; they share their arguments
        dispatched = torch._jit_internal.boolean_dispatched.get(function)
        function = function if dispatched is None else dispatched["if_false"]
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return ()
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD, p.POSITIONAL_ONLY) for p in parameters):
        return ()
    names = tuple(p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD)
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    keywords = frozenset(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)
    return (Signature(names, dict.fromkeys(names), defaults, keywords),)


def _native(function: Function) -> tuple[Signature, ...]:
    """Those of a function written in C++, from PyTorch's own table of operators."""
    name = getattr(function, "__name__", "")
    schemas = torch._C._jit_get_schemas_for_operator(f"aten::{name}")
    found = []
    for schema in schemas:
        kinds = {a.name: str(a.type) for a in schema.arguments}
        if any(a.is_out for a in schema.arguments) or any("Dimname" in k for k in kinds.values()):
            continue
        names = tuple(a.name for a in schema.arguments if not a.kwarg_only)
        if not names or "Tensor" not in kinds[names[0]]:
            continue
        found.append(
            Signature(
                names,
                {n: _KINDS.get(_OPTIONAL.sub(r"\1", kinds[n])) for n in names},
                {a.name: a.default_value for a in schema.arguments if a.has_default_value()},
                frozenset(a.name for a in schema.arguments if a.kwarg_only),
                packs=len(names) == 2 and kinds[names[1]] == "List[int]" and "[1]" not in str(schema),
            )
        )
    return tuple(found)


def bound(
    function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A call as PyTorch's signature spells it: its required arguments by position, the others by their names.

    A call that fits none of the function's signatures is handed on as it is, and so are those of functions
    written in Python, which spell their calls themselves.
    """
    if (not kwargs and len(args) < 3) or getattr(function, "__module__", None) == F.__name__:
        return args, kwargs
    for signature in SIGNATURES.get(function, ()):
        given = signature.bind(args, kwargs)
        if given is not None:
            return signature.call(args, given)
    return args, kwargs


def argument(
    function: Function, args: tuple[Any, ...], kwargs: dict[str, Any], name: str, default: Any = None
) -> Any:
    """One argument of a bound call, or its default."""
    for signature in SIGNATURES.get(function, ()):
        given = signature.bind(args, kwargs)
        if given is not None and (name in signature.names or name in signature.keywords):
            return given.get(name, signature.defaults.get(name, default))
    return kwargs.get(name, default)
