"""What takes some cells takes the same of the mask; what writes cells writes their kinds."""

import numpy as np
import pytest
import torch
from cells import COLUMNS, ROWS, X, assert_is, assert_moves, cells, kinds_of, last_step
from transcription import FRAME, MISSING, VISIBLE, Cells

from captum_layermask import MaskLostError, NoRuleError

pytestmark = pytest.mark.filterwarnings("ignore::captum_layermask.VanishedWarning")

TAKEN = {
    "rows": lambda x: x[:, :, 1:3],
    "the last columns": lambda x: x[..., -2:],
    "every second row": lambda x: x[:, :, ::2],
    "every third column from the second": lambda x: x[..., 1::3],
    "channels": lambda x: x[:, 1:],
    "one channel": lambda x: x[:, 2],
    "one row": lambda x: x[:, :, 1],
    "one column, counted from the back": lambda x: x[..., -1],
    "an image": lambda x: x[1],
    "images": lambda x: x[1:3],
    "columns by list": lambda x: x[..., [5, 0, 0, 3]],
    "rows by tensor": lambda x: x[:, :, torch.tensor([2, 1])],
    "columns by bools": lambda x: x[..., torch.tensor([True, False] * (COLUMNS // 2))],
    "images by list": lambda x: x[[3, 1, 0]],
    "select": lambda x: x.select(2, 3),
    "narrow": lambda x: x.narrow(3, 2, 3),
    "index_select": lambda x: x.index_select(3, torch.tensor([4, 1, 1])),
    "unbind": lambda x: x.unbind(2)[1],
    "iteration": lambda x: next(iter(x)),
    "chunk": lambda x: x.chunk(2, 3)[1],
    "split": lambda x: x.split([1, 3], 2)[1],
    "split channels": lambda x: x.split(1, 1)[2],
    "tensor_split": lambda x: x.tensor_split(3, 3)[2],
    "cell": lambda x: x[:, :, 2, 3],
    "a new axis in front of columns": lambda x: x[..., None, 1:4],
}


@pytest.mark.parametrize("name", TAKEN)
def test_a_part_has_the_same_part_of_the_mask(name):
    assert_moves(lambda x: TAKEN[name](x).clone())


def written(into, values, kinds, where):
    """A map (values and kinds) into which another is written at some positions of all channels."""
    x, old = into.kept_values().clone(), into.kinds.copy()
    for cell in zip(*np.nonzero(where), strict=True):
        n, i, j = cell
        x[n, :, i, j] = values[n, :, i, j]
        old[cell] = kinds[cell]
    return Cells(x, old)


def rows_and_columns(rows, columns):
    where = np.zeros_like(kinds_of(), dtype=bool)
    where[:, rows, columns] = True
    return where


def test_positions_that_are_written_get_the_kinds_of_what_is_written():
    def write(x):
        y = x.clone()
        y[:, :, 1:3, 2:5] = x.flip(3)[:, :, 1:3, 2:5]
        return y

    where = rows_and_columns(slice(1, 3), slice(2, 5))
    expected = written(cells(), cells().kept_values().flip(3), kinds_of()[..., ::-1], where)
    assert_is(write, expected)


def test_a_constant_in_the_place_of_positions_is_frame():
    def write(x):
        y = x.clone()
        y[:, :, :, 1] = 2.5
        return y

    where = rows_and_columns(slice(None), 1)
    assert_is(write, written(cells(), torch.full_like(X, 2.5), np.full_like(kinds_of(), FRAME), where))


def test_channels_that_are_written_let_the_masks_meet():
    def write(x):
        y = x.clone()
        y[:, :2] = x.flip(3)[:, :2]
        return y

    values, kinds = X.clone(), kinds_of()
    values[:, :2] = X.flip(3)[:, :2]
    met = np.where((kinds == VISIBLE) & (kinds[..., ::-1] == VISIBLE), VISIBLE, MISSING)
    assert_is(write, Cells(values, met))


@pytest.mark.parametrize("name", ["index_fill", "index_copy", "index_add"])
def test_channels_that_are_written_by_number_let_the_masks_meet(name):
    at = torch.tensor([3, 0])

    def write(x):
        source = 1.5 if name == "index_fill" else x.flip(3)[:, :2]
        return getattr(x, name)(1, at, source)

    kinds = kinds_of()
    mirrored = kinds if name == "index_fill" else kinds[..., ::-1]
    met = np.where((kinds == VISIBLE) & (mirrored == VISIBLE), VISIBLE, MISSING)
    values = X.clone()
    for number, channel in enumerate(at):
        new = 1.5 if name == "index_fill" else X.flip(3)[:, number]
        values[:, channel] = values[:, channel] + new if name == "index_add" else new
    assert_is(write, Cells(values, met))


def test_where_a_condition_holds_the_cells_keep_the_conditions_mask():
    def write(x):
        y = x.clone()
        y[x.flip(3) > 0] = 0.0
        return y

    kinds = kinds_of()
    met = np.where((kinds == VISIBLE) & (kinds[..., ::-1] == VISIBLE), VISIBLE, MISSING)
    assert_is(write, Cells(torch.where(X.flip(3) > 0, 0.0, X), met))


def test_copy_overwrites_values_and_mask():
    assert_is(
        lambda x: x.clone().copy_(x.flip(2)),
        Cells(X.flip(2), kinds_of()[:, ::-1].copy()),
    )


@pytest.mark.parametrize(
    ("function", "error"),
    [
        (lambda x: x[:, :, [0, 1], [2, 3]], NoRuleError),
        (lambda x: x[:, :, torch.zeros(2, 2, dtype=torch.long)], NoRuleError),
        (lambda x: torch.zeros(X.shape, dtype=x.dtype).copy_(x) * 1, MaskLostError),
        (lambda x: x.index_fill(3, torch.tensor([0]), 1.0), NoRuleError),
    ],
)
def test_what_would_part_cells_from_their_mask_is_refused(function, error):
    with pytest.raises(error):
        last_step(function)


def test_a_number_too_many_is_pytorchs_error():
    with pytest.raises(IndexError):
        last_step(lambda x: x[0, 0, ROWS, 0])
