"""Explanations: Captum's methods, over probabilities, per segment."""

import re

import pytest
import torch
from captum._utils.models.linear_model import SkLearnRidge
from captum.attr import KernelShap, Lime, ShapleyValueSampling
from support import small_classifier

from captum_layermask import MISSING, LayerMaskedForward
from captum_layermask.errors import InputError, UnknownNameError
from captum_layermask.explain.explanation import METHODS, explain, predict
from captum_layermask.explain.segments import grid
from captum_layermask.names import ESTIMATORS

CLASS_NAMES = ("ant", "bee", "cat", "dog", "eel", "fox")
OF_CAPTUM = [method for method in METHODS if method not in ESTIMATORS]
SEGMENT_METHODS = [method for method in METHODS if method != "occlusion"]
SAMPLES = {"lime": 40, "kernel-shap": 40, "shapley-sampling": 3}


@pytest.fixture
def forward():
    return LayerMaskedForward(small_classifier(len(CLASS_NAMES)))


@pytest.fixture
def pixels():
    return torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(5))


@pytest.fixture
def segments(pixels):
    return grid(pixels, size=8)


def run(forward, pixels, segments, method, **options):
    options = {"class_names": CLASS_NAMES, "n_samples": SAMPLES.get(method)} | options
    return explain(forward, pixels, segments, method=method, **options)


def evidence(x):
    """Logits of a class that segment 4 supports and segment 2 speaks against, of 3×3 segments."""
    seen = (x != MISSING).all(1).float()
    score = 2 * seen[:, 8:16, 8:16].mean((1, 2)) - 2 * seen[:, :8, 16:].mean((1, 2))
    return torch.stack([score, torch.zeros_like(score)], dim=1)


@pytest.mark.parametrize("method", METHODS)
def test_what_supports_the_class_is_positive_and_what_speaks_against_it_negative(pixels, segments, method):
    result = run(evidence, pixels, segments, method, class_names=("yes", "no"), target=0)
    scores = result.segment_attributions()
    assert scores.argmax() == 4
    assert scores.argmin() == 2
    assert scores[4] > 0.02
    assert scores[2] < -0.02


def test_feature_ablation_is_the_drop_in_probability(forward, pixels, segments):
    result = run(forward, pixels, segments, "feature-ablation", target=2)
    whole = predict(forward, pixels)[0, 2]
    for i, score in enumerate(result.segment_attributions()):
        without = predict(lambda x, i=i: forward(x, mask=segments != i), pixels)[0, 2]
        assert float(score) == pytest.approx(float(whole - without), abs=1e-6)
        assert result.attributions[segments == i].unique().numel() == 1


def test_occlusion_averages_the_drops_of_all_windows_over_a_pixel(forward, pixels, segments):
    result = run(forward, pixels, segments, "occlusion", target=1)
    whole = predict(forward, pixels)[0, 1]
    total, windows = torch.zeros(24, 24), torch.zeros(24, 24)
    for top in range(0, 17, 4):
        for left in range(0, 17, 4):
            mask = torch.ones(24, 24)
            mask[top : top + 8, left : left + 8] = 0
            without = predict(lambda x, mask=mask: forward(x, mask=mask), pixels)[0, 1]
            total += (1 - mask) * (whole - without)
            windows += 1 - mask
    torch.testing.assert_close(result.attributions[0, 0], (total / windows).detach(), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("method", "attribution"),
    [
        ("lime", lambda f: Lime(f, interpretable_model=SkLearnRidge(alpha=1.0))),
        ("kernel-shap", KernelShap),
        ("shapley-sampling", ShapleyValueSampling),
    ],
)
def test_sampling_methods_are_captums_own_over_the_probability(
    forward, pixels, segments, method, attribution
):
    result = run(forward, pixels, segments, method, target=3, seed=11)
    torch.manual_seed(11)
    expected = attribution(lambda x: forward(x).softmax(1)).attribute(
        pixels,
        baselines=MISSING,
        target=3,
        feature_mask=segments,
        n_samples=SAMPLES[method],
        perturbations_per_eval=16,
    )
    assert result.attributions.shape == (1, 1, 24, 24)
    torch.testing.assert_close(result.attributions.expand(1, 3, 24, 24), expected.detach())


