"""Reshapes keep each value beside its mask, and space to depth is a window that fills first."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transcription
from cells import CHANNELS, COLUMNS, ROWS, SEEN, X, assert_is, assert_moves, cells, last_step, positions
from transcription import Cells

from captum_layermask import NoRuleError

pytestmark = pytest.mark.filterwarnings("ignore::captum_layermask.VanishedWarning")

N, C, H, W = X.shape

VIEWS = {
    "channels-last": lambda x: x.permute(0, 2, 3, 1),
    "there and back": lambda x: x.permute(0, 2, 3, 1).permute(0, 3, 1, 2),
    "transposed": lambda x: x.transpose(2, 3),
    "mT": lambda x: x.mT,
    "movedim": lambda x: x.movedim(1, -1),
    "tokens": lambda x: x.flatten(2),
    "tokens first": lambda x: x.flatten(2).transpose(1, 2),
    "tokens of turned maps": lambda x: x.mT.flatten(2),
    "tokens to a map": lambda x: x.flatten(2).view(N, C, H, W),
    "groups": lambda x: x.view(N, 2, C // 2, H, W),
    "groups in memory of channels-last": lambda x: x.permute(0, 2, 3, 1).reshape(N, H, W, 2, C // 2),
    "blocks": lambda x: x.view(N, C, H // 2, 2, W // 3, 3),
    "blocks side by side": lambda x: x.view(N, C, H // 2, 2, W // 3, 3).permute(0, 1, 3, 5, 2, 4),
    "one of every block": lambda x: x.view(N, C, H, W // 2, 2)[..., 1],
    "blocks by unfold": lambda x: x.unfold(2, 2, 2).unfold(3, 3, 3),
    "unflatten": lambda x: x.unflatten(3, (W // 2, 2)),
    "unsqueeze, squeeze": lambda x: x.unsqueeze(2).squeeze(2),
    "None": lambda x: x[:, None],
    "repeat columns": lambda x: x.repeat(1, 1, 1, 2),
    "repeat images": lambda x: x.repeat(2, 1, 1, 1),
    "tile channels": lambda x: x.tile(2, 1, 1),
    "each row twice": lambda x: x.repeat_interleave(2, 2),
    "each column twice, each channel too": lambda x: x.repeat_interleave(2, 3).repeat_interleave(2, dim=1),
    "expand channels": lambda x: x[:, :1].expand(-1, 3, -1, -1),
    "flatten": lambda x: x.flatten(1),
    "flatten channels-last": lambda x: x.permute(0, 2, 3, 1).reshape(N, -1),
}


@pytest.mark.parametrize("name", VIEWS)
def test_each_value_stays_beside_its_mask(name):
    assert_moves(VIEWS[name])


def slow_space_to_depth(block):
    """A block of cells as channels: filled by neighbours, visible where any of its cells is (paper)."""
    rows, columns = block
    x = transcription.neighbor_pad(cells().values, cells().kinds, max(block) - 1)
    out = torch.empty(N, C, rows, columns, H // rows, W // columns, dtype=torch.double)
    kinds = np.empty((N, H // rows, W // columns), dtype=int)
    for n, i, j in positions(kinds.shape):
        here = (slice(i * rows, (i + 1) * rows), slice(j * columns, (j + 1) * columns))
        out[n, :, :, :, i, j] = x[n, :, here[0], here[1]]
        kinds[n, i, j] = transcription._kind_of_window(cells().kinds[n][here])
    return Cells(out.flatten(1, 3), kinds)


def blocks(x, rows, columns):
    return x.reshape(N, C, H // rows, rows, W // columns, columns)


@pytest.mark.parametrize("block", [(2, 2), (1, 3), (2, 3), (2, 1)])
def test_offsets_that_become_channels_are_a_window(block):
    rows, columns = block

    def by_view(x):
        return blocks(x, *block).permute(0, 1, 3, 5, 2, 4).reshape(N, -1, H // rows, W // columns)

    assert_is(by_view, slow_space_to_depth(block))


def test_rows_and_columns_that_change_places_do_so_in_the_mask():
    turned = last_step(lambda x: F.max_pool2d(x.mT, (3, 2)))
    straight = last_step(lambda x: F.max_pool2d(x, (2, 3)))
    assert torch.equal(turned.output, straight.output.mT)
    assert torch.equal(turned.mask, straight.mask.mT)


def test_blocks_by_indexing_are_those_of_space_to_depth():
    def by_slices(x):
        return torch.cat([x[:, :, i::2, j::2] for i in range(2) for j in range(2)], 1)

    def by_offsets(x):
        return F.pixel_unshuffle(x, 2).unflatten(1, (CHANNELS, 4)).transpose(1, 2).flatten(1, 2)

    step, expected = last_step(by_slices), last_step(by_offsets)
    assert torch.equal(step.mask, expected.mask)
    assert torch.equal(step.output, expected.output)
    assert step.mask.any()


@pytest.mark.parametrize("function", [lambda x: x.reshape(N, C, W, H), lambda x: x.unfold(3, 3, 1)])
def test_a_reshape_that_loses_a_position_is_refused(function):
    with pytest.raises(NoRuleError):
        last_step(function)


def test_the_images_are_what_the_lists_above_say():
    assert X.shape == (4, CHANNELS, ROWS, COLUMNS)
    assert SEEN.flatten(1).any(1).tolist() == [True, True, True, False]
    assert SEEN.flatten(1).all(1).tolist() == [True, False, False, False]
