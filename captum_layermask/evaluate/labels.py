"""The layout of a folder tells what class each of its images is of."""

from __future__ import annotations

import csv
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import scipy.io

from captum_layermask.errors import InputError
from captum_layermask.models import find_class
from captum_layermask.wordnet import wnid_index, wnids

__all__ = ["LAYOUTS", "labels_of"]

#: The layouts, in words.
LAYOUTS = (
    "a folder for each class, named by its wnid, class name or index; ImageNet's own validation images with "
    "their labels; or files named <wnid>_*.JPEG"
)

_VALIDATION_IMAGE = re.compile(r"ILSVRC2012_val_\d{8}\.\w+")
_WNID = re.compile(r"n\d{8}")


def labels_of(folder: Path, images: Sequence[str], categories: Sequence[str]) -> dict[str, int]:
    """The class index of each image, or nothing where the layout does not tell classes.

    Args:
        folder: where the images lie. The labels of ImageNet's validation images are looked for there and
            up to three folders above: the devkit's ``ILSVRC2012_validation_ground_truth.txt`` and
            ``meta.mat``, also in folders ``data`` and ``*devkit*/data``; or Kaggle's
            ``LOC_val_solution.csv``.
        images: paths relative to the folder, with ``/``.
        categories: names of the model's classes.

    Raises:
        InputError: ImageNet's classes and a model of others, or no labels for validation images.
        UnknownNameError: a folder's name is no class of the model.
    """
    paths = [PurePosixPath(image) for image in images]
    flat = all(len(path.parts) == 1 for path in paths)
    index = functools.cache(functools.partial(_class_index, categories=categories))
    label: Callable[[PurePosixPath], int]
    if flat and all(_VALIDATION_IMAGE.fullmatch(path.name) for path in paths):
        _require_imagenet(categories)
        truth = _validation_labels(folder)
        label = functools.partial(_validation_label, truth)
    elif flat and all(_WNID.fullmatch(_before_underscore(path)) for path in paths):
        label = lambda path: index(_before_underscore(path))  # noqa: E731
    elif all(len(path.parts) > 1 for path in paths):
        label = lambda path: index(path.parts[0])  # noqa: E731
    else:
        return {}
    return {image: label(path) for image, path in zip(images, paths, strict=True)}


def _before_underscore(path: PurePosixPath) -> str:
    return path.name.partition("_")[0]


def _class_index(name: str, categories: Sequence[str]) -> int:
    if _WNID.fullmatch(name) and name not in categories:
        _require_imagenet(categories)
        return wnid_index(name)
    return find_class(categories, name)


def _require_imagenet(categories: Sequence[str]) -> None:
    if len(categories) != len(wnids()):
        raise InputError(
            f"the images are of ImageNet's {len(wnids())} classes and the model knows {len(categories)}; "
            "give images of the model's classes, in folders named after them."
        )


def _validation_labels(folder: Path) -> dict[str, int]:
    """Name of a validation image, without its suffix → class index."""
    bases = [folder, *folder.resolve().parents[:3]]
    for base in bases:
        for place in (base, base / "data", *sorted(base.glob("*devkit*/data"))):
            truth, meta = place / "ILSVRC2012_validation_ground_truth.txt", place / "meta.mat"
            if truth.is_file() and meta.is_file():
                return _read_devkit(truth, meta)
        if (base / "LOC_val_solution.csv").is_file():
            return _read_kaggle(base / "LOC_val_solution.csv")
    raise InputError(
        f"the labels of the validation images in {str(folder)!r} are missing; put the devkit's "
        "ILSVRC2012_validation_ground_truth.txt and meta.mat, or Kaggle's LOC_val_solution.csv, beside them."
    )


def _read_devkit(truth: Path, meta: Path) -> dict[str, int]:
    try:
        synsets = scipy.io.loadmat(meta, squeeze_me=True)["synsets"]
        indices = {
            int(synset["ILSVRC2012_ID"]): wnid_index(str(synset["WNID"]))
            for synset in synsets
            if int(synset["num_children"]) == 0
        }
        ids = map(int, truth.read_text().split())
        return {f"ILSVRC2012_val_{number:08d}": indices[id_] for number, id_ in enumerate(ids, 1)}
    except (OSError, LookupError, TypeError, ValueError, scipy.io.matlab.MatReadError) as error:
        raise InputError(
            f"cannot read labels from {str(truth)!r} and {str(meta)!r}; give them as the devkit has them."
        ) from error


def _read_kaggle(path: Path) -> dict[str, int]:
    try:
        with path.open(newline="") as file:
            return {
                row["ImageId"]: wnid_index(row["PredictionString"].split()[0]) for row in csv.DictReader(file)
            }
    except (OSError, LookupError, AttributeError, ValueError) as error:
        raise InputError(f"cannot read labels from {str(path)!r}; give it as Kaggle has it.") from error


def _validation_label(truth: Mapping[str, int], path: PurePosixPath) -> int:
    if path.stem not in truth:
        raise InputError(
            f"there is no label of the validation image {path.name!r}; give those of all images."
        )
    return truth[path.stem]
