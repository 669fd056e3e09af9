"""A folder becomes images, with their classes, object masks and saliency maps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS

from captum_layermask.errors import InputError, LeftOutError
from captum_layermask.evaluate.data.arrays import read_array
from captum_layermask.evaluate.data.folders import existing_folder, files_of
from captum_layermask.evaluate.data.labels import LAYOUTS, labels_of
from captum_layermask.evaluate.digests import digest_of_files
from captum_layermask.models.images import read_grey, read_image

__all__ = ["Dataset", "find_images"]

T = TypeVar("T")
_Preprocess = Callable[[Image.Image], Tensor]


@dataclass(frozen=True)
class Dataset:
    """The images of a folder.

    Attributes:
        folder: where they lie.
        images: ids, sorted: paths relative to the folder, with ``/`` (``folders.files_of``).
        files: id → file.
        labels: id → class index; empty where nothing tells classes.
        masks: id → category → file of the mask of all its objects; without the images that have none.
        saliency_maps: id → file; empty where no maps were given.
        digest: 64 hexadecimal digits, of the ids, the labels, and the names and bytes of all files.

    Example:
        ```python
        data = find_images("val", model.class_names)
        pixels = data.pixels(data.images[0], model.preprocess)
        ```
    """

    folder: Path
    images: tuple[str, ...]
    files: Mapping[str, Path]
    labels: Mapping[str, int]
    masks: Mapping[str, Mapping[str, Path]]
    saliency_maps: Mapping[str, Path]
    digest: str
    _said: set[str] = field(default_factory=set, init=False, repr=False, compare=False)

    def pixels(self, image: str, preprocess: _Preprocess) -> Tensor:
        """The image as a model sees it before normalisation.

        Args:
            image: id.
            preprocess: the geometry of the model (``LoadedModel.preprocess``).

        Returns:
            Float 1×3×H×W in [0, 1].

        Raises:
            LeftOutError: the file cannot be read.
        """
        return preprocess(self._picture(image))

    def mask(self, image: str, category: str, preprocess: _Preprocess) -> Tensor:
        """Where the objects of a category are.

        Args:
            image: id.
            category: one of ``masks[image]``.
            preprocess: as for ``pixels``; the mask is resized and cropped like its image.

        Returns:
            Bool 1×1×H×W, true where the mask is at least half white.

        Raises:
            LeftOutError: the file cannot be read, has another size than the image, or has no white pixel.
        """
        path = self.masks[image][category]
        mask = _read(read_grey, path)
        height, width = mask.shape
        _check_size(path, (width, height), self._picture(image).size)
        if mask.max() < 0.5:
            raise LeftOutError(
                f"{str(path)!r} has no white pixel; draw objects with 255 (or 65535 in 16 bits), not with 1."
            )
        return preprocess(_eight_bits(mask))[:, :1] >= 0.5

    def saliency(self, image: str, preprocess: _Preprocess) -> Tensor:
        """How much each pixel matters, by the saliency map of the image.

        A map of the size of the image is resized and cropped like it, in 8 bits; one of the size of the
        model's input is taken as it is.

        Args:
            image: id.
            preprocess: as for ``pixels``.

        Returns:
            Float 1×1×H×W, not negative, on any scale.

        Raises:
            LeftOutError: the file cannot be read, has another size, or values below 0 or not finite.
        """
        path = self.saliency_maps[image]
        values = _map_values(path)
        picture = self._picture(image)
        height, width = values.shape
        if picture.size != (width, height) and preprocess(picture).shape[2:] == values.shape:
            return torch.from_numpy(values)[None, None]
        _check_size(path, (width, height), picture.size)
        return preprocess(_eight_bits(values / (values.max() or 1)))[:, :1]

    def _picture(self, image: str) -> Image.Image:
        return _read(lambda path: read_image(path, said=self._said), self.files[image])


def find_images(
    folder: str | Path,
    class_names: Sequence[str],
    *,
    masks: str | Path | None = None,
    saliency: str | Path | None = None,
    labels: str | Path | None = None,
    limit: int | None = None,
    labelled: bool = True,
) -> Dataset:
    """Find the images of a folder, and what class each is of.

    Two layouts tell classes: a folder for each class, named by its wnid (for models of ImageNet's 1000
    classes), class name or index; files named ``<wnid>_*.JPEG``. A file of labels tells those of any images.
    Links are followed.

    Args:
        folder: where the images lie.
        class_names: names of the model's classes.
        masks: folder of object masks ``<image>.<category>.png``, where ``<image>`` is the name of an image
            without its suffix, and white is the object. They lie in the folder itself, or in the same
            subfolders as the images.
        saliency: folder of saliency maps, ``<image>.png`` or ``<image>.npy`` (H×W), which lie likewise.
        labels: a file of labels (``labels.read_labels``).
        limit: take so many images, spread evenly over the sorted ones.
        labelled: whether a folder that does not tell classes is an error.

    Raises:
        InputError: no folder, no images, no classes, no mask of any image, an image without a saliency map
            or a label, a limit below 1, or a folder that cannot be listed.
        UnknownNameError: a folder's name or a label is no class of the model.

    Example:
        ```python
        data = find_images("val", model.class_names, limit=100)
        print(len(data.images), data.labels[data.images[0]])
        ```
    """
    folder = existing_folder(folder)
    files = files_of(folder, *IMG_EXTENSIONS)
    images = list(files)
    if not images:
        raise InputError(f"there are no images in {str(folder)!r}; give {LAYOUTS}.")
    if limit is not None and limit < 1:
        raise InputError(f"the limit is {limit}; give at least 1 image.")
    if limit is not None and limit < len(images):
        images = [images[place * len(images) // limit] for place in range(limit)]
    label_of = labels_of(images, class_names, labels)
    if labelled and not label_of:
        raise InputError(f"cannot tell the classes of the images in {str(folder)!r}; give {LAYOUTS}.")
    masks_of = {} if masks is None else _masks(images, existing_folder(masks))
    maps = {} if saliency is None else _saliency_maps(images, existing_folder(saliency))
    read = [
        (repr((image, label_of.get(image), what)), path)
        for image in images
        for what, path in (
            ("image", files[image]),
            *sorted(masks_of.get(image, {}).items()),
            *([(maps[image].suffix, maps[image])] if maps else []),
        )
    ]
    return Dataset(
        folder,
        tuple(images),
        {image: files[image] for image in images},
        label_of,
        masks_of,
        maps,
        digest_of_files(read),
    )


def _masks(images: Sequence[str], folder: Path) -> dict[str, dict[str, Path]]:
    masks: dict[str, dict[str, Path]] = {}
    for file, path in files_of(folder, ".png").items():
        name, _, category = PurePosixPath(file).stem.rpartition(".")
        if name:
            masks.setdefault(str(PurePosixPath(file).with_name(name)), {})[category] = path
    found = _by_image(images, masks)
    if not found:
        raise InputError(
            f"no mask in {str(folder)!r} belongs to an image; name masks <image>.<category>.png, where "
            "<image> is the name of an image without its suffix."
        )
    return found


def _saliency_maps(images: Sequence[str], folder: Path) -> dict[str, Path]:
    files = files_of(folder, ".png", ".npy")
    maps = _by_image(images, {str(PurePosixPath(file).with_suffix("")): path for file, path in files.items()})
    for image in images:
        if image not in maps:
            raise InputError(
                f"there is no saliency map of {image!r} in {str(folder)!r}; give one of each image."
            )
    return maps


def _by_image(images: Sequence[str], found: Mapping[str, Any]) -> dict[str, Any]:
    """What belongs to each image: what has its path without the suffix, or else its name alone."""
    paths = {image: PurePosixPath(image).with_suffix("") for image in images}
    count = Counter(path.name for path in paths.values())
    belonging = {}
    for image, path in paths.items():
        if str(path) in found:
            belonging[image] = found[str(path)]
        elif path.name in found:
            if count[path.name] > 1:
                raise InputError(
                    f"{count[path.name]} images are called {path.name!r}; put what belongs to them into the "
                    "same subfolders as the images."
                )
            belonging[image] = found[path.name]
    return belonging


def _map_values(path: Path) -> NDArray[np.float32]:
    if path.suffix.lower() == ".png":
        return _read(read_grey, path)
    values = _read(read_array, path)
    if values.ndim != 2 or 0 in values.shape or not np.isfinite(values).all() or values.min() < 0:
        raise LeftOutError(
            f"{str(path)!r} is no saliency map; give an array H×W of finite numbers that are not negative."
        )
    return values


def _eight_bits(values: NDArray[np.float32]) -> Image.Image:
    """A picture of values from 0 to 1."""
    return Image.fromarray(np.rint(values * 255).astype(np.uint8))


def _check_size(path: Path, size: tuple[int, int], of_image: tuple[int, int]) -> None:
    if size != of_image:
        raise LeftOutError(
            f"{str(path)!r} is {size[0]}×{size[1]} pixels and its image {of_image[0]}×{of_image[1]}; give it "
            "the size of the image."
        )


def _read(read: Callable[[Path], T], path: Path) -> T:
    try:
        return read(path)
    except InputError as error:
        raise LeftOutError(str(error)) from error
