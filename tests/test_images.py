"""A file becomes an upright RGB picture, or one clear sentence."""

import numpy as np
import pytest
import skimage.data
from PIL import Image

from captum_layermask.errors import InputError
from captum_layermask.images import example_image, read_image


def test_the_example_is_the_cat():
    assert np.array_equal(np.asarray(example_image()), skimage.data.chelsea())


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "CMYK"])
def test_every_colour_mode_becomes_rgb(tmp_path, mode):
    path = tmp_path / "picture.tiff"
    Image.new("RGB", (5, 4), (255, 255, 255)).convert(mode).save(path)
    picture = read_image(path)
    assert picture.mode == "RGB"
    assert picture.size == (5, 4)
    assert picture.getpixel((0, 0)) == (255, 255, 255)


def test_a_photo_taken_sideways_is_turned_upright(tmp_path):
    path = tmp_path / "sideways.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 4)).save(path, exif=exif)
    assert read_image(path).size == (4, 8)


def test_what_is_no_picture_is_an_error(tmp_path):
    text = tmp_path / "text.png"
    text.write_text("not a picture")
    cut = tmp_path / "cut.png"
    example_image().save(cut)
    cut.write_bytes(cut.read_bytes()[:5000])
    with pytest.raises(InputError, match="there is no file"):
        read_image(tmp_path / "absent.png")
    with pytest.raises(InputError, match="is a folder"):
        read_image(tmp_path)
    for path in (text, cut, tmp_path / ("x" * 300)):
        with pytest.raises(InputError, match="cannot read"):
            read_image(path)
