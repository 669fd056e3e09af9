"""The tools that draw the documentation's pictures keep up with the library."""

import runpy
from pathlib import Path

import pytest

TOOL = runpy.run_path(str(Path(__file__).parent.parent / "tools" / "draw_concepts.py"))


@pytest.mark.parametrize(
    "name", ["concepts-boundary", "concepts-cells", "concepts-propagation", "propagation"]
)
def test_a_picture_is_drawn(name, tmp_path):
    path = tmp_path / "drawn.png"
    TOOL["save"](TOOL["PICTURES"][name](), path)
    assert path.stat().st_size > 5000
