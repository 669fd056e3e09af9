"""Experiment: does the shape of a mask tell the network what it removes? §4.2 of the paper, a direct test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import pyarrow as pa
import torch
from matplotlib.figure import Figure
from torch import Tensor

from captum_layermask.errors import InputError
from captum_layermask.evaluate.data.dataset import Dataset
from captum_layermask.evaluate.data.drawing import readable
from captum_layermask.evaluate.data.objects import objects_with_classes
from captum_layermask.evaluate.experiment import PAPER_REMOVALS, Experiment
from captum_layermask.evaluate.report.figures import plot_pictures, remaining_picture
from captum_layermask.evaluate.report.results import Example
from captum_layermask.evaluate.report.titles import removal_title
from captum_layermask.evaluate.seeds import shuffled, stable_seed
from captum_layermask.evaluate.shape.report import BROKEN, OBJECT, ORIGINAL, ShapeResults
from captum_layermask.models.loaded import LoadedModel

__all__ = ["Shape", "broken"]


def broken(mask: Tensor) -> Tensor:
    """The mask cut into four quarters, each moved to the opposite corner: same area, no object's shape.

    Args:
        mask: …×H×W. Of 224×224 pixels the quarters have 112×112.

    Returns:
        The same type and shape.

    Example:
        ```python
        broken(torch.tensor([[1, 2], [3, 4]]))  # tensor([[4, 3], [2, 1]])
        ```

    Source: §4.2, Fig. 5 of Balasubramanian & Feizi.
    """
    return mask.roll((mask.shape[-2] // 2, mask.shape[-1] // 2), (-2, -1))


@dataclass(frozen=True)
class _Opened:
    """An image, its object masks, and images of other classes to lay them on.

    Attributes:
        pixels: float 1×3×H×W.
        masks: category → bool 1×1×H×W, where the object is.
        others: category → ids and pixels of images of other classes.
    """

    image: str
    pixels: Tensor
    masks: dict[str, Tensor]
    others: dict[str, list[tuple[str, Tensor]]]


class Shape(Experiment):
    """Experiment: the object is removed by its own mask, and by that mask broken into four (§4.2).

    Of the objects that the network recognises in the original images, how many does it still recognise? What
    the mask removes is the object alike for all removals, and its area is that of the broken mask. So the
    more a removal loses from the broken mask to the object mask, the less the mask's shape has told.

    The direct test lays the object mask of one image on images of other classes: how often is the mask's
    class predicted, and how often is it without any mask?

    A unit is an image and a removal; each mask is a batch of its own: the image with the object mask, with
    the broken mask, and the other images. Another unit of each image is the prediction on the original.

    Args:
        model: the network and its preprocessing.
        data: images with object masks. A mask's class is its image's label; without labels, it is any class
            that its category stands for (``object_classes``).
        removals: keys of ``REMOVALS``.
        pairs: on how many other images each mask is laid.
        seed: of their choice, and of removals that draw noise.

    Raises:
        UnknownNameError: there is no such removal.
        InputError: no mask has a class that the network knows, or a removal needs what masks of objects lack
            (segments, for their mean).

    Example:
        ```python
        data = find_images("images", model.class_names, masks="masks", labelled=False)
        experiment = Shape(model, data, removals=["layer", "grey"])
        report = experiment.report(run(experiment, Path("shape")).records)
        ```

    Source: §4.2 and Figs. 5 to 7 of Balasubramanian & Feizi; the direct test is not theirs.
    """

    name = "shape"
    columns = pa.schema(
        {
            "category": pa.string(),  # of the mask; "" without one
            "mask": pa.string(),  # "none", "object" or "broken"
            "seen": pa.string(),  # the image that the mask lies on
            "missing": pa.int64(),  # pixels
            "prediction": pa.int64(),  # class index
            "vanished": pa.bool_(),
        }
    )

    def __init__(
        self,
        model: LoadedModel,
        data: Dataset,
        *,
        removals: Sequence[str] = PAPER_REMOVALS,
        pairs: int = 8,
        seed: int = 0,
    ) -> None:
        if pairs < 0:
            raise InputError(f"the number of pairs is {pairs}; give 0 or more.")
        right = {
            image: objects_with_classes(data.masks.get(image, {}), data.labels.get(image), model.class_names)
            for image in data.images
        }
        self._right = {image: classes for image, classes in right.items() if classes}
        if not self._right:
            raise InputError(
                "no image has a mask of an object that is one of the network's classes; name the masks "
                "<image>.<category>.png, with classes of the network (for ImageNet: or what lies above them)."
            )
        super().__init__(model, data, removals=removals, seed=seed, options={"pairs": pairs})
        self.title = f"Does the shape of the mask tell what it removes? {model.name}"
        self.images = sorted(self._right)
        self.pairs = pairs

    def units(self, image: str) -> list[str]:
        """The original image, then a unit for each removal."""
        return [ORIGINAL, *self.removals]

    def open(self, image: str) -> _Opened:
        """Pixels, masks, and the images that each mask is laid on.

        Raises:
            LeftOutError: the image or a mask cannot be read. Other images that cannot be are passed over.
        """
        categories = self._right[image]
        return _Opened(
            image=image,
            pixels=self.pixels(image),
            masks={c: self.mask(image, c) for c in categories},
            others={c: self._others(image, c) for c in categories},
        )

    def work(self, opened: _Opened, unit: str) -> list[dict[str, Any]]:
        """Predictions on the original image, or with each of its masks under one removal."""
        if unit == ORIGINAL:
            with torch.no_grad(), self.watched(self.network):
                prediction = int(self.network(opened.pixels).argmax())
            return [_row("", "none", opened.image, 0, prediction, False)]
        return [row for category in opened.masks for row in self._with_mask(opened, category, unit)]

    def results(self, records: pa.Table) -> ShapeResults:
        """Accuracy with object mask and broken mask for each class, and the direct test."""
        return ShapeResults(records, self.settings, self._right, self._class_name)

    def examples(self, results: ShapeResults) -> Iterator[Example]:
        """What is left of a recognised object."""
        categories = dict(results.recognised_masks())
        if categories:
            yield Example("examples", categories, lambda o: self._example(o, categories[o.image]))

    def _others(self, image: str, category: str) -> list[tuple[str, Tensor]]:
        """Images without an object of the mask's classes, drawn for this mask."""
        right = set(self._right[image][category])
        drawn = shuffled(self.images, stable_seed(self.seed, image, category))
        others = (other for other in drawn if right.isdisjoint(chain(*self._right[other].values())))
        return list(islice(readable(others, self.data, self.model), self.pairs))

    def _with_mask(self, opened: _Opened, category: str, removal: str) -> list[dict[str, Any]]:
        missing, others = opened.masks[category], opened.others[category]
        seen = [(opened.image, opened.pixels), (opened.image, opened.pixels), *others]
        kinds = [OBJECT, BROKEN, *[OBJECT] * len(others)]
        pixels = torch.cat([image for _, image in seen])
        masks = torch.cat([missing, broken(missing), *[missing] * len(others)])
        forward = self.forward(removal, pixels)
        with torch.no_grad(), self.watched(forward) as watch:
            predictions = forward(pixels, mask=~masks).argmax(1).tolist()
        return [
            _row(category, kind, image, int(missing.sum()), prediction, bool(lost))
            for kind, (image, _), prediction, lost in zip(kinds, seen, predictions, watch.last, strict=True)
        ]

    def _class_name(self, image: str, category: str) -> str:
        label = self.data.labels.get(image)
        return category.replace("_", " ") if label is None else self.model.class_names[label]

    def _example(self, opened: _Opened, category: str) -> Figure:
        missing = opened.masks[category]
        views = {"object mask": (opened.pixels, missing), "broken mask": (opened.pixels, broken(missing))}
        for _, pixels in opened.others[category][:1]:
            views["on another image"] = pixels, missing
        rows = {
            removal_title(removal): [
                remaining_picture(self.forward(removal, pixels), pixels, ~mask)
                for pixels, mask in views.values()
            ]
            for removal in self.removals
        }
        name = self._class_name(opened.image, category)
        return plot_pictures(
            rows, [*views], f"What is left of {opened.image} under each removal when “{name}” is removed."
        )


def _row(
    category: str, mask: str, seen: str, missing: int, prediction: int, vanished: bool
) -> dict[str, Any]:
    return {
        "category": category,
        "mask": mask,
        "seen": seen,
        "missing": missing,
        "prediction": prediction,
        "vanished": vanished,
    }
