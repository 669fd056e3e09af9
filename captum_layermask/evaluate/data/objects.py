"""Which classes are right for the object of a mask."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from captum_layermask.metrics.wordnet import classes_under

__all__ = ["object_classes", "objects_with_classes"]

_IMAGENET = 1000


def object_classes(category: str, class_names: Sequence[str]) -> tuple[int, ...]:
    """The classes that a category of objects stands for, sorted; () if none does.

    Args:
        category: a name such as ``traffic_light``; case and underscores do not count. For a network with
            ImageNet's 1000 classes it may be a wnid or any noun above them (``classes_under``).
        class_names: one name per class of the network.

    Example:
        ```python
        object_classes("hot_dog", ["cat", "Hot dog"])  # (1,)
        ```
    """
    if len(class_names) == _IMAGENET:
        return classes_under(category)
    name = _plain(category)
    return tuple(i for i, known in enumerate(class_names) if _plain(known) == name)


def objects_with_classes(
    masks: Collection[str], label: int | None, class_names: Sequence[str]
) -> dict[str, tuple[int, ...]]:
    """The masks of an image that a prediction can be compared with: category → classes that count as right.

    With a label, that alone is right; a mask whose category stands for other classes is left out. Without
    one, all classes that the category stands for are right; a category that stands for none is left out.

    Args:
        masks: categories of the masks.
        label: class of the image, if known.
        class_names: one name per class of the network.

    Example:
        ```python
        objects_with_classes({"cat", "sofa"}, None, ["cat", "dog"])  # {"cat": (0,)}
        ```
    """
    right = {}
    for category in sorted(masks):
        classes = object_classes(category, class_names)
        if label is not None:
            classes = (label,) if label in classes or not classes else ()
        if classes:
            right[category] = classes
    return right


def _plain(name: str) -> str:
    return name.lower().replace("_", " ")
