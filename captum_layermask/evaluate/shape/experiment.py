"""Does the shape of a mask tell the network what it hides? §4.2 of the paper, and a direct test."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import pyarrow as pa
import torch
from matplotlib.figure import Figure
from torch import Tensor

from captum_layermask.errors import InputError
from captum_layermask.evaluate.data.dataset import Dataset
from captum_layermask.evaluate.data.drawing import NO_EXAMPLE, first_opened, readable, shuffled
from captum_layermask.evaluate.data.objects import objects_with_classes
from captum_layermask.evaluate.digests import settings_of_model
from captum_layermask.evaluate.report.figures import plot_pictures, remaining_picture
from captum_layermask.evaluate.report.report import Report
from captum_layermask.evaluate.report.titles import removal_title
from captum_layermask.evaluate.seeds import stable_seed
from captum_layermask.evaluate.shape.report import BROKEN, INTACT, OBJECT, Counts
from captum_layermask.evaluate.watched import Watch
from captum_layermask.models.loaded import LoadedModel
from captum_layermask.removals.base import RemovalForward
from captum_layermask.removals.registry import make_forward

__all__ = ["Shape", "broken"]


def broken(mask: Tensor) -> Tensor:
    """The mask cut into four quarters, each moved to the opposite corner: same area, no object's shape.

    Args:
        mask: …×H×W. Of 224×224 pixels the quarters have 112×112.

    Returns:
        The same type and shape.

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


