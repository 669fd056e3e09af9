"""Four images of different classes become one."""

import pytest
import torch
from coloured import COLORS

from captum_layermask.errors import LeftOutError
from captum_layermask.evaluate.lime.mosaics import Candidate, choose_cells, mosaic


def candidate(image, label, confidence):
    return Candidate(image, torch.zeros(1, 3, 4, 4), label, confidence)


def test_the_surest_images_of_four_classes_make_a_mosaic():
    """Class 0 twice, then 2, 3 and 9; sixteen candidates are looked at, and no more."""
    sure = [
        candidate(f"{i}", i % 5, confidence) for i, confidence in enumerate([0.9, 0.2, 0.8, 0.7, 0.6, 0.95])
    ]
    stream = iter([*sure, *[candidate("late", 9, 0.99)] * 20])
    assert [cell.image for cell in choose_cells(stream)] == ["5", "2", "3", "late"]
    assert len([*stream]) == 10


def test_more_images_are_looked_at_where_sixteen_do_not_suffice():
    wrong = [candidate("wrong", i, 0.0) for i in range(14)]
    right = [candidate(f"{i}", i, 0.5) for i in range(9)]
    assert [cell.image for cell in choose_cells(iter([*wrong, *right]))] == ["0", "1", "2", "3"]
    with pytest.raises(LeftOutError, match="only 3"):
        choose_cells(iter([*wrong, *right[:3]]))


def test_a_mosaic_holds_its_images_at_half_their_size():
    colours = [torch.tensor(c, dtype=torch.float32).view(1, 3, 1, 1).expand(1, 3, 9, 6) for c in COLORS]
    joined = mosaic(colours)
    assert joined.shape == (1, 3, 8, 6)
    for cell, (top, left) in enumerate([(0, 0), (0, 3), (4, 0), (4, 3)]):
        assert torch.allclose(joined[..., top : top + 4, left : left + 3], colours[cell][..., :4, :3])
