"""The lime package: its own explainer and the fast one give LIME as lime defines it."""

import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from captum._utils.models.linear_model import SkLearnRidge
from captum.attr import Lime
from captum.attr._core.lime import get_exp_kernel_similarity_function
from lime.lime_image import LimeImageExplainer
from sklearn.linear_model import Ridge
from support import SmallVGG, redraw
from torch import nn

from captum_layermask import MISSING, InputError, LayerMaskedForward
from captum_layermask.explain.segments import grid
from captum_layermask.integrations.image_classifier import ImageClassifier
from captum_layermask.integrations.lime import FastLimeImageExplainer
from captum_layermask.models.preprocessing import Normalize

NORMALIZE = Normalize([0.4, 0.5, 0.6], [0.2, 0.25, 0.3])
SEGMENTS = grid(torch.zeros(3, 32, 32), size=8)[0, 0].numpy()
SHOWN = np.repeat(np.repeat(np.random.default_rng(1).random((4, 4)) > 0.4, 8, 0), 8, 1)


@pytest.fixture(scope="module")
def network():
    return redraw(SmallVGG())


@pytest.fixture
def classifier(network):
    return ImageClassifier(LayerMaskedForward(network), NORMALIZE)


@pytest.fixture
def image():
    return np.random.default_rng(0).random((32, 32, 3))


def explain(explainer, image, classifier, **options):
    options = {"hide_color": MISSING, "num_samples": 43, "top_labels": 3} | options
    return explainer.explain_instance(image, classifier, segmentation_fn=lambda _: SEGMENTS, **options)


def weights(explanation, label):
    return np.array([weight for _, weight in sorted(explanation.local_exp[label])])


@torch.no_grad()
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_classifier_gives_the_probabilities_of_the_layer_masked_network(network, image, dtype):
    images = np.stack([image, np.where(SHOWN[..., None], image, MISSING)]).astype(dtype)
    x = torch.from_numpy(images).float().permute(0, 3, 1, 2)
    mask = torch.from_numpy(np.stack([np.ones_like(SHOWN), SHOWN]))
    expected = LayerMaskedForward(network)(x, mask=mask).softmax(1)
    assert not torch.allclose(expected[0], expected[1], atol=1e-3)
    assert np.allclose(ImageClassifier(LayerMaskedForward(network))(images), expected, atol=1e-6)


def test_a_preprocessing_is_the_same_inside_and_outside_of_the_forward(network, image):
    images = np.where(SHOWN[..., None], image, MISSING)[None]
    inside = ImageClassifier(LayerMaskedForward(nn.Sequential(NORMALIZE, network)))
    outside = ImageClassifier(LayerMaskedForward(network), NORMALIZE)
    assert np.allclose(inside(images), outside(images), atol=1e-6)


def test_a_preprocessing_in_place_leaves_the_image_alone(network, image):
    image = image.astype(np.float32)
    before = image.copy()
    classifier = ImageClassifier(LayerMaskedForward(network), lambda x: x.sub_(0.5).div_(0.25))
    explain(FastLimeImageExplainer(random_state=0), image, classifier)
    assert np.array_equal(image, before)


def test_a_preprocessing_that_resizes_is_refused(network, image):
    classifier = ImageClassifier(LayerMaskedForward(network), nn.Upsample(scale_factor=2))
    with pytest.raises(InputError, match="resize and crop the image before"):
        classifier(image[None])


@pytest.mark.parametrize("explainer", [LimeImageExplainer, FastLimeImageExplainer])
def test_integer_images_cannot_hold_missing_and_are_refused(explainer, classifier, image):
    with pytest.raises(InputError, match="must be floating point, not uint8"):
        explain(explainer(), (image * 255).astype(np.uint8), classifier)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("explainer", [LimeImageExplainer, FastLimeImageExplainer])
def test_a_forward_that_is_given_limes_images_says_what_to_give_lime(explainer, network, image, dtype):
    forward = LayerMaskedForward(network)
    with pytest.raises(InputError, match=r"ImageClassifier\(forward\)") as caught:
        explain(explainer(), image.astype(dtype), forward)
    assert "integers" not in str(caught.value)


@pytest.mark.parametrize("images", [torch.rand(1, 3, 32, 32), [[[[0.5] * 3]]], None])
def test_what_is_no_numpy_image_is_refused(classifier, images):
    with pytest.raises(InputError, match="must be a NumPy array, N×H×W×C, not"):
        classifier(images)


