"""``torch.compile(forward)``: one graph for the network, and the answers of the eager forward."""

import pytest
import torch
from support import redraw
from torch import Tensor, nn

from captum_layermask import LayerMaskedForward


class Residual(nn.Module):
    """A stem that grows the mask, a block whose sum cuts it back in place, a pool and a head."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 5, 2, 2), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.block = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))

    def forward(self, x: Tensor) -> Tensor:
        """Classify."""
        x = nn.functional.max_pool2d(self.stem(x), 3, 2, 1)
        y = self.block(x)
        y += x
        return self.head(y)


class Counting:
    """A backend that runs graphs as they are, and keeps them."""

    def __init__(self):
        self.graphs = []

    def __call__(self, graph, example_inputs):
        self.graphs.append(graph)
        return graph


def masks(count):
    return (torch.rand(count, 2, 1, 32, 32, generator=torch.Generator().manual_seed(0)) > 0.4).unbind()


@pytest.mark.parametrize("framed", [False, True])
def test_a_compiled_forward_is_one_graph_and_gives_the_eager_answers(framed):
    torch.compiler.reset()
    model = redraw(Residual())
    if framed:
        model = nn.Sequential(nn.ZeroPad2d(2), model).eval()
    forward, counting = LayerMaskedForward(model), Counting()
    compiled = torch.compile(forward, backend=counting)
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        for visible in masks(4):
            assert torch.equal(compiled(x, mask=visible), forward(x, mask=visible))
            assert torch.equal(compiled(x.where(visible, torch.nan), mask=visible), forward(x, mask=visible))
    assert len(counting.graphs) == 1
    convolutions = [n for n in counting.graphs[0].graph.nodes if "conv2d" in str(n.target)]
    assert len(convolutions) == 3


def test_a_compiled_forward_with_nothing_masked_is_the_plain_model():
    torch.compiler.reset()
    model = redraw(Residual())
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(torch.compile(LayerMaskedForward(model), backend="eager")(x), model(x))


def test_a_compiled_forward_says_what_vanished():
    torch.compiler.reset()
    model = redraw(nn.Sequential(nn.Conv2d(3, 4, 1, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    forward = LayerMaskedForward(model, propagation="paper")
    visible = torch.zeros(2, 1, 8, 8, dtype=torch.bool)
    visible[0, 0, 3, 3] = visible[1, 0, 2, 2] = True
    with torch.inference_mode(), pytest.warns(UserWarning, match="none reached the head"):
        torch.compile(forward, backend="eager")(torch.randn(2, 3, 8, 8), mask=visible)
    assert forward.vanished.tolist() == [True, False]
