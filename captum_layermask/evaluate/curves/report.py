"""The records of the curves become tables and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure
from numpy.typing import NDArray

from captum_layermask.evaluate.curves.orders import ORDERS
from captum_layermask.evaluate.report.bootstrap import FEWEST, Interval, Statistic, bootstrap, entropy, mean
from captum_layermask.evaluate.report.figures import plot_curves
from captum_layermask.evaluate.report.report import Table, absent
from captum_layermask.evaluate.report.results import Results
from captum_layermask.evaluate.report.titles import in_paper_order, removal_title, segmentation_title
from captum_layermask.metrics import area_under_curve
from captum_layermask.metrics.wordnet import wnids, wu_palmer_table

__all__ = ["CurvesResults"]

_SIMILARITY = "WordNet similarity"
_LEAD = "Accuracy: lead of layer masking"
_INTERVALS = f"with 95 % intervals, [–] below {FEWEST} images"
_VANISHED = "Vanished: samples of which nothing visible reached the head of the network."

_SALIENCY = {
    "none": "not needed",
    "maps": "the saliency maps that were given",
    "gradient": "the absolute gradient of the true class's logit, for want of saliency maps",
}


class CurvesResults(Results):
    """Tables 1 and 3, Fig. 4 for every segmentation and order, and the numbers that they are made of.

    Intervals are of 95 %, by bootstrap over images, for all fractions, orders and removals at once.

    Args:
        records: those of ``Curves``, of all units of at least one image, sorted.
        settings: of ``Curves``.
        classes: how many the model knows. Where they are ImageNet's 1000, WordNet similarity is reported too.

    Attributes:
        images: ids, sorted.

    Example:
        ```python
        results = CurvesResults(run(experiment, out).records, experiment.settings, classes=1000)
        print(results.summary())
        ```
    """

    def __init__(self, records: pa.Table, settings: Mapping[str, Any], classes: int) -> None:
        super().__init__(records)
        self._settings, self._classes = settings, classes
        self._removals: list[str] = settings["removals"]
        self._conditions = [
            (name, order)
            for name in in_paper_order(settings["segmentations"])
            for order in settings["orders"]
        ]
        count = settings["fractions"]
        units = records["unit"][::count].to_pylist()
        units = units[: len(self._removals) * len(self._conditions)]
        place = [
            [units.index(f"{segmentation}/{order}/{removal}") for segmentation, order in self._conditions]
            for removal in self._removals
        ]

        def column(name: str) -> NDArray[Any]:
            """Image × removal × condition (a segmentation and an order) × fraction."""
            return records[name].to_numpy().reshape(-1, len(units), count)[:, place]

        self.images: list[str] = records["image"][:: count * len(units)].to_pylist()
        self._fractions: list[float] = records["fraction"][:count].to_pylist()
        self._predicted, self._label = column("predicted"), column("label")
        self._vanished, self._segments = column("vanished"), column("segments")

    def summary(self) -> str:
        """The network, its accuracy on the original images, the segments, and where layer masking leads."""
        original = self._measures["Accuracy"][0, 0, 0]
        segments = ", ".join(f"{count:.0f} ({name})" for name, count in self._segment_counts().items())
        sentences = [
            f"{self._settings['model']} on {len(self.images)} images; of the original images, it is right in "
            f"{original!s}.",
            f"Segments of an image on average: {segments}.",
            f"Saliency: {_SALIENCY[self._settings['saliency']]}.",
        ]
        lead = self._lead
        if lead is not None:
            not_ahead = [
                f"{removal_title(removal)} ({_condition(condition)}, {lead[row, column]:+.3f})"
                for row, removal in enumerate(self._others())
                for column, condition in enumerate(self._conditions)
                if round(float(lead.value[row, column]), 6) <= 0  # equal areas may differ in the last bits
            ]
            pairs = lead.value.size
            sentences.append(
                "In area under accuracy, layer masking leads the other removals in "
                f"{pairs - len(not_ahead)} of {pairs} "
                + (f"cases; it does not lead {'; '.join(not_ahead)}." if not_ahead else "cases.")
            )
        return " ".join(sentences)

    def tables(self) -> tuple[Table, ...]:
        """Areas under each metric's curve, their averages, leads, accuracies, and what vanished."""
        return (
            *(self._areas(name, measure) for name, measure in self._measures.items()),
            *([] if _SIMILARITY in self._measures else [_no_similarity(self._classes)]),
            self._averages(),
            self._leads(),
            self._accuracies(),
            self._vanished_samples(),
        )

    def figures(self) -> dict[str, Figure]:
        """A figure of all metrics for every segmentation and order."""
        return {
            f"curves-{segmentation}-{order}": plot_curves(
                self._fractions,
                {
                    name: {removal: measure[row, column, :-1] for row, removal in enumerate(self._removals)}
                    for name, measure in self._measures.items()
                },
                f"{_condition((segmentation, order))}: metrics while segments are removed, with bands of "
                "95 % intervals. The paper's Fig. 4.",
            )
            for column, (segmentation, order) in enumerate(self._conditions)
        }

    def facts(self) -> dict[str, Any]:
        """Counts of images, samples, what vanished and segments, and where saliency came from."""
        return {
            "images": len(self.images),
            "left out": self._settings["data"]["images"] - len(self.images),
            "samples": int(self._predicted.size),
            "vanished": {
                removal: int(self._vanished[:, row].sum()) for row, removal in enumerate(self._removals)
            },
            "segments": {name: round(count, 1) for name, count in self._segment_counts().items()},
            "saliency": _SALIENCY[self._settings["saliency"]],
        }

    @cached_property
    def _measures(self) -> dict[str, Interval]:
        """Removal × (condition, and last their average) × (fraction, and last the area under the curve)."""
        predicted, label = self._predicted, self._label
        measures = {
            "Accuracy": self._measure(mean(predicted == label)),
            "Class entropy": self._measure(entropy(predicted), recentred=True),
        }
        if self._classes == len(wnids()):
            measures[_SIMILARITY] = self._measure(mean(wu_palmer_table()[predicted, label]))
        measures["Unchanged predictions"] = self._measure(mean(predicted == predicted[..., :1]))
        return measures

    def _measure(self, statistic: Statistic, recentred: bool = False) -> Interval:
        def with_areas(weights: NDArray[np.float64]) -> NDArray[np.float64]:
            curves = statistic(weights)
            curves = np.concatenate([curves, curves.mean(2, keepdims=True)], 2)
            return np.concatenate([curves, area_under_curve(curves, self._fractions)[..., None]], -1)

        return bootstrap(with_areas, len(self.images), recentred=recentred)

    @cached_property
    def _lead(self) -> Interval | None:
        """How far the area under the accuracy of layer masking lies above that of each other removal."""
        if "layer" not in self._removals or len(self._removals) == 1:
            return None
        areas = area_under_curve(self._predicted == self._label, self._fractions)
        layer = self._removals.index("layer")
        return bootstrap(mean(areas[:, [layer]] - np.delete(areas, layer, 1)), len(self.images))

    def _others(self) -> list[str]:
        """All removals but layer masking."""
        return [removal for removal in self._removals if removal != "layer"]

    def _areas(self, name: str, measure: Interval) -> Table:
        unit = {"Class entropy": ", in nats, at most the logarithm of the number of images or of classes"}
        return Table(
            title=_area_title(name),
            caption=(
                f"{name}{unit.get(name, '')}: area under the curve against the fraction of segments removed, "
                f"{_INTERVALS}. The paper's Table 1. {_VANISHED}"
            ),
            header=("removal", *map(_condition, self._conditions), "vanished"),
            rows=tuple(
                (
                    removal_title(removal),
                    *(str(measure[row, column, -1]) for column in range(len(self._conditions))),
                    str(self._vanished[:, row].sum()),
                )
                for row, removal in enumerate(self._removals)
            ),
        )

    def _averages(self) -> Table:
        return Table(
            title="Areas under the curves, averaged",
            caption=(
                f"The tables above, averaged over all segmentations and orders, {_INTERVALS}. "
                f"The paper's Table 3. {_VANISHED}"
            ),
            header=("removal", *self._measures, "vanished"),
            rows=tuple(
                (
                    removal_title(removal),
                    *(str(measure[row, -1, -1]) for measure in self._measures.values()),
                    str(self._vanished[:, row].sum()),
                )
                for row, removal in enumerate(self._removals)
            ),
        )

    def _leads(self) -> Table:
        lead = self._lead
        if lead is None:
            return absent(_LEAD, "it takes layer masking and another removal")
        return Table(
            title=_LEAD,
            caption=(
                "Area under the accuracy of layer masking minus that of the other removal on the same "
                f"images, {_INTERVALS}. {_VANISHED} Under both removals together."
            ),
            header=("above", *map(_condition, self._conditions), "vanished"),
            rows=tuple(
                (
                    removal_title(removal),
                    *(f"{lead[row, column]:+.3f}" for column in range(len(self._conditions))),
                    str(self._vanished[:, [self._removals.index(w) for w in (removal, "layer")]].sum()),
                )
                for row, removal in enumerate(self._others())
            ),
        )

    def _accuracies(self) -> Table:
        accuracy = self._measures["Accuracy"]
        return Table(
            title="Accuracy at each fraction",
            caption=f"Accuracy with each fraction of the segments removed. {_VANISHED}",
            header=("segmentation", "order", "removal", *(f"{f:.3g}" for f in self._fractions), "vanished"),
            rows=tuple(
                (
                    segmentation_title(segmentation),
                    ORDERS[order],
                    removal_title(removal),
                    *(f"{value:.3f}" for value in accuracy.value[row, column, :-1]),
                    str(self._vanished[:, row, column].sum()),
                )
                for column, (segmentation, order) in enumerate(self._conditions)
                for row, removal in enumerate(self._removals)
            ),
        )

    def _vanished_samples(self) -> Table:
        samples = len(self.images) * len(self._fractions)
        return Table(
            title="Vanished samples",
            caption=(
                "How many samples had visible pixels of which none reached the head of the network, so that "
                f"their prediction is that for an empty image; each number is of {samples} samples. Only "
                "removals that mask layers can lose any."
            ),
            header=("removal", *map(_condition, self._conditions)),
            rows=tuple(
                (removal_title(removal), *map(str, self._vanished[:, row].sum((0, 2))))
                for row, removal in enumerate(self._removals)
            ),
        )

    def _segment_counts(self) -> dict[str, float]:
        """Segmentation → how many segments an image has on average."""
        return {
            segmentation: float(self._segments[:, 0, column, 0].mean())
            for column, (segmentation, _) in enumerate(self._conditions)
        }


def _area_title(name: str) -> str:
    return f"{name}: area under the curve"


def _no_similarity(classes: int) -> Table:
    return absent(_area_title(_SIMILARITY), f"WordNet knows ImageNet's classes, and the model has {classes}")


def _condition(condition: Sequence[str]) -> str:
    segmentation, order = condition
    return f"{segmentation_title(segmentation)}, {ORDERS[order]}"
