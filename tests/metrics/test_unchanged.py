"""Unchanged predictions are an accuracy."""

import pytest
import sklearn.metrics
import torch
from explained import few
from hypothesis import given
from hypothesis import strategies as st

from captum_layermask.metrics import UnchangedPredictions


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
@few
def test_unchanged_predictions_are_an_accuracy(pairs):
    predictions, original = torch.tensor(pairs).T
    metric = UnchangedPredictions()
    metric.update(predictions, original)
    assert metric.compute().item() == pytest.approx(sklearn.metrics.accuracy_score(original, predictions))
