"""A file becomes a picture."""

from __future__ import annotations

from pathlib import Path

import skimage.data
from PIL import Image, ImageOps

from captum_layermask.errors import InputError

__all__ = ["example_image", "read_image"]


def example_image() -> Image.Image:
    """Return scikit-image's cat picture ``chelsea``, RGB, 451×300 pixels."""
    return Image.fromarray(skimage.data.chelsea())


def read_image(path: str | Path) -> Image.Image:
    """Read a picture file, turned upright and converted to RGB.

    Args:
        path: a file of any format that Pillow reads.

    Returns:
        RGB, 8 bits for each channel, of any size; ``LoadedModel.preprocess`` takes it.

    Raises:
        InputError: there is no such file, or it does not hold a readable picture.
    """
    path = Path(path)
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except FileNotFoundError as error:
        raise InputError(f"there is no file {str(path)!r}; give the path of a picture.") from error
    except IsADirectoryError as error:
        raise InputError(f"{str(path)!r} is a folder; give the path of a picture.") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(
            f"cannot read {str(path)!r} as a picture; give a complete PNG, JPEG or other file "
            "that Pillow reads."
        ) from error
