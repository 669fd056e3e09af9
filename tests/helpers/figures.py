"""What a reader of a figure needs."""

import itertools
from unittest.mock import patch

from matplotlib.text import Text


def assert_readable(figure):
    """No text leaves the figure or touches another."""
    boxes = {}

    def note(text, renderer):
        if text.get_text().strip() and text.get_visible():
            boxes[text] = text.get_window_extent(renderer)

    with patch.object(Text, "draw", note):
        figure.draw_without_rendering()
    assert boxes
    for text, box in boxes.items():
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1, text
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1, text
    for one, other in itertools.combinations(boxes, 2):
        assert not boxes[one].overlaps(boxes[other]), (one, other)
