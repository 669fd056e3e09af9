"""Other images are drawn to go with one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np
from torch import Tensor

from captum_layermask.errors import LeftOutError
from captum_layermask.evaluate.data.dataset import Dataset
from captum_layermask.models.loaded import LoadedModel

__all__ = ["NO_EXAMPLE", "first_opened", "readable", "shuffled"]

#: What a report says in place of its example pictures.
NO_EXAMPLE = "none: of the images that were recorded none can be opened any more"

_Opened = TypeVar("_Opened")


def shuffled(images: Sequence[str], seed: int) -> Iterator[str]:
    """The images in an order drawn from the seed, the same with every version of NumPy.

    Of NumPy's random streams only those of raw bits are guaranteed not to change; the order sorts them.
    """
    for index in np.random.PCG64(seed).random_raw(len(images)).argsort(kind="stable"):
        yield images[index]


def readable(images: Iterable[str], data: Dataset, model: LoadedModel) -> Iterator[tuple[str, Tensor]]:
    """Ids and pixels, float 1×3×H×W, of those that can be read."""
    for image in images:
        try:
            pixels = data.pixels(image, model.preprocess)
        except LeftOutError:
            continue
        yield image, pixels


def first_opened(images: Iterable[str], open_: Callable[[str], _Opened]) -> _Opened | None:
    """The first of some recorded images that can still be opened, for an example; None if none can."""
    for image in images:
        try:
            return open_(image)
        except LeftOutError:
            continue
    return None
