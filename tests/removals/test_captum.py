"""Captum's perturbation methods with ``baselines=MISSING`` equal the same methods run by hand."""

import pytest
import torch
from captum.attr import FeatureAblation, KernelShap, Lime, Occlusion, ShapleyValueSampling
from support import SmallVGG, redraw
from torch import nn

from captum_layermask import MISSING, LayerMaskedForward

pytestmark = pytest.mark.filterwarnings("ignore::captum_layermask.VanishedWarning")

SIZE, GRID = 32, 8
rows = torch.arange(SIZE) // GRID
segments = (rows[:, None] * (SIZE // GRID) + rows)[None, None]


class ByHand(nn.Module):
    """The layer-masked network as a function of which segments are present, without MISSING."""

    def __init__(self, forward, image):
        super().__init__()
        self.masked, self.image = forward, image

    def forward(self, present):
        mask = present[:, segments[0, 0]] > 0.5
        return self.masked(self.image.expand(len(present), -1, -1, -1), mask=mask)


@pytest.fixture(scope="module")
def masked():
    return LayerMaskedForward(redraw(SmallVGG()))


@pytest.fixture(scope="module")
def image():
    return torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


per_eval = pytest.mark.parametrize("per_eval", [1, 5, 16])


def without(forward, image, missing):
    return forward(image, mask=~missing)


@per_eval
@pytest.mark.parametrize("full", [False, True], ids=["1×1×H×W", "1×C×H×W"])
def test_feature_ablation(masked, image, per_eval, full):
    mask = segments.expand(1, 3, -1, -1) if full else segments
    got = FeatureAblation(masked).attribute(
        image, baselines=MISSING, feature_mask=mask, target=3, perturbations_per_eval=per_eval
    )
    with torch.no_grad():
        whole = masked(image)[0, 3]
        for segment in range(16):
            removed = segments[0, 0] == segment
            expected = whole - without(masked, image, removed)[0, 3]
            torch.testing.assert_close(got[0, :, removed], expected.expand(3, GRID**2), rtol=1e-5, atol=1e-5)


def test_feature_ablation_of_a_batch(masked, image):
    batch = torch.cat([image, image.flip(3)])
    got = FeatureAblation(masked).attribute(
        batch, baselines=MISSING, feature_mask=segments, target=torch.tensor([3, 5])
    )
    for row, target in enumerate([3, 5]):
        alone = FeatureAblation(masked).attribute(
            batch[row : row + 1], baselines=MISSING, feature_mask=segments, target=target
        )
        torch.testing.assert_close(got[row : row + 1], alone, rtol=1e-4, atol=1e-5)


@per_eval
def test_occlusion(masked, image, per_eval):
    got = Occlusion(masked).attribute(
        image,
        sliding_window_shapes=(3, 12, 12),
        strides=(3, 10, 10),
        baselines=MISSING,
        target=3,
        perturbations_per_eval=per_eval,
    )
    total, count = torch.zeros(SIZE, SIZE), torch.zeros(SIZE, SIZE)
    with torch.no_grad():
        whole = masked(image)[0, 3]
        for top in (0, 10, 20):
            for left in (0, 10, 20):
                removed = torch.zeros(SIZE, SIZE, dtype=torch.bool)
                removed[top : top + 12, left : left + 12] = True
                total[removed] += whole - without(masked, image, removed)[0, 3]
                count += removed
    expected = (total / count).expand(1, 3, -1, -1)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@per_eval
@pytest.mark.parametrize("method", [Lime, KernelShap, ShapleyValueSampling])
def test_sampling_methods(masked, image, method, per_eval):
    def attribute(forward, inputs, baselines, mask):
        torch.manual_seed(7)
        options = {"n_samples": 40, "target": 3, "perturbations_per_eval": per_eval}
        explainer = method(forward)
        if method is Lime:
            explainer = Lime(forward, similarity_func=lambda *_, **__: 1.0)
        return explainer.attribute(inputs, baselines=baselines, feature_mask=mask, **options)

    got = attribute(masked, image, MISSING, segments)
    present = torch.ones(1, 16)
    by_hand = attribute(ByHand(masked, image), present, 0.0, torch.arange(16)[None])
    torch.testing.assert_close(got[0, 0], by_hand[0, segments[0, 0]], rtol=1e-4, atol=1e-4)
    assert got.abs().max() > 0


def test_default_similarity_kernel_is_as_for_a_grey_baseline(image):
    from captum.attr._core.lime import get_exp_kernel_similarity_function

    kernel = get_exp_kernel_similarity_function("cosine")
    removed = segments < 5
    missing, grey = (torch.where(removed, value, image) for value in (MISSING, 0.0))
    assert kernel(image, missing, None) == pytest.approx(kernel(image, grey, None), rel=1e-6)


def test_progress_bar(masked, image, capsys):
    FeatureAblation(masked).attribute(
        image, baselines=MISSING, feature_mask=segments, target=3, show_progress=True
    )
    assert "100%" in capsys.readouterr().err


def test_lime_of_a_batch(masked, image):
    batch = torch.cat([image, image.flip(2)])
    torch.manual_seed(0)
    got = Lime(masked).attribute(
        batch, baselines=MISSING, feature_mask=segments, target=3, n_samples=20, perturbations_per_eval=4
    )
    assert got.shape == batch.shape and got.isfinite().all()
