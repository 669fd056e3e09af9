"""Experiment: more and more segments of an image are removed (§4.1 of the paper, Fig. 4, Tables 1 and 3)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import torch
from captum.attr import Saliency
from matplotlib.figure import Figure
from torch import Tensor

from captum_layermask.errors import InputError, require_known, require_positive
from captum_layermask.evaluate.curves.orders import ORDERS, removal_order, segment_sums
from captum_layermask.evaluate.curves.report import CurvesResults
from captum_layermask.evaluate.data.dataset import Dataset
from captum_layermask.evaluate.experiment import PAPER_REMOVALS, Experiment
from captum_layermask.evaluate.report.figures import plot_pictures, remaining_picture
from captum_layermask.evaluate.report.results import Example
from captum_layermask.evaluate.report.titles import removal_title, segmentation_title
from captum_layermask.evaluate.seeds import stable_seed
from captum_layermask.explain.coalitions import Coalitions
from captum_layermask.explain.segments import SEGMENTATIONS
from captum_layermask.models.loaded import LoadedModel

__all__ = ["Curves"]

_NAME = pa.dictionary(pa.int32(), pa.string())


@dataclass(frozen=True)
class _Opened:
    """What the units of an image share.

    Attributes:
        image: id.
        pixels: float 1×3×H×W in [0, 1], channels last in memory.
        segments: segmentation → LongTensor 1×1×H×W.
        places: segmentation and order → LongTensor K, when each segment is removed: 0 first.
    """

    image: str
    pixels: Tensor
    segments: Mapping[str, Tensor]
    places: Mapping[tuple[str, str], Tensor]


class Curves(Experiment):
    """Predictions while more and more segments of an image are removed, in several orders.

    A unit of work is an image, a segmentation, an order and a removal; all its fractions are one batch.

    Where the dataset has no saliency maps, the saliency of a pixel is the gradient of the true class's logit
    there (Simonyan et al., 2013; Captum's ``Saliency``), its largest absolute value over the channels. It
    needs no baseline: a method that fills with a colour would favour one of the removals that are compared.

    Args:
        model: the classifier.
        data: images with their classes.
        removals: keys of ``REMOVALS``.
        segmentations: keys of ``SEGMENTATIONS``.
        orders: keys of ``ORDERS``.
        fractions: how many fractions of the segments to remove, evenly from 0 to 1; at least 2.
        n_segments: about how many segments to make. The paper's 196 are the squares of 16×16 pixels of an
            image of 224×224.
        seed: of the random order, and of removals that draw noise.

    Raises:
        UnknownNameError: there is no such removal, segmentation or order.
        InputError: a removal cannot work with this model, or a count is too small.

    Example:
        ```python
        experiment = Curves(model, find_images("val", model.class_names), removals=["layer", "grey"])
        report = experiment.report(run(experiment, Path("curves")).records)
        ```

    Source: §4.1, Fig. 4 and Tables 1 and 3 of Balasubramanian & Feizi.
    """

    name = "curves"
    title = "Predictions while more and more of an image is removed"
    columns = pa.schema(
        {
            "segmentation": _NAME,
            "order": _NAME,
            "removal": _NAME,
            "fraction": pa.float64(),
            "label": pa.int32(),
            "predicted": pa.int32(),
            "vanished": pa.bool_(),
            "segments": pa.int32(),
        }
    )

    def __init__(
        self,
        model: LoadedModel,
        data: Dataset,
        *,
        removals: Sequence[str] = PAPER_REMOVALS,
        segmentations: Sequence[str] = tuple(SEGMENTATIONS),
        orders: Sequence[str] = tuple(ORDERS),
        fractions: int = 11,
        n_segments: int = 196,
        seed: int = 0,
    ) -> None:
        if fractions < 2:
            raise InputError(f"the number of fractions is {fractions}; give at least 2, for 0 and 1.")
        require_positive("the number of segments", n_segments)
        require_known("order", orders, ORDERS)
        own = {
            "n_segments": n_segments,
            "orders": list(orders),
            "fractions": fractions,
            "saliency": _source_of_saliency(orders, data),
        }
        super().__init__(model, data, removals=removals, segmentations=segmentations, seed=seed, options=own)
        self.orders, self.n_segments, self.steps = tuple(orders), n_segments, fractions - 1

    def units(self, image: str) -> list[str]:
        """Segmentation, order and removal, with ``/`` between them."""
        return [
            f"{segmentation}/{order}/{removal}"
            for segmentation in self.segmentations
            for order in self.orders
            for removal in self.removals
        ]

    def open(self, image: str) -> _Opened:
        """Read the image, cut it into segments and put those in order.

        Raises:
            LeftOutError: the image or its saliency map cannot be read.
        """
        pixels = self.pixels(image)
        saliency = self._saliency(image, pixels)
        segments: dict[str, Tensor] = {}
        places: dict[tuple[str, str], Tensor] = {}
        for segmentation in self.segmentations:
            ids = SEGMENTATIONS[segmentation](pixels, n_segments=self.n_segments)
            sums = segment_sums(ids, saliency)
            segments[segmentation] = ids
            for order in self.orders:
                seed = stable_seed(self.seed, image, segmentation, order)
                places[segmentation, order] = removal_order(order, sums, seed).argsort()
        return _Opened(image, pixels.contiguous(memory_format=torch.channels_last), segments, places)

    def work(self, opened: _Opened, unit: str) -> list[dict[str, Any]]:
        """Predict with each fraction of the segments removed."""
        segmentation, order, removal = unit.split("/")
        visible = self._visible(opened, segmentation, order)
        forward = self.forward(removal, opened.pixels, opened.segments[segmentation])
        coalitions = Coalitions(
            forward, opened.pixels, opened.segments[segmentation], batch_size=len(visible)
        )
        with self.watched(forward):
            logits = coalitions(visible).reshape(len(visible), -1)
        if logits.shape != (len(visible), len(self.model.class_names)):
            raise InputError(
                f"the network returned {tuple(logits.shape)} for {len(visible)} images and "
                f"{len(self.model.class_names)} class names; give a classifier and a name for each class."
            )
        vanished = coalitions.vanished
        return [
            {
                "segmentation": segmentation,
                "order": order,
                "removal": removal,
                "fraction": step / self.steps,
                "label": self.data.labels[opened.image],
                "predicted": int(logits[step].argmax()),
                "vanished": vanished is not None and bool(vanished[step]),
                "segments": int(opened.segments[segmentation].max()) + 1,
            }
            for step in range(self.steps + 1)
        ]

    def results(self, records: pa.Table) -> CurvesResults:
        """Tables 1 and 3, Fig. 4, and the records that they are made of."""
        return CurvesResults(records, self.settings, len(self.model.class_names))

    def examples(self, results: CurvesResults) -> Iterator[Example]:
        """What is left of one image."""
        yield Example("examples", results.images, self._example)

    def _visible(self, opened: _Opened, segmentation: str, order: str) -> Tensor:
        """The segments that are left after each fraction: bool F×K."""
        places = opened.places[segmentation, order]
        removed = [_share(step, self.steps, len(places)) for step in range(self.steps + 1)]
        return places >= torch.tensor(removed, device=places.device)[:, None]

    def _example(self, opened: _Opened) -> Figure:
        """All removals with the first segmentation and order, then the first removal with all others."""
        conditions = list(opened.places)
        shown = [(*conditions[0], removal) for removal in self.removals]
        shown += [(*condition, self.removals[0]) for condition in conditions[1:]]
        steps = sorted({_share(place, 5, self.steps) for place in range(1, 5)} - {0, self.steps}) or [1]
        rows = {
            f"{segmentation_title(segmentation)}, {ORDERS[order]}: {removal_title(removal)}": [
                remaining_picture(
                    self.forward(removal, opened.pixels, opened.segments[segmentation]),
                    opened.pixels,
                    self._visible(opened, segmentation, order)[step, opened.segments[segmentation]],
                )
                for step in steps
            ]
            for segmentation, order, removal in shown
        }
        columns = [f"{step / self.steps:.3g} removed" for step in steps]
        return plot_pictures(
            rows, columns, f"What is left of {opened.image} as more and more of it is removed."
        )

    def _saliency(self, image: str, pixels: Tensor) -> Tensor:
        """Float 1×1×H×W."""
        if self.settings["saliency"] == "none":
            return torch.zeros_like(pixels[:, :1])
        if self.settings["saliency"] == "maps":
            return self.data.saliency(image, self.model.preprocess)
        leaf = pixels.clone(memory_format=torch.channels_last).requires_grad_()
        gradient = Saliency(self.network).attribute(leaf, target=self.data.labels[image])
        return gradient.amax(1, keepdim=True)


def _source_of_saliency(orders: Sequence[str], data: Dataset) -> str:
    if set(orders) <= {"random"}:
        return "none"
    return "maps" if data.saliency_maps else "gradient"


def _share(step: int, steps: int, count: int) -> int:
    """``step / steps`` of ``count``, rounded to the nearest whole number, halves up."""
    return (2 * step * count + steps) // (2 * steps)
