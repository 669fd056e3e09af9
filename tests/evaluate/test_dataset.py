"""A folder becomes images, with their classes, object masks and saliency maps."""

import os

import numpy as np
import pytest
import torch
from PIL import Image
from small_evaluation import CLASSES, SIZE, class_folders, picture, save_pictures, small_model

from captum_layermask import InputError, PictureWarning, UnknownNameError
from captum_layermask.errors import LeftOutError
from captum_layermask.evaluate.data.dataset import find_images
from captum_layermask.evaluate.data.folders import require_outside

THOUSAND = [f"class {index}" for index in range(1000)]
TABBY, GOLDFISH = "n02123045", "n01443537"  # classes 281 and 1


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


def labels_file(folder, name, content):
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder / name


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("val.txt", f"a.png {TABBY}\nb c.png\t1\n\n unused.png class 7\n"),
        ("val.txt", f"\ufeffa\t{TABBY}\r\nb c\tclass 1\r\n"),
        ("val.json", f'{{"a.png": "{TABBY}", "b c": 1, "unused": 3}}'),
        (
            "VAL.CSV",
            f"ImageId,PredictionString\nb c,{GOLDFISH} 1 1 2 2\na,{TABBY} 85 1 499 272 {GOLDFISH} 1 2 3 4 ",
        ),
    ],
)
def test_a_file_tells_the_labels_of_any_images(tmp_path, name, content):
    file = labels_file(tmp_path / "elsewhere", name, content)
    folder = save_pictures(tmp_path / "data", ["a.png", "b c.png"])
    assert find_images(folder, THOUSAND, labels=file).labels == {"a.png": 281, "b c.png": 1}


def test_a_file_of_labels_takes_the_place_of_the_layout(tmp_path):
    folder = save_pictures(tmp_path / "data", ["ant/1.png", "bee/1.png"])
    file = labels_file(tmp_path, "labels.txt", "ant/1.png fox\nbee/1 emu\n")
    assert find_images(folder, CLASSES, labels=file).labels == {"ant/1.png": 5, "bee/1.png": 4}


def test_labels_are_looked_for_nowhere(tmp_path):
    folder = save_pictures(tmp_path / "a" / "b" / "val", ["ILSVRC2012_val_00000001.JPEG"])
    for above in (folder, *folder.parents[:3]):
        labels_file(
            above, "LOC_val_solution.csv", f"ImageId,PredictionString\nILSVRC2012_val_00000001,{TABBY} 1"
        )
        labels_file(above, "ILSVRC2012_validation_ground_truth.txt", "1\n")
        labels_file(above, "meta.mat", b"MATLAB 5.0 MAT-file" + bytes(200))
    with pytest.raises(InputError, match=r"cannot tell the classes .* file of their labels"):
        find_images(folder, THOUSAND)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.txt", "a.png"),
        ("x.txt", b"a.png \xff"),
        ("x.txt", b"MATLAB 5.0 MAT-file\x00\xe2"),
        ("x.json", "{"),
        ("x.json", "[" * 100_000),
        ("x.json", '["ab"]'),
        ("x.json", '[["a.png", "ant"]]'),
        ("x.json", '{"a.png": true}'),
        ("x.json", '{"a.png": {"label": "ant"}}'),
        ("x.json", '{"a.png": ["ant"]}'),
        ("x.csv", "image,label\na.png,ant"),
        ("x.csv", "ImageId,PredictionString\na.png"),
        ("x.csv", "ImageId,PredictionString\na.png,"),
        ("x.csv", "ImageId,PredictionString\na.png," + "1" * 200_000),
    ],
)
def test_files_of_labels_that_make_no_sense(tmp_path, name, content):
    file = labels_file(tmp_path / "labels", name, content)
    with pytest.raises(InputError, match=rf"cannot read labels from .*{name}"):
        find_images(save_pictures(tmp_path / "data", ["a.png"]), CLASSES, labels=file)


@pytest.mark.parametrize(
    ("name", "content", "error", "what"),
    [
        ("x.txt", "b.png ant", InputError, "no label of 'a.png' in .*x.txt"),
        ("x.txt", "a.png be", UnknownNameError, "did you mean 'bee'"),
        ("x.txt", f"a.png {TABBY}", InputError, "ImageNet's 1000 classes and the model knows 6"),
        ("x.txt", "a.png ant\na.png bee", InputError, "two labels for 'a.png'"),
        ("x.json", '{"a.png": "ant", "a.png": "bee"}', InputError, "two labels for 'a.png'"),
        ("x.txt", "a.png " + "1" * 5000, InputError, "a label of 5000 letters"),
        ("x.json", '{"a.png": 6}', InputError, "there is no class 6"),
        ("no.txt", None, InputError, r"cannot read the labels .*no.txt' \(No such file"),
    ],
)
def test_labels_that_make_no_sense(tmp_path, name, content, error, what):
    file = tmp_path / name if content is None else labels_file(tmp_path / "labels", name, content)
    with pytest.raises(error, match=what):
        find_images(save_pictures(tmp_path / "data", ["a.png"]), CLASSES, labels=file)


