"""A map of too few samples is warned of, and every map of samples tells how far two halves of them agree."""

import warnings

import numpy as np
import pytest
import torch
from captum.attr import KernelShap, Lime, ShapleyValueSampling
from scipy.stats import spearmanr
from sklearn.linear_model import LinearRegression, Ridge
from support import small_classifier

from captum_layermask import MISSING, REMOVALS, Colors, FewSamplesWarning, LayerMaskedForward, make_forward
from captum_layermask.explain.comparison import compare
from captum_layermask.explain.explanation import explain
from captum_layermask.explain.sampling import rank_correlation
from captum_layermask.explain.segments import grid
from captum_layermask.integrations.image_classifier import ImageClassifier
from captum_layermask.integrations.lime import FastLimeImageExplainer

CLASS_NAMES = ("ant", "bee", "cat", "dog")
COLORS = Colors([0.5] * 3, [0.5] * 3, normalized=False)
PIXELS = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(5)) + 0.1
SEGMENTS = grid(PIXELS, 8)  # 9 of them
ARRAY = PIXELS[0].permute(1, 2, 0).numpy()
FITTED = {"lime": Lime, "kernel-shap": KernelShap}


@pytest.fixture
def forward():
    return LayerMaskedForward(small_classifier(4))


def explained(forward, method, n_samples, **options):
    options = {"class_names": CLASS_NAMES, "method": method, "n_samples": n_samples} | options
    return explain(forward, PIXELS, SEGMENTS, **options)


def by_captum(method, forward, n_samples, images=PIXELS, **options):
    options = {"baselines": MISSING, "target": 1, "feature_mask": SEGMENTS} | options
    return method(forward).attribute(images, n_samples=n_samples, **options)


def by_lime(explainer, forward, n_samples):
    return explainer.explain_instance(
        ARRAY,
        ImageClassifier(forward),
        hide_color=MISSING,
        num_samples=n_samples,
        segmentation_fn=lambda _: SEGMENTS[0, 0].numpy(),
    )


CALLS = {
    "explain, lime": lambda f, n: explained(f, "lime", n),
    "explain, kernel-shap": lambda f, n: explained(f, "kernel-shap", n, perturbations_per_eval=1),
    "explain, a function": lambda f, n: explained(lambda x: f.model(x), "lime", n),
    "Lime": lambda f, n: by_captum(Lime, f, n),
    "KernelShap": lambda f, n: by_captum(KernelShap, f, n, perturbations_per_eval=100),
    "a function of a forward": lambda f, n: by_captum(Lime, lambda x: f(x), n),
    "no segments": lambda f, n: by_captum(
        Lime, LayerMaskedForward(torch.nn.Flatten()), n, PIXELS[:, :1, :3, :3], feature_mask=None
    ),
    "fast lime": lambda f, n: by_lime(FastLimeImageExplainer(random_state=0), f, n),
}


def warned(function, *args):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        function(*args)
    return [str(warning.message) for warning in caught if warning.category is FewSamplesWarning]


@pytest.mark.parametrize("call", CALLS)
def test_fewer_than_two_samples_for_each_segment_are_warned_of_once(forward, call):
    (message,) = warned(CALLS[call], forward, 17)
    assert message.startswith("17 samples for 9 segments") and "at least 18 samples" in message
    assert len(warned(CALLS[call], forward, 17)) == 1  # a forward does not fall silent
    assert not warned(CALLS[call], forward, 18)


@pytest.mark.parametrize("removal", [removal for removal in REMOVALS if removal != "drop-tokens"])
def test_every_removal_warns(removal):
    model = small_classifier(4)
    forward = make_forward(removal, model, colors=COLORS, reference=PIXELS, segments=SEGMENTS)
    assert len(warned(by_captum, Lime, forward, 10)) == 1


def test_methods_that_do_not_fit_a_model_need_no_such_number(forward):
    assert not warned(explained, forward, "shapley-sampling", 2)
    assert not warned(by_captum, ShapleyValueSampling, forward, 2)
    assert not warned(explained, forward, "feature-ablation", None)
    assert not warned(explained, forward, "occlusion", None)


def test_compare_warns_too():
    options = {"class_names": CLASS_NAMES, "removals": ["layer", "neighbor"], "n_samples": 17}
    with pytest.warns(FewSamplesWarning, match="17 samples for 9 segments"):
        compare(small_classifier(4), PIXELS, SEGMENTS, **options)


