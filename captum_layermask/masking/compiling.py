"""All that masked forwards do for ``torch.compile``: what it needs, what it cannot trace, and why.

While it traces (``tracing``), an activation is a stand-in beside its values (``stand_in``), since the guard
that refuses calls from below (``carrier.Guarded``) cannot be traced; nothing is looked up in a cache
(``memoized``); nothing depends on what a tensor holds (whether a mask has frame, whether two are equal);
nobody notes which activations share memory; and gradients get no hooks.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from captum_layermask.errors import CompileError

T = TypeVar("T")

untraced = torch.compiler.disable
"""What runs as plain Python: it depends on what tensors hold, or changes objects that outlive the call."""

untraced_itself = torch.compiler.disable(recursive=False)
"""Likewise, but what it calls is traced again."""

constant = torch.compiler.assume_constant_result
"""A function whose result is a constant of the graph: it looks names up, or measures an operation once."""


def tracing() -> bool:
    """Whether ``torch.compile`` traces."""
    return torch.compiler.is_compiling()


def memoized(function: Callable[..., T]) -> Callable[..., T]:
    """Memoize a function of hashable arguments, except while tracing, which does not see through a cache."""
    cached = functools.lru_cache(maxsize=4096)(function)

    @functools.wraps(function)
    def looked_up(*args: Any) -> T:
        return function(*args) if tracing() else cached(*args)

    return looked_up


def counts_in_graphs() -> AbstractContextManager[Any]:
    """Let a graph hold numbers that are counted in tensors: the sizes of the rings of neighbor padding."""
    return torch._dynamo.config.patch(capture_scalar_outputs=True)


_LIBRARY = torch.library.Library("captum_layermask", "FRAGMENT")


def one_operation(signature: str, function: Callable[..., Any], shapes: Callable[..., Any]) -> Any:
    """A function as an operation that ``torch.compile`` does not take apart: the parts would be slower.

    Defined by hand, since not every supported version of ``torch.library.custom_op`` reads ``list[Tensor]``.

    Args:
        signature: in PyTorch's language of schemas.
        function: what it runs.
        shapes: the same without values.
    """
    name = signature.partition("(")[0]
    _LIBRARY.define(signature, tags=(torch.Tag.pt2_compliant_tag,))
    _LIBRARY.impl(name, function, "CompositeExplicitAutograd")
    torch.library.register_fake(f"captum_layermask::{name}", shapes, lib=_LIBRARY)
    return getattr(torch.ops.captum_layermask, name)


def stand_in(device: torch.device) -> Tensor:
    """What an activation itself holds while it is traced; its values lie beside it.

    ``torch.compile`` (2.14) looks up no rule for some calls, but runs them on the activation itself:
    ``y[i] = …`` and loops over it, ``cat`` of a tuple, ``F.hardswish`` and others. NaN without dimensions,
    of a type that few operations take, lets these fail, or give NaN, where plain values would lose their
    mask unseen.
    """
    return torch.full((), torch.nan, dtype=torch.float8_e5m2, device=device)


def refusal(reason: str) -> CompileError:
    """The error of a network that cannot be traced."""
    return CompileError(
        "torch.compile cannot trace the masked forward of this network (it looks up no rule for `y[i] = …`, "
        "loops over an activation, `cat` of a tuple and some functions such as F.hardswish); call the "
        f"forward without it. Its reason: {reason}"
    )


def while_tracing(error: Exception) -> bool:
    """Whether an error comes from tracing a network, or from running what stood in for an activation."""
    traceback = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_globals.get("__name__") == "torch._dynamo.convert_frame":
            return True
        traceback = traceback.tb_next
    return "float8_e5m2" in str(error).lower()


@untraced
def require_numbers(result: Any) -> None:
    """Raise where a compiled forward gives NaN: something stood in for an activation to the end.

    Raises:
        CompileError: there is NaN in the result.
    """
    for leaf in pytree.tree_leaves(result):
        if isinstance(leaf, Tensor) and leaf.is_floating_point() and bool(leaf.isnan().any()):
            raise refusal("the prediction holds NaN.")