def test_linked_folders_and_files_are_read_like_others(tmp_path):
    elsewhere = save_pictures(tmp_path / "elsewhere", ["cats/1.png", "cats/deep/2.png", "3.png"])
    folder = save_pictures(tmp_path / "data", ["ant/0.png"])
    (folder / "cat").symlink_to(elsewhere / "cats")
    (folder / "ant" / "1.png").symlink_to(elsewhere / "3.png")
    (tmp_path / "whole").symlink_to(folder)
    for where in (folder, tmp_path / "whole"):
        images = find_images(where, CLASSES).images
        assert images == ("ant/0.png", "ant/1.png", "cat/1.png", "cat/deep/2.png")


def test_links_in_a_circle_come_to_an_end(tmp_path):
    folder = save_pictures(tmp_path / "data", ["ant/0.png", "bee/1.png"])
    (folder / "ant" / "up").symlink_to(folder)
    (folder / "ant" / "bees").symlink_to(folder / "bee")
    (folder / "bee" / "ants").symlink_to(folder / "ant")
    images = find_images(folder, CLASSES).images
    assert images == ("ant/0.png", "ant/bees/1.png", "bee/1.png", "bee/ants/0.png")


def test_links_that_lead_nowhere_are_not_passed_over(tmp_path):
    folder = class_folders(tmp_path / "data", 1)
    (folder / "ant" / "gone.png").symlink_to(tmp_path / "gone.png")
    data = find_images(folder, CLASSES)
    assert data.images == ("ant/00.png", "ant/gone.png")
    with pytest.raises(LeftOutError, match="no file"):
        data.pixels("ant/gone.png", small_model().preprocess)
    (folder / "bee").symlink_to(tmp_path / "gone")
    with pytest.raises(InputError, match=r"the link .*bee' leads nowhere"):
        find_images(folder, CLASSES)


def test_a_folder_that_cannot_be_listed_is_not_passed_over(tmp_path, monkeypatch):
    folder = class_folders(tmp_path, 2)
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith("bee"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(InputError, match=r"cannot list the folder .*bee' \(Permission denied\)"):
        find_images(folder, CLASSES)


def test_what_is_no_file_is_not_waited_for(tmp_path):
    folder = class_folders(tmp_path, 1)
    os.mkfifo(folder / "ant" / "pipe.png")
    assert find_images(folder, CLASSES).images == ("ant/00.png",)


def test_names_that_are_no_text_get_one_that_is(tmp_path):
    folder = class_folders(tmp_path / "data", 1)
    odd = os.fsdecode(b"caf\xe9")
    picture(1).save(folder / "ant" / f"{odd}.png")
    (tmp_path / "masks").mkdir()
    Image.new("L", (64, 56), 255).save(tmp_path / "masks" / f"{odd}.{odd}.png")
    data = find_images(folder, CLASSES, masks=tmp_path / "masks")
    assert data.images == ("ant/00.png", "ant/caf\\xe9.png")
    assert data.labels["ant/caf\\xe9.png"] == 0
    preprocess = small_model().preprocess
    assert torch.equal(data.pixels("ant/caf\\xe9.png", preprocess), preprocess(picture(1)))
    assert data.mask("ant/caf\\xe9.png", "caf\\xe9", preprocess).all()
    picture(2).save(folder / "ant" / "caf\\xe9.png")
    with pytest.raises(InputError, match="two files are called"):
        find_images(folder, CLASSES)


@pytest.mark.parametrize("names", [[f"{TABBY}/a.png"], [f"{TABBY}_a.png"]])
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


def test_the_digest_stands_for_names_bytes_and_labels_wherever_they_lie(tmp_path):
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
    assert len(digests) == 5


def test_the_digest_stands_for_every_byte_of_every_file_that_is_read(tmp_path):
    folders = {"masks": tmp_path / "masks", "saliency": tmp_path / "maps"}
    class_folders(tmp_path / "data", 2)
    save_pictures(tmp_path / "masks", ["00.cat.png"])
    save_pictures(tmp_path / "maps", ["00.png", "01.png"])
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 5
    digests = {find_images(tmp_path / "data", CLASSES, **folders).digest}
    for file in files:
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
        digests.add(find_images(tmp_path / "data", CLASSES, **folders).digest)
    assert len(digests) == 6
    files[0].unlink()
    files[0].symlink_to(tmp_path / "gone.png")
    digests.add(find_images(tmp_path / "data", CLASSES, **folders).digest)
    assert len(digests) == 7


def test_a_run_does_not_write_where_it_reads(tmp_path):
    data, masks = tmp_path / "data", tmp_path / "masks"
    (tmp_path / "link").symlink_to(data)
    data.mkdir()
    for out in (data, data / "out", data / "deep" / "out", tmp_path / "link" / "out", masks / "x"):
        with pytest.raises(InputError, match="give a folder outside it"):
            require_outside(out, data, None, masks)
    for out in (tmp_path, tmp_path / "out", tmp_path / "data2"):
        require_outside(out, data, None, masks)


def test_pixels_are_what_the_model_sees(tmp_path):
    class_folders(tmp_path, 1)
    preprocess = small_model().preprocess
    pixels = find_images(tmp_path, CLASSES).pixels("ant/00.png", preprocess)
    assert pixels.shape == (1, 3, SIZE, SIZE)
    assert torch.equal(pixels, preprocess(picture(0)))


def test_a_picture_that_cannot_be_read_is_left_out(tmp_path):
    class_folders(tmp_path, 1)
    (tmp_path / "ant" / "00.png").write_bytes(b"nothing")
    with pytest.raises(LeftOutError, match=r"cannot read .*00\.png"):
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
def test_a_map_of_the_size_of_the_image_goes_the_removal_of_the_image(maps, suffix):
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