@pytest.mark.parametrize("method", ["kernel-shap", "shapley-sampling"])
def test_shapley_values_add_up_to_the_whole(forward, pixels, segments, method):
    result = run(forward, pixels, segments, method, target=0)
    empty = predict(forward, torch.full_like(pixels, MISSING))[0, 0]
    total = float(result.segment_attributions().sum())
    assert total == pytest.approx(result.probability - float(empty), abs=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_perturbations_per_eval_is_the_batch_size_and_changes_no_value(forward, pixels, segments, method):
    batches = []

    def spy(x):
        assert not torch.is_grad_enabled()
        batches.append(len(x))
        return forward(x)

    one = run(forward, pixels, segments, method, perturbations_per_eval=1).attributions
    many = run(spy, pixels, segments, method, perturbations_per_eval=7).attributions
    assert max(batches) == 7
    torch.testing.assert_close(one, many, atol=1e-5, rtol=1e-4)
    assert one.abs().max() > 1e-3


def test_the_seed_decides_and_the_global_random_state_stays(forward, pixels, segments):
    state = torch.get_rng_state()
    first, again, other = (
        run(forward, pixels, segments, "lime", seed=seed).attributions for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(state, torch.get_rng_state())


def test_the_likeliest_class_is_explained_by_default(forward, pixels, segments):
    result = run(forward, pixels, segments, "feature-ablation")
    probabilities = predict(forward, pixels)[0]
    order = probabilities.argsort(descending=True)[:5]
    assert result.target == order[0]
    assert result.label == CLASS_NAMES[result.target]
    assert result.probability == pytest.approx(float(probabilities.max()))
    assert [name for name, _ in result.top5] == [CLASS_NAMES[i] for i in order]
    assert [p for _, p in result.top5] == pytest.approx(probabilities[order].tolist())
    chosen = run(forward, pixels, segments, "feature-ablation", target=int(order[1]))
    assert chosen.label == CLASS_NAMES[order[1]]
    assert chosen.probability == pytest.approx(float(probabilities[order[1]]))


def test_another_baseline_can_be_compared(pixels, segments):
    def brightness(x):
        return torch.stack([x.mean((1, 2, 3)), torch.zeros(len(x))], dim=1)

    options = {"class_names": ("bright", "dark"), "target": 0}
    white, black = (
        run(brightness, pixels, segments, "feature-ablation", baselines=b, **options) for b in (1.0, 0.0)
    )
    assert (white.attributions < 0).all()
    assert (black.attributions > 0).all()


def test_the_progress_bar_is_shown_on_request(forward, pixels, segments, capsys):
    run(forward, pixels, segments, "lime")
    assert "%" not in capsys.readouterr().err
    run(forward, pixels, segments, "lime", show_progress=True)
    assert "100%" in capsys.readouterr().err


@pytest.mark.parametrize("perturbations_per_eval", [1, 4, 100])
@pytest.mark.parametrize("method", OF_CAPTUM)
def test_the_progress_bar_ends_where_it_said(
    forward, pixels, segments, method, perturbations_per_eval, capsys
):
    options = {"perturbations_per_eval": perturbations_per_eval, "show_progress": True}
    run(forward, pixels, segments, method, **options)
    bar = capsys.readouterr().err
    seen = re.findall(r" (\d+)/(\d+) ", bar)
    done, total = map(int, seen[-1])
    assert done == total
    assert {whole for _, whole in seen} == {str(total)}


def test_segment_attributions_are_means_over_segments(forward, pixels, segments):
    result = run(forward, pixels, segments, "occlusion")
    for i, score in enumerate(result.segment_attributions()):
        assert score == pytest.approx(float(result.attributions[segments == i].mean()), abs=1e-6)


@pytest.mark.parametrize(
    ("side", "size"), [(6, (24, 24)), (5, (24, 24)), (7, (23, 31)), (1, (3, 5)), (9, (9, 9))]
)
def test_occlusion_has_one_value_in_each_of_its_squares(forward, side, size):
    pixels = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(2))
    result = run(forward, pixels, grid(pixels, size=side), "occlusion")
    regions = result.regions()
    assert regions.unique().tolist() == list(range(int(regions.max()) + 1))
    for i, score in enumerate(result.region_attributions()):
        inside = result.attributions[regions == i]
        assert float(inside.max() - inside.min()) < 1e-6
        assert float(score) == pytest.approx(float(inside[0]), abs=1e-6)


@pytest.mark.parametrize("method", SEGMENT_METHODS)
def test_the_regions_of_other_methods_are_the_segments(forward, pixels, segments, method):
    result = run(forward, pixels, segments, method)
    assert torch.equal(result.regions(), segments)
    assert torch.equal(result.region_attributions(), result.segment_attributions())


def test_an_unknown_method_offers_near_matches(forward, pixels, segments):
    with pytest.raises(UnknownNameError, match="'kernel-shap'"):
        run(forward, pixels, segments, "kernelshap")


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"method": "lime", "n_samples": 0}, "number of samples is 0"),
        ({"method": "occlusion", "n_samples": 10}, "occlusion draws no samples"),
        ({"method": "feature-ablation", "n_samples": 10}, "feature-ablation draws no samples"),
        ({"method": "lime", "perturbations_per_eval": 0}, "perturbations per evaluation is 0"),
        ({"method": "lime", "seed": 2**64}, "the seed is 18446744073709551616; give"),
        ({"method": "lime", "target": 6}, "there is no class 6"),
        ({"method": "lime", "target": -1}, "there is no class -1"),
        ({"method": "lime", "class_names": CLASS_NAMES[:4]}, "6 classes but 4 names"),
    ],
)
def test_options_that_make_no_sense_are_errors(forward, pixels, segments, options, what):
    with pytest.raises(InputError, match=what):
        run(forward, pixels, segments, **options)


def test_shapes_that_do_not_fit_are_errors(forward, pixels, segments):
    with pytest.raises(InputError, match="give one image"):
        run(forward, pixels.expand(2, -1, -1, -1), segments, "lime")
    with pytest.raises(InputError, match="segments are"):
        run(forward, pixels, segments[..., :-1], "lime")
    with pytest.raises(InputError, match="segments are"):
        run(forward, pixels, segments.float(), "lime")
    with pytest.raises(InputError, match="without gaps"):
        run(forward, pixels, segments * 2, "lime")
    with pytest.raises(InputError, match="logits are needed"):
        run(lambda x: x, pixels, segments, "lime")
