"""The records of explanations become tables and a figure, in the layout of the paper's Table 2."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from captum_layermask.evaluate.report.bootstrap import FEWEST, Interval, bootstrap, ratio
from captum_layermask.evaluate.report.figures import plot_curves
from captum_layermask.evaluate.report.report import Table, absent
from captum_layermask.evaluate.report.results import Results
from captum_layermask.evaluate.report.titles import in_paper_order, removal_title, segmentation_title

__all__ = ["RANKS", "WHOLE", "LimeResults"]

#: The class must be among so many likeliest ones (§4.4.2).
RANKS = 3
#: In the column ``cell``: this record is of a whole image.
WHOLE = -1

_K_OF_TABLE_2 = 20
_Row = dict[str, Any]

_INTERVALS = (
    f"In brackets 95 % bootstrap intervals over images, [–] below {FEWEST} images. ↓ means that less is "
    "better, ↑ that more is."
)
_TITLES = (
    "Explanations by LIME, as in Table 2",
    "The same for every number of segments",
    "Grid Pointing Game",
)
_COMPARE = (
    "Compare ratios and orders with Table 2 of Balasubramanian & Feizi; levels depend on network and images."
)


class LimeResults(Results):
    """What was measured of the explanations.

    Args:
        records: those of ``Lime``, sorted.
        settings: of ``Lime``.
        labelled: whether the images have labels, which are what is explained.

    Attributes:
        images: whose explained class is among the likeliest, sorted.
        left_out: number of images where it is not.
        mosaics: sorted.
        explanations: how many there are.
        seconds: that all of them took.

    Example:
        ```python
        results = experiment.results(run(experiment, out).records)
        print(results.explanations, results.vanished("layer"))
        ```
    """

    def __init__(self, records: pa.Table, settings: Mapping[str, Any], *, labelled: bool) -> None:
        super().__init__(records)
        self._removals: list[str] = settings["removals"]
        self._segmentations = in_paper_order(settings["segmentations"])
        self._top: list[int] = settings["top"]
        self._n_samples: int = settings["n_samples"]
        self._labelled = labelled
        rows = records.to_pylist()
        explained = [row for row in rows if row["n_samples"]]
        self._rows = {(r["image"], r["segmentation"], r["removal"], r["cell"]): r for r in explained}
        self.images = sorted({row["image"] for row in explained if row["cell"] == WHOLE})
        self.mosaics = sorted({row["image"] for row in explained if row["cell"] != WHOLE})
        self.left_out = len({row["image"] for row in rows}) - len(self.images) - len(self.mosaics)
        self.explanations = len(explained)
        self.seconds = sum(row["seconds"] for row in explained)

    def importance(self, image: str, segmentation: str, removal: str, cell: int = WHOLE) -> list[float]:
        """Of each segment."""
        return self._rows[image, segmentation, removal, cell]["importance"]

    def targets(self, image: str) -> list[int]:
        """The explained class, or those of a mosaic's cells in reading order."""
        where = image, self._segmentations[0], self._removals[0]
        return [row["target"] for key, row in self._rows.items() if key[:3] == where]

    def vanished(self, removal: str, segmentation: str | None = None) -> int:
        """How many perturbed images had visible pixels of which none reached the head of the network."""
        return sum(
            row["vanished"]
            for (_, name, by, _), row in self._rows.items()
            if by == removal and segmentation in (None, name)
        )

    def summary(self) -> str:
        """How many images and mosaics, and which of their classes were explained."""
        explained = (
            f"Explained is an image's class; images where it is not among the network's {RANKS} likeliest "
            f"are left out: {self.left_out}."
            if self._labelled
            else "The images have no labels: explained is the likeliest class."
        )
        return (
            f"Images: {len(self.images)}, mosaics: {len(self.mosaics)}, perturbed images for each "
            f"explanation: {self._n_samples}. {explained}"
        )

    def tables(self) -> tuple[Table, ...]:
        """Table 2; the same for every k; the Grid Pointing Game."""
        no_image = f"of no image is the explained class among the network's {RANKS} likeliest"
        return (
            self._table_2() if self.images else absent(_TITLES[0], no_image),
            self._every_k() if self.images else absent(_TITLES[1], no_image),
            self._pointing() if self.mosaics else absent(_TITLES[2], "there are no mosaics"),
        )

    def figures(self) -> dict[str, Figure]:
        """Ablation accuracy against the number of segments removed, where images were explained."""
        return {"ablation": self._figure()} if self.images else {}

    def facts(self) -> dict[str, Any]:
        """Counts of images, explanations and what vanished, and the time that they took."""
        return {
            "images": len(self.images),
            "images left out": self.left_out,
            "mosaics": len(self.mosaics),
            "explanations": self.explanations,
            "samples of each explanation": self._n_samples,
            "seconds of each explanation": round(self.seconds / max(1, self.explanations), 3),
            "seconds of all explanations": round(self.seconds, 1),
            "vanished": {removal_title(removal): self.vanished(removal) for removal in self._removals},
        }

    def _figure(self) -> Figure:
        panels = {
            segmentation_title(segmentation): {
                removal: self._ablation(segmentation, removal) for removal in self._removals
            }
            for segmentation in self._segmentations
        }
        return plot_curves(
            [0, *self._top],
            panels,
            "Accuracy when the most important segments are removed, by grey for all explanations. The faster "
            "it falls, the better the explanations. Bands are 95 % bootstrap intervals over images.",
            across="segments removed, most important first",
        )

    def _table_2(self) -> Table:
        k = _K_OF_TABLE_2 if _K_OF_TABLE_2 in self._top else self._top[len(self._top) // 2]
        place = 1 + self._top.index(k)
        measures: dict[str, Callable[[str, str], Interval]] = {
            f"top-{k} ablation accuracy ↓": lambda s, w: self._ablation(s, w)[place]
        }
        if self._have_masks():
            measures["alignment score ↑"] = lambda s, w: self._of_images(s, w, "alignment")
            measures[f"top-{k} Jaccard similarity ↑"] = lambda s, w: self._of_images(s, w, f"jaccard_{k}")
        return Table(
            _TITLES[0],
            f"The accuracy of the original images is {self._original()}. {self._without_masks()}{_INTERVALS} "
            f"{_COMPARE}",
            (
                "removal",
                *(
                    f"{measure}, {segmentation_title(segmentation)}"
                    for measure in measures
                    for segmentation in self._segmentations
                ),
                "vanished",
            ),
            tuple(
                (
                    removal_title(removal),
                    *(
                        str(measure(segmentation, removal))
                        for measure in measures.values()
                        for segmentation in self._segmentations
                    ),
                    str(self.vanished(removal)),
                )
                for removal in self._removals
            ),
        )

    def _every_k(self) -> Table:
        masks = self._have_masks()
        rows = []
        for segmentation in self._segmentations:
            for removal in self._removals:
                ablation = self._ablation(segmentation, removal)
                cells = [str(ablation[1 + place]) for place in range(len(self._top))]
                if masks:
                    cells += [str(self._of_images(segmentation, removal, f"jaccard_{k}")) for k in self._top]
                vanished = str(self.vanished(removal, segmentation))
                rows.append((segmentation_title(segmentation), removal_title(removal), *cells, vanished))
        return Table(
            _TITLES[1],
            "Accuracy when the k most important segments are removed, by grey for all explanations. "
            f"{self._without_masks()}{_INTERVALS}",
            (
                "segmentation",
                "removal",
                *(f"top-{k} ablation ↓" for k in self._top),
                *(f"top-{k} Jaccard ↑" for k in self._top if masks),
                "vanished",
            ),
            tuple(rows),
        )

    def _pointing(self) -> Table:
        return Table(
            _TITLES[2],
            "Share of the positive attribution that lies in the right cell of a mosaic of four images; 0.25 "
            f"where evenly spread (Böhle et al., 2021). Mosaics: {len(self.mosaics)}, all four classes of "
            f"each explained. {_INTERVALS}",
            (
                "removal",
                *(f"{segmentation_title(segmentation)} ↑" for segmentation in self._segmentations),
                "vanished",
            ),
            tuple(
                (
                    removal_title(removal),
                    *(str(self._of_mosaics(segmentation, removal)) for segmentation in self._segmentations),
                    str(self.vanished(removal)),
                )
                for removal in self._removals
            ),
        )

    def _of(self, segmentation: str, removal: str) -> list[_Row]:
        return [self._rows[image, segmentation, removal, WHOLE] for image in self.images]

    def _ablation(self, segmentation: str, removal: str) -> Interval:
        """Accuracy with nothing removed, then with each number of segments."""
        columns = ["prediction", *(f"ablated_{k}" for k in self._top)]
        return _mean(
            [[row[name] == row["target"] for name in columns] for row in self._of(segmentation, removal)]
        )

    def _of_images(self, segmentation: str, removal: str, column: str) -> Interval:
        return _mean([row[column] for row in self._of(segmentation, removal)])

    def _of_mosaics(self, segmentation: str, removal: str) -> Interval:
        cells = [
            [row["pointing"] for key, row in self._rows.items() if key[:3] == (image, segmentation, removal)]
            for image in self.mosaics
        ]
        return _mean([np.mean(shares) for shares in cells])

    def _original(self) -> Interval:
        return self._ablation(self._segmentations[0], self._removals[0])[0]

    def _without_masks(self) -> str:
        """A sentence, where it is true."""
        if self._have_masks():
            return ""
        return "Alignment and Jaccard similarity are not here: no image has a mask of the explained object. "

    def _have_masks(self) -> bool:
        return any(
            not np.isnan(row["alignment"]) for row in self._of(self._segmentations[0], self._removals[0])
        )


def _mean(values: ArrayLike) -> Interval:
    """The mean over images, those without a value (NaN) left out."""
    numbers = np.asarray(values, float)
    known = ~np.isnan(numbers)
    return bootstrap(ratio(np.where(known, numbers, 0), known), len(numbers), counted=known)