def test_a_single_image_without_its_batch_is_refused(classifier, image):
    with pytest.raises(InputError, match="N×H×W×C"):
        classifier(image)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("hide_color", [MISSING, 0.3, None])
def test_the_fast_explainer_gives_the_numbers_of_the_stock_one(classifier, image, dtype, hide_color):
    image = image.astype(dtype)
    stock, fast = LimeImageExplainer(random_state=7), FastLimeImageExplainer(random_state=7)
    for _ in range(2):  # the second time shows that both drew as many random numbers
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a filled image has nothing missing
            a = explain(stock, image, classifier, hide_color=hide_color)
            b = explain(fast, image, classifier, hide_color=hide_color)
        assert a.top_labels == b.top_labels
        for label in a.top_labels:
            assert np.abs(weights(a, label)).max() > 1e-3
            assert np.abs(weights(a, label) - weights(b, label)).max() <= 1e-6
            assert abs(a.intercept[label] - b.intercept[label]) <= 1e-6


def test_any_function_of_images_will_do(image):
    """Class 1 likes to see segment 5; where it looks, pixels are removed."""

    def forward(x):
        seen = (x != MISSING).all(1)[:, 8:16, 8:16].float().mean((1, 2))
        return torch.stack([torch.zeros_like(seen), seen], dim=1)

    for explainer in (LimeImageExplainer, FastLimeImageExplainer):
        explanation = explain(explainer(random_state=0), image, ImageClassifier(forward), labels=(1,))
        assert explanation.local_exp[1][0][0] == 5


@pytest.mark.parametrize("explainer", [LimeImageExplainer, FastLimeImageExplainer])
def test_a_grey_picture_is_shown_in_three_channels(explainer, classifier, image):
    explanation = explain(explainer(random_state=0), image[..., 0], classifier)
    assert explanation.image.shape == (32, 32, 3)


def test_a_mirrored_view_of_an_image_is_explained_as_its_copy(classifier, image):
    view = explain(FastLimeImageExplainer(random_state=0), image[:, ::-1], classifier)
    copy = explain(FastLimeImageExplainer(random_state=0), image[:, ::-1].copy(), classifier)
    assert view.local_exp == copy.local_exp


def test_the_fast_explainer_hands_on_one_image_and_many_masks(network, image):
    calls = []

    class Watched(LayerMaskedForward):
        def forward(self, x, *extra, mask=None):
            calls.append((x, mask))
            return super().forward(x, *extra, mask=mask)

    explainer = FastLimeImageExplainer(random_state=0)
    explain(explainer, image, ImageClassifier(Watched(network)), num_samples=20, batch_size=8)
    assert [len(x) for x, _ in calls] == [8, 8, 8]
    assert all(x.stride(0) == 0 and mask.dtype == torch.bool for x, mask in calls)
    assert not (calls[1][0] == MISSING).any()


def test_the_fast_explainer_takes_no_other_function(image):
    with pytest.raises(InputError, match="ImageClassifier"):
        explain(FastLimeImageExplainer(), image, lambda images: np.ones((len(images), 2)))


@pytest.mark.parametrize("segments", [SEGMENTS + 1, SEGMENTS * 2, SEGMENTS - 1])
def test_segments_that_lime_would_confuse_are_refused(classifier, image, segments):
    with pytest.raises(InputError, match="give renumbered"):
        FastLimeImageExplainer().explain_instance(image, classifier, segmentation_fn=lambda _: segments)


def test_the_progress_bar_counts_samples_and_can_be_switched_off(classifier, image, capsys):
    explainer = FastLimeImageExplainer(random_state=0)
    missing = np.full_like(image, MISSING)
    explainer.data_labels(image, missing, SEGMENTS, classifier, 12, progress_bar=False)
    assert capsys.readouterr().err == ""
    explainer.data_labels(image, missing, SEGMENTS, classifier, 12)
    assert "12/12" in capsys.readouterr().err


