"""Explanations that metrics are tried on."""

import torch
from hypothesis import settings
from hypothesis import strategies as st

from captum_layermask.explain.segments import grid

few = settings(deadline=None, max_examples=60)
finite = st.floats(-100, 100, width=32)


def quadrants():
    """Four segments, 0 1 above 2 3, each 2×2 pixels: 1×1×4×4."""
    return grid(torch.zeros(3, 4, 4), size=2)


@st.composite
def explained(draw, images=3):
    """Importance N×K, segments N×1×H×W that may leave ids out, and masks of zeros and ones."""
    count, ids = draw(st.integers(1, images)), draw(st.integers(1, 6))
    height, width = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    segments = torch.randint(ids, (count, 1, height, width), generator=generator)
    mask = torch.rand(segments.shape, generator=generator) < draw(st.floats(0, 1))
    importance = draw(st.lists(finite, min_size=count * ids, max_size=count * ids))
    return torch.tensor(importance).view(count, ids), segments, mask
