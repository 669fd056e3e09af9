"""A folder becomes images, with their classes, object masks and saliency maps."""

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image
from small_evaluation import CLASSES, SIZE, class_folders, picture, save_pictures, small_model

from captum_layermask import InputError, PictureWarning, UnknownNameError
from captum_layermask.evaluate.dataset import find_images
from captum_layermask.wordnet import wnids

THOUSAND = [f"class {index}" for index in range(1000)]
TABBY, GOLDFISH = "n02123045", "n01443537"  # classes 281 and 1


def save_devkit(folder, truth):
    """The devkit's two files: ids 1 to 1000 run backwards through the wnids, then two inner synsets."""
    folder.mkdir(parents=True)
    fields = ["ILSVRC2012_ID", "WNID", "words", "num_children"]
    entries = [(number, wnid, "a word", 0) for number, wnid in enumerate(reversed(wnids()), 1)]
    entries += [(1001, "n00001740", "entity", 3), (1002, "n00001930", "physical entity", 3)]
    synsets = np.array([[entry] for entry in entries], dtype=[(name, object) for name in fields])
    scipy.io.savemat(folder / "meta.mat", {"synsets": synsets})
    (folder / "ILSVRC2012_validation_ground_truth.txt").write_text("".join(f"{id_}\n" for id_ in truth))


def validation(folder, count=3):
    return save_pictures(folder, [f"ILSVRC2012_val_{number:08}.JPEG" for number in range(1, count + 1)])


def test_folders_named_by_wnid(tmp_path):
    save_pictures(tmp_path, [f"{TABBY}/a.JPEG", f"{GOLDFISH}/deep/b.png"])
    data = find_images(tmp_path, THOUSAND)
    assert data.images == (f"{GOLDFISH}/deep/b.png", f"{TABBY}/a.JPEG")
    assert data.labels == {f"{TABBY}/a.JPEG": 281, f"{GOLDFISH}/deep/b.png": 1}


def test_folders_named_by_class_or_index(tmp_path):
    save_pictures(tmp_path, ["bee/1.png", "Emu/1.png", "5/1.png"])
    assert find_images(tmp_path, CLASSES).labels == {"bee/1.png": 1, "Emu/1.png": 4, "5/1.png": 5}


def test_a_model_may_name_its_classes_by_wnid(tmp_path):
    save_pictures(tmp_path, [f"{TABBY}/a.png"])
    assert find_images(tmp_path, [GOLDFISH, TABBY]).labels == {f"{TABBY}/a.png": 1}


def test_files_named_by_wnid(tmp_path):
    save_pictures(tmp_path, [f"{TABBY}_tabby.JPEG", f"{GOLDFISH}_7_goldfish.JPEG"])
    (tmp_path / "README.md").write_text("not a picture")
    (tmp_path / f".{TABBY}_hidden.JPEG").write_text("")
    data = find_images(tmp_path, THOUSAND)
    assert data.labels == {f"{GOLDFISH}_7_goldfish.JPEG": 1, f"{TABBY}_tabby.JPEG": 281}


@pytest.mark.parametrize(
    "place", [".", "data", "ILSVRC2012_devkit_t12/data", "../ILSVRC2012_devkit_t12/data"]
)
def test_the_validation_images_with_the_devkit(tmp_path, place):
    folder = validation(tmp_path / "val")
    save_devkit(tmp_path / "kit", [1000, 1, 719, 4])
    (folder / place).parent.mkdir(parents=True, exist_ok=True)
    for file in (tmp_path / "kit").iterdir():
        (folder / place).mkdir(exist_ok=True)
        file.rename(folder / place / file.name)
    labels = find_images(folder, THOUSAND).labels
    assert labels == {
        "ILSVRC2012_val_00000001.JPEG": 0,
        "ILSVRC2012_val_00000002.JPEG": 999,
        "ILSVRC2012_val_00000003.JPEG": 281,
    }


def test_the_validation_images_with_the_labels_of_kaggle(tmp_path):
    folder = validation(tmp_path / "Data" / "val", count=2)
    lines = ["ImageId,PredictionString", f"ILSVRC2012_val_00000002,{TABBY} 85 1 499 272 {TABBY} 1 2 3 4 "]
    lines.append(f"ILSVRC2012_val_00000001,{GOLDFISH} 1 1 2 2")
    (tmp_path / "LOC_val_solution.csv").write_text("\n".join(lines))
    labels = find_images(folder, THOUSAND).labels
    assert list(labels.values()) == [1, 281]


def test_validation_images_need_their_labels(tmp_path):
    folder = validation(tmp_path / "val")
    with pytest.raises(InputError, match=r"labels of the validation images .* are missing"):
        find_images(folder, THOUSAND)
    save_devkit(folder / "data", [1000, 1])
    with pytest.raises(InputError, match=r"no label of .*ILSVRC2012_val_00000003"):
        find_images(folder, THOUSAND)
    (folder / "data" / "meta.mat").write_bytes(b"no such thing")
    with pytest.raises(InputError, match="cannot read labels"):
        find_images(folder, THOUSAND)


