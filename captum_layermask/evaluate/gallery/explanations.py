"""Each image of a folder, explained under one removal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from captum_layermask.evaluate.data.dataset import Dataset
from captum_layermask.evaluate.gallery.gallery import Gallery, Made, Opened
from captum_layermask.explain.comparison import marked
from captum_layermask.explain.explanation import METHODS, explain
from captum_layermask.explain.saved import arrays_of
from captum_layermask.explain.targets import find_class
from captum_layermask.models.loaded import LoadedModel
from captum_layermask.plots.explanation import plot_explanation
from captum_layermask.removals.registry import REMOVALS

__all__ = ["Explanations"]

_STRONGEST = 10


class Explanations(Gallery):
    """Explain one class of each image, as ``captum-layermask explain`` does.

    Args:
        model: the classifier.
        data: images.
        out: folder of the run.
        removal: a key of ``REMOVALS``.
        target: name or index of the class to explain; None takes the likeliest of each image.
        options: those of ``Gallery``.

    Raises:
        UnknownNameError: there is no such removal, method, segmentation or class.
        InputError: a count is too small, or the removal cannot work with this model.

    Example:
        ```python
        experiment = Explanations(model, find_pictures("birds"), Path("explanations"))
        write_index(experiment, run(experiment, experiment.out))
        ```
    """

    name = "explanations"

    def __init__(
        self,
        model: LoadedModel,
        data: Dataset,
        out: Path,
        *,
        removal: str = "layer",
        target: str | None = None,
        **options: Any,
    ) -> None:
        self._target = None if target is None else find_class(model.class_names, target)
        super().__init__(model, data, out, removals=[removal], options={"target": self._target}, **options)
        self._removal = marked(REMOVALS[removal].title, REMOVALS[removal].leaks)
        self.title = f"{METHODS[self.method][0]} with {self._removal}: {model.name}"

    def make(self, opened: Opened) -> Made:
        """Explain the class that was asked for, or the likeliest."""
        forward = self.forward(self.removals[0], opened.pixels, opened.segments)
        with self.watched(forward):
            explanation = explain(
                forward,
                opened.pixels,
                opened.segments,
                class_names=self.model.class_names,
                method=self.method,
                target=self._target,
                seed=self.seed,
                **self.sampling,
            )
        scores = explanation.region_attributions()
        entry = {
            "prediction": explanation.top5[0][0],
            "explained": explanation.label,
            "target": explanation.target,
            "probability": explanation.probability,
            "stability": explanation.stability,
            "segments": int(explanation.segments.max()) + 1,
            "top5": explanation.top5,
            "strongest": scores.topk(min(_STRONGEST, len(scores))).indices.tolist(),
        }
        return Made(plot_explanation(explanation, self._removal), explanation, arrays_of(explanation), entry)

    def cells(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """Prediction, explained class, its probability, stability."""
        return {name: entry[name] for name in ("prediction", "explained", "probability", "stability")}
