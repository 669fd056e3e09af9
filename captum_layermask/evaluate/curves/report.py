"""The records of the curves become tables and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure
from numpy.typing import NDArray

from captum_layermask.evaluate.curves.orders import ORDERS
from captum_layermask.evaluate.report.bootstrap import FEWEST, Interval, Statistic, bootstrap, entropy, mean
from captum_layermask.evaluate.report.figures import plot_curves
from captum_layermask.evaluate.report.report import Report, Table, absent
from captum_layermask.evaluate.report.titles import in_paper_order, removal_title, segmentation_title
from captum_layermask.metrics import area_under_curve
from captum_layermask.metrics.wordnet import wnids, wu_palmer_table

__all__ = ["curves_report"]

_SIMILARITY = "WordNet similarity"
_LEAD = "Accuracy: lead of layer masking"
_INTERVALS = f"with 95 % intervals, [–] below {FEWEST} images"
_VANISHED = "Vanished: samples of which nothing visible reached the head of the network."

_SALIENCY = {
    "none": "not asked for",
    "maps": "the saliency maps that were given",
    "gradient": "the absolute gradient of the true class's logit, for want of saliency maps",
}


def curves_report(records: pa.Table, settings: Mapping[str, Any], classes: int) -> Report:
    """Tables 1 and 3, Fig. 4 for every segmentation and order, and what is behind them.

    Intervals are of 95 %, by bootstrap over images, for all fractions, orders and ways at once.

    Args:
        records: those of ``Curves``, of all units of at least one image, sorted.
        settings: of ``Curves``.
        classes: how many the model knows. Where they are ImageNet's 1000, WordNet similarity is reported too.
    """
    results = _Results(records, settings)
    measures = {
        "Accuracy": results.measure(mean(results.predicted == results.label)),
        "Class entropy": results.measure(entropy(results.predicted), recentred=True),
    }
    if classes == len(wnids()):
        similarity = wu_palmer_table()[results.predicted, results.label]
        measures[_SIMILARITY] = results.measure(mean(similarity))
    unchanged = results.predicted == results.predicted[..., :1]
    measures["Unchanged predictions"] = results.measure(mean(unchanged))
    lead = results.lead()
    tables = [
        *(_areas(results, name, measure) for name, measure in measures.items()),
        *([] if _SIMILARITY in measures else [_no_similarity(classes)]),
        _averages(results, measures),
        _leads(results, lead)
        if lead is not None
        else absent(_LEAD, "it takes layer masking and another way"),
        _accuracies(results, measures["Accuracy"]),
        _vanished(results),
    ]
    return Report(
        title="Predictions while more and more of an image is removed",
        summary=_summary(results, measures["Accuracy"], lead, settings),
        tables=tuple(tables),
        figures=_figures(results, measures),
        facts=_facts(results, settings),
    )


class _Results:
    """The records as arrays: image × way × condition (a segmentation and an order) × fraction."""

    def __init__(self, records: pa.Table, settings: Mapping[str, Any]) -> None:
        self.removals: list[str] = settings["removals"]
        self.conditions = [
            (name, order)
            for name in in_paper_order(settings["segmentations"])
            for order in settings["orders"]
        ]
        count = settings["fractions"]
        units = records["unit"][::count].to_pylist()
        units = units[: len(self.removals) * len(self.conditions)]
        place = [
            [units.index(f"{segmentation}/{order}/{removal}") for segmentation, order in self.conditions]
            for removal in self.removals
        ]

        def column(name: str) -> NDArray[Any]:
            return records[name].to_numpy().reshape(-1, len(units), count)[:, place]

        self.images: list[str] = records["image"][:: count * len(units)].to_pylist()
        self.fractions: list[float] = records["fraction"][:count].to_pylist()
        self.predicted, self.label, self.vanished = column("predicted"), column("label"), column("vanished")
        self.segments = column("segments")

    def measure(self, statistic: Statistic, recentred: bool = False) -> Interval:
        """Way × (condition, and last the average over them) × (fraction, and last the area under them)."""

        def with_areas(weights: NDArray[np.float64]) -> NDArray[np.float64]:
            curves = statistic(weights)
            curves = np.concatenate([curves, curves.mean(2, keepdims=True)], 2)
            return np.concatenate([curves, area_under_curve(curves, self.fractions)[..., None]], -1)

        return bootstrap(with_areas, len(self.images), recentred=recentred)

    def lead(self) -> Interval | None:
        """How far the area under the accuracy of layer masking lies above that of each other way."""
        if "layer" not in self.removals or len(self.removals) == 1:
            return None
        areas = area_under_curve(self.predicted == self.label, self.fractions)
        layer = self.removals.index("layer")
        return bootstrap(mean(areas[:, [layer]] - np.delete(areas, layer, 1)), len(self.images))

    def others(self) -> list[str]:
        """All ways but layer masking."""
        return [removal for removal in self.removals if removal != "layer"]


def _area_title(name: str) -> str:
    return f"{name}: area under the curve"


def _no_similarity(classes: int) -> Table:
    return absent(_area_title(_SIMILARITY), f"WordNet knows ImageNet's classes, and the model has {classes}")


def _areas(results: _Results, name: str, measure: Interval) -> Table:
    unit = {"Class entropy": ", in nats, at most the logarithm of the number of images or of classes"}
    return Table(
        title=_area_title(name),
        caption=(
            f"{name}{unit.get(name, '')}: area under the curve against the fraction of segments removed, "
            f"{_INTERVALS}. The paper's Table 1. {_VANISHED}"
        ),
        header=("removal", *map(_condition, results.conditions), "vanished"),
        rows=tuple(
            (
                removal_title(removal),
                *(str(measure[row, column, -1]) for column in range(len(results.conditions))),
                str(results.vanished[:, row].sum()),
            )
            for row, removal in enumerate(results.removals)
        ),
    )


def _averages(results: _Results, measures: Mapping[str, Interval]) -> Table:
    return Table(
        title="Areas under the curves, averaged",
        caption=(
            f"The tables above, averaged over all segmentations and orders, {_INTERVALS}. "
            f"The paper's Table 3. {_VANISHED}"
        ),
        header=("removal", *measures, "vanished"),
        rows=tuple(
            (
                removal_title(removal),
                *(str(measure[row, -1, -1]) for measure in measures.values()),
                str(results.vanished[:, row].sum()),
            )
            for row, removal in enumerate(results.removals)
        ),
    )


def _leads(results: _Results, lead: Interval) -> Table:
    return Table(
        title=_LEAD,
        caption=(
            "Area under the accuracy of layer masking minus that of the other way on the same images, "
            f"{_INTERVALS}. {_VANISHED} In both ways together."
        ),
        header=("above", *map(_condition, results.conditions), "vanished"),
        rows=tuple(
            (
                removal_title(removal),
                *(f"{lead[row, column]:+.3f}" for column in range(len(results.conditions))),
                str(results.vanished[:, [results.removals.index(w) for w in (removal, "layer")]].sum()),
            )
            for row, removal in enumerate(results.others())
        ),
    )


def _accuracies(results: _Results, accuracy: Interval) -> Table:
    return Table(
        title="Accuracy at each fraction",
        caption=f"Accuracy with each fraction of the segments removed. {_VANISHED}",
        header=("segments", "order", "removal", *(f"{f:.3g}" for f in results.fractions), "vanished"),
        rows=tuple(
            (
                segmentation_title(segmentation),
                ORDERS[order],
                removal_title(removal),
                *(f"{value:.3f}" for value in accuracy.value[row, column, :-1]),
                str(results.vanished[:, row, column].sum()),
            )
            for column, (segmentation, order) in enumerate(results.conditions)
            for row, removal in enumerate(results.removals)
        ),
    )


def _vanished(results: _Results) -> Table:
    samples = len(results.images) * len(results.fractions)
    return Table(
        title="Vanished samples",
        caption=(
            "How many samples had visible pixels of which none reached the head of the network, so that "
            f"their prediction is that for an empty image; each number is of {samples} samples. Only ways "
            "that mask layers can lose any."
        ),
        header=("removal", *map(_condition, results.conditions)),
        rows=tuple(
            (removal_title(removal), *map(str, results.vanished[:, row].sum((0, 2))))
            for row, removal in enumerate(results.removals)
        ),
    )


def _figures(results: _Results, measures: Mapping[str, Interval]) -> dict[str, Figure]:
    return {
        f"curves-{segmentation}-{order}": plot_curves(
            results.fractions,
            {
                name: {removal: measure[row, column, :-1] for row, removal in enumerate(results.removals)}
                for name, measure in measures.items()
            },
            f"{_condition((segmentation, order))}: metrics while segments are removed, with bands of 95 % "
            "intervals. The paper's Fig. 4.",
        )
        for column, (segmentation, order) in enumerate(results.conditions)
    }


def _summary(
    results: _Results, accuracy: Interval, lead: Interval | None, settings: Mapping[str, Any]
) -> str:
    intact = accuracy[0, 0, 0]
    segments = ", ".join(f"{count:.0f} ({name})" for name, count in _segment_counts(results).items())
    sentences = [
        f"{settings['model']} on {len(results.images)} images; intact, it is right in {intact!s} of them.",
        f"Segments of an image on average: {segments}.",
        f"Saliency: {_SALIENCY[settings['saliency']]}.",
    ]
    if lead is not None:
        behind = [
            f"{removal_title(removal)} ({_condition(condition)}, {lead[row, column]:+.3f})"
            for row, removal in enumerate(results.others())
            for column, condition in enumerate(results.conditions)
            if round(float(lead.value[row, column]), 6) <= 0  # equal areas may differ in the last bits
        ]
        pairs = lead.value.size
        sentences.append(
            f"In area under accuracy, layer masking leads the other ways in {pairs - len(behind)} of {pairs} "
            + (f"cases; it does not lead {'; '.join(behind)}." if behind else "cases.")
        )
    return " ".join(sentences)


def _facts(results: _Results, settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "images": len(results.images),
        "left out": settings["data"]["images"] - len(results.images),
        "samples": int(results.predicted.size),
        "vanished": {
            removal: int(results.vanished[:, row].sum()) for row, removal in enumerate(results.removals)
        },
        "segments": {name: round(count, 1) for name, count in _segment_counts(results).items()},
        "saliency": _SALIENCY[settings["saliency"]],
    }


def _segment_counts(results: _Results) -> dict[str, float]:
    """Segmentation → how many segments an image has on average."""
    return {
        segmentation: float(results.segments[:, 0, column, 0].mean())
        for column, (segmentation, _) in enumerate(results.conditions)
    }


def _condition(condition: Sequence[str]) -> str:
    segmentation, order = condition
    return f"{segmentation_title(segmentation)}, {ORDERS[order]}"
