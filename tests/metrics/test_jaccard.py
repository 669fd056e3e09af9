"""The Jaccard similarity is scikit-learn's over pixels."""

import pytest
import sklearn.metrics
import torch
from explained import explained, few, quadrants
from hypothesis import given
from hypothesis import strategies as st

from captum_layermask.metrics import top_k_jaccard, top_k_region


@given(explained(), st.integers(1, 4))
@few
def test_jaccard_is_scikit_learns_over_pixels(explanations, k):
    importance, segments, mask = explanations
    scores = top_k_jaccard(importance, segments, mask, k)
    regions = top_k_region(importance, segments, k)
    for score, region, object_ in zip(scores, regions, mask, strict=True):
        expected = sklearn.metrics.jaccard_score(object_.flatten(), region.flatten(), zero_division=0.0)
        assert score.item() == pytest.approx(expected)


def test_jaccard_by_hand():
    importance, mask = torch.tensor([3.0, 2, 1, 0]), quadrants() == 1
    assert top_k_jaccard(importance, quadrants(), mask, 1) == 0
    assert top_k_jaccard(importance, quadrants(), mask, 2) == 0.5
    assert top_k_jaccard(importance, quadrants(), mask, 4) == 0.25
    assert top_k_jaccard(importance, quadrants(), torch.zeros(1, 1, 4, 4), 1) == 0
    # half a pixel's worth in each of the 4 chosen, and 4 halves outside: 2 / (4 + 2)
    assert top_k_jaccard(importance, quadrants(), (quadrants() < 2) / 2, 1).item() == pytest.approx(1 / 3)
