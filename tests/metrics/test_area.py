"""The area under a curve is scikit-learn's, on the scale of the metric."""

import numpy as np
import pytest
import sklearn.metrics
from explained import few
from hypothesis import given
from hypothesis import strategies as st

from captum_layermask.errors import InputError
from captum_layermask.metrics import area_under_curve


@given(st.lists(st.floats(0, 1), min_size=2, max_size=12), st.floats(0.1, 3), st.floats(-1, 1))
@few
def test_area_is_scikit_learns_over_the_span(values, span, start):
    fractions = np.linspace(start, start + span, len(values))
    area = area_under_curve(values, fractions)
    assert area == pytest.approx(sklearn.metrics.auc(fractions, values) / (fractions[-1] - fractions[0]))
    assert min(values) - 1e-12 <= area <= max(values) + 1e-12


def test_areas_of_many_curves_lie_on_the_scale_of_the_values():
    values = np.array([[[0.7, 0.7, 0.7]], [[1.0, 0.5, 0.0]]])
    areas = area_under_curve(values, [0, 0.1, 0.4])
    assert areas.shape == (2, 1)
    # 0.75 over a quarter of the span, 0.25 over the rest
    assert areas.ravel() == pytest.approx([0.7, 0.75 / 4 + 0.25 * 3 / 4])
    assert f"{area_under_curve([0, 1], [0, 1]):.2f}" == "0.50"


@pytest.mark.parametrize(
    ("values", "fractions", "sentence"),
    [
        ([1], [0], "two or more that increase"),
        ([1, 1], [0, 0], "two or more that increase"),
        ([1, 1], [1, 0], "two or more that increase"),
        ([1, 1], [[0, 1]], "two or more that increase"),
        ([1, 1, 1], [0, 1], "one value for each"),
        (1, [0, 1], "one value for each"),
    ],
)
def test_an_area_that_cannot_be_is_refused(values, fractions, sentence):
    with pytest.raises(InputError, match=sentence):
        area_under_curve(values, fractions)
