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
from captum_layermask.explain.memoized import Memoized
from captum_layermask.explain.targets import class_index
from captum_layermask.names import DEFAULT_REMOVALS
from captum_layermask.removals.base import RemovalForward
from captum_layermask.removals.colors import Colors
from captum_layermask.removals.registry import REMOVALS, make_forward
from captum_layermask.text import shortened

__all__ = ["DEFAULT_REMOVALS", "LEAST_PROBABILITY", "Answer", "Comparison", "Row", "compare", "marked"]

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
        removal: a key of ``REMOVALS``.
        title: of that way.
        leaks: whether what it puts in the hole is mixed from the hidden pixels.
        explanation: of the class.
        strongest: ids of the regions (segments; for occlusion, squares) that speak most for the class, by
            this way's own attributions, best first.
        intact: the answer to the whole picture.
        removed: the answer with those regions removed in this way.
        kept: the answer with everything else removed in this way.
    """

    removal: str
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
        removals: keys of ``REMOVALS``.
        rows: likeliest class first; for each class, the ways in their order.
        left_out: names and probabilities of the classes that were too unlikely to be explained.
    """

    removals: tuple[str, ...]
    rows: tuple[Row, ...]
    left_out: tuple[tuple[str, float], ...] = ()

    def of_classes(self) -> list[tuple[Row, ...]]:
        """The rows of each class."""
        count = len(self.removals)
        return [self.rows[start : start + count] for start in range(0, len(self.rows), count)]

    def table(self) -> str:
        """A line for each row, to print: probabilities of the class, predictions, ``stability``."""
        top = len(self.rows[0].strongest)
        lines = [["class", "removal", "intact", f"top {top} removed", f"top {top} kept", "stability"]]
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
    class_names: Sequence[str],
    colors: Colors | None = None,
    removals: Sequence[str] = DEFAULT_REMOVALS,
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
        class_names: one name per class.
        colors: the scale of the images, ``Colors(mean, std, normalized=False)``; paints need it.
        removals: keys of ``REMOVALS``.
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
    _check_counts(removals, top, classes, len(class_names))
    wanted = None if targets is None else _indices(targets, class_names)
    check_image(pixels, segments)
    removals = tuple(dict.fromkeys(removals))
    forwards = {
        removal: Memoized(
            make_forward(removal, model, colors=colors, reference=pixels, segments=segments, seed=seed)
        )
        for removal in removals
    }
    probabilities = predict(forwards[removals[0]], pixels, activation)[0]
    likeliest = probabilities.topk(classes).indices.tolist()
    kept = [likeliest[0], *(i for i in likeliest[1:] if probabilities[i] >= LEAST_PROBABILITY)]
    chosen = kept if wanted is None else wanted
    left_out = [] if wanted is not None else [i for i in likeliest if i not in kept]
    rows = {}
    for removal, forward in forwards.items():
        for target in chosen:
            explanation = explain(
                forward,
                pixels,
                segments,
                class_names=class_names,
                method=method,
                target=target,
                activation=activation,
                n_samples=n_samples,
                perturbations_per_eval=perturbations_per_eval,
                seed=seed,
                show_progress=show_progress and target == chosen[0],
            )
            rows[target, removal] = _row(removal, forward.forward, explanation, class_names, activation, top)
    return Comparison(
        removals,
        tuple(rows[target, removal] for target in chosen for removal in removals),
        tuple((class_names[i], float(probabilities[i])) for i in left_out),
    )


def marked(title: str, leaks: bool, space: str = " ") -> str:
    """The title of a way to remove pixels, with a mark where it leaks."""
    return f"{title}{space}(sees hidden pixels)" if leaks else title


def _row(
    removal: str,
    forward: RemovalForward,
    explanation: Explanation,
    class_names: Sequence[str],
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
            predicted=class_names[int(row.argmax())],
            vanished=None if vanished is None else bool(vanished[i]),
        )
        for i, row in enumerate(probabilities)
    ]
    how = REMOVALS[removal]
    return Row(removal, how.title, how.leaks, explanation, tuple(strongest.tolist()), *answers)


def _in_words(answer: Answer) -> str:
    predicted = shortened(answer.predicted, 30)
    return f"{answer.probability:.3f} {predicted}" + (" (nothing left)" if answer.vanished else "")


def _indices(targets: Any, class_names: Sequence[str]) -> list[int]:
    """Indices of classes, each once."""
    if isinstance(targets, str) or getattr(targets, "ndim", 1) != 1 or not isinstance(targets, Iterable):
        raise InputError(
            f"targets is {targets!r}; give some classes, such as targets=[{targets!r}], or leave it out."
        )
    found = list(dict.fromkeys(class_index(target, class_names) for target in targets))
    if not found:
        raise InputError("no class to explain was given; give some classes, or leave out targets.")
    return found


def _check_counts(removals: Sequence[str], top: int, classes: int, known_classes: int) -> None:
    if not removals:
        raise InputError(f"no way to remove pixels was given; give some of {', '.join(REMOVALS)}.")
    if not 1 <= classes <= known_classes:
        raise InputError(f"the number of classes is {classes}; give one from 1 to {known_classes}.")
    require_positive("the number of segments to remove", top)
