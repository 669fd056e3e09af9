"""WordNet similarity is a mean over images."""

import numpy as np
import pytest
import torch
from explained import few
from hypothesis import given
from hypothesis import strategies as st

from captum_layermask.metrics import WordNetSimilarity
from captum_layermask.metrics.wordnet import wu_palmer


def test_wordnet_similarity_is_the_mean_over_images():
    metric = WordNetSimilarity()
    metric.update(torch.tensor([1, 404]), torch.tensor([0, 895]))
    metric.update(torch.tensor([0]), torch.tensor([0]))
    # tench and goldfish; airliner and warplane; a hit
    assert metric.compute().item() == pytest.approx((32 / 34 + 22 / 25 + 1) / 3, abs=1e-12)


@given(st.lists(st.tuples(st.integers(0, 999), st.integers(0, 999)), min_size=1, max_size=20))
@few
def test_wordnet_similarity_looks_pairs_up(pairs):
    predictions, labels = torch.tensor(pairs).T
    metric = WordNetSimilarity()
    metric.update(predictions.int(), labels)
    assert metric.compute().item() == pytest.approx(np.mean([wu_palmer(a, b) for a, b in pairs]), abs=1e-12)
