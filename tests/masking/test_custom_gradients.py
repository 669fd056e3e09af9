"""Gradients through the model's own functions are refused, and those that it cuts stay cut."""

import pytest
import torch
from styles import (
    NewSwish,
    Swish,
)
from torch import nn

from captum_layermask import LayerMaskedForward, NoRuleError

pytestmark = pytest.mark.filterwarnings("ignore::captum_layermask.VanishedWarning")


class CustomActivation(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.conv, self.function = nn.Conv2d(3, 4, 3), function

    def forward(self, x):
        return self.function.apply(self.conv(x)).mean((2, 3))


@pytest.mark.parametrize("function", [Swish, NewSwish])
def test_gradients_through_a_custom_function_are_refused_and_not_lost(function):
    forward = LayerMaskedForward(CustomActivation(function))
    mask = torch.ones(12, 12)
    mask[:5] = 0
    x = torch.randn(2, 3, 12, 12)
    output = forward(x, mask=mask)
    with torch.no_grad():
        assert torch.equal(forward(x, mask=mask), output)
    with pytest.raises(NoRuleError, match="rule_for"):
        output.sum().backward()


def test_a_model_may_cut_gradients_itself():
    class Cuts(nn.Module):
        def forward(self, x):
            with torch.no_grad():
                gate = x.sigmoid()
            return (gate * x).mean((2, 3))

    x = torch.randn(1, 3, 6, 6, requires_grad=True)
    LayerMaskedForward(Cuts())(x, mask=torch.ones(6, 6)).sum().backward()
    assert torch.allclose(x.grad, x.detach().sigmoid() / 36)
