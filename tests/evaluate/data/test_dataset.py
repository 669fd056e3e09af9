"""Images, how many are taken, what the model sees of them, and the digest of all."""

import pytest
import torch
from PIL import Image
from small_evaluation import CLASSES, SIZE, class_folders, picture, save_pictures, small_model

from captum_layermask import InputError, PictureWarning
from captum_layermask.errors import LeftOutError
from captum_layermask.evaluate.data.dataset import find_images


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


def test_what_is_seen_of_all_pictures_is_said_once(tmp_path):
    class_folders(tmp_path, 3)
    for path in tmp_path.rglob("*.png"):
        Image.new("RGBA", (64, 56)).save(path)
    data = find_images(tmp_path, CLASSES)
    with pytest.warns(PictureWarning) as record:
        for image in data.images:
            data.pixels(image, small_model().preprocess)
    assert [str(warning.message).endswith("laid on white.") for warning in record] == [True]
