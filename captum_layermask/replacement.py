"""Modules whose class has a rule are replaced in a copy of the model's tree; the model is not touched."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from captum_layermask.activation import carriers_in
from captum_layermask.registry import MODULE_RULES, Function


class RuledModule(nn.Module):
    """Runs a rule in place of a module's forward."""

    def __init__(self, module: nn.Module, rule: Function) -> None:
        super().__init__()
        self.training = module.training
        self._replaced = (module,)
        self._rule = rule

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The masked version of the module's forward."""
        result = self._rule(*self._replaced, *args, **kwargs)
        carrier = next(carriers_in((args, kwargs)), None)
        if carrier is not None and carrier.run.observe is not None:
            (module,) = self._replaced
            carrier.run.observe(carrier.run, type(module), self._rule.__name__, result)
        return result


def with_module_rules(model: nn.Module) -> nn.Module:
    """The model itself where no class of its modules has a rule, else a copy that shares everything else.

    The copy has its own tree of modules and the model's own parameters and buffers.
    """
    if not any(type(module) in MODULE_RULES for module in model.modules()):
        return model
    return _copy(model, {})


def _copy(module: nn.Module, done: dict[int, nn.Module]) -> nn.Module:
    if id(module) not in done:
        if type(module) in MODULE_RULES:
            done[id(module)] = RuledModule(module, MODULE_RULES[type(module)])
        else:
            done[id(module)] = twin = copy.copy(module)
            twin._modules = {
                name: child if child is None else _copy(child, done)
                for name, child in module._modules.items()
            }
    return done[id(module)]
