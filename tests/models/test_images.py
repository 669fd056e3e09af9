"""A file becomes an upright RGB picture in which white is white, or one clear sentence."""

import io
import os
import re
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import EpsImagePlugin, ExifTags, Image, TiffImagePlugin
from small_evaluation import small_model
from versions import reads_all_modes

from captum_layermask import InputError, PictureWarning
from captum_layermask.models.images import as_rgb, example_image, read_grey, read_image

PAGE = (Path(__file__).parents[2] / "docs" / "evaluate.md").read_text()
RAMP = np.linspace(0, 1, 256).reshape(8, 32)  # all of 8 bits


@pytest.fixture(autouse=True)
def strict():
    """What is not expected to be said is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", PictureWarning)
        yield


@pytest.fixture
def saved(tmp_path):
    """A function that saves a picture, or bytes, under a name."""

    def save(content, name="picture.png", **options):
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            content.save(path, **options)
        return path

    return save


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(values, bits, colour, transparent=b""):
    """A PNG file of rows of bytes, in any of the depths and kinds of colour that the format knows."""
    rows = b"".join(b"\0" + row for row in values)
    width = len(values[0]) * 8 // bits // {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    head = struct.pack(">IIBBBBB", width, len(values), bits, colour, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"tRNS", transparent), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*it) for it in chunks if it[1] or it[0] != b"tRNS")


def tiff(data, size, bits, **tags):
    """A TIFF file of one uncompressed strip; Pillow adds where it begins."""
    ifd = TiffImagePlugin.ImageFileDirectory_v2()
    ifd.tagtype |= dict.fromkeys((258, 339), 3)
    known = {"ImageWidth": size[0], "ImageLength": size[1], "BitsPerSample": bits, "Compression": 1}
    known |= {"PhotometricInterpretation": 1, "RowsPerStrip": size[1], "SamplesPerPixel": 1}
    known |= {"StripByteCounts": len(data), "StripOffsets": 0}
    for name, value in (known | tags).items():
        ifd[ExifTags.Base[name].value] = value
    return b"II*\0" + struct.pack("<I", 8) + ifd.tobytes(8) + data


def twelve_bits(values):
    """Rows of numbers below 4096, two of them in three bytes."""
    left, right = values[:, ::2].astype(int), values[:, 1::2].astype(int)
    return np.stack([left >> 4, (left & 15) << 4 | right >> 8, right & 255], -1).astype(np.uint8).tobytes()


def sixteen(dtype="<u2"):
    return np.rint(RAMP * 65535).astype(dtype)


def test_the_example_is_the_cat():
    assert np.array_equal(np.asarray(example_image()), skimage.data.chelsea())


@pytest.mark.parametrize(
    "mode", ["1", "L", "P", "LA", "PA", "RGB", "RGBA", "CMYK", pytest.param("YCbCr", marks=reads_all_modes)]
)
@pytest.mark.parametrize("colour", ["white", "black"])
def test_every_colour_mode_becomes_rgb(saved, mode, colour):
    """JPEG's CMYK is inverted, in TIFF it is not; both are white where they are white."""
    plain = Image.new("RGB", (5, 4), colour)
    image = plain.convert("P").convert("PA") if mode == "PA" else plain.convert(mode)
    for name in ("x.tiff", *(["x.jpg"] if mode == "CMYK" else [])):
        picture = read_image(saved(image, name))
        assert picture.mode == "RGB"
        assert np.array_equal(np.asarray(picture), np.asarray(plain))


DEEP = {
    "PNG of 16 bits": lambda: png([row.tobytes() for row in sixteen(">u2")], 16, 0),
    "PNG of 16 bits, RGB": lambda: png([row.tobytes() for row in sixteen(">u2").repeat(3, 1)], 16, 2),
    "PGM of 16 bits": lambda: b"P5 32 8 65535\n" + sixteen(">u2").tobytes(),
    "PGM of 12 bits": lambda: b"P5 32 8 4095\n" + np.rint(RAMP * 4095).astype(">u2").tobytes(),
    "plain PGM of 10 bits": lambda: (
        b"P2 32 8 1023\n" + " ".join(map(str, np.rint(RAMP * 1023).astype(int).flat)).encode()
    ),
    "PFM": lambda: b"Pf\n32 8\n-1.0\n" + RAMP[::-1].astype("<f4").tobytes(),
    "TIFF of 12 bits": lambda: tiff(twelve_bits(np.rint(RAMP * 4095)), (32, 8), 12),
    "TIFF of 16 bits": lambda: tiff(sixteen().tobytes(), (32, 8), 16),
    "TIFF of floats": lambda: tiff(RAMP.astype("<f4").tobytes(), (32, 8), 32, SampleFormat=3),
}


