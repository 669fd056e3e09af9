"""Experiment: more and more segments of an image are removed (§4.1 of the paper, Fig. 4, Tables 1 and 3)."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import torch
from captum.attr import Saliency
from matplotlib.figure import Figure
from torch import Tensor

from captum_layermask.errors import InputError, require_known
from captum_layermask.evaluate.curves.orders import ORDERS, removal_order, segment_sums
from captum_layermask.evaluate.curves.report import curves_report
from captum_layermask.evaluate.data.dataset import Dataset
from captum_layermask.evaluate.data.drawing import NO_EXAMPLE, first_opened
from captum_layermask.evaluate.digests import settings_of_model
from captum_layermask.evaluate.report.figures import plot_pictures, remaining_picture
from captum_layermask.evaluate.report.report import Report
from captum_layermask.evaluate.report.titles import removal_title, segmentation_title
from captum_layermask.evaluate.seeds import stable_seed
from captum_layermask.explain.coalitions import Coalitions
from captum_layermask.explain.segments import SEGMENTATIONS
from captum_layermask.models.loaded import LoadedModel
from captum_layermask.removals.base import RemovalForward
from captum_layermask.removals.registry import REMOVALS, make_forward

__all__ = ["Curves"]


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


class Curves:
    """Predictions while more and more segments of an image are removed, in several orders and ways.

    A unit of work is an image, a segmentation, an order and a way; all its fractions are one batch.

    Where the dataset has no saliency maps, the saliency of a pixel is the gradient of the true class's logit
    there (Simonyan et al., 2013; Captum's ``Saliency``), its largest absolute value over the channels. It
    needs no baseline: a method that fills with a colour would favour one of the ways that are compared.

    Args:
        model: the classifier.
        data: images with their classes.
        removals: keys of ``REMOVALS``.
        segmentations: keys of ``SEGMENTATIONS``.
        orders: keys of ``ORDERS``.
        fractions: how many fractions of the segments to remove, evenly from 0 to 1; at least 2.
        n_segments: about how many segments to make. The paper's 196 are the squares of 16×16 pixels of an
            image of 224×224.
        seed: of the random order, and of ways that draw noise.

    Raises:
        UnknownNameError: there is no such way, segmentation or order.
        InputError: a way cannot work with this model, or a count is too small.

    Source: §4.1, Fig. 4 and Tables 1 and 3 of Balasubramanian & Feizi.
    """

    name = "curves"
    schema = pa.schema(
        [
            ("image", pa.string()),
            ("unit", pa.string()),
            *(
                (name, pa.dictionary(pa.int32(), pa.string()))
                for name in ("segmentation", "order", "removal")
            ),
            ("fraction", pa.float64()),
            ("label", pa.int32()),
            ("predicted", pa.int32()),
            ("vanished", pa.bool_()),
            ("segments", pa.int32()),
        ]
    )

    def __init__(
        self,
        model: LoadedModel,
        data: Dataset,
        *,
        removals: Sequence[str] = ("layer", "grey", "black"),
        segmentations: Sequence[str] = tuple(SEGMENTATIONS),
        orders: Sequence[str] = tuple(ORDERS),
        fractions: int = 11,
        n_segments: int = 196,
        seed: int = 0,
    ) -> None:
        if fractions < 2:
            raise InputError(f"the number of fractions is {fractions}; give at least 2, for 0 and 1.")
        if n_segments < 1:
            raise InputError(f"the number of segments is {n_segments}; give at least 1.")
        require_known("segmentation", segmentations, SEGMENTATIONS)
        require_known("order", orders, ORDERS)
        self.model, self.data = model, data
        self.images: Sequence[str] = data.images
        self.removals, self.segmentations, self.orders = tuple(removals), tuple(segmentations), tuple(orders)
        self.steps = fractions - 1
        self.n_segments, self.seed = n_segments, seed
        self.settings = {
            "experiment": self.name,
            **settings_of_model(model),
            "data": {"images": len(data.images), "digest": data.digest},
            "removals": list(removals),
            "segmentations": list(segmentations),
            "n_segments": n_segments,
            "orders": list(orders),
            "fractions": fractions,
            "saliency": self._source_of_saliency(),
            "seed": seed,
        }
        self.forward_seconds = 0.0
        self._network = model.network
        self._forwards = {
            removal: self._forward(removal) for removal in removals if not _paints_hidden(removal)
        }

    def units(self, image: str) -> list[str]:
        """Segmentation, order and way, with ``/`` between them."""
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
        pixels = self.data.pixels(image, self.model.preprocess)
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
        forward = self._forward_for(opened, segmentation, removal)
        coalitions = Coalitions(
            forward, opened.pixels, opened.segments[segmentation], batch_size=len(visible)
        )
        start = time.perf_counter()
        logits = coalitions(visible).reshape(len(visible), -1)
        self.forward_seconds += time.perf_counter() - start
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

    def report(self, records: pa.Table) -> Report:
        """Tables 1 and 3, Fig. 4, what is behind them, and an example."""
        report = curves_report(records, self.settings, len(self.model.class_names))
        opened = first_opened(records["image"].unique().to_pylist(), self.open)
        if opened is None:
            return dataclasses.replace(report, facts={**report.facts, "examples": NO_EXAMPLE})
        return dataclasses.replace(report, figures={**report.figures, "examples": self._examples(opened)})

    def _visible(self, opened: _Opened, segmentation: str, order: str) -> Tensor:
        """The segments that are left after each fraction: bool F×K."""
        places = opened.places[segmentation, order]
        removed = [_share(step, self.steps, len(places)) for step in range(self.steps + 1)]
        return places >= torch.tensor(removed, device=places.device)[:, None]

    def _examples(self, opened: _Opened) -> Figure:
        """One image in all ways of the first segmentation and order, then the first way in all others."""
        conditions = list(opened.places)
        shown = [(*conditions[0], removal) for removal in self.removals]
        shown += [(*condition, self.removals[0]) for condition in conditions[1:]]
        steps = sorted({_share(place, 5, self.steps) for place in range(1, 5)} - {0, self.steps}) or [1]
        rows = {
            f"{segmentation_title(segmentation)}, {ORDERS[order]}: {removal_title(removal)}": [
                remaining_picture(
                    self._forward_for(opened, segmentation, removal),
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

    def _forward_for(self, opened: _Opened, segmentation: str, removal: str) -> RemovalForward:
        if removal in self._forwards:
            return self._forwards[removal]
        return self._forward(removal, opened.pixels, opened.segments[segmentation])

    def _forward(
        self, removal: str, reference: Tensor | None = None, segments: Tensor | None = None
    ) -> RemovalForward:
        return make_forward(
            removal,
            self._network,
            colors=self.model.colors,
            reference=reference,
            segments=segments,
            seed=self.seed,
        )

    def _source_of_saliency(self) -> str:
        if set(self.orders) <= {"random"}:
            return "none"
        return "maps" if self.data.saliency_maps else "gradient"

    def _saliency(self, image: str, pixels: Tensor) -> Tensor:
        """Float 1×1×H×W."""
        if self.settings["saliency"] == "none":
            return torch.zeros_like(pixels[:, :1])
        if self.settings["saliency"] == "maps":
            return self.data.saliency(image, self.model.preprocess)
        leaf = pixels.clone(memory_format=torch.channels_last).requires_grad_()
        gradient = Saliency(self._network).attribute(leaf, target=self.data.labels[image])
        return gradient.amax(1, keepdim=True)


def _paints_hidden(removal: str) -> bool:
    return removal in REMOVALS and REMOVALS[removal].leaks


def _share(step: int, steps: int, count: int) -> int:
    """``step / steps`` of ``count``, rounded to the nearest whole number, halves up."""
    return (2 * step * count + steps) // (2 * steps)
