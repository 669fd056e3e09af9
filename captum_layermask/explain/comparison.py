"""One picture is explained under several ways to remove pixels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from captum_layermask.errors import InputError, require_positive
from captum_layermask.explain.coalitions import Coalitions
from captum_layermask.explain.explanation import Explanation, check_image, explain, predict
from captum_layermask.explain.memoized import Remembering
from captum_layermask.explain.targets import class_index
from captum_layermask.names import WAYS
from captum_layermask.removals.base import RemovalForward
from captum_layermask.removals.colors import Colors
from captum_layermask.removals.registry import REMOVALS, make_forward
from captum_layermask.text import shortened

__all__ = ["LEAST_PROBABILITY", "WAYS", "Answer", "Comparison", "Row", "compare", "marked"]

LEAST_PROBABILITY = 0.05
"""Likeliest classes under it are left out: there is nothing in their attributions to see."""


@dataclass(frozen=True)
class Answer:
    """What the network says to the picture, or to what is left of it.

    Attributes:
        probability: of the explained class, in [0, 1].
        predicted: name of the likeliest class.
        vanished: whether pixels were visible but none reached the head of the network, so that this is its
            answer to an empty image; None for ways that do not tell, since they lose none.
    """

    probability: float
    predicted: str
    vanished: bool | None = None


@dataclass(frozen=True)
class Row:
    """One class, explained under one way to remove pixels.

    Attributes:
        way: a key of ``REMOVALS``.
        title: of that way.
        leaks: whether what it puts in the hole is mixed from the hidden pixels.
        explanation: of the class.
        strongest: ids of the regions (segments; for occlusion, squares) that speak most for the class, by
            this way's own attributions, best first.
        intact: the answer to the whole picture.
        removed: the answer with those regions removed in this way.
        kept: the answer with everything else removed in this way.
    """

    way: str
    title: str
    leaks: bool
    explanation: Explanation
    strongest: tuple[int, ...]
    intact: Answer
    removed: Answer
    kept: Answer


@dataclass(frozen=True)
class Comparison:
    """One picture, its likeliest classes explained under several ways to remove pixels.

    Attributes:
        ways: keys of ``REMOVALS``.
        rows: likeliest class first; for each class, the ways in their order.
        left_out: names and probabilities of the classes that were too unlikely to be explained.
    """

    ways: tuple[str, ...]
    rows: tuple[Row, ...]
    left_out: tuple[tuple[str, float], ...] = ()

    def of_classes(self) -> list[tuple[Row, ...]]:
        """The rows of each class."""
        count = len(self.ways)
        return [self.rows[start : start + count] for start in range(0, len(self.rows), count)]

    def table(self) -> str:
        """A line for each row, to print: probabilities of the class, predictions, ``stability``."""
        top = len(self.rows[0].strongest)
        lines = [["class", "missing", "intact", f"top {top} removed", f"top {top} kept", "stability"]]
        for row in self.rows:
            label, stability = shortened(row.explanation.label, 30), row.explanation.stability
            answers = map(_in_words, (row.intact, row.removed, row.kept))
            agreement = "–" if stability is None else f"{stability:.2f}"
            lines.append([label, marked(row.title, row.leaks), *answers, agreement])
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        )


def compare(
    model: nn.Module,
    pixels: Tensor,
    segments: Tensor,
    *,
    categories: Sequence[str],
    colors: Colors | None = None,
    missing: Sequence[str] = WAYS,
    method: str = "lime",
    classes: int = 2,
    targets: Sequence[int | str] | None = None,
    activation: str = "softmax",
    n_samples: int | None = None,
    perturbations_per_eval: int = 16,
    top: int = 10,
    seed: int = 0,
    show_progress: bool = False,
) -> Comparison:
    """Explain the likeliest classes of one picture, or those asked for, under several ways to remove pixels.

    All ways and all classes see the same perturbations. The network runs once for all classes.

    Args:
        model: N×3×H×W → logits N×classes, in eval mode; it normalises inside.
        pixels: float 1×3×H×W in [0, 1], the image.
        segments: LongTensor 1×1×H×W, ids from 0 (see ``segments.py``).
        categories: one name per class.
        colors: the scale of the images, ``Colors(mean, std, normalized=False)``; paints need it.
        missing: keys of ``REMOVALS``.
        method: a key of ``METHODS``.
        classes: how many of the likeliest to explain; those under ``LEAST_PROBABILITY`` are left out, but
            for the first.
        targets: indices or names of the classes to explain instead, however unlikely they are.
        activation: as for ``explain``.
        n_samples: as for ``explain``.
        perturbations_per_eval: images per call of the network.
        top: how many segments (for occlusion, squares) to remove, and to keep, to test an explanation; all of
            them where there are fewer.
        seed: of the samples, and of ways that draw noise.
        show_progress: show Captum's progress bar on stderr, one for each way.

    Returns:
        A row for each class and way: its explanation, and the probabilities that test it.

    Raises:
        UnknownNameError: there is no such way or method.
        InputError: no way is given, a count is out of range, or what ``explain`` or a way cannot work with.

    Source: Fig. 8 and §4.4 of Balasubramanian & Feizi.
    """
    _check_counts(missing, top, classes, len(categories))
    wanted = None if targets is None else _indices(targets, categories)
    check_image(pixels, segments)
    ways = tuple(dict.fromkeys(missing))
    forwards = {
        way: Remembering(
            make_forward(way, model, colors=colors, reference=pixels, segments=segments, seed=seed)
        )
        for way in ways
    }
    probabilities = predict(forwards[ways[0]], pixels, activation)[0]
    likeliest = probabilities.topk(classes).indices.tolist()
    kept = [likeliest[0], *(i for i in likeliest[1:] if probabilities[i] >= LEAST_PROBABILITY)]
    chosen = kept if wanted is None else wanted
    left_out = [] if wanted is not None else [i for i in likeliest if i not in kept]
    rows = {}
    for way, forward in forwards.items():
        for target in chosen:
            explanation = explain(
                forward,
                pixels,
                segments,
                categories=categories,
                method=method,
                target=target,
                activation=activation,
                n_samples=n_samples,
                perturbations_per_eval=perturbations_per_eval,
                seed=seed,
                show_progress=show_progress and target == chosen[0],
            )
            rows[target, way] = _row(way, forward.forward, explanation, categories, activation, top)
    return Comparison(
        ways,
        tuple(rows[target, way] for target in chosen for way in ways),
        tuple((categories[i], float(probabilities[i])) for i in left_out),
    )


def marked(title: str, leaks: bool, space: str = " ") -> str:
    """The title of a way to remove pixels, with a mark where it leaks."""
    return f"{title}{space}(sees hidden pixels)" if leaks else title


def _row(
    way: str,
    forward: RemovalForward,
    explanation: Explanation,
    categories: Sequence[str],
    activation: str,
    top: int,
) -> Row:
    scores = explanation.region_attributions()
    strongest = scores.topk(min(top, len(scores))).indices
    of_strongest = torch.isin(torch.arange(len(scores), device=scores.device), strongest)
    visible = torch.stack([torch.ones_like(of_strongest), ~of_strongest, of_strongest])
    coalitions = Coalitions(
        forward, explanation.pixels, explanation.regions(), activation=activation, batch_size=len(visible)
    )
    probabilities = coalitions(visible).reshape(len(visible), -1)
    vanished = coalitions.vanished
    answers = [
        Answer(
            probability=float(row[explanation.target]),
            predicted=categories[int(row.argmax())],
            vanished=None if vanished is None else bool(vanished[i]),
        )
        for i, row in enumerate(probabilities)
    ]
    removal = REMOVALS[way]
    return Row(way, removal.title, removal.leaks, explanation, tuple(strongest.tolist()), *answers)


def _in_words(answer: Answer) -> str:
    predicted = shortened(answer.predicted, 30)
    return f"{answer.probability:.3f} {predicted}" + (" (nothing left)" if answer.vanished else "")


def _indices(targets: Any, categories: Sequence[str]) -> list[int]:
    """Indices of classes, each once."""
    if isinstance(targets, str) or getattr(targets, "ndim", 1) != 1 or not isinstance(targets, Iterable):
        raise InputError(
            f"targets is {targets!r}; give some classes, such as targets=[{targets!r}], or leave it out."
        )
    found = list(dict.fromkeys(class_index(target, categories) for target in targets))
    if not found:
        raise InputError("no class to explain was given; give some classes, or leave out targets.")
    return found


def _check_counts(missing: Sequence[str], top: int, classes: int, known_classes: int) -> None:
    if not missing:
        raise InputError(f"no way to remove pixels was given; give some of {', '.join(REMOVALS)}.")
    if not 1 <= classes <= known_classes:
        raise InputError(f"the number of classes is {classes}; give one from 1 to {known_classes}.")
    require_positive("the number of segments to remove", top)
