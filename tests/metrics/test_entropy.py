"""Class entropy is SciPy's of the histogram of predictions."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from explained import few
from hypothesis import given
from hypothesis import strategies as st

from captum_layermask.metrics import ClassEntropy


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.randoms(use_true_random=False))
@few
def test_class_entropy_is_scipys_whatever_the_order(labels, random):
    expected = scipy.stats.entropy(np.bincount(labels, minlength=5))
    random.shuffle(labels)
    metric = ClassEntropy(5)
    for part in torch.tensor(labels).split(7):
        metric.update(part)
    assert metric.compute().item() == pytest.approx(expected, abs=1e-12)
    assert 0 <= metric.compute() <= math.log(5) + 1e-12


def test_class_entropy_by_hand():
    metric = ClassEntropy(10)
    metric.update(torch.tensor([3, 3, 7, 9]))  # shares 1/2, 1/4, 1/4
    assert metric.compute().item() == pytest.approx(1.5 * math.log(2))
    metric.reset()
    metric.update(torch.full((5,), 2))
    assert metric.compute() == 0
