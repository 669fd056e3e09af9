"""What moves, pads or joins cells does the same to their mask: each cell is followed by its number."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cells import COLUMNS, ROWS, X, assert_is, assert_moves, kinds_of
from small_models import Net
from transcription import FRAME, MISSING, VISIBLE, Cells

from captum_layermask import InputError, LayerMaskedForward, NoRuleError

pytestmark = pytest.mark.filterwarnings("ignore::captum_layermask.VanishedWarning")

MOVES = {
    "flip rows": lambda x: x.flip(2),
    "flip columns and channels": lambda x: torch.flip(x, (1, -1)),
    "fliplr looks at channels": torch.fliplr,
    "roll columns": lambda x: x.roll(2, 3),
    "roll rows and columns": lambda x: torch.roll(x, shifts=(1, -2), dims=(-2, -1)),
    "roll channels": lambda x: x.roll(1, 1),
    "rot90": lambda x: torch.rot90(x, 1, (2, 3)),
    "rot90 backwards": lambda x: x.rot90(-1, (2, 3)),
    "rot90 twice": lambda x: x.rot90(2, (3, 2)),
    "pad": lambda x: F.pad(x, (1, 2, 0, 3), value=-1.0),
    "pad one side": lambda x: F.pad(x, (0, 2), value=-1.0),
    "pad channels": lambda x: F.pad(x, (0, 0, 0, 0, 1, 2), value=-1.0)[:, 1:-2],
    "crop": lambda x: F.pad(x, (-1, -2, 0, -1)),
    "reflect": lambda x: F.pad(x, (2, 1, 1, 0), mode="reflect"),
    "replicate": lambda x: F.pad(x, (2, 1, 1, 0), mode="replicate"),
    "circular": lambda x: F.pad(x, (2, 1, 1, 0), mode="circular"),
    "cat rows": lambda x: torch.cat([x, x.flip(2)], 2),
    "cat columns": lambda x: torch.cat([x, x[..., :2], x.flip(3)], -1),
    "cat images": lambda x: torch.cat([x.flip(3), x]),
    "cat with a constant": lambda x: torch.cat([x, x.new_full((*x.shape[:3], 2), -1.0)], 3),
    "stack rows again": lambda x: torch.stack(x.unbind(2), 2),
    "stack columns again": lambda x: torch.stack(x.unbind(3)[::-1], 3),
    "stack images again": lambda x: torch.stack([x[i] for i in (2, 0, 1, 3)]),
}


@pytest.mark.parametrize("name", MOVES)
def test_a_mask_goes_where_its_cells_go(name):
    assert_moves(MOVES[name])


def joined(parts, concat):
    """Channels of several maps, cell by cell: values (0 where missing) and kinds.

    A cell of the intersection is missing where it is missing in a part, one of the union where it is not
    visible in any.
    """
    values = torch.cat([part.kept_values() for part in parts], 1)
    kinds = np.empty_like(parts[0].kinds)
    for cell in np.ndindex(*kinds.shape):
        here = {part.kinds[cell] for part in parts}
        if concat == "union":
            kinds[cell] = VISIBLE if VISIBLE in here else MISSING if MISSING in here else FRAME
        else:
            kinds[cell] = MISSING if MISSING in here else VISIBLE if VISIBLE in here else FRAME
    return Cells(values, kinds)


def two_maps(x):
    """A map with a column of frame, and its mirror image: masks that differ, frame beside visible."""
    a = F.pad(x, (0, 1), value=0.5)
    return a, a.flip(3)


def two_references():
    kinds = np.pad(kinds_of(), ((0, 0), (0, 0), (0, 1)), constant_values=FRAME)
    a, b = two_maps(X)
    return Cells(a, kinds), Cells(b, kinds[..., ::-1].copy())


def test_channels_of_two_maps_are_missing_where_either_is():
    assert_is(lambda x: torch.cat(two_maps(x), 1), joined(two_references(), "intersection"))


def test_a_union_of_channels_is_visible_where_either_is():
    expected = joined(two_references(), "union")
    assert_is(lambda x: torch.cat(two_maps(x), 1), expected, concat="union")


def test_a_stack_of_two_maps_is_missing_where_either_is():
    a, b = two_references()
    assert_is(lambda x: torch.stack(two_maps(x), 1).flatten(1, 2), joined([a, b], "intersection"))


@pytest.mark.parametrize(
    ("function", "error", "sentence"),
    [
        (lambda x: x.roll(1), NoRuleError, "say along which dims"),
        (lambda x: x.rot90(1, (1, 2)), NoRuleError, "turning channels"),
        (lambda x: x.flip(0), NoRuleError, "moving axes N"),
        (lambda x: torch.cat([x, x.transpose(1, 2)], 3), InputError, "different axes"),
    ],
)
def test_what_would_part_cells_from_their_mask_is_refused(function, error, sentence):
    x = torch.randn(1, ROWS, ROWS, COLUMNS)
    mask = torch.ones(ROWS, COLUMNS)
    mask[1] = 0
    forward = LayerMaskedForward(Net(function))
    with pytest.raises(error, match=sentence):
        forward(x, mask=mask)
