"""What ``torch.compile`` needs of a masked forward, and what it cannot trace."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from captum_layermask.errors import CompileError


def stand_in(device: torch.device) -> Tensor:
    """What an activation itself holds while it is traced; its values lie beside it.

    ``torch.compile`` (2.14) asks no rule for some calls, but runs them on the activation itself: ``y[i] = …``
    and loops over it, ``cat`` of a tuple, ``F.hardswish`` and others. NaN without dimensions, of a type that
    few operations take, lets these fail, or give NaN, where plain values would lose their mask unseen.
    """
    return torch.full((), torch.nan, dtype=torch.float8_e5m2, device=device)


def refusal(reason: str) -> CompileError:
    """The error of a network that cannot be traced."""
    return CompileError(
        "torch.compile cannot trace the masked forward of this network (it asks no rule for `y[i] = …`, "
        "loops over an activation, `cat` of a tuple and some functions such as F.hardswish); call the "
        f"forward without it. It says: {reason}"
    )


def while_tracing(error: Exception) -> bool:
    """Whether an error comes from tracing a network, or from running what stood in for an activation."""
    traceback = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_globals.get("__name__") == "torch._dynamo.convert_frame":
            return True
        traceback = traceback.tb_next
    return "float8_e5m2" in str(error).lower()


@torch.compiler.disable
def require_numbers(result: Any) -> None:
    """Raise where a compiled forward gives NaN: something stood in for an activation to the end.

    Raises:
        CompileError: there is NaN in the result.
    """
    for leaf in pytree.tree_leaves(result):
        if isinstance(leaf, Tensor) and leaf.is_floating_point() and bool(leaf.isnan().any()):
            raise refusal("the prediction holds NaN.")
