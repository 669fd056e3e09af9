"""The shap package: segments are removed, and the values are those of the game that this defines."""

import importlib
import itertools
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from support import SmallVGG, redraw

from captum_layermask import MISSING, InputError, LayerMaskedForward, LayerMaskError
from captum_layermask.explain.segments import grid
from captum_layermask.integrations.image_classifier import ImageClassifier

shap = pytest.importorskip("shap")
from captum_layermask.integrations.shap import SegmentMasker  # noqa: E402


@pytest.fixture(scope="module")
def classifier():
    return ImageClassifier(LayerMaskedForward(redraw(SmallVGG())))


@pytest.fixture
def images():
    return np.random.default_rng(0).random((2, 32, 48, 3))


@pytest.fixture
def segments(images):
    """Six squares, in reading order."""
    return grid(torch.from_numpy(images[0]).permute(2, 0, 1), size=16)


def game(classifier, image, segments):
    """Coalition (a set of segment ids) → probabilities, without shap and without the masker."""
    ids = segments[0, 0].numpy()
    players = range(ids.max() + 1)
    coalitions = [
        frozenset(c) for size in range(len(players) + 1) for c in itertools.combinations(players, size)
    ]
    shown = np.stack([np.isin(ids, list(coalition)) for coalition in coalitions])
    outputs = classifier(np.where(shown[..., None], image, MISSING))
    return dict(zip(coalitions, outputs, strict=True)), players


def shapley(worth, players):
    n = len(players)
    values = []
    for i in players:
        terms = [
            math.factorial(len(c)) * math.factorial(n - 1 - len(c)) / math.factorial(n) * (worth[c | {i}] - v)
            for c, v in worth.items()
            if i not in c
        ]
        values.append(sum(terms))
    return np.stack(values)


def test_removed_segments_are_missing_in_all_channels_and_the_rest_is_untouched(images, segments):
    masker = SegmentMasker(segments)
    image = images[0].astype(np.float32)
    (masked,) = masker(np.array([True, False, True, True, True, True]), image)
    assert masked.shape == (1, 32, 48, 3) and masked.dtype == np.float32
    assert (masked[0, :16, 16:32] == MISSING).all()
    masked[0, :16, 16:32] = image[:16, 16:32]
    assert np.array_equal(masked[0], image)
    assert (masker(False, image)[0] == MISSING).all() and np.array_equal(masker(True, image)[0][0], image)


@pytest.mark.parametrize(
    ("algorithm", "clustered"),
    [("exact", False), ("permutation", True), ("permutation", False), ("partition", True)],
)
def test_values_add_up_to_the_prediction(classifier, images, segments, algorithm, clustered):
    masker = SegmentMasker(segments, clustered=clustered)
    explanation = shap.Explainer(classifier, masker, algorithm=algorithm)(images, silent=True)
    assert explanation.values.shape == (2, 6, 10)
    assert np.abs(explanation.values).max() > 1e-3
    total = explanation.base_values + explanation.values.sum(1)
    assert np.allclose(total, classifier(images), atol=1e-4)
    nothing = classifier(np.full_like(images, MISSING))
    assert np.allclose(explanation.base_values, nothing, atol=1e-6)


def test_the_exact_explainer_gives_shapley_values(classifier, images, segments):
    explainer = shap.Explainer(classifier, SegmentMasker(segments, clustered=False), algorithm="exact")
    expected = shapley(*game(classifier, images[0], segments))
    assert np.allclose(explainer(images[:1], silent=True).values[0], expected, atol=1e-6)


def test_permutations_come_near_the_shapley_values(classifier, images, segments):
    masker = SegmentMasker(segments, clustered=False)
    explainer = shap.explainers.Permutation(classifier, masker, seed=0)
    expected = shapley(*game(classifier, images[0], segments))
    values = explainer(images[:1], max_evals=13 * 100, silent=True).values[0]
    assert np.corrcoef(values.ravel(), expected.ravel())[0, 1] > 0.98


def test_the_partition_explainer_gives_the_owen_values_of_its_tree(classifier, images):
    """Four squares; the upper two are a group, and so are the lower two."""
    quarters, image = grid(torch.zeros(3, 32, 32), size=16), images[0, :, :32]
    worth, players = game(classifier, image, quarters)
    groups = [frozenset({0, 1}), frozenset({2, 3})]
    expected = []
    for i in players:
        mine, other = sorted(groups, key=lambda group: i not in group)
        contexts = [a | b for a in (frozenset(), mine - {i}) for b in (frozenset(), other)]
        expected.append(sum(worth[c | {i}] - worth[c] for c in contexts) / 4)
    explanation = shap.PartitionExplainer(classifier, SegmentMasker(quarters))(image[None], silent=True)
    assert np.allclose(explanation.values[0], expected, atol=1e-6)
    assert not np.allclose(expected, shapley(worth, players), atol=1e-5)


