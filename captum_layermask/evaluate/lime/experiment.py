"""Are LIME's explanations better? §4.4 of the paper, and the Grid Pointing Game."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from matplotlib.figure import Figure
from torch import Tensor

from captum_layermask.errors import InputError, LeftOutError, require_known
from captum_layermask.evaluate.data.dataset import Dataset
from captum_layermask.evaluate.data.drawing import NO_EXAMPLE, first_opened, readable, shuffled
from captum_layermask.evaluate.data.objects import objects_with_classes
from captum_layermask.evaluate.digests import settings_of_model
from captum_layermask.evaluate.lime.mosaics import Candidate, choose_cells, mosaic
from captum_layermask.evaluate.lime.report import RANKS, WHOLE, Results
from captum_layermask.evaluate.records import rounded
from captum_layermask.evaluate.report.figures import as_picture, attribution_picture, plot_pictures
from captum_layermask.evaluate.report.report import Report
from captum_layermask.evaluate.report.titles import removal_title, segmentation_title
from captum_layermask.evaluate.seeds import stable_seed
from captum_layermask.evaluate.watched import Watch
from captum_layermask.explain.coalitions import Coalitions
from captum_layermask.explain.explanation import explain, predict
from captum_layermask.explain.memoized import Memoized
from captum_layermask.explain.segments import SEGMENTATIONS
from captum_layermask.metrics import alignment_score, grid_pointing_game, top_k_jaccard, top_k_region
from captum_layermask.models.loaded import LoadedModel
from captum_layermask.removals.base import RemovalForward
from captum_layermask.removals.captum_calls import warn_if_few
from captum_layermask.removals.registry import make_forward

__all__ = ["TOP", "Lime"]

#: How many segments are taken for the most important ones; the paper's Table 2 has 20.
TOP = (10, 20, 30)

_COLOURS = "Orange speaks for the class, blue against it."


@dataclass(frozen=True)
class _Opened:
    """An image or a mosaic.

    Attributes:
        image: its id.
        pixels: float 1×3×H×W.
        segments: name of the segmentation → LongTensor 1×1×H×W.
        targets: classes to explain: one, or those of a mosaic's cells in reading order.
        ranks: place of each target among the network's answers to the intact image; 0 is the likeliest.
        prediction: the network's answer to the intact image.
        object: bool 1×1×H×W, where objects of the target's class are; None where that is not known.
    """

    image: str
    pixels: Tensor
    segments: dict[str, Tensor]
    targets: tuple[int, ...]
    ranks: tuple[int, ...]
    prediction: int
    object: Tensor | None


class Lime:
    """Experiment: how good are LIME's explanations under several ways to remove pixels (§4.4, Table 2)?

    Explained is the image's class, where it is among the network's three likeliest; without labels, the
    likeliest class. All ways see the same perturbations of an image. The measures are

    * top-k ablation: accuracy when the k most important segments are removed, by grey for all ways;
    * alignment score and top-k Jaccard, where an image has a mask of an object of the explained class;
    * the Grid Pointing Game, on mosaics of four images, each of whose classes is explained in turn.

    A unit is an image or a mosaic, a segmentation and a way.

    Args:
        model: the network and its preprocessing.
        data: images; labels and masks are used where there are some.
        removals: keys of ``REMOVALS``.
        segmentations: keys of ``SEGMENTATIONS``.
        n_segments: about how many segments to make.
        n_samples: perturbed images for each explanation.
        top: values of k.
        mosaics: how many to make.
        batch_size: perturbed images in each call of the network.
        seed: of the perturbations, the mosaics and ways that draw noise.

    Raises:
        InputError: a number is out of range.
        UnknownNameError: there is no such way or segmentation.

    Source: §4.4 and Table 2 of Balasubramanian & Feizi; for the game Böhle, Fritz and Schiele, CVPR 2021.
    """

    name = "lime"

    def __init__(
        self,
        model: LoadedModel,
        data: Dataset,
        *,
        removals: Sequence[str] = ("layer", "grey", "black"),
        segmentations: Sequence[str] = tuple(SEGMENTATIONS),
        n_segments: int = 196,
        n_samples: int = 500,
        top: Sequence[int] = TOP,
        mosaics: int = 30,
        batch_size: int = 16,
        seed: int = 0,
    ) -> None:
        _check_counts(n_segments, n_samples, top, mosaics, batch_size)
        warn_if_few(n_samples, n_segments)
        require_known("segmentation", segmentations, SEGMENTATIONS)
        self._model, self._data, self._seed = model, data, seed
        self._removals, self._segmentations, self._top = (
            tuple(removals),
            tuple(segmentations),
            tuple(sorted(set(top))),
        )
        self._n_segments, self._n_samples, self._batch_size = n_segments, n_samples, batch_size
        for removal in self._removals:
            self._forward(removal, torch.zeros(1, 3, 8, 8), torch.zeros(1, 1, 8, 8, dtype=torch.long))
        self._mosaics = [f"mosaic-{number:04}" for number in range(mosaics)]
        self.images: Sequence[str] = sorted([*data.images, *self._mosaics])
        self.forward_seconds = 0.0
        self.settings = {
            "experiment": self.name,
            **settings_of_model(model),
            "data": {"images": len(data.images), "digest": data.digest},
            "removals": list(removals),
            "segmentations": list(segmentations),
            "n_segments": n_segments,
            "n_samples": n_samples,
            "top": list(self._top),
            "mosaics": mosaics,
            "batch_size": batch_size,
            "seed": seed,
        }
        self.schema = pa.schema(
            [
                ("image", pa.string()),
                ("unit", pa.string()),
                ("segmentation", pa.string()),
                ("removal", pa.string()),
                ("cell", pa.int64()),  # of a mosaic; −1 for an image
                ("target", pa.int64()),  # class that is explained
                ("rank", pa.int64()),  # of that class on the intact image; 0 is the likeliest
                ("prediction", pa.int64()),  # on the intact image
                *((f"ablated_{k}", pa.int64()) for k in self._top),  # prediction without the top k
                ("alignment", pa.float64()),
                *((f"jaccard_{k}", pa.float64()) for k in self._top),
                ("pointing", pa.float64()),
                ("importance", pa.list_(pa.float64())),  # of each segment
                ("n_samples", pa.int64()),
                ("vanished", pa.int64()),  # of these
                ("seconds", pa.float64()),  # to explain
            ]
        )

    def units(self, image: str) -> list[str]:
        """Every segmentation under every way."""
        return [
            f"{segmentation}/{removal}" for segmentation in self._segmentations for removal in self._removals
        ]

    def open(self, image: str) -> _Opened:
        """Pixels, segments, what to explain and, if known, where it is.

        Raises:
            LeftOutError: the image or a mask cannot be read, or no four images make a mosaic.
        """
        if image in self._mosaics:
            cells = choose_cells(self._candidates(image))
            pixels, targets = mosaic([cell.pixels for cell in cells]), tuple(cell.label for cell in cells)
            return self._opened(image, pixels, targets, None)
        pixels = self._data.pixels(image, self._model.preprocess)
        label = self._data.labels.get(image)
        target = int(self._probabilities(pixels).argmax()) if label is None else label
        return self._opened(image, pixels, (target,), self._object(image, target))

    def work(self, opened: _Opened, unit: str) -> list[dict[str, Any]]:
        """An explanation and its measures; for a mosaic, one for each cell."""
        segmentation, removal = unit.split("/")
        segments = opened.segments[segmentation]
        forward = self._forward(removal, opened.pixels, segments)
        watch = Watch(forward)
        remembering = Memoized(forward)
        rows = []
        whole = len(opened.targets) == 1
        for number, target in enumerate(opened.targets):
            row = self._empty_row(segmentation, removal, WHOLE if whole else number, number, opened)
            rows.append(row)
            if whole and opened.ranks[number] >= RANKS:
                continue
            start, vanished = time.perf_counter(), watch.vanished
            explanation = explain(
                remembering,
                opened.pixels,
                segments,
                class_names=self._model.class_names,
                target=target,
                n_samples=self._n_samples,
                perturbations_per_eval=self._batch_size,
                seed=stable_seed(self._seed, opened.image, segmentation),
            )
            row["n_samples"], row["vanished"] = self._n_samples, watch.vanished - vanished
            row["seconds"] = time.perf_counter() - start
            importance = explanation.segment_attributions()
            row["importance"] = [rounded(value) for value in importance.tolist()]
            if whole:
                row |= self._measures(opened, segments, importance)
            else:
                cell = torch.tensor([number])
                row["pointing"] = float(grid_pointing_game(explanation.attributions, cell))
        self.forward_seconds += watch.seconds
        return rows

    def report(self, records: pa.Table) -> Report:
        """Table 2, the same for every k, and the Grid Pointing Game."""
        results = Results(records, self._removals, self._segmentations, self._top)
        figures, no_examples = self._figures(results)
        return Report(
            title=f"LIME under {len(self._removals)} ways to remove pixels: {self._model.name}",
            summary=(
                f"Images: {len(results.images)}, mosaics: {len(results.mosaics)}, perturbed images for each "
                f"explanation: {self._n_samples}. "
                + (
                    f"Explained is an image's class; images where it is not among the network's {RANKS} "
                    f"likeliest are left out: {results.left_out}."
                    if self._data.labels
                    else "The images have no labels: explained is the likeliest class."
                )
            ),
            tables=results.tables(),
            figures=figures,
            facts={
                "images": len(results.images),
                "images left out": results.left_out,
                "mosaics": len(results.mosaics),
                "explanations": results.explanations,
                "samples of each explanation": self._n_samples,
                "seconds of each explanation": round(results.seconds / max(1, results.explanations), 3),
                "seconds of all explanations": round(results.seconds, 1),
                "vanished": {removal_title(removal): results.vanished(removal) for removal in self._removals},
                **no_examples,
            },
        )

    def _forward(self, removal: str, reference: Tensor, segments: Tensor) -> RemovalForward:
        return make_forward(
            removal,
            self._model.network,
            colors=self._model.colors,
            reference=reference,
            segments=segments,
            seed=self._seed,
        )

    def _probabilities(self, pixels: Tensor) -> Tensor:
        return predict(self._model.network, pixels)[0]

    def _opened(self, image: str, pixels: Tensor, targets: tuple[int, ...], where: Tensor | None) -> _Opened:
        likeliest = self._probabilities(pixels).argsort(descending=True).tolist()
        return _Opened(
            image=image,
            pixels=pixels,
            segments={
                name: SEGMENTATIONS[name](pixels, n_segments=self._n_segments) for name in self._segmentations
            },
            targets=targets,
            ranks=tuple(likeliest.index(target) for target in targets),
            prediction=likeliest[0],
            object=where,
        )

    def _object(self, image: str, target: int) -> Tensor | None:
        """The masks of objects of the class, united; None where there are none, or they say nothing."""
        masks, label = self._data.masks.get(image, {}), self._data.labels.get(image)
        right = objects_with_classes(masks, label, self._model.class_names)
        of_target = [
            self._data.mask(image, category, self._model.preprocess)
            for category, classes in right.items()
            if target in classes
        ]
        united = torch.stack(of_target).any(0) if of_target else torch.zeros(1, 1, 1, 1, dtype=torch.bool)
        return None if united.all() or not united.any() else united

    def _candidates(self, name: str) -> Iterator[Candidate]:
        """Images in an order drawn for this mosaic."""
        drawn = shuffled(self._data.images, stable_seed(self._seed, name))
        for image, pixels in readable(drawn, self._data, self._model):
            probabilities = self._probabilities(pixels)
            prediction = int(probabilities.argmax())
            label = self._data.labels.get(image, prediction)
            yield Candidate(image, pixels, label, float(probabilities[label]) if prediction == label else 0.0)

    def _empty_row(
        self, segmentation: str, removal: str, cell: int, number: int, opened: _Opened
    ) -> dict[str, Any]:
        """A record without an explanation."""
        return {
            "segmentation": segmentation,
            "removal": removal,
            "cell": cell,
            "target": opened.targets[number],
            "rank": opened.ranks[number],
            "prediction": opened.prediction,
            **{f"ablated_{k}": None for k in self._top},
            "alignment": np.nan,
            **{f"jaccard_{k}": np.nan for k in self._top},
            "pointing": np.nan,
            "importance": [],
            "n_samples": 0,
            "vanished": 0,
            "seconds": 0.0,
        }

    def _measures(self, opened: _Opened, segments: Tensor, importance: Tensor) -> dict[str, Any]:
        grey = self._forward("grey", opened.pixels, segments)
        watch = Watch(grey)
        in_a_row = torch.arange(len(importance), device=importance.device)[None, None, None]
        removed = torch.cat([top_k_region(importance, in_a_row, k) for k in self._top]).flatten(1)
        coalitions = Coalitions(grey, opened.pixels, segments, activation="softmax", batch_size=len(removed))
        predictions = coalitions(~removed).argmax(1)
        self.forward_seconds += watch.seconds
        measures: dict[str, Any] = {
            f"ablated_{k}": int(prediction) for k, prediction in zip(self._top, predictions, strict=True)
        }
        if opened.object is not None:
            measures["alignment"] = float(alignment_score(importance, segments, opened.object))
            for k in self._top:
                measures[f"jaccard_{k}"] = float(top_k_jaccard(importance, segments, opened.object, k))
        return measures

    def _figures(self, results: Results) -> tuple[dict[str, Figure], dict[str, str]]:
        """The figures, and facts that say which pictures there cannot be."""
        figures, facts = {}, {}

        def opened_as_recorded(image: str) -> _Opened:
            opened = self.open(image)
            if opened.targets != tuple(results.targets(image)):
                raise LeftOutError(f"{image} would be made of other images than those that were explained.")
            return opened

        if results.images:
            figures["ablation"] = results.figure()
            opened = first_opened(results.images, opened_as_recorded)
            if opened is None:
                facts["examples"] = NO_EXAMPLE
            else:
                columns = [(segmentation_title(name), name, WHOLE) for name in self._segmentations]
                label = self._model.class_names[opened.targets[0]]
                caption = f"{opened.image} and explanations of “{label}”. {_COLOURS}"
                figures["explanations"] = self._pictures(results, opened, columns, caption)
        if results.mosaics:
            opened = first_opened(results.mosaics, opened_as_recorded)
            if opened is None:
                facts["example of a mosaic"] = NO_EXAMPLE
            else:
                name = self._segmentations[0]
                columns = [
                    (self._model.class_names[target], name, cell)
                    for cell, target in enumerate(opened.targets)
                ]
                caption = (
                    "A mosaic and explanations of its four classes in reading order "
                    f"({segmentation_title(name)}). {_COLOURS}"
                )
                figures["mosaic"] = self._pictures(results, opened, columns, caption)
        return figures, facts

    def _pictures(
        self, results: Results, opened: _Opened, columns: Sequence[tuple[str, str, int]], caption: str
    ) -> Figure:
        """An image, and for each way its explanations: title, segmentation and cell of each column."""
        rows = {
            removal_title(removal): [
                as_picture(opened.pixels),
                *(
                    attribution_picture(
                        results.importance(opened.image, name, removal, cell), opened.segments[name]
                    )
                    for _, name, cell in columns
                ),
            ]
            for removal in self._removals
        }
        return plot_pictures(rows, ["image", *(title for title, _, _ in columns)], caption)


def _check_counts(n_segments: int, n_samples: int, top: Sequence[int], mosaics: int, batch_size: int) -> None:
    for what, number in (
        ("number of segments", n_segments),
        ("number of samples", n_samples),
        ("number of most important segments", min(top, default=0)),
        ("number of images per call", batch_size),
    ):
        if number < 1:
            raise InputError(f"the {what} is {number}; give at least 1.")
    if mosaics < 0:
        raise InputError(f"the number of mosaics is {mosaics}; give 0 or more.")
