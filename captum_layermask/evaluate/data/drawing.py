"""Other images are drawn to go with one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import Tensor

from captum_layermask.errors import LeftOutError
from captum_layermask.evaluate.data.dataset import Dataset
from captum_layermask.models.loaded import LoadedModel

__all__ = ["readable"]


def readable(images: Iterable[str], data: Dataset, model: LoadedModel) -> Iterator[tuple[str, Tensor]]:
    """Ids and pixels, float 1×3×H×W, of those that can be read.

    Example:
        ```python
        image, pixels = next(readable(shuffled(data.images, seed), data, model))
        ```
    """
    for image in images:
        try:
            pixels = data.pixels(image, model.preprocess)
        except LeftOutError:
            continue
        yield image, pixels