@pytest.mark.parametrize("kind", DEEP)
def test_every_depth_keeps_its_black_white_and_greys(saved, kind):
    path = saved(DEEP[kind]())
    expected = np.rint(RAMP * 255)[..., None].repeat(3, 2)
    assert np.abs(np.asarray(read_image(path)) - expected).max() <= 1
    grey = read_grey(path)
    assert grey.dtype == np.float32
    tolerance = 1 / 255 if "RGB" in kind else 1 / 1023
    assert np.abs(grey - RAMP).max() <= tolerance


def test_dark_pictures_of_16_bits_stay_dark(saved):
    """The file's depth decides, not what is in it."""
    path = saved(Image.fromarray(np.full((4, 4), 255, np.uint16)))
    assert np.asarray(read_image(path)).max() == 1
    assert read_grey(path) == pytest.approx(255 / 65535)


REFUSED = {
    "floats up to 255": (tiff((RAMP * 255).astype("<f4").tobytes(), (32, 8), 32, SampleFormat=3), "0 to 255"),
    "floats below 0": (tiff((RAMP - 1).astype("<f4").tobytes(), (32, 8), 32, SampleFormat=3), "-1 to 0"),
    "NaN": (tiff(np.full((8, 32), np.nan, "<f4").tobytes(), (32, 8), 32, SampleFormat=3), "nan"),
    "32 bits": (tiff(sixteen("<u4").tobytes(), (32, 8), 32), "32 bits"),
    "signed 16 bits": (tiff(sixteen("<i2").tobytes(), (32, 8), 16, SampleFormat=2), "signed"),
    "signed 8 bits": (tiff(bytes(256), (32, 8), 8, SampleFormat=2), "signed"),
    "inverted 16 bits": (tiff(sixteen().tobytes(), (32, 8), 16, PhotometricInterpretation=0), "0 is white"),
    "a transparent grey of 16 bits": (png([bytes(8)], 16, 0, b"\0\0"), "one of its colours"),
    "a transparent colour of 16 bits": (png([bytes(12)], 16, 2, bytes(6)), "one of its colours"),
    "a transparent grey of 2 bits": (png([b"\x1b"], 2, 0, b"\0\1"), "one of its colours"),
    "a transparent grey of 4 bits": (png([b"\x1b"], 4, 0, b"\0\1"), "one of its colours"),
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("read", [read_image, read_grey])
def test_numbers_whose_white_is_unknown_are_refused(saved, kind, read):
    data, what = REFUSED[kind]
    with pytest.raises(InputError, match=f"cannot read '.*picture.png': .*{what}"):
        read(saved(data))


def with_hole(mode):
    """Red, with a left half whose colour nobody sees."""
    image = Image.new("RGBA", (8, 4), (255, 0, 0, 255))
    image.paste((0, 0, 255, 0), (0, 0, 4, 4))
    if mode == "P":
        image = image.convert("RGB").quantize(2, dither=Image.Dither.NONE)
        image.info["transparency"] = image.getpixel((0, 0))
    elif mode == "P, half transparent":
        image = image.convert("RGB").quantize(2, dither=Image.Dither.NONE)
        image.info["transparency"] = bytes(255 * (i != image.getpixel((0, 0))) for i in range(2))
    elif mode == "PA":
        alpha = image.getchannel("A")
        image = image.convert("RGB").convert("P").convert("PA")
        image.putalpha(alpha)
    elif mode == "RGB":
        image = image.convert("RGB")
        image.info["transparency"] = (0, 0, 255)
    else:
        image = image.convert(mode)
    return image


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        ("RGBA", "x.png"),
        ("LA", "x.png"),
        ("P", "x.png"),
        ("P, half transparent", "x.png"),
        ("RGB", "x.png"),
        ("PA", "x.tiff"),
        ("RGBA", "x.tiff"),
        ("LA", "x.tiff"),
        ("P", "x.gif"),
        ("RGBA", "x.webp"),
        ("RGBA", "x.avif"),
    ],
)
def test_transparency_is_laid_on_white_and_said(saved, mode, name):
    image = with_hole(mode)
    options = {"transparency": image.info["transparency"]} if "transparency" in image.info else {}
    options |= {"x.webp": {"lossless": True}, "x.avif": {"quality": 100, "subsampling": "4:4:4"}}.get(
        name, {}
    )
    path = saved(image, name, **options)
    with pytest.warns(PictureWarning, match=rf"{name}' has transparent pixels; they are laid on white"):
        pixels = np.asarray(read_image(path)).astype(int)
    assert (pixels[:, :4] == 255).all()
    seen = [76, 76, 76] if mode == "LA" else [255, 0, 0]
    assert np.abs(pixels[:, 4:] - seen).max() <= (2 if name == "x.avif" else 0)
    with pytest.raises(InputError, match="transparent pixels, which are neither black nor white"):
        read_grey(path)


