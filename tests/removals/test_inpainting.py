"""Inpainting is OpenCV's, imputation is ROAD's, and neither sees what is missing."""

import builtins

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import SmallVGG, mask_families, redraw
from torch import nn

from captum_layermask import MISSING, InputError
from captum_layermask.errors import MissingPackageError, UnknownNameError
from captum_layermask.removals.inpainting import ImputedForward, InpaintedForward, _imputation

cv2 = pytest.importorskip("cv2")

keep = nn.Identity().eval()
SIZE = 32
KINDS = {
    "telea": lambda model: InpaintedForward(model, "telea"),
    "navier-stokes": lambda model: InpaintedForward(model, "navier-stokes"),
    "imputed": ImputedForward,
    "imputed, no noise": lambda model: ImputedForward(model, noise=0),
}
FLAGS = {"telea": cv2.INPAINT_TELEA, "navier-stokes": cv2.INPAINT_NS}


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


def smooth_images(n=2, size=SIZE, seed=0):
    """Smooth images of whole numbers, N×3×H×W, float64; every channel has 0 and 255 in its upper corners."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, 3, 5, 5, generator=generator, dtype=torch.double)
    images = nn.functional.interpolate(coarse * 255, (size, size), mode="bilinear").round()
    images[..., 0, 0], images[..., 0, -1] = 0, 255
    return images


def ragged_mask(seed=0, size=SIZE):
    """A mask with patches and single pixels missing, but the upper corners visible."""
    visible = mask_families(size, seed)["patches"] | mask_families(size, seed)["speckle"]
    visible[0, [0, -1]] = True
    assert not visible.all()
    return visible


def row_by_row(image, visible, weights=((1, 2, 1), (2, 0, 2), (1, 2, 1))):
    """ROAD's system for one channel, written down pixel by pixel and solved densely."""
    rows, columns = image.shape
    missing = [tuple(p) for p in (~visible).nonzero().tolist()]
    a, b = np.zeros((len(missing), len(missing))), np.zeros(len(missing))
    for i, (y, x) in enumerate(missing):
        near = {
            (y + dy, x + dx): weights[dy + 1][dx + 1] / 12
            for dy in (-1, 0, 1)
            for dx in (-1, 0, 1)
            if (dy or dx) and 0 <= y + dy < rows and 0 <= x + dx < columns
        }
        a[i, i] = 1
        for place, weight in near.items():
            share = weight / sum(near.values())
            if place in missing:
                a[i, missing.index(place)] -= share
            else:
                b[i] += share * image[place]
    filled = image.clone()
    filled[~visible] = torch.from_numpy(np.linalg.solve(a, b))
    return filled


@pytest.mark.parametrize("radius", [3, 5])
@pytest.mark.parametrize("method", FLAGS)
def test_inpainting_is_opencvs(method, radius):
    (image,), visible = smooth_images(1), ragged_mask()
    means = torch.stack([channel[visible].mean().round() for channel in image])
    covered = torch.where(visible, image, means[:, None, None]).permute(1, 2, 0).numpy()
    gap = (~visible).numpy().astype(np.uint8)
    expected = cv2.inpaint(covered.astype(np.uint8), gap, radius, FLAGS[method])
    out = InpaintedForward(keep, method, radius)(image[None], mask=visible)[0]
    assert torch.equal(out.permute(1, 2, 0).round(), torch.from_numpy(expected).double())
    assert (out - out.round()).abs().max() < 1e-10


@pytest.mark.parametrize(("method", "masker"), [("telea", "inpaint_telea"), ("navier-stokes", "inpaint_ns")])
def test_inpainting_is_that_of_shaps_masker_when_it_cannot_see_what_is_missing(method, masker):
    shap = pytest.importorskip("shap")
    (image,), visible = smooth_images(1), ragged_mask()
    means = torch.stack([channel[visible].mean().round() for channel in image])
    covered = torch.where(visible, image, means[:, None, None]).permute(1, 2, 0).numpy()
    present = visible[..., None].expand(SIZE, SIZE, 3).numpy().ravel()
    (expected,) = shap.maskers.Image(masker, covered.shape)(present, covered)
    out = InpaintedForward(keep, method)(image[None], mask=visible)
    np.testing.assert_allclose(out[0].permute(1, 2, 0).numpy(), expected[0], atol=1e-10)


@pytest.mark.parametrize("method", FLAGS)
def test_inpainting_does_not_depend_on_the_units(method):
    images, visible = smooth_images(), ragged_mask()
    scale = torch.tensor([2.0, 0.25, 1 / 64], dtype=torch.double)[:, None, None]
    shift = torch.tensor([-64.0, 8.0, 1.0], dtype=torch.double)[:, None, None]
    forward = InpaintedForward(keep, method)
    other = forward(images * scale + shift, mask=visible)
    assert torch.allclose(other, forward(images, mask=visible) * scale + shift, rtol=0, atol=1e-9)


