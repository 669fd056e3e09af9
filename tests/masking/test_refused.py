"""Operations that lose track of positions, or join them all, are refused (S11)."""

import pytest
import torch
import torch.nn.functional as F
from small_models import COLUMNS, ROWS, assert_holds, conv, matrix, run
from torch import nn

from captum_layermask import InputError, LayerMaskedForward, MaskLostError, NoRuleError

pytestmark = pytest.mark.filterwarnings("ignore::captum_layermask.VanishedWarning")


KNOWN_POSITIONS = {
    "rows into channels": lambda x: x.flatten(1, 2).relu(),
    "rows and channels in another grid": lambda x: x.reshape(5, ROWS, 4, COLUMNS),
    "groups of channels with their positions": lambda x: x.view(5, 2, -1).mean(-1),
    "channels as images": lambda x: x.view(20, 1, ROWS, COLUMNS),
    "positions by a list": lambda x: x[:, :, [0, 1]],
    "the k largest positions": lambda x: x.flatten(2).topk(3, -1)[0],
    "rows as a sequence": lambda x: F.conv1d(x.mean(2), torch.ones(4, 4, 3, dtype=torch.double)),
    "per-pixel einsum": lambda x: torch.einsum("bchw,dc->bdhw", x, matrix),
    "positions by an index": lambda x: x.flatten(2).argmax(-1),
}


@pytest.mark.parametrize("name", KNOWN_POSITIONS)
def test_operations_that_keep_track_of_positions(name):
    assert_holds(lambda x: KNOWN_POSITIONS[name](conv(x)))


UNKNOWN_POSITIONS = {
    "rows in three": lambda x: x.view(5, 4, 2, 3, 2, COLUMNS).mean((2, 3)),
    "positions in another grid": lambda x: x.flatten(2).view(5, 4, COLUMNS, ROWS),
    "positions in three": lambda x: x.flatten(2).view(5, 4, 8, 8, 3).mean(2),
    "mean over images": lambda x: x.mean(0),
    "offsets without their blocks": lambda x: x.view(5, 4, 6, 2, 8, 2).mean((2, 5)),
    "different axes side by side": lambda x: torch.cat(
        [x[..., :4, :4], x[..., :4, :4].permute(0, 2, 3, 1)], 2
    ),
    "positions by a condition": lambda x: x[x > 0],
    "lists side by side": lambda x: x[:, [0, 1], :, 0],
}


@pytest.mark.parametrize("name", UNKNOWN_POSITIONS)
def test_operations_that_lose_track_of_positions_are_refused(name):
    with pytest.raises((NoRuleError, InputError)):
        run(UNKNOWN_POSITIONS[name])


def test_writing_into_a_plain_tensor_is_refused():
    def write(x):
        out = torch.zeros(x.shape, dtype=x.dtype)
        out[:, :2] = x[:, :2]
        return out

    with pytest.raises(MaskLostError, match="plain tensor"):
        run(write)


class Tokens(nn.Module):
    """A patch embedding, then a block on tokens."""

    def __init__(self, block):
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.blocks = nn.Sequential(block)

    def forward(self, x):
        return self.blocks(self.patches(x).flatten(2).transpose(1, 2))


class Mixer(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.mix = {
            "linear": nn.Linear(36, 36),
            "conv1d": nn.Conv1d(36, 36, 1),
            "lstm": nn.LSTM(8, 8, batch_first=True),
        }[kind]

    def forward(self, t):
        return self.mix(t.transpose(1, 2)) if self.kind == "linear" else self.mix(t)


MIXERS = {
    "linear": "learned for all of them together, as MLP-mixers do.*until=.*rule_for",
    "conv1d": "learned for all of them together, as MLP-mixers do.*until=.*rule_for",
    "lstm": "in an order, one after the other.*until=.*rule_for",
}


@pytest.mark.parametrize("name", MIXERS)
def test_what_mixes_positions_otherwise_than_attention_is_refused_and_says_why(name):
    forward = LayerMaskedForward(Tokens(Mixer(name)).eval())
    with (
        torch.no_grad(),
        pytest.raises(NoRuleError, match=f"{name} in module 'blocks.0.mix'.*{MIXERS[name]}"),
    ):
        forward(torch.randn(2, 3, 24, 24), mask=torch.ones(24, 24))
