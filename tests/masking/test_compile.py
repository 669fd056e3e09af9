"""``torch.compile(forward)``: one graph for the network, and the outputs of the eager forward."""

import re
from pathlib import Path

import pytest
import torch
from small_models import VISIBLE, Net, X, conv
from support import redraw, relative
from torch import Tensor, nn
from torch.nn import functional as F
from versions import compiles

import captum_layermask
from captum_layermask import LayerMaskedForward
from captum_layermask.errors import CompileError

pytestmark = compiles


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
def test_a_compiled_forward_is_one_graph_and_gives_the_eager_outputs(framed):
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


COMMON = {
    "mean": lambda x: x.mean((2, 3)),
    "amax": lambda x: x.amax((2, 3)),
    "std": lambda x: x.std((2, 3)),
    "variance of channels": lambda x: x.var(1, keepdim=True),
    "group norm": lambda x: F.group_norm(x, 2),
    "layer norm": lambda x: F.layer_norm(x.permute(0, 2, 3, 1), (4,)),
    "chunk": lambda x: sum(x.chunk(2, 1)),
    "split": lambda x: torch.cat([part * 2 for part in x.split([1, 3], 1)], 1),
    "unflatten": lambda x: x.unflatten(1, (2, 2)).amax(1),
    "norm": lambda x: x.norm(dim=1, keepdim=True),
    "tokens": lambda x: x.flatten(2).transpose(1, 2).mean(1),
    "interpolate": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "stack": lambda x: torch.stack([x, x.flip(3)], 1).sum(1),
    "pool": lambda x: F.adaptive_avg_pool2d(x, 1).flatten(1),
    "softmax": lambda x: x.softmax(1),
    "generalised mean": lambda x: x.clamp(min=1e-6).pow(3).mean((2, 3)).pow(1 / 3),
    "squeeze and excitation": lambda x: x * x.mean((2, 3), keepdim=True).sigmoid(),
    "two views": lambda x: torch.cat([x, x.flip(3)]).relu().chunk(2)[0],
    "pixel shuffle": lambda x: F.pixel_shuffle(x, 2),
    "view": lambda x: x.view(x.size(0), -1),
}


@pytest.mark.filterwarnings("ignore::captum_layermask.VanishedWarning")
@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("name", COMMON)
def test_common_operations_compile_to_one_graph(name, gradients):
    torch.compiler.reset()
    forward, counting = LayerMaskedForward(Net(lambda x: COMMON[name](conv(x)))), Counting()
    with torch.set_grad_enabled(gradients):
        compiled = torch.compile(forward, backend=counting)(X, mask=VISIBLE)
        assert relative(compiled, forward(X, mask=VISIBLE)) <= 1e-12
    assert len(counting.graphs) == 1


def one_written(x):
    y = x * 1
    y[:, 0] = 0.5
    return torch.cat([y, x], 3)


def rows_written(x):
    y = x * 1
    y[:, :, 2:4] = x[:, :, :2]
    return torch.cat([y, x], 3)


def made_and_written(x):
    y = torch.zeros_like(x)
    y[:, :2] = x[:, :2]
    return y + x


def one_by_one(x):
    return torch.stack([image * 2 for image in x])


def tuple_joined(x):
    return torch.cat((x, x * 2), 1)


def gated(x):
    return F.hardsigmoid(x.mean((2, 3), keepdim=True)) * x


@pytest.mark.parametrize("backend", ["eager", "inductor"])
@pytest.mark.parametrize(
    "function",
    [one_written, rows_written, made_and_written, one_by_one, tuple_joined, gated, F.hardswish, F.sigmoid],
)
def test_what_cannot_be_traced_is_a_typed_error(function, backend):
    """PyTorch (2.14) traces ``y[i] = …`` and others into the subclass itself, and looks up no rule."""
    torch.compiler.reset()
    forward = LayerMaskedForward(Net(lambda x: function(conv(x))))
    forward(X, mask=VISIBLE)
    with pytest.raises(CompileError, match="call the forward without it"):
        torch.compile(forward, backend=backend)(X, mask=VISIBLE)


def test_one_file_knows_what_torch_compile_needs():
    """The others call its functions, so that each reason stands in one place."""
    package = Path(captum_layermask.__file__).parent
    files = package.rglob("*.py")
    assert [f.name for f in files if re.search(r"torch\.compiler|_dynamo", f.read_text())] == ["compiling.py"]
