"""What makes probabilities of outputs: never softmax of a single number, nor of probabilities."""

import numpy as np
import pytest
import torch
from lime.lime_image import LimeImageExplainer
from support import small_classifier
from torch import nn

from captum_layermask import MISSING, InputError, LayerMaskedForward, UnknownNameError
from captum_layermask.explain.comparison import compare
from captum_layermask.explain.explanation import METHODS, explain, predict
from captum_layermask.explain.segments import grid
from captum_layermask.integrations.image_classifier import ImageClassifier
from captum_layermask.integrations.lime import FastLimeImageExplainer

PIXELS = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(5))
ARRAY = PIXELS[0].permute(1, 2, 0).numpy()
SEGMENTS = grid(PIXELS, 8)
ONE = {"class_names": ["yes"], "activation": "sigmoid"}


@pytest.fixture
def single():
    return LayerMaskedForward(small_classifier(1))


def lime(explainer, classifier):
    return explainer.explain_instance(
        ARRAY,
        classifier,
        hide_color=MISSING,
        labels=(0,),
        top_labels=None,
        num_samples=30,
        segmentation_fn=lambda _: SEGMENTS[0, 0].numpy(),
    )


def of_shap(classifier):
    shap = pytest.importorskip("shap")
    from captum_layermask.integrations.shap import SegmentMasker

    masker = SegmentMasker(SEGMENTS, clustered=False)
    return shap.Explainer(classifier, masker, algorithm="exact")(ARRAY[None])


CALLS = {
    "predict": lambda f: predict(f, PIXELS),
    "explain": lambda f: explain(f, PIXELS, SEGMENTS, class_names=["yes"]),
    "compare": lambda f: compare(
        f.model, PIXELS, SEGMENTS, class_names=["yes"], removals=["layer"], classes=1
    ),
    "classifier": lambda f: ImageClassifier(f)(ARRAY[None]),
    "lime": lambda f: lime(LimeImageExplainer(), ImageClassifier(f)),
    "fast lime": lambda f: lime(FastLimeImageExplainer(), ImageClassifier(f)),
    "shap": lambda f: of_shap(ImageClassifier(f)),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_single_number_is_never_softmaxed(single, call):
    with pytest.raises(InputError, match=r"softmax is always 1; .* activation='sigmoid'"):
        CALLS[call](single)


@pytest.mark.parametrize("method", METHODS)
def test_the_logit_of_yes_or_no_is_explained_as_two_classes_are(single, method):
    def both(x):
        yes = single(x)
        return torch.cat([torch.zeros_like(yes), yes], dim=1)

    got = explain(single, PIXELS, SEGMENTS, method=method, **ONE)
    expected = explain(both, PIXELS, SEGMENTS, method=method, class_names=["no", "yes"], target=1)
    assert got.probability == pytest.approx(expected.probability)
    assert got.top5 == (("yes", got.probability),)
    assert got.attributions.abs().max() > 1e-4
    torch.testing.assert_close(got.attributions, expected.attributions, rtol=1e-4, atol=1e-6)


def test_several_labels_do_not_compete():
    model = small_classifier(3)
    shifted = nn.Sequential(model, nn.Linear(3, 3))
    with torch.no_grad():
        shifted[1].weight.copy_(torch.eye(3))
        shifted[1].bias.copy_(torch.tensor([0.0, 50.0, -50.0]))
    options = {"class_names": "abc", "activation": "sigmoid", "method": "feature-ablation", "target": 0}
    alone, beside = (
        explain(LayerMaskedForward(m), PIXELS, SEGMENTS, **options).attributions for m in (model, shifted)
    )
    torch.testing.assert_close(alone, beside)
    assert alone.abs().max() > 1e-4


def test_lime_shap_and_compare_take_the_logit_of_yes_or_no(single):
    classifier = ImageClassifier(single, activation="sigmoid")
    assert np.allclose(classifier(ARRAY[None]), torch.sigmoid(single(PIXELS)).detach(), atol=1e-6)
    for explainer in (LimeImageExplainer(), FastLimeImageExplainer()):
        weights = [abs(weight) for _, weight in lime(explainer, classifier).local_exp[0]]
        assert max(weights) > 1e-4
    assert np.abs(of_shap(classifier).values).max() > 1e-4
    result = compare(single.model, PIXELS, SEGMENTS, removals=["layer"], classes=1, **ONE)
    assert result.rows[0].original.probability == pytest.approx(float(torch.sigmoid(single(PIXELS).detach())))


def test_probabilities_are_not_softmaxed_again():
    network = nn.Sequential(small_classifier(4), nn.Softmax(dim=1))
    forward = LayerMaskedForward(network)
    with pytest.raises(InputError, match=r"returned probabilities .*\.log\(\)"):
        predict(forward, PIXELS)
    torch.testing.assert_close(predict(lambda x: forward(x).log(), PIXELS), forward(PIXELS).detach())


def test_an_unknown_activation_is_named():
    with pytest.raises(UnknownNameError, match="did you mean 'sigmoid'"):
        predict(small_classifier(4), PIXELS, "sigmod")
