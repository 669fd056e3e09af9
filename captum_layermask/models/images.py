"""A file becomes a picture, or one sentence."""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from captum_layermask.errors import InputError, PictureWarning

__all__ = ["as_rgb", "example_image", "read_grey", "read_image"]

#: Pillow's names. Its other formats are not tried: some start a program (EPS), few hold photographs.
_FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM")
_OFFER = "a complete PNG, JPEG (of 8 bits), WebP, AVIF, GIF, BMP, TIFF or PNM file"
_WHITE_IN_16_BITS = 65535


def example_image() -> Image.Image:
    """Return scikit-image's cat picture ``chelsea``, RGB, 451×300 pixels."""
    return Image.fromarray(skimage.data.chelsea())


def read_image(path: str | Path, *, said: set[str] | None = None) -> Image.Image:
    """Read a picture file, turned upright and converted to RGB.

    White in the file becomes 255, whatever its depth: 12 or 16 bits are scaled, floats go from 0 to 1.
    Transparent pixels are laid on white, and of several frames the first is read; a ``PictureWarning`` says
    so.

    Args:
        path: a PNG, JPEG, WebP, AVIF, GIF, BMP, TIFF or PNM file; its content decides, not its name. ``-`` is
            standard input.
        said: what was said of earlier pictures, and is not said again; what is said now is added.

    Returns:
        RGB, 8 bits for each channel, of any size; ``LoadedModel.preprocess`` takes it.

    Raises:
        InputError: there is no such file, it holds no readable picture or one that is too large, or it does
            not tell which number is white.
    """
    with _opened(Path(path)) as image:
        several, white = _has_several_frames(image), _white(image)
        picture, transparent = _on_white(_upright(image), white)
    _say(several, f"{str(path)!r} has several frames; the first is read.", "frames", said)
    _say(transparent, f"{str(path)!r} has transparent pixels; they are laid on white.", "transparency", said)
    return picture


def read_grey(path: str | Path) -> NDArray[np.float32]:
    """Read a picture file whose brightness means something: a mask or a map.

    Args:
        path: as for ``read_image``.

    Returns:
        H×W, from 0 (black) to 1 (white), in the file's own depth.

    Raises:
        InputError: as by ``read_image``, and for transparent pixels and several frames.
    """
    with _opened(Path(path)) as image:
        if _has_several_frames(image):
            raise InputError("it has several frames; save the one that is meant.")
        white, upright = _white(image), _upright(image)
        if white is not None:
            return _numbers(upright, white)
        picture, transparent = _on_white(upright, white)
        if transparent:
            raise InputError("it has transparent pixels, which are neither black nor white; make it opaque.")
        return np.asarray(picture.convert("L"), dtype=np.float32) / np.float32(255)


def as_rgb(picture: Image.Image) -> Image.Image:
    """Convert a picture of Pillow's to RGB, as ``read_image`` does; it is not turned.

    Raises:
        InputError: it does not tell which number is white.
    """
    converted, transparent = _on_white(picture, _white(picture))
    _say(transparent, "the picture has transparent pixels; they are laid on white.", "transparency", None)
    return converted


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The picture in a file; whatever goes wrong while it is open is one sentence."""
    name = str(path)
    try:
        if path.is_dir():
            raise IsADirectoryError
        if path.exists() and not path.is_file():
            raise InputError("it is no regular file.")  # a pipe would be waited for
        Image.init()
        source = _standard_input() if name == "-" else path
        with Image.open(source, formats=[known for known in _FORMATS if known in Image.OPEN]) as image:
            yield image
    except InputError as error:
        raise InputError(f"cannot read {name!r}: {error}") from error
    except FileNotFoundError as error:
        raise InputError(f"there is no file {name!r}; give the path of a picture.") from error
    except IsADirectoryError as error:
        raise InputError(f"{name!r} is a folder; give the path of a picture.") from error
    except UnidentifiedImageError as error:
        raise InputError(f"cannot read {name!r} as a picture of a known format; give {_OFFER}.") from error
    except (Image.DecompressionBombError, MemoryError) as error:
        raise InputError(f"{name!r} is too large a picture; scale it down.") from error
    except Exception as error:  # decoders raise what they like: struct.error, SyntaxError, KeyError, …
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"cannot read {name!r} as a picture ({reason}); give {_OFFER}.") from error


def _standard_input() -> io.BytesIO:
    if sys.stdin.isatty():
        raise InputError("standard input is a terminal; pipe a picture into it.")
    return io.BytesIO(sys.stdin.buffer.read())


def _has_several_frames(image: Image.Image) -> bool:
    """Whether there is more to see than the first frame; what MPO holds after a photograph is not."""
    return bool(getattr(image, "is_animated", False)) and image.format != "MPO"


def _upright(image: Image.Image) -> Image.Image:
    image.load()
    return ImageOps.exif_transpose(image)


def _white(image: Image.Image) -> float | None:
    """The number that is white in a picture of one channel of more than 8 bits; None for all others.

    Raises:
        InputError: numbers that Pillow hands on without saying what they mean.
    """
    tags: Any = getattr(image, "tag_v2", {})  # of a TIFF
    wide = image.mode.startswith(("I", "F"))
    if 2 in tags.get(ExifTags.Base.SampleFormat, ()):
        raise InputError("its numbers are signed; save them unsigned.")
    if wide and tags.get(ExifTags.Base.PhotometricInterpretation) == 0:
        raise InputError("0 is white in it; invert it.")
    stored = {tile[3] for tile in getattr(image, "tile", ())} if image.format == "PNG" else set()
    if "transparency" in image.info and (wide or stored & {"L;2", "L;4", "RGB;16B"}):
        raise InputError(
            "one of its colours is transparent and not of 8 bits; save it with 8 bits or an alpha channel."
        )
    if not wide:
        return None
    if image.mode == "F":
        return 1.0
    bits = tags.get(ExifTags.Base.BitsPerSample, (16,))[0]
    if bits > 16 or (image.mode == "I" and image.format not in ("PNG", "PPM")):
        raise InputError(
            "it has whole numbers of 32 bits and does not tell which is white; save it with 8 or 16 bits."
        )
    return float(2**bits - 1) if tags else _WHITE_IN_16_BITS


def _numbers(image: Image.Image, white: float) -> NDArray[np.float32]:
    values = np.asarray(image, dtype=np.float32)
    lowest, highest = values.min(), values.max()
    if not 0 <= lowest <= highest <= white:
        raise InputError(f"its pixels go from {lowest:g} to {highest:g}; rescale them to 0 to {white:g}.")
    return values / np.float32(white)


def _on_white(image: Image.Image, white: float | None) -> tuple[Image.Image, bool]:
    """RGB, and whether it had pixels that are not opaque."""
    if white is not None:
        return Image.fromarray(np.rint(_numbers(image, white) * 255).astype(np.uint8)).convert("RGB"), False
    if not image.has_transparency_data:
        return image.convert("RGB"), False
    rgba = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    paper = Image.new("RGBA", rgba.size, "white")
    opaque = rgba.getchannel("A").getextrema() == (255, 255)
    return Image.alpha_composite(paper, rgba).convert("RGB"), not opaque


def _say(true: bool, sentence: str, kind: str, said: set[str] | None) -> None:
    if true and (said is None or kind not in said):
        warnings.warn(sentence, PictureWarning, stacklevel=3)
    if true and said is not None:
        said.add(kind)
