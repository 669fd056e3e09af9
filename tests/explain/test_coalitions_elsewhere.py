"""Other packages' estimators are given the evaluator as it is, and find what is known of a linear model."""

import numpy as np
import pytest
import torch
from games import Total, exact_shapley
from support import small_classifier

from captum_layermask import LayerMaskedForward
from captum_layermask.explain.coalitions import Coalitions
from captum_layermask.explain.segments import grid

IMAGE = torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(1), dtype=torch.double)
SEGMENTS = grid(IMAGE, size=4)  # 9 squares


def test_shapiq_computes_shapley_values_and_interactions():
    shapiq = pytest.importorskip("shapiq", reason="not installed; run: pip install shapiq")
    coalitions = Coalitions(LayerMaskedForward(small_classifier(4).double()), IMAGE, SEGMENTS, target=1)
    expected = exact_shapley(coalitions, 9)
    found = shapiq.ExactComputer(coalitions, n_players=9)("SV", 1)
    assert [found[(i,)] for i in range(9)] == pytest.approx(expected, abs=1e-9)
    sampled = shapiq.KernelSHAP(n=9, random_state=0).approximate(512, coalitions)
    assert [sampled[(i,)] for i in range(9)] == pytest.approx(expected, abs=1e-4)
    assert coalitions.evaluations == 512  # all three evaluate the same coalitions
    linear = Coalitions(LayerMaskedForward(Total(3)), IMAGE, SEGMENTS, target=1)
    pairs = shapiq.ExactComputer(linear, n_players=9)("k-SII", 2)
    assert max(abs(pairs[(i, j)]) for i in range(9) for j in range(i)) < 1e-9


def test_shap_computes_shapley_values_of_segments_without_an_image():
    shap = pytest.importorskip("shap", reason="not installed; run: pip install shap")
    coalitions = Coalitions(LayerMaskedForward(small_classifier(4).double()), IMAGE, SEGMENTS, target=1)
    masker = shap.maskers.Independent(np.zeros((1, 9)))
    found = shap.explainers.Exact(lambda rows: coalitions(rows > 0), masker)(np.ones((1, 9))).values[0]
    assert found == pytest.approx(exact_shapley(coalitions, 9), abs=1e-9)
    assert coalitions.evaluations == 512


def test_shapbpt_computes_owen_values_of_pixels():
    """Every pixel is a segment; of a linear model each Owen value is what the pixel adds."""
    shap_bpt = pytest.importorskip("shap_bpt", reason="not installed; run: pip install shap-bpt")
    model, image = Total(3), IMAGE[..., :4, :4]
    coalitions = Coalitions(LayerMaskedForward(model), image, grid(image, size=1))
    picture = (image[0] * 255).byte().permute(1, 2, 0).numpy()
    explainer = shap_bpt.Explainer(lambda masks: coalitions(masks.reshape(len(masks), -1)), picture, 3)
    values = explainer.explain_instance(max_evals=10_000)
    added = torch.einsum("tc,chw->thw", model.weights[:, :, 0, 0], image[0]).numpy()
    assert np.allclose(values, added[explainer.output_indexes], atol=1e-9)


def test_a_sampler_of_ones_own():
    """Permutation sampling in three lines, exact for a linear model whatever the permutation is."""
    model = Total(3)
    coalitions = Coalitions(LayerMaskedForward(model), IMAGE, SEGMENTS, target=[2, 0])
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    values = coalitions(torch.arange(10)[:, None] > order.argsort()).diff(dim=0)[order.argsort()]
    added = torch.einsum("tc,chw->thw", model.weights[[2, 0], :, 0, 0], IMAGE[0])
    parts = torch.zeros(9, 2, dtype=torch.double).index_add(0, SEGMENTS.flatten(), added.flatten(1).T)
    assert torch.allclose(values, parts)
