"""Experiment: are LIME's explanations better? §4.4 of the paper, and the Grid Pointing Game."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from captum_layermask.errors import InputError, require_positive
from captum_layermask.evaluate.data.dataset import Dataset
from captum_layermask.evaluate.data.drawing import readable
from captum_layermask.evaluate.data.objects import objects_with_classes
from captum_layermask.evaluate.experiment import PAPER_REMOVALS, Experiment
from captum_layermask.evaluate.lime.mosaics import Candidate, choose_cells, mosaic
from captum_layermask.evaluate.lime.pictures import examples_of
from captum_layermask.evaluate.lime.report import RANKS, WHOLE, LimeResults
from captum_layermask.evaluate.records import rounded
from captum_layermask.evaluate.report.results import Example
from captum_layermask.evaluate.seeds import shuffled, stable_seed
from captum_layermask.explain.coalitions import Coalitions
from captum_layermask.explain.explanation import explain, predict
from captum_layermask.explain.memoized import Memoized
from captum_layermask.explain.segments import SEGMENTATIONS
from captum_layermask.metrics import alignment_score, grid_pointing_game, top_k_jaccard, top_k_region
from captum_layermask.models.loaded import LoadedModel
from captum_layermask.removals.captum_calls import warn_if_few

__all__ = ["TOP", "Lime"]

#: How many segments are taken for the most important ones; the paper's Table 2 has 20.
TOP = (10, 20, 30)


@dataclass(frozen=True)
class _Opened:
    """An image or a mosaic.

    Attributes:
        image: its id.
        pixels: float 1×3×H×W.
        segments: name of the segmentation → LongTensor 1×1×H×W.
        targets: classes to explain: one, or those of a mosaic's cells in reading order.
        ranks: place of each target among the classes by their probability for the original image; 0 is the
            likeliest.
        prediction: the likeliest class of the original image.
        object: bool 1×1×H×W, where objects of the target's class are; None where that is not known.
    """

    image: str
    pixels: Tensor
    segments: dict[str, Tensor]
    targets: tuple[int, ...]
    ranks: tuple[int, ...]
    prediction: int
    object: Tensor | None


class Lime(Experiment):
    """Experiment: how good are LIME's explanations under several removals (§4.4, Table 2)?

    Explained is the image's class, where it is among the network's three likeliest; without labels, the
    likeliest class. All removals see the same perturbations of an image. The measures are

    * top-k ablation: accuracy when the k most important segments are removed, by grey for all explanations;
    * alignment score and top-k Jaccard, where an image has a mask of an object of the explained class;
    * the Grid Pointing Game, on mosaics of four images, each of whose classes is explained in turn.

    A unit is an image or a mosaic, a segmentation and a removal.

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
        seed: of the perturbations, the mosaics and removals that draw noise.

    Raises:
        InputError: a number is out of range, or a removal cannot work with this model.
        UnknownNameError: there is no such removal or segmentation.

    Example:
        ```python
        data = find_images("val", model.class_names, limit=60)
        experiment = Lime(model, data, removals=["layer", "grey"], n_samples=200)
        report = experiment.report(run(experiment, Path("lime")).records)
        ```

    Source: §4.4 and Table 2 of Balasubramanian & Feizi; for the game Böhle, Fritz and Schiele, CVPR 2021.
    """

    name = "lime"

    def __init__(
        self,
        model: LoadedModel,
        data: Dataset,
        *,
        removals: Sequence[str] = PAPER_REMOVALS,
        segmentations: Sequence[str] = tuple(SEGMENTATIONS),
        n_segments: int = 196,
        n_samples: int = 500,
        top: Sequence[int] = TOP,
        mosaics: int = 30,
        batch_size: int = 16,
        seed: int = 0,
    ) -> None:
        require_positive("the number of segments", n_segments)
        require_positive("the number of samples", n_samples)
        require_positive("the number of most important segments", min(top, default=0))
        require_positive("the number of images per call", batch_size)
        if mosaics < 0:
            raise InputError(f"the number of mosaics is {mosaics}; give 0 or more.")
        warn_if_few(n_samples, n_segments)
        own = {
            "n_segments": n_segments,
            "n_samples": n_samples,
            "top": sorted(set(top)),
            "mosaics": mosaics,
            "batch_size": batch_size,
        }
        super().__init__(model, data, removals=removals, segmentations=segmentations, seed=seed, options=own)
        self.title = f"LIME under {len(removals)} removals: {model.name}"
        self.n_segments, self.n_samples, self.batch_size = n_segments, n_samples, batch_size
        self.top = tuple(sorted(set(top)))
        self._mosaics = [f"mosaic-{number:04}" for number in range(mosaics)]
        self.images = sorted([*data.images, *self._mosaics])
        self.columns = pa.schema(
            {
                "segmentation": pa.string(),
                "removal": pa.string(),
                "cell": pa.int64(),  # of a mosaic; −1 for an image
                "target": pa.int64(),  # class that is explained
                "rank": pa.int64(),  # of that class on the original image; 0 is the likeliest
                "prediction": pa.int64(),  # on the original image
                **{f"ablated_{k}": pa.int64() for k in self.top},  # prediction without the top k
                "alignment": pa.float64(),
                **{f"jaccard_{k}": pa.float64() for k in self.top},
                "pointing": pa.float64(),
                "importance": pa.list_(pa.float64()),  # of each segment
                "n_samples": pa.int64(),
                "vanished": pa.int64(),  # of these
                "seconds": pa.float64(),  # to explain
            }
        )

    def units(self, image: str) -> list[str]:
        """Every segmentation under every removal."""
        return [
            f"{segmentation}/{removal}" for segmentation in self.segmentations for removal in self.removals
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
        pixels = self.pixels(image)
        label = self.data.labels.get(image)
        target = int(self._probabilities(pixels).argmax()) if label is None else label
        return self._opened(image, pixels, (target,), self._object(image, target))

    def work(self, opened: _Opened, unit: str) -> list[dict[str, Any]]:
        """An explanation and its measures; for a mosaic, one for each cell."""
        segmentation, removal = unit.split("/")
        segments = opened.segments[segmentation]
        forward = self.forward(removal, opened.pixels, segments)
        memoized = Memoized(forward)
        rows = []
        whole = len(opened.targets) == 1
        for number, target in enumerate(opened.targets):
            row = self._empty_row(segmentation, removal, WHOLE if whole else number, number, opened)
            rows.append(row)
            if whole and opened.ranks[number] >= RANKS:
                continue
            start = time.perf_counter()
            with self.watched(forward) as watch:
                explanation = explain(
                    memoized,
                    opened.pixels,
                    segments,
                    class_names=self.model.class_names,
                    target=target,
                    n_samples=self.n_samples,
                    perturbations_per_eval=self.batch_size,
                    seed=stable_seed(self.seed, opened.image, segmentation),
                )
            row["n_samples"], row["vanished"] = self.n_samples, watch.vanished
            row["seconds"] = time.perf_counter() - start
            importance = explanation.segment_attributions()
            row["importance"] = [rounded(value) for value in importance.tolist()]
            if whole:
                row |= self._measures(opened, segments, importance)
            else:
                cell = torch.tensor([number])
                row["pointing"] = float(grid_pointing_game(explanation.attributions, cell))
        return rows

    def results(self, records: pa.Table) -> LimeResults:
        """Table 2, the same for every k, and the Grid Pointing Game."""
        return LimeResults(records, self.settings, labelled=bool(self.data.labels))

    def examples(self, results: LimeResults) -> Iterator[Example]:
        """Explanations of an image, and of a mosaic."""
        return examples_of(results, self.segmentations, self.removals, self.model.class_names)

    def _probabilities(self, pixels: Tensor) -> Tensor:
        return predict(self.network, pixels)[0]

    def _opened(self, image: str, pixels: Tensor, targets: tuple[int, ...], where: Tensor | None) -> _Opened:
        likeliest = self._probabilities(pixels).argsort(descending=True).tolist()
        return _Opened(
            image=image,
            pixels=pixels,
            segments={
                name: SEGMENTATIONS[name](pixels, n_segments=self.n_segments) for name in self.segmentations
            },
            targets=targets,
            ranks=tuple(likeliest.index(target) for target in targets),
            prediction=likeliest[0],
            object=where,
        )

    def _object(self, image: str, target: int) -> Tensor | None:
        """The masks of objects of the class, united; None where there are none, or they tell nothing."""
        masks, label = self.data.masks.get(image, {}), self.data.labels.get(image)
        right = objects_with_classes(masks, label, self.model.class_names)
        of_target = [self.mask(image, category) for category, classes in right.items() if target in classes]
        united = torch.stack(of_target).any(0) if of_target else torch.zeros(1, 1, 1, 1, dtype=torch.bool)
        return None if united.all() or not united.any() else united

    def _candidates(self, name: str) -> Iterator[Candidate]:
        """Images in an order drawn for this mosaic."""
        drawn = shuffled(self.data.images, stable_seed(self.seed, name))
        for image, pixels in readable(drawn, self.data, self.model):
            probabilities = self._probabilities(pixels)
            prediction = int(probabilities.argmax())
            label = self.data.labels.get(image, prediction)
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
            **{f"ablated_{k}": None for k in self.top},
            "alignment": np.nan,
            **{f"jaccard_{k}": np.nan for k in self.top},
            "pointing": np.nan,
            "importance": [],
            "n_samples": 0,
            "vanished": 0,
            "seconds": 0.0,
        }

    def _measures(self, opened: _Opened, segments: Tensor, importance: Tensor) -> dict[str, Any]:
        grey = self.forward("grey")
        in_a_row = torch.arange(len(importance), device=importance.device)[None, None, None]
        removed = torch.cat([top_k_region(importance, in_a_row, k) for k in self.top]).flatten(1)
        coalitions = Coalitions(grey, opened.pixels, segments, activation="softmax", batch_size=len(removed))
        with self.watched(grey):
            predictions = coalitions(~removed).argmax(1)
        measures: dict[str, Any] = {
            f"ablated_{k}": int(prediction) for k, prediction in zip(self.top, predictions, strict=True)
        }
        if opened.object is not None:
            measures["alignment"] = float(alignment_score(importance, segments, opened.object))
            for k in self.top:
                measures[f"jaccard_{k}"] = float(top_k_jaccard(importance, segments, opened.object, k))
        return measures
