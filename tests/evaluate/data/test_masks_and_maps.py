"""Object masks and saliency maps go with their images."""

import numpy as np
import pytest
import torch
from PIL import Image
from small_evaluation import CLASSES, SIZE, class_folders, picture, save_pictures, small_model

from captum_layermask import InputError
from captum_layermask.errors import LeftOutError
from captum_layermask.evaluate.data.dataset import find_images


def test_masks_follow_the_geometry_of_their_images(tmp_path):
    class_folders(tmp_path / "data", 2)
    masks = tmp_path / "masks"
    masks.mkdir()
    white = np.zeros((56, 64), np.uint8)
    white[:20, 30:] = 255
    Image.fromarray(white).save(masks / "00.hot dog.png")
    Image.fromarray(white.T[:56, :56]).resize((64, 56)).save(masks / "00.v2.cat.png")
    Image.fromarray(white).save(masks / "07.cat.png")
    Image.fromarray(white).save(masks / "note.png")
    with pytest.raises(InputError, match=r"no mask .* belongs to an image"):
        find_images(tmp_path / "data", CLASSES, masks=tmp_path / "data")
    data = find_images(tmp_path / "data", CLASSES, masks=masks)
    assert data.masks == {"ant/00.png": {"hot dog": masks / "00.hot dog.png"}}
    preprocess = small_model().preprocess
    mask = data.mask("ant/00.png", "hot dog", preprocess)
    assert mask.shape == (1, 1, SIZE, SIZE)
    assert mask.dtype == torch.bool
    # 56 rows become 54, of which 3 are cropped on either side; 64 columns become 62, then 7 on either side
    expected = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    expected[: round(20 * 54 / 56) - 3, round(30 * 62 / 64) - 7 :] = True
    assert (mask[0, 0] != expected).float().mean() < 0.02


