"""A copy of a network with some modules replaced shares everything else, and leaves the network as it was."""

import pytest
import torch
from torch import nn

from captum_layermask.masking.module_trees import with_replaced


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
        self.again, self.nothing, self.last = self.first, None, nn.Linear(4, 2)

    def forward(self, x):
        return self.last(self.again(self.first(x)))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Twice()


def tanh_for_relu(module):
    return nn.Tanh() if isinstance(module, nn.ReLU) else None


def test_only_what_is_replaced_differs(model):
    x, before = torch.randn(3, 4), list(model.named_modules(remove_duplicate=False))
    copied, expected = with_replaced(model, tanh_for_relu), model(x)
    linear, last = model.first[0], model.last
    assert torch.equal(copied(x), last(torch.tanh(linear(torch.tanh(linear(x))))))
    assert copied.first is copied.again is not model.first and copied.nothing is None
    assert all(a is b for a, b in zip(copied.parameters(), model.parameters(), strict=True))
    copied.last.register_parameter("other", nn.Parameter(torch.zeros(1)))
    copied.first[1] = nn.Identity()
    assert list(model.named_modules(remove_duplicate=False)) == before
    assert torch.equal(model(x), expected)


def test_the_model_itself_can_be_replaced(model):
    other = nn.Identity()
    assert with_replaced(model, lambda module: other if module is model else None) is other


def test_what_is_compiled_is_copied_as_what_it_was_made_from(model):
    x, expected = torch.randn(3, 4), with_replaced(model, tanh_for_relu)(torch.randn(0, 4))
    model.last.compile(backend="eager")
    compiled = torch.compile(model, backend="eager")
    copied = with_replaced(compiled, tanh_for_relu)
    assert type(copied) is Twice and copied(torch.randn(0, 4)).shape == expected.shape
    assert torch.equal(copied(x), with_replaced(model, tanh_for_relu)(x))
    assert not any(isinstance(module, nn.ReLU) for module in copied.modules())
    assert vars(copied.last).get("_compiled_call_impl") is None
