"""Pictures for the experiment on mask shapes."""

import pytest
from coloured import draw
from coloured_experiments import GREENISH

CORNERS = [(0, 0, 14, 14), (2, 18, 12, 14), (18, 2, 14, 10), (16, 16, 16, 16)]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    draw(folder, [(i % 4, CORNERS[i // 4]) for i in range(12)], ground=GREENISH)
    return folder
