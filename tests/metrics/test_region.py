"""The k most important segments, and nothing else."""

import math

import torch
from explained import explained, few, quadrants
from hypothesis import given
from hypothesis import strategies as st

from captum_layermask.metrics import alignment_score, top_k_jaccard, top_k_region


@given(explained(), st.integers(1, 8))
@few
def test_the_region_is_that_of_the_k_largest(explanations, k):
    importance, segments, _ = explanations
    region = top_k_region(importance, segments, k)
    assert region.dtype == torch.bool
    assert region.shape == segments.shape
    for row, ids, chosen in zip(importance.tolist(), segments, region, strict=True):
        ranked = sorted(ids.unique().tolist(), key=lambda i: (-row[i], i))
        assert sorted(ids[chosen].unique().tolist()) == sorted(ranked[:k])
        assert sorted(ids[~chosen].unique().tolist()) == sorted(ranked[k:])


def test_signs_count_and_ties_go_to_the_lower_id():
    importance = torch.tensor([0.5, -9.0, 0.5, 0.1])
    assert top_k_region(importance, quadrants(), 1)[0, 0].nonzero().tolist() == [
        [0, 0],
        [0, 1],
        [1, 0],
        [1, 1],
    ]
    assert set(quadrants()[top_k_region(importance, quadrants(), 3)].tolist()) == {0, 2, 3}


def test_columns_of_no_segment_are_not_read():
    importance = torch.tensor([[0.0, 1.0, 0.0, 0.0, math.nan, math.inf]])
    mask = quadrants() == 1
    assert torch.equal(top_k_region(importance, quadrants(), 1), mask)
    assert torch.equal(
        alignment_score(importance, quadrants(), mask), alignment_score(importance[:, :4], quadrants(), mask)
    )
    assert top_k_jaccard(importance, quadrants(), mask, 1) == 1
