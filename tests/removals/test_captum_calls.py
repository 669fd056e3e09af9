"""Forgotten baselines are noticed, and methods that mix MISSING with something are refused."""

import warnings

import captum.attr
import pytest
import torch
from captum.attr import (
    DeepLift,
    FeatureAblation,
    GradientShap,
    IntegratedGradients,
    KernelShap,
    LayerFeatureAblation,
    LayerIntegratedGradients,
    Lime,
    NoiseTunnel,
    Occlusion,
    Saliency,
    ShapleyValueSampling,
)
from support import small_classifier
from torch import nn

from captum_layermask import MISSING, InputError, LayerMaskedForward, NothingMissingWarning, make_forward
from captum_layermask.explain.segments import grid
from captum_layermask.removals.colors import Colors

IMAGES = torch.rand(3, 3, 24, 24, generator=torch.Generator().manual_seed(0)) + 0.1
IMAGE = IMAGES[:1]
SEGMENTS = grid(IMAGE, 8)


@pytest.fixture
def forward():
    return LayerMaskedForward(small_classifier(4))


def attribute(method, forward, images=IMAGE, **options):
    options = {"target": 1, "perturbations_per_eval": 1} | options
    if method is Occlusion:
        options |= {"sliding_window_shapes": (3, 8, 8), "strides": (3, 8, 8)}
    else:
        options["feature_mask"] = SEGMENTS
    if method in (Lime, KernelShap):
        options["n_samples"] = 24
    return method(forward).attribute(images, **options)


def warned(function):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        function()
    return [str(w.message) for w in caught if w.category is NothingMissingWarning]


METHODS = [FeatureAblation, Occlusion, Lime, KernelShap, ShapleyValueSampling]


@pytest.mark.parametrize("per_eval", [1, 8, 500])
@pytest.mark.parametrize("method", METHODS)
def test_a_forgotten_baseline_is_noticed_however_many_images_go_in_a_call(forward, method, per_eval):
    if method is ShapleyValueSampling and per_eval > 9:
        per_eval = 9  # as many as it has segments
    (message,) = warned(lambda: attribute(method, forward, perturbations_per_eval=per_eval))
    assert f"for {method.__name__}" in message and "baselines=MISSING" in message


def test_also_after_one_that_was_not_forgotten_and_by_every_removal(forward):
    attribute(FeatureAblation, forward, baselines=MISSING)
    assert warned(lambda: attribute(FeatureAblation, forward))
    grey = make_forward("grey", small_classifier(4), colors=Colors([0.5] * 3, [0.5] * 3, normalized=False))
    assert warned(lambda: attribute(Lime, grey))


def test_missing_that_is_lost_on_the_way_is_noticed(forward):
    def dimmed(x):
        return forward(x * 0.5)

    assert warned(lambda: attribute(Lime, dimmed, baselines=MISSING))


@pytest.mark.parametrize("images", [IMAGE, IMAGES, IMAGES.repeat(11, 1, 1, 1)], ids=len)
@pytest.mark.parametrize("per_eval", [1, 4])
def test_what_is_not_forgotten_is_no_reason_to_warn(forward, images, per_eval):
    for method in METHODS if len(images) == 1 else [FeatureAblation, Occlusion]:
        for _ in range(2):
            assert not warned(
                lambda method=method: attribute(
                    method, forward, images, baselines=MISSING, perturbations_per_eval=per_eval
                )
            )


def test_methods_that_hide_nothing_of_an_image_are_no_reason_to_warn(forward):
    assert not warned(lambda: [Saliency(forward).attribute(IMAGES, target=1) for _ in range(5)])
    wide = nn.Sequential(LayerMaskedForward(forward.model), nn.Linear(4, 9))
    assert not warned(lambda: LayerFeatureAblation(wide, wide[1]).attribute(IMAGES[:1], target=1))


LINEAR = {"baselines": MISSING, "target": 1, "n_steps": 4}


@pytest.mark.parametrize(
    "mixed",
    [
        lambda f: IntegratedGradients(f).attribute(IMAGE, **LINEAR),
        lambda f: IntegratedGradients(f).attribute(IMAGE, **LINEAR, method="riemann_trapezoid"),
        lambda f: IntegratedGradients(f).attribute(IMAGE, **LINEAR | {"baselines": IMAGE * 0 + MISSING}),
        lambda f: IntegratedGradients(f).attribute(
            torch.where(SEGMENTS == 4, MISSING, IMAGE), target=1, n_steps=4
        ),
        lambda f: IntegratedGradients(lambda x: f(x)).attribute(IMAGE, **LINEAR, internal_batch_size=2),
        lambda f: GradientShap(f).attribute(IMAGE, baselines=IMAGES * 0 + MISSING, target=1),
        lambda f: GradientShap(f).attribute(IMAGE, baselines=lambda: IMAGES * 0 + MISSING, target=1),
        lambda f: NoiseTunnel(IntegratedGradients(f)).attribute(IMAGE, nt_samples=2, **LINEAR),
        lambda f: NoiseTunnel(Saliency(f)).attribute(
            torch.where(SEGMENTS == 4, MISSING, IMAGE), nt_samples=2, target=1
        ),
        lambda f: LayerIntegratedGradients(f, f.model[0]).attribute(IMAGE, **LINEAR),
        lambda f: DeepLift(f).attribute(IMAGE, baselines=MISSING, target=1),
    ],
)
def test_methods_that_mix_missing_with_something_are_refused(forward, mixed):
    with pytest.raises(InputError, match=r"mixes MISSING|requires gradients"):
        mixed(forward)


def test_a_colour_may_be_mixed(forward):
    got = IntegratedGradients(forward).attribute(IMAGE, baselines=0.5, target=1, n_steps=4)
    plain = IntegratedGradients(forward.model).attribute(IMAGE, baselines=0.5, target=1, n_steps=4)
    torch.testing.assert_close(got, plain)


def test_noise_around_a_perturbation_method_mixes_nothing_missing(forward):
    torch.manual_seed(0)
    got = NoiseTunnel(FeatureAblation(forward)).attribute(
        IMAGE, nt_samples=2, baselines=MISSING, target=1, feature_mask=SEGMENTS
    )
    assert got.abs().max() > 0


def test_captum_still_has_what_is_looked_for():
    for name in ("Attribution", "PerturbationAttribution", "GradientAttribution", "LayerAttribution"):
        assert hasattr(captum.attr, name)
