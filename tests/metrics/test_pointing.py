"""The grid pointing game counts the positive attribution in one cell."""

import numpy as np
import pytest
import torch
from explained import few
from hypothesis import given
from hypothesis import strategies as st

from captum_layermask.metrics import GridPointingGame, grid_pointing_game


def slow_pointing(attributions, cell, side):
    """The share of the positive part that lies in one cell, cut out by hand."""
    positive = np.maximum(attributions.double().numpy().sum(0), 0)
    height, width = (length // side for length in positive.shape)
    row, column = divmod(cell, side)
    inside = positive[row * height : (row + 1) * height, column * width : (column + 1) * width].sum()
    return inside / positive.sum() if positive.sum() > 0 else 0.0


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 2), st.integers(0, 2**31))
@few
def test_pointing_counts_positive_attribution_in_the_cell(side, size, channels, seed):
    generator = torch.Generator().manual_seed(seed)
    attributions = torch.randn(2, channels, side * size, side * (size + 1), generator=generator)
    cells = torch.randint(side * side, (2,), generator=generator)
    shares = grid_pointing_game(attributions, cells, side)
    for share, attribution, cell in zip(shares, attributions, cells.tolist(), strict=True):
        assert share.item() == pytest.approx(slow_pointing(attribution, cell, side))
    everywhere = sum(grid_pointing_game(attributions, torch.full((2,), c), side) for c in range(side**2))
    some = (attributions.sum(1) > 0).flatten(1).any(1)
    assert everywhere.tolist() == pytest.approx(some.double().tolist())


def test_pointing_by_hand():
    attributions = torch.zeros(1, 1, 4, 4)
    attributions[..., 0, 3], attributions[..., 3, 0], attributions[..., 3, 3] = 3.0, 1.0, -5.0
    shares = [grid_pointing_game(attributions, torch.tensor([cell])).item() for cell in range(4)]
    assert shares == [0, 0.75, 0.25, 0]
    assert grid_pointing_game(torch.ones(1, 3, 4, 4), torch.tensor([2])) == 0.25
    assert grid_pointing_game(attributions * 1e-30, torch.tensor([1])).item() == pytest.approx(0.75)


def test_pointing_nowhere_counts_as_zero():
    metric = GridPointingGame()
    metric.update(-torch.ones(1, 1, 4, 4), torch.tensor([0]))
    metric.update(torch.zeros(1, 1, 4, 4), torch.tensor([0]))
    metric.update(torch.ones(1, 1, 4, 4), torch.tensor([0]))
    assert metric.compute().item() == pytest.approx(0.25 / 3)
