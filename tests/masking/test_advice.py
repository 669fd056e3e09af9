"""What an error advises helps, and listening to a masked forward works."""

import copy

import pytest
import torch
import torch.nn.functional as F
from small_models import VISIBLE, Net, X, conv, run
from support import relative
from torch import nn

from captum_layermask import InplaceError, InputError, LayerMaskedForward, NoRuleError


class Inner(nn.Module):
    """A network with a part that PyTorch has made something else of."""

    def __init__(self, part):
        super().__init__()
        self.part = part

    def forward(self, x):
        """Convolve, and run the part."""
        return self.part(conv(x))


def exported():
    part = torch.export.export(copy.deepcopy(conv), (X,)).module()
    part.eval = part.train = lambda mode=True: part
    return part


@pytest.mark.parametrize(
    "part", [lambda: torch.jit.trace(conv, X), lambda: torch.jit.script(copy.deepcopy(conv)), exported]
)
def test_a_part_that_is_scripted_traced_or_exported_is_named(part):
    with pytest.raises(NoRuleError, match=r"'part'.* pass the Python module that it was made from") as caught:
        LayerMaskedForward(Inner(part()))(X, mask=VISIBLE)
    assert "rule_for" not in str(caught.value)


@pytest.mark.parametrize("listen", ["register_hook", "retain_grad"])
def test_a_model_may_listen_to_the_gradients_of_an_activation(listen):
    seen = []

    def network(x):
        y = conv(x)
        if listen == "register_hook":
            y.register_hook(lambda gradient: seen.append(gradient) or gradient * 2)
        else:
            y.retain_grad()
            seen.append(y)
        return (y * y).mean((2, 3))

    def gradient(model):
        seen.clear()
        x = X.clone().requires_grad_()
        model(x).sum().backward()
        (there,) = seen
        return x.grad, there if listen == "register_hook" else there.grad

    for masked, plain in zip(gradient(LayerMaskedForward(Net(network))), gradient(Net(network)), strict=True):
        assert relative(masked, plain) <= 1e-12


@pytest.mark.parametrize("mix", [lambda y: F.linear(y, torch.ones(5, 16).double()), lambda y: y.softmax(0)])
def test_a_cnn_that_mixes_positions_is_told_what_works_there(mix):
    with pytest.raises(NoRuleError) as caught:
        run(lambda x: mix(conv(x)))
    assert "until=" in str(caught.value) or "batch" in str(caught.value)


def test_a_detectors_batch_is_told_to_start_at_the_backbone():
    def batched(x):
        batch = x.new_full(x.shape, 0)
        for i in range(len(x)):
            batch[i, :4].copy_(x[i])
        return conv(batch)

    with pytest.raises(InplaceError, match="from its backbone on"):
        run(batched)


def test_a_trace_says_which_values_of_anchors_are_known():
    missing = ~VISIBLE.flatten(2).repeat_interleave(3, 2)[:, 0]
    forward = LayerMaskedForward(Net(lambda x: x[:, :3].permute(0, 2, 3, 1).reshape(5, -1, 1)))
    known = forward.trace(X, mask=VISIBLE, outputs=True)[-1].present
    assert torch.equal(known[..., 0], ~missing)


@pytest.mark.parametrize(
    ("image", "advice"),
    [
        (X[0], r"not 4×12×16; add the batch with x\[None\]\."),
        (X[0, 0], r"not 12×16; add channels and batch with x\[None, None\]"),
        (X[None], r"not 1×5×4×12×16; pixels can be removed from images alone"),
        ([X[0], X[1]], "one tensor, N×C×H×W, not a list; torch.stack"),
        ((X[0],), "from its backbone on"),
        (X.long(), r"convert it with \.float\(\)"),
    ],
)
def test_what_is_no_batch_of_images_is_told_what_would_be(image, advice):
    with pytest.raises(InputError, match=advice):
        LayerMaskedForward(conv)(image)