def test_an_object_is_at_least_half_white(tmp_path):
    class_folders(tmp_path / "data", 1)
    (tmp_path / "masks").mkdir()
    shades = np.full((56, 64), 120, np.uint8)
    shades[:, :32] = 140
    Image.fromarray(shades).save(tmp_path / "masks" / "00.cat.png")
    data = find_images(tmp_path / "data", CLASSES, masks=tmp_path / "masks")
    mask = data.mask("ant/00.png", "cat", small_model().preprocess)
    assert mask[..., : SIZE // 2 - 1].all()
    assert not mask[..., SIZE // 2 + 1 :].any()


@pytest.mark.parametrize("mode", ["1", "L", "16 bits", "P", "CMYK"])
def test_masks_and_maps_mean_the_same_in_every_depth(tmp_path, mode):
    """In 16 bits, 65535 is white; 255 is nearly black."""
    class_folders(tmp_path / "data", 1)
    white = np.zeros((56, 64), np.uint8)
    white[:, :32] = 255
    grey = Image.fromarray(white)
    deep = Image.fromarray(white.astype(np.uint16) * 257)
    for kind, name in (("masks", "00.cat.png"), ("maps", "00.png")):
        (tmp_path / kind).mkdir()
        saved = deep if mode == "16 bits" else grey.convert(mode)
        saved.save(tmp_path / kind / name, "TIFF" if mode == "CMYK" else "PNG")
    folders = {"masks": tmp_path / "masks", "saliency": tmp_path / "maps"}
    data = find_images(tmp_path / "data", CLASSES, **folders)
    preprocess = small_model().preprocess
    expected = preprocess(grey)[:, :1]
    assert torch.equal(data.mask("ant/00.png", "cat", preprocess), expected >= 0.5)
    assert torch.equal(data.saliency("ant/00.png", preprocess), expected)


def test_a_map_of_16_bits_is_not_cut_down_to_8(maps):
    values = np.arange(SIZE * SIZE, dtype=np.uint16).reshape(SIZE, SIZE)
    assert len(maps(values, ".png").unique()) == SIZE * SIZE


def test_transparent_masks_and_maps_are_errors(tmp_path):
    """On white paper, what is transparent would be the object."""
    class_folders(tmp_path / "data", 1)
    for kind, name in (("masks", "00.cat.png"), ("maps", "00.png")):
        (tmp_path / kind).mkdir()
        Image.new("LA", (64, 56), (255, 0)).save(tmp_path / kind / name)
    folders = {"masks": tmp_path / "masks", "saliency": tmp_path / "maps"}
    data = find_images(tmp_path / "data", CLASSES, **folders)
    preprocess = small_model().preprocess
    for read in (
        lambda: data.mask("ant/00.png", "cat", preprocess),
        lambda: data.saliency("ant/00.png", preprocess),
    ):
        with pytest.raises(InputError, match="transparent pixels"):
            read()


def test_masks_and_maps_may_lie_in_the_subfolders_of_their_images(tmp_path):
    for name in ("ant/1.png", "bee/1.png"):
        save_pictures(tmp_path / "data", [name])
        for kind, suffix in (("masks", ".cat.png"), ("maps", ".png")):
            save_pictures(tmp_path / kind, [name.replace(".png", suffix)])
    folders = {"masks": tmp_path / "masks", "saliency": tmp_path / "maps"}
    data = find_images(tmp_path / "data", CLASSES, **folders)
    assert data.masks["bee/1.png"] == {"cat": tmp_path / "masks" / "bee" / "1.cat.png"}
    assert data.saliency_maps["ant/1.png"] == tmp_path / "maps" / "ant" / "1.png"
    save_pictures(tmp_path / "flat", ["1.cat.png"])
    with pytest.raises(InputError, match="2 images are called '1'"):
        find_images(tmp_path / "data", CLASSES, masks=tmp_path / "flat")


@pytest.mark.parametrize(
    ("mask", "what"),
    [
        (np.full((56, 60), 255, np.uint8), r"60×56 pixels and its image 64×56"),
        (np.ones((56, 64), np.uint8), "no white pixel"),
        (None, "cannot read"),
    ],
)
def test_masks_that_make_no_sense(tmp_path, mask, what):
    class_folders(tmp_path / "data", 1)
    (tmp_path / "masks").mkdir()
    path = tmp_path / "masks" / "00.cat.png"
    path.write_bytes(b"") if mask is None else Image.fromarray(mask).save(path)
    data = find_images(tmp_path / "data", CLASSES, masks=tmp_path / "masks")
    with pytest.raises(LeftOutError, match=what):
        data.mask("ant/00.png", "cat", small_model().preprocess)


@pytest.fixture
def maps(tmp_path):
    """A function that saves a saliency map of the one image and reads it as the dataset does."""
    class_folders(tmp_path / "data", 1)
    (tmp_path / "maps").mkdir()

    def read(values, suffix=".npy"):
        path = tmp_path / "maps" / f"00{suffix}"
        if isinstance(values, bytes):
            path.write_bytes(values)
        elif suffix == ".npy":
            np.save(path, values)
        else:
            Image.fromarray(values).save(path)
        data = find_images(tmp_path / "data", CLASSES, saliency=tmp_path / "maps")
        return data.saliency("ant/00.png", small_model().preprocess)

    return read


def test_an_image_of_the_size_of_the_input_is_cropped_and_so_is_its_map(maps, tmp_path):
    values = np.asarray(picture(5, (SIZE, SIZE)).convert("L"))
    picture(0, (SIZE, SIZE)).save(tmp_path / "data" / "ant" / "00.png")
    expected = small_model().preprocess(Image.fromarray(values))[0, 0] * (255 / values.max())
    seen = maps(values, ".png")[0, 0]
    assert torch.allclose(seen, expected, atol=0.01)
    assert not torch.allclose(seen, torch.from_numpy(values / values.max()).float(), atol=0.05)


def test_a_map_of_the_size_of_the_input_is_taken_as_it_is(maps):
    values = np.random.default_rng(0).random((SIZE, SIZE))
    assert np.array_equal(maps(values)[0, 0], values.astype(np.float32))


@pytest.mark.parametrize("suffix", [".npy", ".png"])
def test_a_map_of_the_size_of_the_image_is_resized_and_cropped_like_it(maps, suffix):
    values = np.asarray(picture(5).convert("L"))
    seen = maps(values if suffix == ".png" else values * (0.25 / values.max()), suffix)
    expected = small_model().preprocess(Image.fromarray(values))[:, :1]
    assert seen.shape == (1, 1, SIZE, SIZE)
    assert torch.allclose(seen / seen.max(), expected / expected.max(), atol=1 / 128)


@pytest.mark.parametrize(
    ("values", "what"),
    [
        (np.ones((50, 50)), "50×50 pixels and its image 64×56"),
        (np.ones((1, SIZE, SIZE)), "no saliency map"),
        (np.full((SIZE, SIZE), -1.0), "no saliency map"),
        (np.full((SIZE, SIZE), np.nan), "no saliency map"),
        (b"nothing", "cannot read"),
        (np.array([{}]), "cannot read"),
    ],
)
def test_maps_that_make_no_sense(maps, values, what):
    with pytest.raises(LeftOutError, match=what):
        maps(values)


def test_each_image_needs_a_map(tmp_path):
    class_folders(tmp_path / "data", 2)
    save_pictures(tmp_path / "maps", ["00.png"])
    with pytest.raises(InputError, match=r"no saliency map of 'bee/01\.png'"):
        find_images(tmp_path / "data", CLASSES, saliency=tmp_path / "maps")