@pytest.mark.parametrize("method", FLAGS)
def test_inpainting_stays_in_the_range_of_the_visible_pixels(method):
    images, visible = smooth_images(), mask_families(SIZE)["speckle"]
    out = InpaintedForward(keep, method)(images, mask=visible)
    for filled, image in zip(out.flatten(0, 1), images.flatten(0, 1), strict=True):
        low, high = image[visible].aminmax()
        assert filled.min() >= low - 1e-9 and filled.max() <= high + 1e-9


def test_opencv_itself_reads_pixels_that_it_is_to_replace():
    """The reason for covering them; should this fail, the covering can go."""
    (image,), visible = smooth_images(1), ragged_mask()
    levels = image.permute(1, 2, 0).numpy().astype(np.uint8)
    other = np.where(visible[..., None], levels, 255 - levels)
    gap = (~visible).numpy().astype(np.uint8)
    first, second = (cv2.inpaint(seen, gap, 3, cv2.INPAINT_TELEA) for seen in (levels, other))
    assert (first != second).any()


def test_without_opencv_one_sentence_says_what_to_install(monkeypatch):
    load = builtins.__import__

    def without_opencv(name, *args, **kwargs):
        if name == "cv2":
            raise ImportError(name)
        return load(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_opencv)
    with pytest.raises(MissingPackageError, match=r"pip install 'captum-layermask\[inpainting\]'") as caught:
        InpaintedForward(keep)
    assert isinstance(caught.value, ImportError) and "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [(6, 7), (1, 8), (8, 1), (2, 2)])
@pytest.mark.parametrize("seed", range(3))
def test_imputation_solves_roads_equations(size, seed):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(2, 3, *size, generator=generator, dtype=torch.double)
    visible = torch.rand(size, generator=generator) > 0.6
    visible[-1, -1], visible[0, 0] = True, False
    out = ImputedForward(keep, noise=0)(images, mask=visible)
    for filled, image in zip(out.flatten(0, 1), images.flatten(0, 1), strict=True):
        assert torch.allclose(filled, row_by_row(image, visible), rtol=0, atol=1e-12)


def test_imputation_is_that_of_grad_cam():
    road = pytest.importorskip("pytorch_grad_cam.metrics.road")
    image, visible = torch.randn(3, SIZE, SIZE), ragged_mask()
    expected = road.NoisyLinearImputer(noise=0)(image, visible.float())
    out = ImputedForward(keep, noise=0)(image[None], mask=visible)[0]
    assert torch.allclose(out, expected, rtol=0, atol=1e-6)


@given(st.integers(0, 2**31), st.integers(1, 9), st.integers(1, 9), st.floats(0, 1))
def test_imputation_stays_in_the_range_of_the_visible_pixels(seed, rows, columns, share):
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(1, 1, rows, columns, generator=generator, dtype=torch.double)
    visible = torch.rand(rows, columns, generator=generator) < share
    visible[seed % rows, seed % columns] = True
    out = ImputedForward(keep, noise=0)(image, mask=visible)
    low, high = image[0, 0][visible].aminmax()
    assert out.min() >= low - 1e-9 and out.max() <= high + 1e-9


def test_imputation_continues_a_linear_ramp_where_pixels_are_missing():
    y, x = torch.meshgrid(*(torch.arange(float(SIZE), dtype=torch.double),) * 2, indexing="ij")
    ramp = (3 * x - 2 * y + 1).expand(1, 1, -1, -1)
    visible = torch.ones(SIZE, SIZE, dtype=torch.bool)
    visible[5:20, 9:30] = False
    out = ImputedForward(keep, noise=0)(ramp, mask=visible)
    assert torch.allclose(out, ramp, rtol=0, atol=1e-9)


def test_images_with_one_mask_share_one_factorisation():
    _imputation.cache_clear()
    ImputedForward(keep)(smooth_images(4), mask=ragged_mask())
    assert _imputation.cache_info().misses == 1


def test_the_noise_is_gaussian_of_its_size_and_comes_from_the_seed():
    image, visible = torch.zeros(1, 3, 64, 64, dtype=torch.double), torch.zeros(64, 64)
    visible[0] = 1
    noise = [
        ImputedForward(keep, noise=0.5, seed=seed)(image, mask=visible)[..., 1:, :] for seed in (0, 0, 1)
    ]
    assert torch.equal(noise[0], noise[1]) and not torch.equal(noise[0], noise[2])
    assert abs(noise[0].mean()) < 0.02 and abs(noise[0].std() - 0.5) < 0.02
    assert abs((noise[0].abs() < 0.5).double().mean() - 0.683) < 0.02


def test_a_constant_image_stays_constant(kind):
    image, visible = torch.full((1, 3, SIZE, SIZE), 7.0), ragged_mask()
    out = kind(keep)(image, mask=visible)
    assert torch.allclose(out, image, rtol=0, atol=0.06 if kind is ImputedForward else 1e-5)


