"""Which class is explained, by its index or its name."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from captum_layermask.errors import InputError, UnknownNameError

__all__ = ["class_index", "find_class"]


def class_index(target: Any, class_names: Sequence[str]) -> int:
    """The index of one class.

    Args:
        target: its index (any integer, also NumPy's or of a tensor) or its name.
        class_names: one name per class.

    Raises:
        UnknownNameError: no class has this name; near matches are offered.
        InputError: no such index, several classes of this name, or anything else than an index or a name.
    """
    if isinstance(target, str):
        return find_class(class_names, target)
    try:
        index = operator.index(target)
    except TypeError:
        raise InputError(
            f"the target is {target!r}; give the index or the name of one class, and for several "
            "compare(targets=…)."
        ) from None
    return _checked(index, class_names)


def find_class(class_names: Sequence[str], name: str) -> int:
    """Find the index of a class that is given by its name or its index.

    Args:
        class_names: one name per class.
        name: a class name, upper or lower case, or a class index in decimal digits.

    Returns:
        The index, from 0.

    Raises:
        UnknownNameError: no class has this name; near matches are offered.
        InputError: the index is out of range, or several classes share the name.

    Example:
        ```python
        target = find_class(loaded.class_names, "tiger cat")  # 282 of ImageNet's
        ```
    """
    if name.isdecimal():
        return _checked(int(name), class_names)
    matches = [i for i, known in enumerate(class_names) if known == name]
    matches = matches or [i for i, known in enumerate(class_names) if known.lower() == name.lower()]
    if not matches:
        raise UnknownNameError("class", name, class_names, hint="Give a class name or its index.")
    if len(matches) > 1:
        raise InputError(
            f"{name!r} names several classes; give one of the indices {', '.join(map(str, matches))}."
        )
    return matches[0]


def _checked(index: int, class_names: Sequence[str]) -> int:
    if not 0 <= index < len(class_names):
        raise InputError(f"there is no class {index}; give an index from 0 to {len(class_names) - 1}.")
    return index
