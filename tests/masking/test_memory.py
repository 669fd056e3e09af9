"""What is written into an activation is seen in its views as in the plain network, or refused (S13, S14)."""

import pytest
import torch
from small_models import VISIBLE, Net, X, conv, run
from support import relative

from captum_layermask import InplaceError, LayerMaskedForward

WHOLE = torch.ones_like(VISIBLE)


def written(derive, write, used, returned):
    """A network that derives z from y, writes into one and returns the other, used once more or not."""

    def forward(x):
        y = conv(x)
        z = derive(y)
        write(z if returned == "y" else y)
        left = y if returned == "y" else z
        return left * 1 if used else left

    return forward


VIEWS = {
    "view": lambda y: y.view(len(y), -1),
    "flatten": lambda y: y.flatten(1),
    "reshape": lambda y: y.reshape(len(y), 4, -1),
    "contiguous": lambda y: y.contiguous(),
    "tokens": lambda y: y.flatten(2).transpose(1, 2),
    "tokens, contiguous": lambda y: y.flatten(2).transpose(1, 2).contiguous(),
    "channels last": lambda y: y.permute(0, 2, 3, 1).contiguous(),
    "rows of pixels": lambda y: y.permute(0, 2, 3, 1).reshape(-1, 4),
    "a pixel": lambda y: y[:, :, 0, 0],
    "another layout": lambda y: y.to(memory_format=torch.channels_last),
    "a pixel of a part": lambda y: y[..., 2:][:, 1:3, 1, 0],
    "flattened and back": lambda y: y.flatten(1).view(len(y), 4, *y.shape[2:]),
    "flattened twice": lambda y: y.view(len(y), 4, -1).view(len(y), -1),
    "twice contiguous": lambda y: y.transpose(2, 3).contiguous().contiguous(),
    "part": lambda y: y[:, 1:3],
    "copy": lambda y: y.clone(),
    "sum": lambda y: y + 1,
}
WRITES = {
    "mul_": lambda t: t.mul_(2),
    "iadd": lambda t: t.__iadd__(1),
    "relu": lambda t: torch.nn.functional.relu(t, inplace=True),
    "setitem": lambda t: t.__setitem__(slice(None), 3.0),
}


@pytest.mark.parametrize("mask", [WHOLE, VISIBLE], ids=["whole", "one whole image"])
@pytest.mark.parametrize("returned", ["y", "z"])
@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("name", VIEWS)
def test_what_is_written_is_seen_elsewhere_as_in_the_plain_network_or_refused(
    name, write, used, returned, mask
):
    network = Net(written(VIEWS[name], WRITES[write], used, returned))
    with torch.no_grad():
        try:
            got = LayerMaskedForward(network)(X, mask=mask)
        except InplaceError:
            assert name not in ("part", "copy", "sum")
            return
        whole = len(X) if mask is WHOLE else 1
        assert relative(got[:whole], network(X)[:whole]) <= 1e-12


def flattened_then_written(x):
    z = conv(x).flatten(1)
    w = z.view(len(x), 4, *x.shape[2:])
    z.mul_(2)
    return w


def unsqueezed(x):
    y = conv(x)
    y.unsqueeze_(1)
    return y


def squeezed(x):
    y = conv(x)[:, :1]
    y.squeeze_(1)
    return y


@pytest.mark.parametrize("function", [flattened_then_written, unsqueezed, squeezed])
@pytest.mark.parametrize("mask", [WHOLE, VISIBLE])
def test_what_is_changed_in_place_is_changed_or_refused(function, mask):
    try:
        got = run(function, mask=mask)
    except InplaceError:
        assert function is flattened_then_written
        return
    assert got.shape == function(X).shape
    assert relative(got[:1], function(X)[:1]) <= 1e-12


@pytest.mark.parametrize(
    "chain",
    [
        lambda y: y.flatten(2).transpose(1, 2).contiguous().mul_(2).mean(1),
        lambda y: y.contiguous().add_(1),
        lambda y: y.to(y.dtype) + y.type_as(y) + torch.nn.functional.dropout(y, training=False),
        lambda y: y.view(len(y), -1).contiguous().view_as(y).relu_(),
    ],
)
def test_a_chain_that_keeps_only_its_last_result_may_write_into_it(chain):
    run(lambda x: chain(conv(x)))
