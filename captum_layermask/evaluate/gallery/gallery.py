"""Each image of a folder becomes a picture, the numbers behind it, and a line of the index."""

from __future__ import annotations

import inspect
import io
import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from captum_layermask.errors import LeftOutError, require_positive
from captum_layermask.evaluate.data.dataset import Dataset
from captum_layermask.evaluate.experiment import Experiment
from captum_layermask.evaluate.gallery.thumbnails import thumbnail
from captum_layermask.evaluate.records import rounded
from captum_layermask.evaluate.report.report import Table
from captum_layermask.evaluate.report.results import Results
from captum_layermask.explain.explanation import METHODS, Explanation
from captum_layermask.explain.method_options import check_method_options
from captum_layermask.explain.segments import SEGMENTATIONS
from captum_layermask.files import write_whole
from captum_layermask.models.loaded import LoadedModel
from captum_layermask.plots.files import save_figure
from captum_layermask.removals.captum_calls import warn_if_few

__all__ = ["Entries", "Gallery", "Made", "Opened"]

#: Methods that fit a model to samples.
_FITTED = ("lime", "kernel-shap")


@dataclass(frozen=True)
class Opened:
    """An image, cut into segments.

    Attributes:
        image: its id.
        pixels: float 1×3×H×W in [0, 1].
        segments: LongTensor 1×1×H×W.
    """

    image: str
    pixels: Tensor
    segments: Tensor


@dataclass(frozen=True)
class Made:
    """What was made of an image.

    Attributes:
        figure: the picture.
        shown: the explanation whose map the index shows.
        numbers: name → array.
        entry: JSON, what the index says beside the name of the image and its files.
    """

    figure: Figure
    shown: Explanation
    numbers: Mapping[str, NDArray[Any]]
    entry: dict[str, Any]


class Entries(Results):
    """The lines of the index.

    Args:
        records: of complete images.
        cells: entry of an image → what a table shows of it, by column.

    Attributes:
        entries: JSON, one for each image.
        thumbnails: JPEG files, one for each image.
    """

    def __init__(self, records: pa.Table, cells: Any) -> None:
        super().__init__(records)
        self.entries: list[dict[str, Any]] = [json.loads(text) for text in records["entry"].to_pylist()]
        self.thumbnails: list[bytes] = records["thumbnail"].to_pylist()
        self.cells: list[dict[str, Any]] = [cells(entry) for entry in self.entries]

    def tables(self) -> Sequence[Table]:
        """All images in one table."""
        header = tuple(self.cells[0]) if self.cells else ()
        rows = tuple(tuple(map(str, cells.values())) for cells in self.cells)
        return [Table("Images", "What the network predicts, and what is explained.", header, rows)]


