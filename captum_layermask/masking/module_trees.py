"""A network with some modules replaced, without changing the network."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import cast

from torch import nn

__all__ = ["with_replaced"]


def with_replaced(model: nn.Module, new: Callable[[nn.Module], nn.Module | None]) -> nn.Module:
    """A copy of the model with its own tree of modules, and the model's own parameters and buffers.

    A module that stands in several places does so in the copy. A compiled module is copied as what it was
    made from, since its compiled code would run the original.

    Args:
        model: the network.
        new: for a module what stands in its place, or None for a copy.
    """
    done: dict[int, nn.Module] = {}

    def copied(module: nn.Module) -> nn.Module:
        if "_orig_mod" in module._modules:
            return copied(cast(nn.Module, module._orig_mod))
        if id(module) not in done:
            twin = new(module)
            if twin is None:
                twin = copy.copy(module)
                vars(twin)["_modules"] = {
                    name: child if child is None else copied(child) for name, child in module._modules.items()
                }
            done[id(module)] = twin
        return done[id(module)]

    return copied(model)
