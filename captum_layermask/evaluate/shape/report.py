"""The records of masked objects become tables and a figure, in the manner of the paper's Fig. 6."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure
from numpy.typing import NDArray

from captum_layermask.evaluate.report.bootstrap import FEWEST, bootstrap, ratio
from captum_layermask.evaluate.report.figures import plot_shape
from captum_layermask.evaluate.report.report import Table, absent
from captum_layermask.evaluate.report.results import Results
from captum_layermask.evaluate.report.titles import removal_title

__all__ = ["BROKEN", "OBJECT", "ORIGINAL", "ShapeResults"]

#: The unit that masks nothing.
ORIGINAL = "original"
#: Kinds of masks.
OBJECT, BROKEN = "object", "broken"

_COLUMNS = (
    "masks",
    "object mask",
    "broken mask",
    "difference",
    "pairs",
    "mask's class on other images",
    "without the mask",
    "vanished",
)
_TITLES = ("Accuracy with object mask and broken mask, and leakage", "The same for each class")
_CAPTION = (
    "Accuracy over the masks of objects that are recognised in the original image. Difference: broken less "
    "object mask. Pairs: a mask laid on an image of another class; how often the mask's class is predicted "
    "there, and how often it is without any mask. In brackets 95 % bootstrap intervals over images, [–] "
    f"below {FEWEST} images. Compare orders and differences with Fig. 6 of Balasubramanian & Feizi; levels "
    "depend on network and images."
)

#: Classes in the figure, and how many recognised masks each must have.
_CLASSES_DRAWN, _MASKS_OF_A_BAR = 8, 3

_Mask = tuple[str, str]


class ShapeResults(Results):
    """What was predicted under each mask.

    Args:
        records: those of ``Shape``, sorted.
        settings: of ``Shape``.
        right: image → category of a mask → classes that count as right.
        class_name: of a mask's image and category.

    Attributes:
        masks: image and category of each that removes something, sorted.
        images: of these, sorted.
        outside: how many masks remove nothing, since the object lies outside the crop.
        recognised: for each mask, whether the object is recognised in the original image.

    Example:
        ```python
        results = experiment.results(run(experiment, out).records)
        print(len(results.masks), sum(results.recognised.values()))
        ```
    """

    def __init__(
        self,
        records: pa.Table,
        settings: Mapping[str, Any],
        right: Mapping[str, Mapping[str, tuple[int, ...]]],
        class_name: Callable[[str, str], str],
    ) -> None:
        super().__init__(records)
        rows = records.to_pylist()
        original = {row["image"]: row["prediction"] for row in rows if row["unit"] == ORIGINAL}
        masked = [row for row in rows if row["unit"] != ORIGINAL]
        self._removals: list[str] = settings["removals"]
        self._missing = {(row["image"], row["category"]): row["missing"] for row in masked}
        self.masks = sorted(mask for mask, missing in self._missing.items() if missing)
        self.images = sorted({image for image, _ in self.masks})
        self.outside = len(self._missing) - len(self.masks)
        self.recognised = {mask: original[mask[0]] in right[mask[0]][mask[1]] for mask in self.masks}
        self._classes: dict[str, list[_Mask]] = {}
        for mask in self.masks:
            self._classes.setdefault(class_name(*mask), []).append(mask)
        #: Right with object mask, right with broken mask, pairs, right with the mask, without it, vanished.
        self._counts: dict[tuple[str, _Mask], NDArray[np.int64]] = {}
        for row in masked:
            image, category, other = row["image"], row["category"], row["seen"]
            classes = right[image][category]
            hit = row["prediction"] in classes
            if other == image:
                counts = [hit * (row["mask"] == OBJECT), hit * (row["mask"] == BROKEN), 0, 0, 0]
            else:
                counts = [0, 0, 1, hit, original.get(other) in classes]
            key = row["unit"], (image, category)
            self._counts[key] = self._counts.get(key, 0) + np.array([*counts, row["vanished"]])

    def summary(self) -> str:
        """How many objects there are, how many of them are recognised, and what was done to them."""
        recognised = sum(self.recognised.values())
        return (
            f"{len(self.masks)} object masks on {len(self.images)} images. Accuracy is measured where the "
            f"network recognises the object in the original image: {recognised} masks. The object is "
            "removed by its own mask, and by that mask broken into four parts that are moved to the opposite "
            "corners. The larger the difference, the less the shape of the mask has told."
            + ("" if recognised else " There are no figures, since no object is recognised.")
        )

    def tables(self) -> tuple[Table, ...]:
        """All masks together, then class by class."""
        if not self.masks:
            return tuple(absent(title, "every mask lies outside the crop of its image") for title in _TITLES)
        return (
            Table(
                _TITLES[0],
                _CAPTION,
                ("removal", *_COLUMNS),
                tuple(
                    (removal_title(removal), *self._cells(removal, self.masks)) for removal in self._removals
                ),
            ),
            Table(
                _TITLES[1],
                "A class may have few images: read the intervals. “–” where no object is recognised.",
                ("class", "removal", *_COLUMNS),
                tuple(
                    (name, removal_title(removal), *self._cells(removal, self._classes[name]))
                    for name in sorted(self._classes)
                    for removal in self._removals
                ),
            ),
        )

    def figures(self) -> dict[str, Figure]:
        """All masks together and some classes, as the paper's Fig. 6, where an object is recognised."""
        return {"shape": self._figure()} if any(self.recognised.values()) else {}

    def facts(self) -> dict[str, Any]:
        """Counts of images, masks, and what vanished."""
        return {
            "images": len(self.images),
            "masks": len(self.masks),
            "masks recognised in the original": sum(self.recognised.values()),
            "masks wholly outside the crop": self.outside,
            "vanished": {removal_title(removal): self.vanished(removal) for removal in self._removals},
        }

    def _figure(self) -> Figure:
        groups = {
            "all masks": self.masks,
            **{name: self._classes[name] for name in self._telling_classes()},
        }
        return plot_shape(
            {
                name: {removal: self._accuracies(removal, m) for removal in self._removals}
                for name, m in groups.items()
            },
            "Accuracy with the object mask (dark) and with the broken mask (pale), and what lies between. "
            f"Shown are classes with at least {_MASKS_OF_A_BAR} recognised masks; of many, those where "
            f"{removal_title(self._reference)} differs most from the other removals, to either side.",
            removals=self._removals,
        )

    def recognised_masks(self) -> list[_Mask]:
        """Image and category of those of recognised objects, of middling size first."""
        sizes = sorted((self._missing[mask], mask) for mask in self.masks if self.recognised[mask])
        middle = len(sizes) // 2
        return [mask for _, (_, mask) in sorted(enumerate(sizes), key=lambda entry: abs(entry[0] - middle))]

    def vanished(self, removal: str) -> int:
        """How many samples had visible pixels of which none reached the head of the network."""
        return int(sum(self._counts[removal, mask][-1] for mask in self.masks))

    @property
    def _reference(self) -> str:
        return "layer" if "layer" in self._removals else self._removals[0]

    def _telling_classes(self) -> list[str]:
        """Those where the reference leads the other removals least and most, or all."""

        def lead(name: str) -> float:
            accuracies = {
                removal: self._accuracies(removal, self._classes[name]) for removal in self._removals
            }
            gaps = {
                removal: with_broken - with_object
                for removal, (with_object, with_broken) in accuracies.items()
            }
            return gaps[self._reference] - float(np.mean([*gaps.values()]))

        counts = {name: sum(self.recognised[m] for m in masks) for name, masks in self._classes.items()}
        ranked = sorted(sorted(n for n, count in counts.items() if count >= _MASKS_OF_A_BAR), key=lead)
        half = _CLASSES_DRAWN // 2
        return ranked if len(ranked) <= _CLASSES_DRAWN else ranked[:half] + ranked[-half:]

    def _cells(self, removal: str, masks: Sequence[_Mask]) -> list[str]:
        """The cells of ``_COLUMNS`` for some of the masks."""
        place = {image: i for i, image in enumerate(sorted({image for image, _ in masks}))}
        recognised, laid = np.zeros((len(place), 4)), np.zeros((len(place), 4))
        for mask in masks:
            counts = self._counts[removal, mask]
            if self.recognised[mask]:
                recognised[place[mask[0]]] += [1, counts[0], counts[1], counts[1] - counts[0]]
            laid[place[mask[0]]] += counts[2:]
        known, pairs = recognised[:, :1].repeat(3, 1), laid[:, :1].repeat(2, 1)
        accuracy = bootstrap(ratio(recognised[:, 1:], known), len(place), counted=known)
        leakage = bootstrap(ratio(laid[:, 1:3], pairs), len(place), counted=pairs)
        return [
            f"{recognised[:, 0].sum():.0f}",
            str(accuracy[0]),
            str(accuracy[1]),
            f"{accuracy[2]:+.3f}",
            f"{laid[:, 0].sum():.0f}",
            str(leakage[0]),
            str(leakage[1]),
            f"{laid[:, 3].sum():.0f}",
        ]

    def _accuracies(self, removal: str, masks: Sequence[_Mask]) -> tuple[float, float]:
        """Accuracy with the object mask and with the broken mask, NaN where no object is recognised."""
        recognised = [self._counts[removal, mask][:2] for mask in masks if self.recognised[mask]]
        with_object, with_broken = np.mean(recognised, 0) if recognised else (np.nan, np.nan)
        return float(with_object), float(with_broken)