@pytest.mark.parametrize("names", [[f"{TABBY}/a.png"], [f"{TABBY}_a.png"], ["ILSVRC2012_val_00000001.JPEG"]])
def test_imagenets_classes_need_a_model_that_knows_them(tmp_path, names):
    with pytest.raises(InputError, match="ImageNet's 1000 classes and the model knows 6"):
        find_images(save_pictures(tmp_path, names), CLASSES)


@pytest.mark.parametrize(
    ("names", "error", "what"),
    [
        ([], InputError, "there are no images"),
        (["a.png"], InputError, "cannot tell the classes"),
        (["a.png", "bee/a.png"], InputError, "cannot tell the classes"),
        (["a.png", f"{TABBY}_a.png"], InputError, "cannot tell the classes"),
        (["be/a.png"], UnknownNameError, "did you mean 'bee'"),
        (["n99999999/a.png"], UnknownNameError, "n99999999"),
        (["1000/a.png"], InputError, "there is no class 1000"),
    ],
)
def test_folders_that_make_no_sense(tmp_path, names, error, what):
    with pytest.raises(error, match=what):
        find_images(save_pictures(tmp_path, names), ["bee", *THOUSAND[1:]])


def test_no_folder(tmp_path):
    for options in ({}, {"masks": tmp_path / "no"}, {"saliency": tmp_path / "no"}):
        folder = class_folders(tmp_path / "data", 1) if options else tmp_path / "no"
        with pytest.raises(InputError, match=r"there is no folder .*no'"):
            find_images(folder, CLASSES, **options)


def test_classes_may_be_unknown_where_they_are_not_needed(tmp_path):
    data = find_images(save_pictures(tmp_path, ["b.png", "a.jpg"]), CLASSES, labelled=False)
    assert data.images == ("a.jpg", "b.png")
    assert data.labels == {}


def test_a_limit_takes_images_evenly(tmp_path):
    class_folders(tmp_path, 6)
    everything = find_images(tmp_path, CLASSES).images
    assert find_images(tmp_path, CLASSES, limit=3).images == everything[::2]
    assert find_images(tmp_path, CLASSES, limit=1).images == everything[:1]
    assert find_images(tmp_path, CLASSES, limit=9).images == everything
    with pytest.raises(InputError, match="limit is 0"):
        find_images(tmp_path, CLASSES, limit=0)


def test_the_digest_stands_for_names_sizes_and_labels_wherever_they_lie(tmp_path):
    first = class_folders(tmp_path / "1", 3)
    digest = find_images(first, CLASSES).digest
    assert len(digest) == 64
    assert find_images(class_folders(tmp_path / "2", 3), CLASSES).digest == digest
    digests = {digest, find_images(first, CLASSES, limit=2).digest}
    digests.add(find_images(first, CLASSES[::-1]).digest)
    Image.new("L", (64, 56), 255).save(first / "00.thing.png")
    (first / "00.thing.png").rename(tmp_path / "2" / "00.thing.png")
    digests.add(find_images(first, CLASSES, masks=tmp_path / "2").digest)
    (first / "ant" / "00.png").rename(first / "ant" / "000.png")
    digests.add(find_images(first, CLASSES).digest)
    with (first / "ant" / "000.png").open("ab") as file:
        file.write(b"x")
    digests.add(find_images(first, CLASSES).digest)
    assert len(digests) == 6


def test_pixels_are_what_the_model_sees(tmp_path):
    class_folders(tmp_path, 1)
    preprocess = small_model().preprocess
    pixels = find_images(tmp_path, CLASSES).pixels("ant/00.png", preprocess)
    assert pixels.shape == (1, 3, SIZE, SIZE)
    assert torch.equal(pixels, preprocess(picture(0)))


def test_a_picture_that_cannot_be_read_is_an_input_error(tmp_path):
    class_folders(tmp_path, 1)
    (tmp_path / "ant" / "00.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"cannot read .*00\.png"):
        find_images(tmp_path, CLASSES).pixels("ant/00.png", small_model().preprocess)


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


def test_what_is_seen_of_all_pictures_is_said_once(tmp_path):
    class_folders(tmp_path, 3)
    for path in tmp_path.rglob("*.png"):
        Image.new("RGBA", (64, 56)).save(path)
    data = find_images(tmp_path, CLASSES)
    with pytest.warns(PictureWarning) as record:
        for image in data.images:
            data.pixels(image, small_model().preprocess)
    assert [str(warning.message).endswith("laid on white.") for warning in record] == [True]


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
    with pytest.raises(InputError, match=what):
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
def test_a_map_of_the_size_of_the_image_goes_the_way_of_the_image(maps, suffix):
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
    with pytest.raises(InputError, match=what):
        maps(values)


def test_each_image_needs_a_map(tmp_path):
    class_folders(tmp_path / "data", 2)
    save_pictures(tmp_path / "maps", ["00.png"])
    with pytest.raises(InputError, match=r"no saliency map of 'bee/01\.png'"):
        find_images(tmp_path / "data", CLASSES, saliency=tmp_path / "maps")
