"""Reductions give missing cells no weight: beside each, the plain one of the cells that are left."""

import itertools
import math

import numpy as np
import pytest
import torch
from cells import CHANNELS, SEEN, X, assert_near, kinds_of, last_step, padded, positions
from transcription import MISSING, VISIBLE

from captum_layermask import NoRuleError

pytestmark = pytest.mark.filterwarnings("ignore::captum_layermask.VanishedWarning")

# What each makes of a list of numbers, the cells that are not missing; and of none.
REDUCTIONS = {
    "mean": (torch.Tensor.mean, lambda v: sum(v) / len(v), 0.0),
    "sum": (torch.Tensor.sum, sum, 0.0),
    "nansum": (torch.nansum, sum, 0.0),
    "amax": (torch.Tensor.amax, max, 0.0),
    "amin": (torch.Tensor.amin, min, 0.0),
    "logsumexp": (torch.logsumexp, lambda v: math.log(sum(map(math.exp, v))), 0.0),
    "norm": (lambda x, dim: x.norm(2, dim), lambda v: math.sqrt(sum(a * a for a in v)), 0.0),
    "norm 3": (
        lambda x, dim: torch.linalg.vector_norm(x, 3, dim),
        lambda v: sum(abs(a) ** 3 for a in v) ** (1 / 3),
        0.0,
    ),
    "norm −∞": (
        lambda x, dim: torch.linalg.vector_norm(x, -math.inf, dim),
        lambda v: min(map(abs, v)),
        0.0,
    ),
    "variance": (lambda x, dim: x.var(dim, correction=0), lambda v: np.var(v), 0.0),
    "unbiased": (lambda x, dim: x.var(dim), lambda v: np.var(v, ddof=1) if len(v) > 1 else 0.0, 0.0),
    "deviation": (lambda x, dim: x.std(dim, correction=0), lambda v: np.std(v), 0.0),
}
DIMS = [(2, 3), (3,), (2,), (1, 2, 3), (1, 3), (1,)]


def slow(x, known, dims, of_some, of_none):
    """Number by number: the reduction of the values, of cells that are known, that share the indices left."""
    left = [d for d in range(4) if d not in dims]
    out = torch.zeros([x.shape[d] for d in left], dtype=torch.double)
    for place in positions(out.shape):
        values = []
        for index in positions([x.shape[d] for d in dims]):
            at = [0] * 4
            for d, i in [*zip(left, place, strict=True), *zip(dims, index, strict=True)]:
                at[d] = i
            if known[at[0], at[2], at[3]]:
                values.append(x[tuple(at)].item())
        out[place] = float(of_some(values)) if values else of_none
    return out


def with_frame(x):
    """The map beside a column and two rows of constants, which count, and its kinds."""
    return padded(x, kinds_of())


def bare(x):
    """The map without frame, and its kinds: one image has nothing that counts."""
    return x, kinds_of()


@pytest.mark.parametrize("framed", [with_frame, bare])
@pytest.mark.parametrize(("name", "dims"), [*itertools.product(REDUCTIONS, DIMS)])
def test_a_reduction_is_that_of_the_cells_that_are_not_missing(name, dims, framed):
    function, of_some, of_none = REDUCTIONS[name]
    x, kinds = framed(X)
    step = last_step(lambda x: function(framed(x)[0], dims))
    expected = slow(x, kinds != MISSING, dims, of_some, of_none)
    if step.present is None:
        assert_near(step.output, expected)
    else:
        known = step.present.expand(expected.shape)
        assert_near(step.output, torch.where(known, expected, 0))
        assert torch.equal(known, slow(x, kinds != MISSING, dims, lambda v: 1, 0) > 0)
        seen = slow(x, kinds == VISIBLE, sorted({1, *dims}), lambda v: 1, 0) > 0
        assert torch.equal(step.mask.flatten(1), seen.flatten(1))


def test_a_mean_in_two_steps_is_the_mean_in_one():
    """Rows of which more is there weigh more, whichever way round."""
    whole = slow(X, SEEN[:, 0], (2, 3), lambda v: sum(v) / len(v), 0.0)
    assert_near(last_step(lambda x: x.mean(3).mean(2)).output, whole)
    assert_near(last_step(lambda x: x.mean(2, keepdim=True).mean(3)[..., 0]).output, whole)


