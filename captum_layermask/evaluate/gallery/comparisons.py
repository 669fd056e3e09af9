"""Each image of a folder, explained under several removals."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from captum_layermask.evaluate.data.dataset import Dataset
from captum_layermask.evaluate.gallery.gallery import Gallery, Made, Opened
from captum_layermask.explain.comparison import DEFAULT_REMOVALS, Prediction, Row, compare
from captum_layermask.explain.explanation import METHODS
from captum_layermask.models.loaded import LoadedModel
from captum_layermask.plots.comparison import plot_comparison

__all__ = ["Comparisons"]


class Comparisons(Gallery):
    """Explain the likeliest classes of each image under several removals, as ``compare`` does.

    Args:
        model: the classifier.
        data: images.
        out: folder of the run.
        removals: keys of ``REMOVALS``.
        classes: how many of the likeliest classes to explain.
        targets: indices of the classes to explain instead.
        top: how many segments to remove, and to leave alone visible.
        options: those of ``Gallery``.

    Raises:
        UnknownNameError: there is no such removal, method or segmentation.
        InputError: a count is too small, or a removal cannot work with this model.

    Example:
        ```python
        experiment = Comparisons(model, find_pictures("birds"), Path("comparisons"))
        write_index(experiment, run(experiment, experiment.out))
        ```
    """

    name = "comparisons"

    def __init__(
        self,
        model: LoadedModel,
        data: Dataset,
        out: Path,
        *,
        removals: Sequence[str] = DEFAULT_REMOVALS,
        classes: int = 2,
        targets: Sequence[int] | None = None,
        top: int = 10,
        **options: Any,
    ) -> None:
        own = {"classes": classes, "targets": None if targets is None else list(targets), "top": top}
        super().__init__(model, data, out, removals=removals, options=own, **options)
        self._chosen: dict[str, Any] = {"classes": classes, "targets": targets, "top": top}
        self.lead = (
            f"{Gallery.lead} They are of the first removal and the first class; a drop is what that class's "
            f"probability loses when its {top} strongest segments are removed."
        )
        self.title = f"{METHODS[self.method][0]} under {len(self.removals)} removals: {model.name}"

    def make(self, opened: Opened) -> Made:
        """Compare the removals."""
        comparison = compare(
            self.network,
            opened.pixels,
            opened.segments,
            class_names=self.model.class_names,
            colors=self.model.colors,
            removals=self.removals,
            method=self.method,
            seed=self.seed,
            **self._chosen,
            **self.sampling,
        )
        first = comparison.rows[0]
        labels = [rows[0].explanation.label for rows in comparison.of_classes()]
        entry = {
            "prediction": first.original.predicted,
            "explained": labels,
            "probability": first.original.probability,
            "rows": [_told(row) for row in comparison.rows],
        }
        attributions = [row.explanation.attributions.float().cpu().numpy() for row in comparison.rows]
        about = {name: [getattr(row, name) for row in comparison.rows] for name in ("removal", "strongest")}
        numbers = {
            "pixels": opened.pixels.float().cpu().numpy(),
            "segments": opened.segments.int().cpu().numpy(),
            "attributions": np.concatenate(attributions),
            "about": np.array(json.dumps(about | {"label": [r.explanation.label for r in comparison.rows]})),
        }
        return Made(plot_comparison(comparison), first.explanation, numbers, entry)

    def cells(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """Prediction, explained classes, and how the first one's probability falls under each removal."""
        rows = entry["rows"][: len(self.removals)]
        falls = {
            f"drop, {row['removal']}": row["original"]["probability"] - row["removed"]["probability"]
            for row in rows
        }
        told = {"prediction": entry["prediction"], "explained": ", ".join(entry["explained"])}
        return told | {"probability": entry["probability"]} | falls


def _told(row: Row) -> dict[str, Any]:
    return {
        "class": row.explanation.label,
        "removal": row.removal,
        "stability": row.explanation.stability,
        "strongest": row.strongest,
        **{name: _prediction(getattr(row, name)) for name in ("original", "removed", "alone")},
    }


def _prediction(prediction: Prediction) -> dict[str, Any]:
    return {
        "probability": prediction.probability,
        "predicted": prediction.predicted,
        "vanished": prediction.vanished,
    }
