"""Modules whose class has a rule are replaced in a copy of the model's tree; the model is not touched."""

from __future__ import annotations

from typing import Any

from torch import nn

from captum_layermask.masking.carrier import Carrier
from captum_layermask.masking.compiling import untraced
from captum_layermask.masking.module_trees import with_replaced
from captum_layermask.masking.registry import MODULE_RULES
from captum_layermask.masking.signatures import Function
from captum_layermask.masking.trees import instances


class RuledModule(nn.Module):
    """Runs a rule in place of a module's forward."""

    def __init__(self, module: nn.Module, rule: Function) -> None:
        super().__init__()
        self.training = module.training
        self._replaced = (module,)
        self._rule = rule

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The masked version of the module's forward."""
        (module,) = self._replaced
        carriers = list(instances((args, kwargs), Carrier))
        if not carriers:
            return self._rule(module, *args, **kwargs)
        run = carriers[0].run
        result = run.apply(self._rule, (module, *args), kwargs, carriers)
        if run.observe is not None:
            run.observe(run, type(module), self._rule.__name__, result)
        return result


class LastMasked(nn.Module):
    """Runs a module, and the rest of the network without masks."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.training = module.training
        self.module = module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The module's own forward."""
        result = self.module(*args, **kwargs)
        for carrier in instances(result, Carrier):
            carrier.run.ended = True
        return result


@untraced
def with_module_rules(model: nn.Module, last: str | None = None) -> nn.Module:
    """The model itself where nothing is replaced, else a copy (see ``with_replaced``).

    Args:
        model: the network.
        last: the path of the last module that is masked, or None.
    """
    if last is None and not any(map(_replaced, model.modules())):
        return model
    twin = with_replaced(model, _ruled)
    if last is not None:
        last = last.replace("_orig_mod.", "")
        parent, _, name = last.rpartition(".")
        twin.get_submodule(parent)._modules[name] = LastMasked(twin.get_submodule(last))
    return twin


def _replaced(module: nn.Module) -> bool:
    return type(module) in MODULE_RULES or _is_compiled(module)


def _is_compiled(module: nn.Module) -> bool:
    return "_orig_mod" in module._modules or vars(module).get("_compiled_call_impl") is not None


def _ruled(module: nn.Module) -> RuledModule | None:
    rule = MODULE_RULES.get(type(module))
    return None if rule is None else RuledModule(module, rule)