def test_everything_at_once():
    values = X[SEEN.expand_as(X)].tolist()
    for function, of_some in ((torch.sum, sum), (torch.amax, max), (torch.prod, math.prod)):
        found = last_step(lambda x, f=function: f(x[:1]) if f is torch.prod else f(x)).output
        expected = of_some(X[0].flatten().tolist()) if function is torch.prod else of_some(values)
        assert found.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["prod", "all", "any", "count_nonzero"])
def test_counts_and_products(name):
    of_some = {
        "prod": math.prod,
        "all": lambda v: float(all(a > -1 for a in v)),
        "any": lambda v: float(any(a > 1 for a in v)),
        "count_nonzero": len,
    }[name]
    at = {"all": lambda x: x > -1, "any": lambda x: x > 1}.get(name, lambda x: x)
    step = last_step(lambda x: getattr(torch, name)(at(x), 3))
    expected = slow(X, SEEN[:, 0], (3,), of_some, 0.0)
    assert_near(step.output.double(), torch.where(step.present, expected, 0))


@pytest.mark.parametrize("name", ["max", "min", "argmax", "argmin"])
def test_where_the_extreme_of_what_is_there_lies(name):
    """Of every row of every channel: its value and column; of a row of which nothing is there, no place."""
    greatest = name.endswith("max")
    for n, c, i in positions(X.shape[:3]):
        columns = [j for j in range(X.shape[3]) if SEEN[n, 0, i, j]]
        if not columns:
            continue
        best = (max if greatest else min)(columns, key=lambda j: X[n, c, i, j].item())
        if name.startswith("arg"):
            assert results(name).output[n, c, i] == best
        else:
            assert results(name).output[n, c, i] == X[n, c, i, best]
            assert results(f"{name}, where").output[n, c, i] == best


CALLS = {
    "max": lambda x: x.max(3).values,
    "max, where": lambda x: x.max(3).indices * 1,
    "min": lambda x: x.min(3).values,
    "min, where": lambda x: x.min(3).indices * 1,
    "argmax": lambda x: x.argmax(3),
    "argmin": lambda x: x.argmin(3),
}
FOUND = {}


def results(name):
    """One forward for all cells."""
    if name not in FOUND:
        FOUND[name] = last_step(CALLS[name])
    return FOUND[name]


def test_the_largest_of_the_positions_that_are_there():
    step = last_step(lambda x: x.flatten(2).topk(3, 2).values * 1)
    for n, c in positions(X.shape[:2]):
        there = sorted(X[n, c][SEEN[n, 0]].tolist(), reverse=True)[:3]
        assert step.output[n, c].tolist() == pytest.approx([*there, 0, 0, 0][:3])


def test_the_largest_of_the_channels_of_each_cell():
    step = last_step(lambda x: x.topk(2, 1).values * 1)
    for n, i, j in positions((4, *X.shape[2:])):
        best = sorted(X[n, :, i, j].tolist(), reverse=True)[:2]
        assert step.output[n, :, i, j].tolist() == (best if SEEN[n, 0, i, j] else [0, 0])


def test_cells_picked_by_number():
    at = torch.tensor([5, 0, 17, 17])
    index = at.expand(4, CHANNELS, 4)
    step = last_step(lambda x: x.flatten(2).gather(2, index))
    for n, c, k in positions((4, CHANNELS, 4)):
        i, j = divmod(at[k].item(), X.shape[3])
        assert step.output[n, c, k] == (X[n, c, i, j] if SEEN[n, 0, i, j] else 0)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.mean(0),
        lambda x: x.amax((0, 2)),
        lambda x: x.topk(2, 3).values,
        lambda x: x.gather(3, torch.zeros(4, CHANNELS, 4, 1, dtype=torch.long)),
        lambda x: x.flatten(2).gather(2, x.flatten(2).long()),
    ],
)
def test_what_joins_images_or_some_positions_by_number_is_refused(function):
    with pytest.raises(NoRuleError):
        last_step(function)
