"""Removals that fill missing pixels, each against the same picture made by hand."""

import math

import numpy as np
import pytest
import torch
import transcription
from scipy import ndimage
from support import SmallVGG, mask_families, redraw
from torch import nn

from captum_layermask import MISSING, InputError, UnknownNameError
from captum_layermask.removals.colors import Colors
from captum_layermask.removals.fills import (
    ColorFilledForward,
    NeighborFilledForward,
    NoiseFilledForward,
    VisibleBlurredForward,
)
from captum_layermask.removals.leaking_fills import BlurredForward, SegmentMeanForward

SIZE = 32
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.5)
NORMALIZED = Colors(MEAN, STD)
PLAIN = Colors(MEAN, STD, normalized=False)
IMAGES = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(3), dtype=torch.double)
VISIBLE = torch.stack([mask_families(SIZE)[name] for name in ("patches", "blobs")])[:, None]
SEGMENTS = (torch.arange(SIZE) // 8)[None, None, :, None].expand(1, 1, SIZE, SIZE).contiguous()

CLEAN = {
    "grey": lambda m: ColorFilledForward(m, None, NORMALIZED),
    "pink": lambda m: ColorFilledForward(m, (1, 0.4, 0.7), PLAIN),
    "uniform": lambda m: NoiseFilledForward(m, "uniform", NORMALIZED),
    "gaussian": lambda m: NoiseFilledForward(m, "gaussian", NORMALIZED),
    "neighbor": lambda m: NeighborFilledForward(m),
    "visible blur": lambda m: VisibleBlurredForward(m, 2.0),
}
LEAKING = {
    "blur": lambda m, image: BlurredForward(m, image, 2.0),
    "segment mean": lambda m, image: SegmentMeanForward(m, image, SEGMENTS),
}


@pytest.fixture(scope="module")
def model():
    return redraw(SmallVGG()).double()


def filled(forward, images=IMAGES, visible=VISIBLE):
    """What the network is given."""
    seen = []
    forward.model = nn.Sequential(nn.Identity())
    forward.model.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    forward(images, mask=visible)
    return seen[0]


@pytest.mark.parametrize("name", [*CLEAN, *LEAKING])
def test_nothing_missing_changes_nothing(name, model):
    forward = CLEAN[name](model) if name in CLEAN else LEAKING[name](model, IMAGES)
    assert torch.equal(forward(IMAGES), model(IMAGES))


@pytest.mark.parametrize("name", CLEAN)
def test_missing_pixels_change_nothing(name, model):
    forward = CLEAN[name](model)
    masked = forward(IMAGES, mask=VISIBLE)
    assert not torch.allclose(masked, model(IMAGES))
    for value in (torch.nan, torch.inf, 7.0):
        assert torch.equal(forward(torch.where(VISIBLE, IMAGES, value), mask=VISIBLE), masked)
    assert torch.equal(forward(torch.where(VISIBLE, IMAGES, MISSING)), masked)


@pytest.mark.parametrize("name", LEAKING)
def test_a_leaking_removal_shows_what_is_missing(name, model):
    other = torch.where(VISIBLE, IMAGES, 1 - IMAGES)
    one, two = LEAKING[name](model, IMAGES), LEAKING[name](model, other)
    missing = torch.where(VISIBLE, IMAGES, MISSING)
    assert torch.equal(one(missing), one(IMAGES, mask=VISIBLE))
    assert not torch.allclose(one(missing), two(missing))


@pytest.mark.parametrize("name", CLEAN)
def test_an_empty_image_is_finite_and_always_the_same(name, model):
    forward = CLEAN[name](model)
    empty = forward(IMAGES, mask=torch.zeros(SIZE, SIZE))
    assert empty.isfinite().all()
    assert torch.equal(forward(1 - IMAGES, mask=torch.zeros(SIZE, SIZE)), empty)


@pytest.mark.parametrize("name", CLEAN)
def test_visible_pixels_stay_as_they_are(name, model):
    picture = filled(CLEAN[name](model))
    assert torch.equal(torch.where(VISIBLE, picture, 0), torch.where(VISIBLE, IMAGES, 0))


def test_grey_is_zero_after_normalisation_and_the_mean_before():
    missing = ~VISIBLE.expand_as(IMAGES)
    grey = filled(ColorFilledForward(nn.Identity(), None, NORMALIZED))
    assert torch.equal(grey[missing], torch.zeros_like(grey[missing]))
    grey = filled(ColorFilledForward(nn.Identity(), None, PLAIN))
    assert torch.equal(grey, torch.where(VISIBLE, IMAGES, torch.tensor(MEAN).view(-1, 1, 1)))


def test_a_colour_is_given_in_the_units_of_the_picture():
    pink = filled(ColorFilledForward(nn.Identity(), (1, 0.4, 0.7), NORMALIZED))
    row, column = (~VISIBLE[0, 0]).nonzero()[0].tolist()
    expected = [(1 - 0.5) / 0.2, (0.4 - 0.4) / 0.25, (0.7 - 0.3) / 0.5]
    assert pink[0, :, row, column].tolist() == pytest.approx(expected, rel=1e-6)


def test_noise_has_its_distribution_and_does_not_depend_on_the_batch():
    nothing = torch.zeros(SIZE * 4, SIZE * 4)
    images = torch.zeros(2, 3, SIZE * 4, SIZE * 4)
    for name, mean, std in (
        ("uniform", [0.5] * 3, [math.sqrt(1 / 12)] * 3),
        ("gaussian", MEAN, STD),
    ):
        noise = filled(NoiseFilledForward(nn.Identity(), name, PLAIN, seed=5), images, nothing)
        assert torch.equal(noise[0], noise[1])
        for channel in range(3):
            assert float(noise[0, channel].mean()) == pytest.approx(mean[channel], abs=0.02)
            assert float(noise[0, channel].std()) == pytest.approx(std[channel], abs=0.02)
        other = filled(NoiseFilledForward(nn.Identity(), name, PLAIN, seed=6), images, nothing)
        assert not torch.equal(noise, other)
        scaled = filled(NoiseFilledForward(nn.Identity(), name, NORMALIZED, seed=5), images, nothing)
        back = scaled * torch.tensor(STD).view(-1, 1, 1) + torch.tensor(MEAN).view(-1, 1, 1)
        assert torch.allclose(back, noise, atol=1e-6)


def test_neighbour_fill_is_the_slow_transcription_until_the_hole_is_closed():
    picture = filled(NeighborFilledForward(nn.Identity()))
    kinds = np.where(VISIBLE[:, 0].numpy(), transcription.VISIBLE, transcription.MISSING)
    expected = transcription.neighbor_pad(torch.where(VISIBLE, IMAGES, 0), kinds, SIZE)
    assert torch.allclose(picture, expected, rtol=1e-12)


def test_the_visible_blur_is_a_normalised_convolution():
    picture = filled(VisibleBlurredForward(nn.Identity(), 2.0))
    for sample in range(2):
        seen = VISIBLE[sample, 0].double().numpy()
        blur = [
            ndimage.gaussian_filter(image, 2.0, mode="mirror", radius=6)
            for image in (*(IMAGES[sample].numpy() * seen), seen)
        ]
        with np.errstate(invalid="ignore", divide="ignore"):
            expected = np.stack(blur[:3]) / blur[3]
        expected = np.where(blur[3] > 0, expected, 0)
        near = torch.from_numpy((blur[3] > 0) & (seen == 0)).expand(3, -1, -1)
        assert torch.allclose(picture[sample][near], torch.from_numpy(expected)[near], rtol=1e-6)


def test_out_of_the_blurs_reach_is_the_mean_of_the_visible():
    visible = torch.zeros(SIZE, SIZE)
    visible[:2, :2] = 1
    picture = filled(VisibleBlurredForward(nn.Identity(), 1.0), IMAGES[:1], visible)
    assert torch.allclose(picture[0, :, -1, -1], IMAGES[0, :, :2, :2].mean((1, 2)))


def test_the_leaking_blur_is_scipys():
    picture = filled(BlurredForward(nn.Identity(), IMAGES, 2.0))
    expected = np.stack(
        [[ndimage.gaussian_filter(c, 2.0, mode="mirror", radius=6) for c in i] for i in IMAGES.numpy()]
    )
    assert torch.allclose(picture, torch.where(VISIBLE, IMAGES, torch.from_numpy(expected)), rtol=1e-6)


def test_the_segment_mean_is_limes_own_picture():
    image = IMAGES[0].permute(1, 2, 0).numpy()
    fudged = image.copy()
    for i in range(4):  # lime_image.explain_instance with hide_color=None
        fudged[SEGMENTS[0, 0].numpy() == i] = [
            image[SEGMENTS[0, 0].numpy() == i][:, c].mean() for c in range(3)
        ]
    picture = filled(SegmentMeanForward(nn.Identity(), IMAGES[:1], SEGMENTS), IMAGES[:1], VISIBLE[:1])
    expected = torch.where(VISIBLE[:1], IMAGES[:1], torch.from_numpy(fudged).permute(2, 0, 1))
    assert torch.allclose(picture, expected, rtol=1e-12)


def test_gradients_flow_to_visible_pixels(model):
    for make in CLEAN.values():
        x = IMAGES.clone().requires_grad_()
        make(model)(x, mask=VISIBLE).sum().backward()
        assert x.grad.isfinite().all()
        assert x.grad[VISIBLE.expand_as(x)].abs().max() > 0
        assert not x.grad[~VISIBLE.expand_as(x)].any()


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda m: ColorFilledForward(m, (255, 0, 0), PLAIN), "divide colours of 0 to 255 by 255"),
        (lambda m: ColorFilledForward(m, (1, 0), PLAIN), "2 channels where images have 3"),
        (lambda m: ColorFilledForward(m, None, None), "pass colors="),
        (lambda m: NoiseFilledForward(m, "uniform", None), "pass colors="),
        (lambda m: Colors((0.5,), (0.1, 0.2)), "one of each"),
        (lambda m: Colors((124, 116, 104), (58, 57, 57)), "divide colours"),
        (lambda m: Colors((0.5,), (0.0,)), "must be positive"),
        (lambda m: VisibleBlurredForward(m, 0), "positive number of pixels"),
        (lambda m: BlurredForward(m, IMAGES, -1), "positive number of pixels"),
        (lambda m: BlurredForward(m, None), "reference=, the original image"),
        (lambda m: BlurredForward(m, torch.full((1, 3, 4, 4), MISSING)), "has missing pixels"),
        (lambda m: BlurredForward(m, torch.zeros(1, 3, 4, 4, dtype=torch.uint8)), "floating-point"),
        (lambda m: SegmentMeanForward(m, IMAGES, None), "pass segments="),
        (lambda m: SegmentMeanForward(m, IMAGES, SEGMENTS[0]), "give a LongTensor"),
        (lambda m: BlurredForward(m, IMAGES[..., :9])(IMAGES, mask=VISIBLE), "give the original image"),
        (
            lambda m: ColorFilledForward(m, None, Colors((0.5,), (0.5,)))(IMAGES, mask=VISIBLE),
            "1 channels and the image 3",
        ),
        (lambda m: ColorFilledForward(m, None, PLAIN)(IMAGES.int()), "integers cannot hold MISSING"),
        (lambda m: ColorFilledForward(lambda x: x, None, PLAIN), "must be a torch.nn.Module"),
    ],
)
def test_bad_input_gets_one_sentence(make, sentence, model):
    with pytest.raises(InputError, match=sentence) as caught:
        make(model)
    assert "\n" not in str(caught.value)


def test_an_unknown_noise_is_refused(model):
    with pytest.raises(UnknownNameError, match="'gaussian'"):
        NoiseFilledForward(model, "gausian", PLAIN)