def test_the_environment_can_switch_the_progress_bar_off():
    lines = (
        "import numpy as np, torch",
        "from torch import nn",
        "from captum_layermask import MISSING, LayerMaskedForward",
        "from captum_layermask.integrations.image_classifier import ImageClassifier",
        "from captum_layermask.integrations.lime import FastLimeImageExplainer",
        "model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()",
        "classifier = ImageClassifier(LayerMaskedForward(model))",
        "segments = np.arange(64).reshape(8, 8) // 32",
        "FastLimeImageExplainer(random_state=0).explain_instance(",
        "    np.ones((8, 8, 3)), classifier, hide_color=MISSING, num_samples=5,",
        "    segmentation_fn=lambda image: segments)",
    )
    bars = [
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", "\n".join(lines)],
            env=os.environ | {"TQDM_DISABLE": disable},
            stderr=subprocess.PIPE,
            text=True,
            check=True,
        ).stderr
        for disable in ("", "1")
    ]
    assert "5/5" in bars[0] and bars[1] == ""


def test_limes_own_pictures_can_be_made(classifier, image):
    explanation = explain(FastLimeImageExplainer(random_state=0), image, classifier)
    label = explanation.top_labels[0]
    best = max(explanation.local_exp[label], key=lambda pair: pair[1])[0]
    _, mask = explanation.get_image_and_mask(label, num_features=1)
    assert np.array_equal(mask == 1, best == SEGMENTS)


@pytest.fixture
def drawn(classifier, image):
    """An explanation by lime; which segments were visible, and what the network returned."""
    explainer = LimeImageExplainer(random_state=3)
    noted = {}
    original = explainer.data_labels
    explainer.data_labels = lambda *args, **options: noted.setdefault("drawn", original(*args, **options))
    explanation = explain(explainer, image, classifier, num_samples=60)
    return explanation, *noted["drawn"]


def test_lime_by_hand(network, image):
    """Draw, remove, ask, weigh and fit, as docs/lime.md defines it, with nothing of lime's."""
    random = np.random.RandomState(3)
    random.randint(0, high=1000)  # lime draws a seed for its segmentation first
    shown = random.randint(0, 2, 60 * 16).reshape(60, 16)
    shown[0] = 1
    forward = LayerMaskedForward(network)
    x = NORMALIZE(torch.from_numpy(image).float().permute(2, 0, 1)[None])
    with torch.no_grad():
        rows = [forward(x, mask=torch.from_numpy(row[SEGMENTS])).softmax(1)[0] for row in shown]
    probabilities = torch.stack(rows).numpy()
    cosine = shown.sum(1) / np.sqrt(np.maximum(shown.sum(1), 1) * 16)
    kernel = np.exp(-((1 - cosine) ** 2) / (2 * 0.25**2))
    explainer = FastLimeImageExplainer(random_state=3)
    classifier = ImageClassifier(forward, NORMALIZE)
    explanation = explain(explainer, image, classifier, num_samples=60)
    for label in explanation.top_labels:
        fit = Ridge(alpha=1).fit(shown, probabilities[:, label], sample_weight=kernel)
        assert np.allclose(weights(explanation, label), fit.coef_, atol=1e-6)
        assert explanation.intercept[label] == pytest.approx(fit.intercept_, abs=1e-6)


def test_captum_agrees_when_it_is_given_limes_definitions(network, image, drawn):
    explanation, shown, _ = drawn
    samples = iter(torch.from_numpy(shown))
    kernel = get_exp_kernel_similarity_function("cosine", kernel_width=0.25)
    forward = LayerMaskedForward(nn.Sequential(NORMALIZE, network))
    label = int(explanation.top_labels[0])
    lime = Lime(
        lambda x: forward(x).softmax(1),
        interpretable_model=SkLearnRidge(alpha=1.0),
        perturb_func=lambda *_, **__: next(samples)[None],
        similarity_func=lambda _, __, sample, **___: kernel(torch.ones_like(sample), sample, None),
    )
    coefficients = lime.attribute(
        torch.from_numpy(image).float().permute(2, 0, 1)[None],
        target=label,
        baselines=MISSING,
        feature_mask=torch.from_numpy(SEGMENTS)[None, None],
        n_samples=len(shown),
        perturbations_per_eval=20,
        return_input_shape=False,
    )
    assert np.allclose(coefficients.flatten(), weights(explanation, label), atol=1e-6)


def test_the_examples_of_the_documentation():
    text = (Path(__file__).parents[2] / "docs" / "lime.md").read_text()
    names = {}
    for block in re.findall(r"^```python\n(.*?)^```", text.partition("## The shap package")[0], re.M | re.S):
        exec(block, names)
    assert names["fast"].local_exp.keys() == names["explanation"].local_exp.keys()
    assert np.allclose(names["coefficients"], names["same"], atol=1e-6)
