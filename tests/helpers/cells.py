"""One rule at a time: what it does to values and mask, beside a slow reference for both."""

import itertools

import numpy as np
import torch
import torch.nn.functional as F
from small_models import Net
from transcription import FRAME, MISSING, VISIBLE, Cells

from captum_layermask import LayerMaskedForward
from captum_layermask.masking.trace import Trace
from captum_layermask.testing import relative, scramble

ROWS, COLUMNS, CHANNELS = 4, 6, 4
X = torch.randn(4, CHANNELS, ROWS, COLUMNS, dtype=torch.double, generator=torch.Generator().manual_seed(3))
SEEN = torch.rand(4, 1, ROWS, COLUMNS, generator=torch.Generator().manual_seed(4)) > torch.tensor(
    [-1, 0.3, 0.5, 2]  # everything, most, some, nothing
).view(4, 1, 1, 1)
SEEN[2, ..., 3:] = False  # far from what is visible, too


def kinds_of(seen=SEEN):
    """The kind of each cell, N×H×W."""
    return np.where(seen[:, 0].numpy(), VISIBLE, MISSING)


def cells(x=X, seen=SEEN):
    """The images as the transcription has them."""
    return Cells(torch.where(seen, x, 0), kinds_of(seen))


@torch.no_grad()
def last_step(function, x=X, seen=SEEN, **options):
    """The last operation of a function that runs layer-masked.

    After every operation the missing cells are overwritten with noise of size 1e3, so that a rule that reads
    one is far from its reference.
    """
    trace = Trace(outputs=True)

    def observe(*step):
        trace.observe(*step)
        scramble(*step)

    forward = LayerMaskedForward(Net(function), propagation="paper", **options)
    forward._observed(x.clone(), (), seen, observe)
    return trace[-1]


def assert_near(found, expected):
    assert found.shape == expected.shape and found.isfinite().all()
    assert relative(found, expected) <= 1e-12


def assert_is(function, expected, x=X, seen=SEEN, **options):
    """The function's output and the kinds of its cells are those of a reference (``Cells``)."""
    step = last_step(function, x, seen, **options)
    assert (step.mask[:, 0].numpy() == (expected.kinds == VISIBLE)).all(), "which cells are visible"
    known = torch.from_numpy(expected.kinds != MISSING)[:, None]
    assert torch.equal(step.present.expand(len(known), *step.present.shape[1:]), known), "which are missing"
    assert_near(step.output, expected.kept_values())


def assert_moves(function, x=X, seen=SEEN):
    """A function that only moves cells moves masks along; a constant that it puts in is −1, and known.

    It is told where each value came from by the function itself, on a map in which every value is its number.
    """
    came_from = function(torch.arange(x.numel(), dtype=x.dtype).view_as(x)).long()
    constant, at = came_from < 0, came_from.clamp(min=0)
    known = constant | seen.expand_as(x).flatten()[at]
    expected = torch.where(constant, -1, x.flatten()[at])
    step = last_step(function, x, seen)
    assert torch.equal(step.output, torch.where(known, expected, 0))
    if step.present is not None:  # a vector has no mask
        assert torch.equal(step.present.expand(known.shape), known)


def positions(shape):
    """Every index of a map of some shape, one after the other."""
    return itertools.product(*map(range, shape))


def padded(x, kinds, sides=(1, 0, 0, 2), value=0.5):
    """Frame around a map (left, right, top, bottom), for a function and for its reference."""
    left, right, top, bottom = sides
    return F.pad(x, sides, value=value), np.pad(
        kinds, ((0, 0), (top, bottom), (left, right)), constant_values=FRAME
    )