@reads_all_modes
def test_premultiplied_greys_are_mixed_with_white(saved):
    path = saved(tiff(bytes([0, 0, 50, 127, 255, 255]), (3, 1), (8, 8), SamplesPerPixel=2, ExtraSamples=1))
    with pytest.warns(PictureWarning):
        greys = np.asarray(read_image(path))[0, :, 0].astype(int)
    assert np.abs(greys - [255, 178, 255]).max() <= 1


def test_half_transparent_pixels_are_mixed_with_white(saved):
    with pytest.warns(PictureWarning):
        picture = read_image(saved(Image.new("RGBA", (2, 2), (0, 0, 0, 127))))
    assert picture.getpixel((0, 0)) == (128, 128, 128)


def test_an_opaque_alpha_channel_is_nothing_to_speak_of(saved):
    path = saved(example_image().convert("RGBA"))
    assert np.array_equal(np.asarray(read_image(path)), skimage.data.chelsea())
    assert read_grey(path).shape == (300, 451)


@pytest.mark.parametrize("name", ["x.gif", "x.png", "x.webp", "x.tiff", "x.avif"])
def test_of_several_frames_the_first_is_read_and_that_is_said(saved, name):
    red, blue = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    path = saved(red, name, save_all=True, append_images=[blue, blue])
    with pytest.warns(PictureWarning, match=rf"{name}' has several frames; the first is read"):
        picture = read_image(path)
    assert np.abs(np.subtract(picture.getpixel((3, 3)), (255, 0, 0))).max() <= 2
    with pytest.raises(InputError, match="several frames; save the one"):
        read_grey(path)


def test_what_a_telephone_hides_behind_a_photograph_is_no_frame(saved):
    path = saved(example_image(), "x.mpo", save_all=True, append_images=[Image.new("RGB", (8, 8))])
    assert read_image(path).size == (451, 300)


def test_what_was_said_is_not_said_again(saved):
    path = saved(with_hole("RGBA"))
    said = set()
    with pytest.warns(PictureWarning) as record:
        for _ in range(3):
            read_image(path, said=said)
    assert len(record) == 1


