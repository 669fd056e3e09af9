"""A folder becomes images of which nothing else is known."""

from __future__ import annotations

from pathlib import Path

from torchvision.datasets.folder import IMG_EXTENSIONS

from captum_layermask.errors import InputError
from captum_layermask.evaluate.data.dataset import Dataset
from captum_layermask.evaluate.data.folders import existing_folder, files_of
from captum_layermask.evaluate.digests import digest_of_files

__all__ = ["find_pictures"]

_SUFFIXES = (*IMG_EXTENSIONS, ".avif", ".gif")


def find_pictures(folder: str | Path) -> Dataset:
    """The images of a folder and its subfolders, whatever these are called; links are followed.

    Raises:
        InputError: no folder, no images, or a folder that cannot be listed.

    Example:
        ```python
        data = find_pictures("birds")
        ```
    """
    folder = existing_folder(folder)
    files = files_of(folder, *_SUFFIXES)
    if not files:
        raise InputError(
            f"there are no images in {str(folder)!r}; give a folder with {', '.join(_SUFFIXES)}."
        )
    digest = digest_of_files([(repr((image, None, "image")), path) for image, path in files.items()])
    return Dataset(folder, tuple(files), files, {}, {}, {}, digest)
