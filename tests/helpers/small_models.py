"""Networks from one function, the images and masks that they are tried on, and what must hold of each."""

import dataclasses

import torch
from support import redraw, relative, scramble, sees_nothing
from torch import nn

from captum_layermask import LayerMaskedForward

ROWS, COLUMNS, CHANNELS = 12, 16, 4


class Net(nn.Module):
    """A network from a function; the image is first copied, so that missing cells can be scrambled there."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x, *extra):
        return self.function(x.clone(), *extra)


def pixels(rows=ROWS, columns=COLUMNS):
    """Everything, a corner, all but a missing region, blocks, speckle."""
    generator = torch.Generator().manual_seed(0)
    blocks = torch.rand(-(-rows // 3), -(-columns // 3), generator=generator) > 0.5
    mask = torch.zeros(5, 1, rows, columns, dtype=torch.bool)
    mask[0] = True
    mask[1, :, rows // 2 :, : columns // 3 + 2] = True
    mask[2] = True
    mask[2, :, 2 : rows // 2 + 2, 1 : columns // 2 + 1] = False
    mask[3] = blocks.repeat_interleave(3, 0).repeat_interleave(3, 1)[:rows, :columns]
    mask[4] = torch.rand(rows, columns, generator=generator) > 0.8
    return mask


def images(channels=CHANNELS, rows=ROWS, columns=COLUMNS):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(5, channels, rows, columns, generator=generator, dtype=torch.double) + 0.3


X, VISIBLE = images(), pixels()


def leaves(output):
    """The tensors in nested containers, in order."""
    if isinstance(output, torch.Tensor):
        return [output]
    if dataclasses.is_dataclass(output):
        output = [getattr(output, field.name) for field in dataclasses.fields(output)]
    if isinstance(output, dict):
        output = list(output.values())
    return [leaf for part in output or () for leaf in leaves(part)]


def run(function, x=X, mask=VISIBLE, extra=()):
    with torch.no_grad():
        return LayerMaskedForward(Net(function))(x.clone(), *extra, mask=mask)


@torch.no_grad()
def assert_holds(model, x=X, extra=()):
    """S1 with nothing masked (alone, and as a row of a masked call), S2a, S2b, S5 and S10 of a model."""
    model = model if isinstance(model, nn.Module) else Net(model)
    forward, visible = LayerMaskedForward(model), pixels(*x.shape[2:])

    def outputs(x, mask=visible, observe=None):
        return leaves(forward._observed(x.clone(), extra, mask, observe))

    plain, unmasked, masked = leaves(model(x.clone(), *extra)), outputs(x, None), outputs(x)
    assert [p.shape for p in plain] == [m.shape for m in masked] and plain
    for p, u, m in zip(plain, unmasked, masked, strict=True):
        assert type(m) is torch.Tensor and m.isfinite().all()
        assert relative(u, p) <= 1e-12, "S1"
        assert relative(m[:1], p[:1]) <= 1e-12, "S1 in a row of a masked call"
    with_nan = outputs(torch.where(visible, x, torch.nan))
    assert all(torch.equal(a, b) for a, b in zip(with_nan, masked, strict=True)), "S2a"
    scrambled = outputs(x, observe=scramble)
    assert all(relative(a, b) <= 1e-9 for a, b in zip(scrambled, masked, strict=True)), "S2b"
    other = outputs(x.flip(0) * 2)
    assert not any(torch.equal(a[1:], b[1:]) for a, b in zip(other, masked, strict=True)), "looks at nothing"
    empty = torch.zeros(x.shape[2:])
    nothing, other = outputs(x, empty, sees_nothing), outputs(x * 2 - 1, empty)
    assert all(n.isfinite().all() and torch.equal(n, o) for n, o in zip(nothing, other, strict=True)), "S10"


def drawn(module):
    return redraw(module).double()


conv = drawn(nn.Conv2d(4, 4, 3, padding=1))
wide = drawn(nn.Conv2d(4, 8, 3, padding=1))
point = drawn(nn.Conv2d(4, 1, 1))
matrix = torch.randn(4, 4, dtype=torch.double, generator=torch.Generator().manual_seed(2))
norm = drawn(nn.LayerNorm(4))
squeeze, excite = drawn(nn.Linear(4, 2)), drawn(nn.Linear(2, 4))
