"""Global means, maxima and sums, however they are spelled (S7, S8)."""

import pytest
import torch
import torch.nn.functional as F
from small_models import VISIBLE, X, assert_holds, run
from styles import einops_reduce
from support import relative

pytestmark = pytest.mark.filterwarnings("ignore::captum_layermask.VanishedWarning")


GLOBAL_MEANS = {
    "avg_pool2d": lambda x: F.avg_pool2d(x, x.shape[2:]).flatten(1),
    "mean((2, 3))": lambda x: x.mean((2, 3)),
    "mean(3).mean(2)": lambda x: x.mean(3).mean(2),
    "mean(2).mean(2)": lambda x: x.mean(2).mean(2),
    "mean of negative dims": lambda x: x.mean([-1, -2]),
    "adaptive": lambda x: F.adaptive_avg_pool2d(x, (1, 1))[:, :, 0, 0],
    "flatten": lambda x: x.flatten(2).mean(-1),
    "view": lambda x: x.view(x.size(0), x.size(1), -1).mean(-1),
    "tokens": lambda x: x.flatten(2).transpose(1, 2).mean(1),
    "channels last": lambda x: x.permute(0, 2, 3, 1).mean((1, 2)),
    "transposed": lambda x: x.transpose(2, 3).flatten(2).mean(-1),
    "adaptive 1d": lambda x: F.adaptive_avg_pool1d(x.flatten(2), 1)[..., 0],
    "blocks": lambda x: x.view(5, 4, 6, 2, 8, 2).mean((2, 3, 4, 5)),
    "einops": einops_reduce("b c h w -> b c", "mean"),
    "einops 1 1": lambda x: einops_reduce("b c h w -> b c 1 1", "mean")(x).flatten(1),
}


@pytest.mark.parametrize("name", GLOBAL_MEANS)
def test_global_means_are_equal_however_they_are_spelled(name):
    assert_holds(GLOBAL_MEANS[name])
    there = VISIBLE.sum((2, 3)).clamp(min=1)
    assert relative(run(GLOBAL_MEANS[name]), torch.where(VISIBLE, X, 0).sum((2, 3)) / there) <= 1e-12


GLOBAL_MAXIMA = {
    "amax": lambda x: x.amax((-2, -1)),
    "flatten": lambda x: x.flatten(2).max(-1)[0],
    "max of max": lambda x: x.max(3).values.max(dim=2).values,
    "max_pool2d": lambda x: F.max_pool2d(x, x.shape[2:]).flatten(1),
    "adaptive": lambda x: F.adaptive_max_pool2d(x, 1).flatten(1),
    "adaptive 1d": lambda x: F.adaptive_max_pool1d(x.flatten(2), 1)[..., 0],
    "transposed": lambda x: x.transpose(2, 3).flatten(2).amax(2),
    "einops": einops_reduce("b c h w -> b c", "max"),
}


@pytest.mark.parametrize("name", GLOBAL_MAXIMA)
def test_global_maxima_are_equal_however_they_are_spelled(name):
    negative = X - 10
    assert_holds(GLOBAL_MAXIMA[name], negative)
    there = torch.where(VISIBLE, negative, -torch.inf).amax((2, 3))
    assert torch.equal(run(GLOBAL_MAXIMA[name], negative), there)


def test_concat_pooling_is_both():
    got = run(lambda x: torch.cat([F.adaptive_avg_pool2d(x, 1), F.adaptive_max_pool2d(x, 1)], 1).flatten(1))
    both = torch.cat([run(GLOBAL_MEANS["adaptive"]), run(GLOBAL_MAXIMA["amax"])], 1)
    assert torch.equal(got, both)


def test_a_sum_counts_missing_cells_as_nothing():
    """A sum is a total of the evidence, so it shrinks; only a mean knows how many cells there are."""
    for total in (lambda x: x.sum((2, 3)), lambda x: x.sum(3).sum(2), lambda x: x.flatten(2).sum(-1)):
        assert relative(run(total), torch.where(VISIBLE, X, 0).sum((2, 3))) <= 1e-12
