"""Names of classes, from a file or of ImageNet."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torchvision

from captum_layermask.errors import InputError

__all__ = ["imagenet_class_names", "numbered_class_names", "read_class_names"]


def read_class_names(path: str | Path) -> tuple[str, ...]:
    """Read the names of the classes, in the order of a network's outputs.

    Args:
        path: UTF-8. A file ``.json`` holds a list of names; an object of names by index,
            ``{"0": "ant", "1": "bee"}``, or of indices by name, ``{"ant": 0, "bee": 1}``; or a configuration
            of transformers with its ``id2label``. Any other file has a name in each line.

    Raises:
        InputError: the file cannot be read, or holds anything else.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"the class names in {str(path)!r} are no UTF-8; save the file as such.") from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"cannot read class names from {str(path)!r} ({reason}); give a file.") from error
    names = _of_json(path, text) if path.suffix.lower() == ".json" else text.rstrip().splitlines()
    if not names:
        raise InputError(f"there are no class names in {str(path)!r}; give a name for each class.")
    for number, name in enumerate(names):
        if not isinstance(name, str) or not name.strip():
            raise InputError(f"the class name number {number + 1} in {str(path)!r} is {name!r}; give a text.")
    return tuple(name.strip() for name in names)


def imagenet_class_names() -> tuple[str, ...]:
    """The names of ImageNet's 1000 classes."""
    return tuple(torchvision.models.ResNet50_Weights.IMAGENET1K_V2.meta["categories"])


def numbered_class_names(count: int) -> tuple[str, ...]:
    """``class 0``, ``class 1``, …, for classes without names."""
    return tuple(f"class {index}" for index in range(count))


def _of_json(path: Path, text: str) -> Sequence[Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{str(path)!r} is no JSON ({error}); give a list of class names.") from error
    if isinstance(content, dict):
        content = content.get("id2label", content)
    if isinstance(content, dict):
        content = _by_index(path, content)
    if not isinstance(content, list):
        raise InputError(f"{str(path)!r} holds {content!r:.40}; give a list of class names.")
    return content


def _by_index(path: Path, names: dict[str, Any]) -> list[Any]:
    if all(type(index) is int for index in names.values()):
        pairs = [(index, name) for name, index in names.items()]
    elif all(key.isdecimal() for key in names):
        pairs = [(int(key), name) for key, name in names.items()]
    else:
        raise InputError(f'{str(path)!r} holds no class names by index, such as {{"0": "ant"}}.')
    by_index = dict(pairs)
    if sorted(by_index) != list(range(len(pairs))):
        raise InputError(
            f"the indices in {str(path)!r} have gaps or come twice; number the classes from 0 to "
            f"{len(pairs) - 1}."
        )
    return [by_index[index] for index in range(len(pairs))]