@pytest.mark.parametrize("name", ["x.jpg", "x.png", "x.tiff", "x.webp", "x.avif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_taken_sideways_is_turned_upright(saved, name, orientation):
    upright = Image.new("RGB", (16, 8), "white")
    upright.paste("black", (0, 0, 4, 4))
    method = Image.Transpose
    stored = {
        1: upright,
        2: upright.transpose(method.FLIP_LEFT_RIGHT),
        3: upright.transpose(method.ROTATE_180),
        4: upright.transpose(method.FLIP_TOP_BOTTOM),
        5: upright.transpose(method.TRANSPOSE),
        6: upright.transpose(method.ROTATE_90),
        7: upright.transpose(method.TRANSVERSE),
        8: upright.transpose(method.ROTATE_270),
    }[orientation]
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    picture = read_image(saved(stored, name, exif=exif))
    assert picture.size == (16, 8)
    assert np.abs(np.asarray(picture, dtype=int) - np.asarray(upright, dtype=int)).mean() < 20


def test_deep_pictures_are_turned_upright(saved):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    path = saved(Image.fromarray(sixteen()), exif=exif)
    assert np.array_equal(read_grey(path), np.rot90(np.float32(sixteen()) / np.float32(65535), -1))
    assert read_image(path).size == (8, 32)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WebP", "AVIF", "GIF", "BMP", "TIFF", "PNM"])
def test_the_formats_of_the_documentation_are_read_whatever_a_file_is_called(saved, kind):
    path = saved(b"", "x.txt")
    example_image().save(path, kind.replace("PNM", "PPM"))
    assert read_image(path).size == (451, 300)
    assert kind in re.search(r"^Pictures, .*?files\.", PAGE, re.DOTALL | re.MULTILINE)[0]


def test_a_jpeg_of_12_bits_is_refused(saved):
    path = saved(example_image(), "x.jpg")
    data = bytearray(path.read_bytes())
    data[data.index(b"\xff\xc0") + 4] = 12
    with pytest.raises(InputError, match=r"cannot read .* as a picture .*JPEG \(of 8 bits\)"):
        read_image(saved(bytes(data)))


@pytest.mark.parametrize("name", ["x.eps", "x.dds", "x.tga", "x.pdf", "x.icns", "x.jp2"])
def test_other_formats_are_not_tried(saved, name, monkeypatch):
    started = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *args, **options: started.append(args))
    path = saved(Image.new("RGB", (16, 16)), name).rename(saved(b"").with_name("x.png"))
    with pytest.raises(InputError, match=r"cannot read .* as a picture of a known format; give a complete"):
        read_image(path)
    assert not started


def test_a_picture_that_is_too_large_is_not_called_incomplete(saved, monkeypatch):
    path = saved(example_image())
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(InputError, match=r"picture.png' is too large a picture; scale it down") as caught:
        read_image(path)
    assert "complete" not in str(caught.value)


@pytest.mark.parametrize(
    "error",
    [struct.error("x"), SyntaxError("x"), OverflowError("x"), KeyError("x"), RuntimeError(), EOFError()],
)
def test_whatever_a_decoder_raises_is_one_sentence(saved, monkeypatch, error):
    path = saved(example_image())
    reason = str(error) or type(error).__name__

    def load(self):
        raise error

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", load)
    for read in (read_image, read_grey):
        with pytest.raises(InputError, match=rf"cannot read .* as a picture \({reason}\); give a complete"):
            read(path)


def test_too_little_memory_is_one_sentence(saved, monkeypatch):
    path = saved(example_image())
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", lambda self: [0] * 2**60)
    with pytest.raises(InputError, match="too large a picture"):
        read_image(path)


def test_what_is_no_picture_is_an_error(tmp_path):
    text = tmp_path / "text.png"
    text.write_text("not a picture")
    cut = tmp_path / "cut.png"
    example_image().save(cut)
    cut.write_bytes(cut.read_bytes()[:5000])
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(InputError, match="there is no file"):
        read_image(tmp_path / "absent.png")
    with pytest.raises(InputError, match="is a folder"):
        read_image(tmp_path)
    for path in (text, cut, pipe, tmp_path / ("x" * 300)):
        with pytest.raises(InputError, match="cannot read"):
            read_image(path)


class Pipe(io.BytesIO):
    """Standard input."""

    terminal = False

    def isatty(self):
        return self.terminal

    @property
    def buffer(self):
        return self


def test_a_picture_can_be_piped_in(saved, monkeypatch):
    path = saved(example_image())
    monkeypatch.setattr("sys.stdin", Pipe(path.read_bytes()))
    assert read_image("-").tobytes() == example_image().tobytes()
    with pytest.raises(InputError, match="cannot read '-' as a picture"):
        read_image("-")  # the pipe is empty


def test_a_terminal_is_not_waited_for(monkeypatch):
    monkeypatch.setattr("sys.stdin", Pipe())
    monkeypatch.setattr(Pipe, "terminal", True)
    with pytest.raises(InputError, match="standard input is a terminal"):
        read_image("-")


def test_models_take_pictures_as_files_are_taken():
    """A picture that the user opened is converted as ``read_image`` does it."""
    preprocess = small_model().preprocess
    for dtype, white in ((np.uint16, 65535), (np.float32, 1)):
        grey = Image.fromarray((np.full((64, 64), white) / 2).astype(dtype))
        assert preprocess(grey).mean() == pytest.approx(0.5, abs=0.01)
        assert as_rgb(grey).mode == "RGB"
    with pytest.warns(PictureWarning, match="the picture has transparent pixels"):
        assert (preprocess(Image.new("RGBA", (64, 64))) == 1).all()
    with pytest.raises(InputError, match="32 bits"):
        preprocess(Image.fromarray(np.zeros((64, 64), np.int32)))