class Shape:
    """Experiment: the object is hidden by its own mask, and by that mask broken into four (§4.2).

    Of the images that the network recognises intact, how many does it still recognise? The mask's content is
    the same for all ways to remove pixels, and its area is that of the broken mask. So the more a way loses
    from the broken mask to the object mask, the less the mask's shape has told.

    The direct test lays the object mask of one image on images of other classes: how often is the mask's
    class the answer, and how often is it without any mask?

    A unit is an image and a way; each mask is a batch of its own: the image with the object mask, with the
    broken mask, and the other images. Another unit of each image is its prediction intact.

    Args:
        model: the network and its preprocessing.
        data: images with object masks. A mask's class is its image's label; without labels, it is any class
            that its category stands for (``object_classes``).
        removals: keys of ``REMOVALS``.
        pairs: on how many other images each mask is laid.
        seed: of their choice, and of ways that draw noise.

    Raises:
        InputError: no mask has a class that the network knows, or a way needs what masks of objects lack
            (segments, for their mean).

    Source: §4.2 and Figs. 5 to 7 of Balasubramanian & Feizi; the direct test is not theirs.
    """

    name = "shape"
    schema = pa.schema(
        [
            ("image", pa.string()),
            ("unit", pa.string()),
            ("category", pa.string()),  # of the mask; "" without one
            ("mask", pa.string()),  # "none", "object" or "broken"
            ("seen", pa.string()),  # the image that the mask lies on
            ("hidden", pa.int64()),  # pixels
            ("prediction", pa.int64()),  # class index
            ("vanished", pa.bool_()),
        ]
    )

    def __init__(
        self,
        model: LoadedModel,
        data: Dataset,
        *,
        removals: Sequence[str] = ("layer", "grey", "black"),
        pairs: int = 8,
        seed: int = 0,
    ) -> None:
        if pairs < 0:
            raise InputError(f"the number of pairs is {pairs}; give 0 or more.")
        self._model, self._data, self._removals = model, data, tuple(removals)
        self._pairs, self._seed = pairs, seed
        self._right = {
            image: right
            for image in data.images
            if (
                right := objects_with_classes(
                    data.masks.get(image, {}), data.labels.get(image), model.class_names
                )
            )
        }
        if not self._right:
            raise InputError(
                "no image has a mask of an object that is one of the network's classes; name the masks "
                "<image>.<category>.png, with classes of the network (for ImageNet: or what lies above them)."
            )
        for removal in self._removals:
            self._forward(removal, torch.zeros(1, 3, 8, 8))
        self.images: Sequence[str] = sorted(self._right)
        self.forward_seconds = 0.0
        self.settings = {
            "experiment": self.name,
            **settings_of_model(model),
            "data": {"images": len(data.images), "digest": data.digest},
            "removals": list(removals),
            "pairs": pairs,
            "seed": seed,
        }

    def units(self, image: str) -> list[str]:
        """The image intact, then a unit for each way."""
        return [INTACT, *self._removals]

    def open(self, image: str) -> _Opened:
        """Pixels, masks, and the images that each mask is laid on.

        Raises:
            LeftOutError: the image or a mask cannot be read. Other images that cannot be are passed over.
        """
        preprocess = self._model.preprocess
        return _Opened(
            image=image,
            pixels=self._data.pixels(image, preprocess),
            masks={c: self._data.mask(image, c, preprocess) for c in self._right[image]},
            others={c: self._others(image, c) for c in self._right[image]},
        )

    def work(self, opened: _Opened, unit: str) -> list[dict[str, Any]]:
        """Predictions on the intact image, or with each of its masks under one way."""
        if unit == INTACT:
            start = time.perf_counter()
            with torch.no_grad():
                prediction = int(self._model.network(opened.pixels).argmax())
            self.forward_seconds += time.perf_counter() - start
            return [_row("", "none", opened.image, 0, prediction, False)]
        return [row for category in opened.masks for row in self._with_mask(opened, category, unit)]

    def report(self, records: pa.Table) -> Report:
        """Accuracy with object mask and broken mask for each class, and the direct test."""
        counts = Counts(records, self._right, self._class_name, self._removals)
        recognised = sum(counts.recognised.values())
        figures = self._figures(counts)
        return Report(
            title=f"Does the shape of the mask tell what it hides? {self._model.name}",
            summary=(
                f"{len(counts.masks)} object masks on {len(counts.images)} images. Accuracy is measured "
                f"where the network recognises the object in the intact image: {recognised} masks. The "
                "object is hidden by its own mask, and by that mask broken into four parts that are moved to "
                "the opposite corners. The larger the difference, the less the shape of the mask has told."
                + ("" if recognised else " There are no figures, since no object is recognised.")
            ),
            tables=counts.tables(),
            figures=figures,
            facts={
                "images": len(counts.images),
                "masks": len(counts.masks),
                "masks recognised intact": recognised,
                "masks wholly outside the crop": counts.outside,
                "vanished": {removal_title(removal): counts.vanished(removal) for removal in self._removals},
                **({"examples": NO_EXAMPLE} if recognised and "examples" not in figures else {}),
            },
        )

    def _forward(self, removal: str, reference: Tensor) -> RemovalForward:
        model = self._model
        return make_forward(removal, model.network, colors=model.colors, reference=reference, seed=self._seed)

    def _others(self, image: str, category: str) -> list[tuple[str, Tensor]]:
        """Images without an object of the mask's classes, drawn for this mask."""
        right = set(self._right[image][category])
        drawn = shuffled(self.images, stable_seed(self._seed, image, category))
        others = (other for other in drawn if right.isdisjoint(chain(*self._right[other].values())))
        return list(islice(readable(others, self._data, self._model), self._pairs))

    def _with_mask(self, opened: _Opened, category: str, removal: str) -> list[dict[str, Any]]:
        hidden = opened.masks[category]
        seen = [(opened.image, opened.pixels), (opened.image, opened.pixels), *opened.others[category]]
        pixels = torch.cat([image for _, image in seen])
        masks = torch.cat([hidden, broken(hidden), *[hidden] * len(opened.others[category])])
        forward = self._forward(removal, pixels)
        watch = Watch(forward)
        with torch.no_grad():
            predictions = forward(pixels, mask=~masks).argmax(1).tolist()
        self.forward_seconds += watch.seconds
        kinds = [OBJECT, BROKEN, *[OBJECT] * len(opened.others[category])]
        return [
            _row(category, kind, image, int(hidden.sum()), prediction, bool(lost))
            for kind, (image, _), prediction, lost in zip(kinds, seen, predictions, watch.last, strict=True)
        ]

    def _class_name(self, image: str, category: str) -> str:
        label = self._data.labels.get(image)
        return category.replace("_", " ") if label is None else self._model.class_names[label]

    def _figures(self, counts: Counts) -> dict[str, Figure]:
        masks = counts.examples()
        if not masks:
            return {}
        figures = {"shape": counts.figure()}
        opened = first_opened((image for image, _ in masks), self.open)
        if opened is not None:
            figures["examples"] = self._examples(opened, dict(masks)[opened.image])
        return figures

    def _examples(self, opened: _Opened, category: str) -> Figure:
        hidden = opened.masks[category]
        views = {"object mask": (opened.pixels, hidden), "broken mask": (opened.pixels, broken(hidden))}
        for _, pixels in opened.others[category][:1]:
            views["on another image"] = pixels, hidden
        rows = {
            removal_title(removal): [
                remaining_picture(self._forward(removal, pixels), pixels, ~mask)
                for pixels, mask in views.values()
            ]
            for removal in self._removals
        }
        name = self._class_name(opened.image, category)
        return plot_pictures(
            rows, [*views], f"What is left of {opened.image} under each way when “{name}” is hidden."
        )


def _row(category: str, mask: str, seen: str, hidden: int, prediction: int, vanished: bool) -> dict[str, Any]:
    return {
        "category": category,
        "mask": mask,
        "seen": seen,
        "hidden": hidden,
        "prediction": prediction,
        "vanished": vanished,
    }
