"""An experiment: units of work on images, what is recorded of each, and a report of the records."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import pyarrow as pa
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from captum_layermask.errors import InputError, LeftOutError, require_known, require_seed
from captum_layermask.evaluate.data.dataset import Dataset
from captum_layermask.evaluate.digests import settings_of_model
from captum_layermask.evaluate.report.report import Report
from captum_layermask.evaluate.report.results import Example, Results
from captum_layermask.evaluate.watched import Watch
from captum_layermask.explain.segments import SEGMENTATIONS
from captum_layermask.models.loaded import LoadedModel
from captum_layermask.removals.base import RemovalForward
from captum_layermask.removals.registry import REMOVALS, make_forward

__all__ = ["PAPER_REMOVALS", "Experiment"]

#: Those that the paper compares.
PAPER_REMOVALS = ("layer", "grey", "black")

#: What a report says in place of its example pictures.
_NO_EXAMPLE = "none: of the images that were recorded none can be opened any more"


class Experiment(ABC):
    """Base of the experiments: predictions on many images under several removals, and a report of them.

    A subclass says what the units of work of an image are (``units``), what they share (``open``), what is
    recorded of each (``work``, ``columns``), and what the records mean (``results``). ``run`` does the units,
    in one process or several, and can be stopped; ``report`` makes tables and figures of the records.

    Args:
        model: the network and its preprocessing.
        data: images, with whatever else the experiment needs of them.
        removals: keys of ``REMOVALS``.
        segmentations: keys of ``SEGMENTATIONS``; none, where images are not cut into segments.
        seed: of all that is random, from −2⁶³ to 2⁶⁴ − 1.
        options: name → value, JSON: the subclass's own options, those that decide the records.

    Attributes:
        name: one word, of the class.
        title: of the report, one line.
        columns: names and Arrow types of what ``work`` records.
        images: ids of the images; a subclass may choose some.
        network: pixels in [0, 1] → logits, normalisation inside.
        settings: JSON, everything that decides the records.
        forward_seconds: what this process has spent inside forwards so far.

    Raises:
        UnknownNameError: there is no such removal or segmentation.
        InputError: no removal, one that cannot work here (with this model, or for want of segments), or a
            seed that is out of range.

    Example:
        ```python
        class Originals(Experiment):
            name, title = "originals", "Predictions on the original images"
            columns = pa.schema({"predicted": pa.int64()})

            def units(self, image):
                return ["original"]

            def open(self, image):
                return self.pixels(image)

            def work(self, opened, unit):
                return [{"predicted": int(self.network(opened).argmax())}]

            def results(self, records):
                return Counts(records)  # a ``Results``
        ```
    """

    name: ClassVar[str]
    title: str
    columns: pa.Schema

    def __init__(
        self,
        model: LoadedModel,
        data: Dataset,
        *,
        removals: Sequence[str] = PAPER_REMOVALS,
        segmentations: Sequence[str] = (),
        seed: int = 0,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        require_known("removal", removals, REMOVALS)
        require_known("segmentation", segmentations, SEGMENTATIONS)
        require_seed(seed)
        if not removals:
            raise InputError(f"there is no removal; give some of {', '.join(REMOVALS)}.")
        self.model, self.data, self.seed = model, data, seed
        self.removals, self.segmentations = tuple(removals), tuple(segmentations)
        self.images: Sequence[str] = data.images
        self.network = model.network
        self.forward_seconds = 0.0
        self.settings: dict[str, Any] = {
            "experiment": self.name,
            **settings_of_model(model),
            "data": {"images": len(data.images), "digest": data.digest},
            "removals": list(removals),
            **({"segmentations": list(segmentations)} if segmentations else {}),
            **(options or {}),
            "seed": seed,
        }
        self._forwards: dict[str, RemovalForward] = {}
        segments = torch.zeros(1, 1, 8, 8, dtype=torch.long) if segmentations else None
        for removal in removals:  # one that cannot work is an error now, and not in the midst of a run
            self.forward(removal, torch.zeros(1, 3, 8, 8), segments)

    @property
    def schema(self) -> pa.Schema:
        """Of a record: ``image`` and ``unit``, then ``columns``."""
        return pa.schema([("image", pa.string()), ("unit", pa.string()), *self.columns])

    @abstractmethod
    def units(self, image: str) -> list[str]:
        """Names of the units of work of one image."""

    @abstractmethod
    def open(self, image: str) -> Any:
        """What all units of an image share. It runs in another thread than ``work``, an image ahead.

        Raises:
            LeftOutError: the image cannot be used; the run goes on without it. Any other error ends the run.
        """

    @abstractmethod
    def work(self, opened: Any, unit: str) -> list[dict[str, Any]]:
        """The records of one unit: a value for each of the columns.

        They depend on nothing but the settings, the image and the unit. So batches have a fixed shape and
        never hold samples of two units, whose logits would then differ in their last bits.
        """

    @abstractmethod
    def results(self, records: pa.Table) -> Results:
        """What the records of complete images mean; they are sorted by image and unit."""

    def examples(self, results: Any) -> Iterator[Example]:
        """Pictures for the report, if there are some."""
        yield from ()

    def report(self, records: pa.Table) -> Report:
        """Tables, figures and facts of the results, and example pictures."""
        results = self.results(records)
        figures, facts = dict(results.figures()), dict(results.facts())
        for example in self.examples(results):
            figure = self._drawn(example)
            if figure is None:
                facts[example.fact] = _NO_EXAMPLE
            else:
                figures[example.figure] = figure
        return Report(self.title, results.summary(), tuple(results.tables()), figures, facts)

    def pixels(self, image: str) -> Tensor:
        """The image as the network takes it, float 1×3×H×W in [0, 1].

        Raises:
            LeftOutError: the file cannot be read.
        """
        return self.data.pixels(image, self.model.preprocess).to(self.model.device)

    def mask(self, image: str, category: str) -> Tensor:
        """Where the objects of a category are: bool 1×1×H×W, where the network is (``Dataset.mask``)."""
        return self.data.mask(image, category, self.model.preprocess).to(self.model.device)

    def forward(
        self, removal: str, reference: Tensor | None = None, segments: Tensor | None = None
    ) -> RemovalForward:
        """The forward of a removal: one for all images, or one for these where it depends on them.

        Args:
            removal: a key of ``REMOVALS``.
            reference: the original images, N×3×H×W; removals that leak need them.
            segments: LongTensor 1×1×H×W; the mean of a segment needs them.
        """
        if removal in self._forwards:
            return self._forwards[removal]
        forward = make_forward(
            removal,
            self.network,
            colors=self.model.colors,
            reference=reference,
            segments=segments,
            seed=self.seed,
        )
        if not REMOVALS[removal].needs & {"reference", "segments"}:
            self._forwards[removal] = forward
        return forward

    @contextmanager
    def watched(self, forward: nn.Module) -> Iterator[Watch]:
        """Note what vanishes in the calls of a forward, and add their time to ``forward_seconds``."""
        with Watch(forward) as watch:
            yield watch
        self.forward_seconds += watch.seconds

    def _drawn(self, example: Example) -> Figure | None:
        for image in example.images:
            try:
                return example.draw(self.open(image))
            except LeftOutError:
                continue
        return None