class Gallery(Experiment):
    """Base of the experiments that write a picture of each image.

    The unit is an image. Its files, ``pictures/<image>.png`` and ``numbers/<image>.npz``, are written before
    it is recorded, so that a run that was stopped writes them again, with the same bytes, or has them.

    Args:
        model: the classifier.
        data: images.
        out: folder of the run.
        removals: keys of ``REMOVALS``.
        method: a key of ``METHODS``.
        segmentation: a key of ``SEGMENTATIONS``.
        n_segments: about how many segments to make; None takes the segmentation's default.
        n_samples: as for ``explain``.
        budget: as for ``explain``.
        tolerance: as for ``explain``.
        top_k: as for ``explain``.
        batch_size: perturbed images per call of the network.
        seed: of the samples, and of removals that draw noise.
        options: JSON, what else decides the records.

    Raises:
        UnknownNameError: there is no such removal, method or segmentation.
        InputError: a count is too small, or a removal cannot work with this model.
    """

    #: What the index says of its pictures and columns.
    lead = (
        "Each small picture is the image as the network sees it, and its attributions: orange speaks for the "
        "class, blue against it."
    )
    columns = pa.schema({"entry": pa.string(), "thumbnail": pa.binary()})

    def __init__(
        self,
        model: LoadedModel,
        data: Dataset,
        out: Path,
        *,
        removals: Sequence[str],
        method: str = "lime",
        segmentation: str = "slic",
        n_segments: int | None = None,
        n_samples: int | None = None,
        budget: int | None = None,
        tolerance: float | None = None,
        top_k: int | None = None,
        batch_size: int = 16,
        seed: int = 0,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        goals: dict[str, Any] = {"budget": budget, "tolerance": tolerance, "top_k": top_k}
        check_method_options(method, n_samples=n_samples, **goals)
        require_positive("the number of segments", n_segments)
        require_positive("the number of images per call", batch_size)
        self.out, self.method = out, method
        self.sampling: dict[str, Any] = {
            "n_samples": n_samples,
            "perturbations_per_eval": batch_size,
            **goals,
        }
        if n_segments is None and segmentation in SEGMENTATIONS:
            n_segments = _default_count(segmentation)
        if n_segments is not None and method in _FITTED:
            warn_if_few(n_samples or METHODS[method][1] or 0, n_segments)
        self._count = {} if n_segments is None else {"n_segments": n_segments}
        own = {
            "method": method,
            "n_segments": n_segments,
            "n_samples": METHODS[method][1] if n_samples is None else n_samples,
            "batch_size": batch_size,
            **goals,
            **(options or {}),
        }
        super().__init__(model, data, removals=removals, segmentations=[segmentation], seed=seed, options=own)

    @abstractmethod
    def make(self, opened: Opened) -> Made:
        """Explain an image."""

    @abstractmethod
    def cells(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """What a table shows of an entry: text, or numbers, by column."""

    def units(self, image: str) -> list[str]:
        """One."""
        return [self.name]

    def open(self, image: str) -> Opened:
        """Read the image and cut it into segments.

        Raises:
            LeftOutError: it cannot be read, or is a single segment where the method needs two.
        """
        pixels = self.pixels(image)
        segments = SEGMENTATIONS[self.segmentations[0]](pixels, **self._count)
        if self.method == "kernel-shap" and not segments.any():
            raise LeftOutError("kernel SHAP needs at least 2 segments, and the image is a single one.")
        return Opened(image, pixels, segments.to(pixels.device))

    def work(self, opened: Opened, unit: str) -> list[dict[str, Any]]:
        """Explain the image, write its files, and record its line of the index."""
        made = self.make(opened)
        if made.shown.ended == "interrupted":  # an estimator returns what is there; it is not this image's
            raise KeyboardInterrupt
        picture = f"pictures/{opened.image}.png"
        numbers = f"numbers/{opened.image}.npz"
        content = io.BytesIO()
        np.savez_compressed(content, **made.numbers)  # type: ignore[arg-type]
        write_whole(self.out / numbers, content.getvalue())
        (self.out / picture).parent.mkdir(parents=True, exist_ok=True)
        save_figure(made.figure, self.out / picture, self._about())
        entry = {"image": opened.image, "picture": picture, "numbers": numbers, **made.entry}
        return [{"entry": json.dumps(_rounded(entry)), "thumbnail": thumbnail(made.shown)}]

    def results(self, records: pa.Table) -> Entries:
        """The lines of the index."""
        return Entries(records, self.cells)

    def _about(self) -> dict[str, str]:
        samples = self.settings["n_samples"]
        return {
            "Model": self.model.name,
            "Samples": "none" if samples is None else str(samples),
            "Seed": str(self.seed),
        }


def _default_count(segmentation: str) -> int | None:
    """About how many segments there are unless told otherwise; None where the segmentation does not tell."""
    parameter = inspect.signature(SEGMENTATIONS[segmentation]).parameters.get("n_segments")
    return parameter.default if parameter is not None and isinstance(parameter.default, int) else None


def _rounded(value: Any) -> Any:
    """JSON whose numbers have as many digits as records have."""
    if isinstance(value, dict):
        return {name: _rounded(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(inner) for inner in value]
    return rounded(value) if isinstance(value, float) else value
