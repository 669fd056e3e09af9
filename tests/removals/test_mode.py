"""The mode of a forward, and of a loaded network, is that of the user's network, module by module."""

import copy
import pickle

import pytest
import torch
from support import small_classifier
from torch import nn

from captum_layermask import REMOVALS, LayerMaskedForward, make_forward
from captum_layermask.models.loaded import LoadedModel
from captum_layermask.models.preprocessing import Normalize
from captum_layermask.removals.colors import Colors

COLORS = Colors([0.5] * 3, [0.5] * 3, normalized=False)
PIXELS = torch.rand(1, 3, 24, 24)
DEFAULT_REMOVALS = [
    removal for removal in REMOVALS if removal not in ("drop-tokens", "telea", "navier-stokes")
]


def loaded(model):
    return LoadedModel("mine", model, nn.Identity(), Normalize([0.5] * 3, [0.5] * 3), ("a",)).network


def wrapped(removal, model):
    if removal == "loaded":
        return loaded(model)
    segments = torch.zeros(1, 1, 24, 24, dtype=torch.long)
    return make_forward(removal, model, colors=COLORS, reference=PIXELS, segments=segments)


def modes(model):
    return [module.training for module in model.modules()]


@pytest.mark.parametrize("removal", [*DEFAULT_REMOVALS, "loaded"])
def test_the_mode_is_that_of_the_network(removal):
    model = small_classifier(4).eval()
    wrapper = wrapped(removal, model)
    assert not any(modes(wrapper))
    model.train()
    assert wrapper.training
    model.eval()
    assert not wrapper.training
    wrapper.train()
    assert wrapper.training and all(modes(model))
    wrapper.eval()
    assert not wrapper.training and not any(modes(model))


@pytest.mark.parametrize("removal", ["layer", "grey", "loaded"])
def test_saving_and_restoring_the_mode_changes_nothing(removal):
    model = small_classifier(4).eval()
    wrapper = wrapped(removal, model)
    for module in (
        wrapper,
        copy.deepcopy(wrapper),
        pickle.loads(pickle.dumps(wrapper)),
        nn.Sequential(wrapper)[0],
    ):
        saved = module.training
        module.eval()
        module.train(saved)
        assert not any(modes(module))


def test_a_tool_that_does_it_for_every_module_keeps_a_mixed_network():
    model = small_classifier(4).train()
    model[0].eval()
    forward = LayerMaskedForward(model)
    before = modes(model)
    saved = [(module, module.training) for module in forward.modules()]
    forward.eval()
    for module, mode in saved:
        module.training = mode
    assert modes(model) == before


def test_the_network_has_the_names_that_it_had():
    names = [name for name, _ in loaded(small_classifier(2)).named_modules()]
    assert names[:4] == ["", "0", "1", "1.0"]