def test_nothing_masked_is_the_plain_model(kind):
    model, x = redraw(SmallVGG()), torch.randn(2, 3, SIZE, SIZE)
    every = torch.ones(2, SIZE, SIZE)
    assert torch.equal(kind(model)(x), model(x))
    assert torch.equal(kind(model)(x, mask=every), model(x))
    every[1, 3:9] = 0
    assert torch.equal(kind(keep)(x, mask=every)[0], x[0])


@pytest.mark.parametrize("family", sorted(mask_families(SIZE)))
def test_what_is_missing_leaves_every_bit(kind, family):
    model, x, visible = redraw(SmallVGG()), torch.randn(2, 3, SIZE, SIZE), mask_families(SIZE)[family]
    out = kind(model)(x, mask=visible)
    assert out.isfinite().all()
    for other in (torch.nan, torch.inf, 1e9, MISSING):
        assert torch.equal(kind(model)(torch.where(visible, x, other), mask=visible), out)


def test_visible_pixels_are_left_alone_and_matter(kind):
    x, visible = torch.randn(2, 3, SIZE, SIZE), ragged_mask()
    out, negative = kind(keep)(x, mask=visible), kind(keep)(-x, mask=visible)
    assert torch.equal(out[..., visible], x[..., visible])
    assert (out[..., ~visible] != negative[..., ~visible]).double().mean() > 0.9


def test_a_wholly_missing_image_is_zero(kind):
    x = torch.randn(3, 3, SIZE, SIZE)
    mask = torch.ones(3, SIZE, SIZE)
    mask[1:] = 0
    out = kind(keep)(x, mask=mask)
    assert torch.equal(out[0], x[0]) and (out[1:] == 0).all()


def test_an_answer_does_not_depend_on_the_batch(kind):
    x = torch.randn(6, 3, SIZE, SIZE)
    masks = torch.stack(
        [
            ragged_mask(0),
            ragged_mask(1),
            ragged_mask(0),
            *[mask_families(SIZE)[k] for k in ("all", "none", "blobs")],
        ]
    )
    forward = kind(keep)
    out = forward(x, mask=masks)
    order = [4, 2, 0, 5, 1, 3]
    assert torch.equal(forward(x[order], mask=masks[order]), out[order])
    assert torch.equal(forward(x[:1].expand(3, -1, -1, -1), mask=masks[:3])[2], out[0])
    for i in range(6):
        assert torch.equal(forward(x[i : i + 1], mask=masks[i]), out[i : i + 1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_number_type_and_the_shape_stay(kind, dtype):
    image, visible = (smooth_images() / 255).to(dtype), ragged_mask()
    out = kind(keep)(image, mask=visible)
    assert out.dtype == dtype and out.shape == image.shape
    precise = kind(keep)(image.double(), mask=visible)
    assert torch.equal(out, precise.to(dtype))


def test_the_device_stays(kind):
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    x, visible = torch.randn(2, 3, SIZE, SIZE), ragged_mask()
    out = kind(keep)(x.cuda(), mask=visible)
    assert out.is_cuda and torch.equal(out.cpu(), kind(keep)(x, mask=visible))


def test_gradients_reach_visible_pixels_only_as_themselves(kind):
    x, visible = torch.randn(1, 3, SIZE, SIZE, requires_grad=True), ragged_mask()
    kind(keep)(x, mask=visible).sum().backward()
    assert torch.equal(x.grad, visible.float().expand_as(x))


@pytest.mark.parametrize("channels", [1, 4])
def test_any_number_of_channels(kind, channels):
    x, visible = torch.randn(2, channels, SIZE, SIZE), ragged_mask()
    out = kind(keep)(x, mask=visible)
    alone = [kind(keep)(x[:, [c]], mask=visible)[:, 0] for c in range(channels)]
    tolerance = 0.2 if kind is ImputedForward else 1e-6
    assert torch.allclose(out, torch.stack(alone, 1), rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: InpaintedForward(keep, "tela"), UnknownNameError, "did you mean 'telea'"),
        (lambda: InpaintedForward(keep, radius=0), InputError, "radius must be 1 to 100"),
        (lambda: InpaintedForward(keep, radius=101), InputError, "radius must be 1 to 100"),
        (lambda: InpaintedForward(keep, radius=float("nan")), InputError, "radius must be 1 to 100"),
        (lambda: ImputedForward(keep, noise=-1), InputError, "noise must be"),
        (lambda: ImputedForward(keep, noise=float("nan")), InputError, "noise must be"),
        (lambda: ImputedForward(keep, noise=float("inf")), InputError, "noise must be"),
    ],
)
def test_options_that_mean_nothing_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("size", [(1, 8), (8, 1)])
def test_inpainting_refuses_an_image_of_a_single_row_or_column(size):
    mask = torch.ones(size)
    mask[0, 0] = 0
    with pytest.raises(InputError, match="single row or column"):
        InpaintedForward(keep)(torch.rand(1, 3, *size), mask=mask)
