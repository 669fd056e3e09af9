"""What class each image of a folder is of: its layout tells, or a file of labels."""

from __future__ import annotations

import csv
import functools
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from captum_layermask.errors import InputError
from captum_layermask.explain.targets import find_class
from captum_layermask.metrics.wordnet import wnid_index, wnids

__all__ = ["LAYOUTS", "labels_of", "read_labels"]

#: What tells classes, in words.
LAYOUTS = (
    "a folder for each class, named by its wnid, class name or index; files named <wnid>_*.JPEG; or any "
    "images and a file of their labels"
)

#: Letters of a label. Numbers and near matches of a name take the longer, the longer it is.
_LONGEST = 1000

_WNID = re.compile(r"n\d{8}")


def labels_of(
    images: Sequence[str], class_names: Sequence[str], labels: str | Path | None = None
) -> dict[str, int]:
    """The class index of each image, or nothing where neither the layout nor a file tells classes.

    Args:
        images: paths relative to their folder, with ``/``.
        class_names: names of the model's classes.
        labels: a file of labels (``read_labels``); it takes the place of the layout.

    Raises:
        InputError: ImageNet's classes and a model of others, a file of labels that cannot be read or lacks
            an image.
        UnknownNameError: a folder's name or a label is no class of the model.

    Example:
        ```python
        labels_of(["tabby/a.png"], model.class_names)  # {"tabby/a.png": 281}
        ```
    """
    paths = [PurePosixPath(image) for image in images]
    flat = all(len(path.parts) == 1 for path in paths)
    index = functools.cache(functools.partial(_class_index, class_names=class_names))
    name: Callable[[PurePosixPath], str]
    if labels is not None:
        name = functools.partial(_label, read_labels(labels), Path(labels))
    elif flat and all(_WNID.fullmatch(_before_underscore(path)) for path in paths):
        name = _before_underscore
    elif all(len(path.parts) > 1 for path in paths):
        name = lambda path: path.parts[0]  # noqa: E731
    else:
        return {}
    return {image: index(name(path)) for image, path in zip(images, paths, strict=True)}


def read_labels(path: str | Path) -> dict[str, str]:
    """Read a file of labels: image → wnid, class name or class index, as the file spells them.

    Three forms, told apart by the file's suffix, all in UTF-8:

    * ``.json``: one object, ``{"a.jpg": "n02123045", "b.jpg": 281}``;
    * ``.csv``: Kaggle's ``LOC_val_solution.csv``, with columns ``ImageId`` and ``PredictionString``, whose
      first word is a wnid;
    * any other: a line for each image, its name and its class, with a tab between them, or else a space.

    Images are named by their path in the folder of images, or by their name alone, with or without suffix.

    Raises:
        InputError: the file cannot be read, or names an image twice, or gives a label of over 1000 letters.

    Example:
        ```python
        read_labels("LOC_val_solution.csv")["ILSVRC2012_val_00000001"]  # "n01751748"
        ```
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
        pairs = list(_FORMS.get(path.suffix.lower(), _from_lines)(text))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"cannot read the labels {str(path)!r} ({reason}); give a readable file.") from error
    except (ValueError, LookupError, AttributeError, TypeError, RecursionError, csv.Error) as error:
        raise InputError(
            f"cannot read labels from {str(path)!r}; give lines of an image and its class, a JSON object "
            '{"image": "class"}, or Kaggle\'s LOC_val_solution.csv.'
        ) from error
    labels: dict[str, str] = {}
    for image, name in pairs:
        if len(name) > _LONGEST:
            raise InputError(f"{str(path)!r} gives {image!r} a label of {len(name)} letters; give a class.")
        if labels.setdefault(image, name) != name:
            raise InputError(f"{str(path)!r} gives two labels for {image!r}; give one for each image.")
    return labels


class _Object(list[tuple[str, Any]]):
    """A JSON object as its pairs: a dict would keep the last of equal names without a word."""


def _from_json(text: str) -> Iterator[tuple[str, str]]:
    pairs = json.loads(text, object_pairs_hook=_Object)
    if not isinstance(pairs, _Object):
        raise ValueError("not an object")
    for image, name in pairs:
        if isinstance(name, bool) or not isinstance(name, int | str):
            raise ValueError("neither a name nor an index")
        yield image, str(name)


def _from_csv(text: str) -> Iterator[tuple[str, str]]:
    for row in csv.DictReader(io.StringIO(text, newline="")):
        yield row["ImageId"], row["PredictionString"].split()[0]


def _from_lines(text: str) -> Iterator[tuple[str, str]]:
    for line in filter(None, map(str.strip, text.splitlines())):
        image, name = line.split("\t" if "\t" in line else None, 1)
        yield image.strip(), name.strip()


_FORMS: Mapping[str, Callable[[str], Iterator[tuple[str, str]]]] = {".json": _from_json, ".csv": _from_csv}


def _label(labels: Mapping[str, str], file: Path, image: PurePosixPath) -> str:
    for spelling in (str(image), str(image.with_suffix("")), image.name, image.stem):
        if spelling in labels:
            return labels[spelling]
    raise InputError(f"there is no label of {str(image)!r} in {str(file)!r}; give those of all images.")


def _before_underscore(path: PurePosixPath) -> str:
    return path.name.partition("_")[0]


def _class_index(name: str, class_names: Sequence[str]) -> int:
    if _WNID.fullmatch(name) and name not in class_names:
        _require_imagenet(class_names)
        return wnid_index(name)
    return find_class(class_names, name)


def _require_imagenet(class_names: Sequence[str]) -> None:
    if len(class_names) != len(wnids()):
        raise InputError(
            f"the images are of ImageNet's {len(wnids())} classes and the model knows {len(class_names)}; "
            "give images of the model's classes, in folders named after them."
        )
