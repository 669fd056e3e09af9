"""Segments: a Captum feature mask with contiguous ids, whatever the image."""

import math

import numpy as np
import pytest
import skimage.data
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage import segmentation
from torchvision.transforms.v2 import functional

from captum_layermask.errors import InputError
from captum_layermask.explain.segments import SEGMENTATIONS, grid, quickshift, slic


@st.composite
def images(draw, smallest=8, largest=32):
    height, width = (draw(st.integers(smallest, largest)) for _ in range(2))
    levels = draw(arrays("uint8", (3, height, width)))
    image = torch.from_numpy(levels) / 255
    return image[None] if draw(st.booleans()) else image


def photo(size=224):
    pixels = torch.from_numpy(skimage.data.chelsea()).permute(2, 0, 1)
    return functional.resize(pixels, [size, size]) / 255


def assert_is_feature_mask(segments, image):
    assert segments.dtype == torch.long
    assert segments.shape == (1, 1, *image.shape[-2:])
    ids = segments.unique()
    assert torch.equal(ids, torch.arange(len(ids)))


@given(images(smallest=1), st.integers(1, 40))
@settings(deadline=None, max_examples=50)
def test_grid_is_squares_in_reading_order(image, size):
    segments = grid(image, size=size)
    assert_is_feature_mask(segments, image)
    height, width = image.shape[-2:]
    for row in range(height):
        for column in range(0, width, 3):
            expected = (row // size) * math.ceil(width / size) + column // size
            assert segments[0, 0, row, column] == expected


@pytest.mark.parametrize("name", SEGMENTATIONS)
@given(image=images(), n_segments=st.integers(1, 60))
@settings(deadline=None, max_examples=20)
def test_every_segmentation_returns_a_feature_mask(name, image, n_segments):
    assert_is_feature_mask(SEGMENTATIONS[name](image, n_segments=n_segments), image)


def test_grid_defaults_to_the_16_pixel_patches_of_the_paper():
    assert grid(photo()).max() + 1 == 14 * 14
    assert torch.equal(SEGMENTATIONS["grid"](photo()), grid(photo()))


@pytest.mark.parametrize("name", SEGMENTATIONS)
@pytest.mark.parametrize("n_segments", [30, 64, 150])
def test_a_photo_gets_about_as_many_segments_as_asked_for(name, n_segments):
    found = int(SEGMENTATIONS[name](photo(), n_segments=n_segments).max()) + 1
    assert 0.6 * n_segments <= found <= 1.5 * n_segments


@pytest.mark.parametrize("segment", [slic, quickshift])
def test_segments_follow_the_colours(segment):
    image = torch.zeros(3, 48, 48)
    image[0, :, :29] = 1
    image[2, :, 29:] = 1
    segments = segment(image, n_segments=12)[0, 0]
    left, right = segments[:, :29].unique(), segments[:, 29:].unique()
    assert not set(left.tolist()) & set(right.tolist())


@pytest.mark.parametrize("segment", [slic, quickshift])
def test_gaps_in_the_labels_of_scikit_image_are_closed(monkeypatch, segment):
    labels = np.array([[7, 7, 3], [3, 9, 9]])
    monkeypatch.setattr(segmentation, segment.__name__, lambda *_, **__: labels)
    assert segment(torch.zeros(3, 2, 3)).tolist() == [[[[1, 1, 0], [0, 2, 2]]]]


@pytest.mark.parametrize("segment", [slic, quickshift])
def test_segments_are_the_same_every_time(segment):
    assert torch.equal(segment(photo(96)), segment(photo(96)))


@pytest.mark.parametrize(
    ("image", "what"),
    [
        (torch.zeros(2, 3, 8, 8), "one image"),
        (torch.zeros(1, 8, 8), "one image"),
        (torch.zeros(3, 8), "one image"),
        (torch.zeros(3, 0, 8), "one image"),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), "image / 255"),
        (torch.full((3, 8, 8), 2.5), "before it is normalised"),
        (torch.full((3, 8, 8), -0.5), "before it is normalised"),
        (torch.full((3, 8, 8), math.nan), "before it is normalised"),
    ],
)
def test_what_is_no_image_in_0_to_1_is_an_error(image, what):
    for segment in (slic, quickshift):
        with pytest.raises(InputError, match=what):
            segment(image)


@pytest.mark.parametrize("name", SEGMENTATIONS)
@pytest.mark.parametrize("n_segments", [0, -3])
def test_a_count_below_1_is_an_error(name, n_segments):
    with pytest.raises(InputError, match="n_segments"):
        SEGMENTATIONS[name](torch.zeros(3, 8, 8), n_segments=n_segments)


def test_other_options_out_of_range_are_errors():
    image = torch.zeros(3, 8, 8)
    with pytest.raises(InputError, match="size is 0"):
        grid(image, size=0)
    with pytest.raises(InputError, match="one image"):
        grid(torch.zeros(8, 8))
    with pytest.raises(InputError, match="compactness"):
        slic(image, compactness=0)
    with pytest.raises(InputError, match="ratio"):
        quickshift(image, ratio=1.5)


def test_a_grid_needs_no_colours():
    assert torch.equal(grid(torch.zeros(1, 1, 32, 40), 8), grid(torch.zeros(3, 32, 40), 8))
    with pytest.raises(InputError, match="1×C×H×W"):
        grid(torch.zeros(2, 1, 32, 40))
    with pytest.raises(InputError, match="1×3×H×W"):
        slic(torch.zeros(1, 1, 32, 40))
