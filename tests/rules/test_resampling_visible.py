"""Which cells of an enlarged map are visible."""

import pytest
import torch
import torch.nn.functional as F
from small_models import run
from support import relative

pytestmark = pytest.mark.filterwarnings("ignore::captum_layermask.VanishedWarning")


def test_an_upsampled_cell_is_visible_where_a_visible_cell_is_read():
    mask = torch.zeros(4, 4)
    mask[1, 1] = 1
    ones = torch.ones(1, 1, 4, 4, dtype=torch.double)
    grown = {
        "nearest": lambda x: F.interpolate(x, scale_factor=2),
        "transposed": lambda x: F.conv_transpose2d(x, torch.ones(1, 1, 2, 2, dtype=torch.double), stride=2),
        "bilinear": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    }
    expected = torch.zeros(3, 8, 8, dtype=torch.double)
    expected[:2, 2:4, 2:4] = 1
    expected[2, 1:5, 1:5] = 1
    got = torch.stack([run(function, ones, mask)[0, 0] for function in grown.values()])
    assert relative(got, expected) <= 1e-12
