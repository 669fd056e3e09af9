"""The order in which segments are removed."""

import numpy as np
import scipy.stats
import torch

from captum_layermask.evaluate.curves.orders import removal_order, segment_sums


def test_random_orders_are_what_they_were():
    drawn = removal_order("random", torch.zeros(8), seed=5)
    raw = np.random.PCG64(5).random_raw(8)
    assert drawn.tolist() == sorted(range(8), key=lambda place: raw[place])
    assert drawn.tolist() == [7, 4, 3, 5, 6, 2, 0, 1]


def test_random_orders_put_every_segment_anywhere():
    firsts = [int(removal_order("random", torch.zeros(4), seed)[0]) for seed in range(400)]
    assert scipy.stats.chisquare(np.bincount(firsts)).pvalue > 0.01


def test_segments_are_ordered_by_the_sum_of_their_saliency():
    segments = torch.tensor([[0, 0, 0], [1, 1, 2], [3, 3, 2]])[None, None]
    saliency = torch.tensor([[1.0, 1, 1], [4, 0, 1], [2, 2, 9]])[None, None]
    sums = segment_sums(segments, saliency)
    assert sums.tolist() == [3, 4, 10, 4]
    assert removal_order("most-salient", sums, 0).tolist() == [2, 1, 3, 0]
    assert removal_order("least-salient", sums, 0).tolist() == [0, 1, 3, 2]