def test_by_default_shap_takes_the_partition_explainer(classifier, segments):
    assert type(shap.Explainer(classifier, SegmentMasker(segments))) is shap.PartitionExplainer
    loose = shap.Explainer(classifier, SegmentMasker(segments, clustered=False))
    assert type(loose) is shap.PermutationExplainer


def test_the_tree_halves_the_longer_side_again_and_again():
    hierarchy = pytest.importorskip("scipy.cluster.hierarchy")
    tree = SegmentMasker.of_pixels(2, 4).clustering
    assert hierarchy.is_valid_linkage(tree)
    leaves = {frozenset(node.pre_order()) for node in hierarchy.to_tree(tree, rd=True)[1]}
    assert {frozenset({0, 1, 4, 5}), frozenset({2, 3, 6, 7}), frozenset({0, 1})} <= leaves


def test_whole_pixels_can_be_features(classifier, images):
    masker = SegmentMasker.of_pixels(8, 12)
    explanation = shap.Explainer(classifier, masker)(images[:1, 8:16, 8:20], max_evals=40, silent=True)
    assert explanation.values.shape == (1, 96, 10)
    total = explanation.base_values + explanation.values.sum(1)
    assert np.allclose(total, classifier(images[:1, 8:16, 8:20]), atol=1e-4)
    pixels = masker.to_pixels(explanation.values)
    assert pixels.shape == (1, 8, 12, 10)
    assert np.array_equal(pixels[0, 2, 3], explanation.values[0, 2 * 12 + 3])


def test_the_values_of_pixels_lie_on_their_segment(segments):
    values = np.arange(24.0).reshape(2, 6, 2)
    pixels = SegmentMasker(segments).to_pixels(values)
    assert pixels.shape == (2, 32, 48, 2)
    assert (pixels[1, 16:, 32:] == values[1, 5]).all()
    with pytest.raises(InputError, match="N×6×"):
        SegmentMasker(segments).to_pixels(values[0])


def test_shaps_own_plots_name_segments(classifier, images, segments):
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("agg")
    explanation = shap.Explainer(classifier, SegmentMasker(segments))(images, silent=True)
    one = explanation[0, :, 3]
    assert one.feature_names == [f"segment {i}" for i in range(6)]
    assert np.isclose(one.data[5], images[0, 16:, 32:].mean())
    shap.plots.waterfall(one, show=False)
    pixels = SegmentMasker(segments).to_pixels(explanation.values[..., 3])
    shap.image_plot(pixels[..., None], images, show=False)
    plt.close("all")


def test_the_examples_of_the_documentation():
    pytest.importorskip("matplotlib.pyplot").switch_backend("agg")
    text = (Path(__file__).parents[2] / "docs" / "lime.md").read_text()
    names = {}
    for block in re.findall(r"^```python\n(.*?)^```", text, re.M | re.S):
        exec(block, names)
    assert names["values"].values.shape == (1, 16, 4)


def test_integer_images_are_refused(classifier, images, segments):
    explainer = shap.Explainer(classifier, SegmentMasker(segments))
    with pytest.raises(InputError, match="must be floating point, not uint8"):
        explainer((images * 255).astype(np.uint8), silent=True)
    with pytest.raises(InputError, match="must be floating point, not int64"):
        SegmentMasker(segments)(True, images[0].astype(np.int64))


def test_images_of_another_size_are_refused(images, segments):
    with pytest.raises(InputError, match="32×48×C"):
        SegmentMasker(segments)(True, images[0, :, :32])


@pytest.mark.parametrize(
    "segments", [np.ones((4, 4), int), np.array([[0, 2]]), np.zeros((4, 4)), np.zeros((2, 4, 4), int)]
)
def test_segments_need_ids_without_gaps_in_two_dimensions(segments):
    with pytest.raises(InputError, match="segment"):
        SegmentMasker(segments)


def test_without_shap_one_sentence_says_what_to_install(monkeypatch):
    for name in [*sys.modules]:
        if name.split(".")[0] == "shap":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "shap", None)
    monkeypatch.delitem(sys.modules, "captum_layermask.integrations.shap")
    with pytest.raises(ImportError, match=r"pip install 'captum-layermask\[shap\]'") as caught:
        importlib.import_module("captum_layermask.integrations.shap")
    assert isinstance(caught.value, LayerMaskError)