@pytest.mark.parametrize(("method", "n_samples"), [("lime", 60), ("lime", 61), ("kernel-shap", 60)])
def test_stability_is_the_rank_correlation_of_models_of_half_of_the_samples(forward, method, n_samples):
    result = explained(forward, method, n_samples, target=2, seed=3)
    seen = []

    def watched(x):
        seen.append(x)
        return forward(x).softmax(1)

    torch.manual_seed(3)
    FITTED[method](watched).attribute(
        PIXELS, baselines=MISSING, target=2, feature_mask=SEGMENTS, n_samples=n_samples
    )
    images = torch.cat(seen)
    shown = (images != MISSING).all(1)[:, ::8, ::8].flatten(1).double()
    outputs = forward(images).softmax(1)[:, 2].detach().double()
    whole_or_empty = torch.tensor([int(row.sum()) in (0, 9) for row in shown])
    fits = []
    for start in (0, 1):
        half = whole_or_empty | (torch.arange(n_samples) % 2 == start)
        if method == "lime":
            distances = 1 - torch.cosine_similarity(PIXELS.flatten(1), images[half].flatten(1))
            model, weights = Ridge(alpha=1.0), torch.exp(-(distances**2) / 2)
        else:
            model, weights = LinearRegression(), torch.where(whole_or_empty, 1e6, 1.0)[half]
        fits.append(model.fit(shown[half], outputs[half], sample_weight=weights).coef_)
    assert result.stability == pytest.approx(float(spearmanr(*fits).statistic), abs=0.02)
    assert -1 <= result.stability < 0.999


@pytest.mark.parametrize("n_samples", [2, 5])
def test_shapley_values_are_those_of_one_call_and_their_halves_are_compared(forward, n_samples):
    result = explained(forward, "shapley-sampling", n_samples, target=2, seed=3)

    def probability(x):
        return forward(x).softmax(1)

    torch.manual_seed(3)
    whole = by_captum(ShapleyValueSampling, probability, n_samples, target=2)
    torch.manual_seed(3)
    halves = [
        by_captum(ShapleyValueSampling, probability, n, target=2)
        for n in (n_samples - n_samples // 2, n_samples // 2)
    ]
    torch.testing.assert_close(result.attributions, whole[:, :1].detach())
    a, b = (half[0, 0, ::8, ::8].flatten().detach() for half in halves)
    assert result.stability == pytest.approx(float(spearmanr(a, b).statistic), abs=1e-6)


def linear(x):
    """Logits that add up over segments, each of its own weight."""
    shown = (x != MISSING).all(1)[:, ::8, ::8].flatten(1).float()
    score = shown @ torch.linspace(-0.2, 0.2, 9)
    return torch.stack([score, -score], dim=1)


def noise(x):
    """Logits that have nothing to do with the segments, but are those of the same image every time."""
    shown = (x != MISSING).all(1)[:, ::8, ::8].flatten(1).double()
    score = (shown @ torch.arange(9.0, 18.0).double().exp().sin() * 1e6).sin()
    return torch.stack([score, -score], dim=1).float()


@pytest.mark.parametrize(
    ("method", "n_samples"), [("lime", 300), ("kernel-shap", 300), ("shapley-sampling", 20)]
)
def test_a_map_of_the_image_is_stable_and_one_of_the_samples_is_not(method, n_samples):
    options = {"class_names": ("yes", "no"), "target": 0}
    assert explained(linear, method, n_samples, **options).stability > 0.95
    of_noise = [explained(noise, method, 18, seed=seed, **options).stability for seed in range(8)]
    assert np.mean(of_noise) < 0.5


def test_where_there_is_nothing_to_compare_there_is_no_stability(forward):
    assert explained(forward, "feature-ablation", None).stability is None
    assert explained(forward, "occlusion", None).stability is None
    with pytest.warns(FewSamplesWarning):
        assert explained(forward, "lime", 1).stability is None
    assert explained(forward, "shapley-sampling", 1).stability is None
    alike = explained(lambda x: x.new_zeros(len(x), 4), "lime", 40)
    assert alike.stability is None


@pytest.mark.parametrize("count", [1, 2, 5])
def test_rank_correlation(count):
    a = torch.arange(float(count))
    expected = None if count == 1 else pytest.approx(1)
    assert rank_correlation(a, a.exp()) == expected
    assert rank_correlation(a, torch.ones(count)) is None
