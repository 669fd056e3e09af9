"""Operations on single cells leave a mask as it is, and masks of several maps meet: cell by cell."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cells import SEEN, X, assert_is, cells, kinds_of, last_step, positions
from small_models import Net
from transcription import FRAME, MISSING, VISIBLE, Cells

from captum_layermask import InputError, LayerMaskedForward, MaskLostError

pytestmark = pytest.mark.filterwarnings("ignore::captum_layermask.VanishedWarning")

ONE = {
    "relu": (torch.relu, lambda v: max(v, 0.0)),
    "relu in place": (lambda x: x.clone().relu_(), lambda v: max(v, 0.0)),
    "sigmoid": (torch.sigmoid, lambda v: 1 / (1 + math.exp(-v))),
    "silu": (F.silu, lambda v: v / (1 + math.exp(-v))),
    "gelu": (F.gelu, lambda v: v * (1 + math.erf(v / math.sqrt(2))) / 2),
    "hardswish": (F.hardswish, lambda v: v * min(max(v + 3, 0.0), 6.0) / 6),
    "clamp": (lambda x: x.clamp(-0.5, 0.5), lambda v: min(max(v, -0.5), 0.5)),
    "abs, sqrt": (lambda x: x.abs().sqrt(), lambda v: math.sqrt(abs(v))),
    "exp": (torch.exp, math.exp),
    "log of squares": (lambda x: (x * x).log(), lambda v: math.log(v * v)),
    "number": (lambda x: 2 - x / 3 + x**2, lambda v: 2 - v / 3 + v**2),
    "float32": (lambda x: x.float().double(), lambda v: float(np.float32(v))),
}
TWO = {
    "add": (torch.add, lambda a, b: a + b),
    "add in place": (lambda a, b: a.clone().add_(b), lambda a, b: a + b),
    "sub": (lambda a, b: a - b, lambda a, b: a - b),
    "gate": (lambda a, b: a * b.sigmoid(), lambda a, b: a / (1 + math.exp(-b))),
    "div": (lambda a, b: a / b, lambda a, b: a / b),
    "maximum": (torch.maximum, max),
    "minimum of max": (lambda a, b: torch.max(a, b), max),
    "where": (lambda a, b: torch.where(a > 0, a, b), lambda a, b: a if a > 0 else b),
    "masked_fill": (lambda a, b: a.masked_fill(b > 0, 7.0), lambda a, b: 7.0 if b > 0 else a),
    "lerp": (lambda a, b: torch.lerp(a, b, 0.25), lambda a, b: a + 0.25 * (b - a)),
    "addcmul": (lambda a, b: torch.addcmul(a, a, b, value=0.5), lambda a, b: a + 0.5 * a * b),
    "hypot": (torch.hypot, math.hypot),
    "atan2": (torch.atan2, math.atan2),
}


def two_maps(x):
    """A map with a column of frame, and its mirror image: masks that differ, frame beside visible."""
    a = F.pad(x, (0, 1), value=0.5)
    return a, a.flip(3)


def slow(function, *maps):
    """Cell by cell: missing if any map is missing there, else visible if any is, else frame."""
    out = torch.zeros_like(maps[0].values)
    kinds = np.empty_like(maps[0].kinds)
    for n, i, j in positions(kinds.shape):
        here = [m.kinds[n, i, j] for m in maps]
        kinds[n, i, j] = MISSING if MISSING in here else VISIBLE if VISIBLE in here else FRAME
        if MISSING not in here:
            for c in range(out.shape[1]):
                out[n, c, i, j] = function(*(m.values[n, c, i, j].item() for m in maps))
    return Cells(out, kinds)


@pytest.mark.parametrize("name", ONE)
def test_an_operation_on_each_cell(name):
    function, of_one = ONE[name]
    a, _ = references()
    assert_is(lambda x: function(two_maps(x)[0]), slow(of_one, a))


def references():
    kinds = np.pad(kinds_of(), ((0, 0), (0, 0), (0, 1)), constant_values=FRAME)
    a, b = two_maps(X)
    return Cells(a, kinds), Cells(b, kinds[..., ::-1].copy())


@pytest.mark.parametrize("name", TWO)
def test_an_operation_on_two_maps(name):
    function, of_two = TWO[name]
    assert_is(lambda x: function(*two_maps(x)), slow(of_two, *references()))


def test_a_map_of_one_image_row_or_channel_is_repeated():
    x, kinds = cells().values, kinds_of()
    row = Cells(x[:, :, 1:2].expand_as(x), np.repeat(kinds[:, 1:2], kinds.shape[1], 1))
    assert_is(lambda x: x + x[:, :, 1:2], slow(lambda a, b: a + b, cells(), row))
    assert_is(lambda x: x[:, :, 1:2] + torch.zeros(4, 6, dtype=x.dtype), row)
    channel = Cells(x[:, 2:3].expand_as(x), kinds)
    assert_is(lambda x: x * x[:, 2:3], slow(lambda a, b: a * b, cells(), channel))
    image = Cells(x[1:2].expand_as(x), np.repeat(kinds[1:2], len(kinds), 0))
    assert_is(lambda x: x - x[1:2], slow(lambda a, b: a - b, cells(), image))


@pytest.mark.parametrize(
    ("function", "slope"),
    [
        (torch.log, lambda v: 1 / v),
        (torch.sqrt, lambda v: 0.5 / math.sqrt(v)),
        (torch.reciprocal, lambda v: -1 / v**2),
        (lambda x: 1 / x, lambda v: -1 / v**2),
        (lambda x: x**-0.5, lambda v: -0.5 * v**-1.5),
    ],
)
def test_a_slope_that_is_infinite_at_nothing_counts_for_nothing(function, slope):
    """Of a factor that every cell is multiplied by: the sum over the cells that are there."""
    x, factor = X.abs() + 0.1, torch.tensor(1.5, dtype=torch.double, requires_grad=True)
    LayerMaskedForward(Net(lambda x: function(x * factor)))(x, mask=SEEN).sum().backward()
    there = x[SEEN.expand_as(x)].tolist()
    assert factor.grad.item() == pytest.approx(sum(slope(1.5 * v) * v for v in there), rel=1e-12)


@pytest.mark.parametrize("function", [F.dropout, F.dropout2d, F.alpha_dropout, F.feature_alpha_dropout])
def test_a_visible_cell_is_drawn_as_in_the_plain_network(function):
    """Also where a fill has laid the map out otherwise in memory."""

    def drawn(x):
        torch.manual_seed(5)
        return function(x, 0.4, True)

    def filled(x):
        return F.avg_pool2d(x, 3, 1, 1)

    before, step = last_step(filled), last_step(lambda x: drawn(filled(x)))
    assert torch.equal(step.mask, before.mask)
    assert torch.equal(step.output, torch.where(step.mask, drawn(before.output.contiguous()), 0))


def test_a_number_that_leaves_is_0_where_the_cell_is_missing():
    for n in (0, 3):
        step = last_step(lambda x, n=n: x[0:1] + x[n, 0, 1, 2].item() + float(x[n : n + 1, 1:2, 2:3, 3:4]))
        number = X[0, 0, 1, 2] + X[0, 1, 2, 3] if n == 0 else 0
        assert torch.allclose(step.output, X[0:1] + number, rtol=1e-12)


@pytest.mark.parametrize(
    ("function", "error"),
    [
        (lambda x: torch.zeros(X.shape, dtype=x.dtype).add_(x), MaskLostError),
        (lambda x: x.tolist(), MaskLostError),
        (lambda x: x[..., :4] + x[..., :4].transpose(1, 2), InputError),
    ],
)
def test_masks_that_cannot_meet_are_refused(function, error):
    with pytest.raises(error):
        last_step(function)
