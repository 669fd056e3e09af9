"""One picture is explained under several removals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from captum_layermask.errors import InputError, require_known, require_positive
from captum_layermask.explain.coalitions import Coalitions
from captum_layermask.explain.explanation import Explanation, check_image, explain, predict
from captum_layermask.explain.memoized import Memoized
from captum_layermask.explain.targets import class_index
from captum_layermask.names import DEFAULT_REMOVALS
from captum_layermask.removals.base import RemovalForward
from captum_layermask.removals.colors import Colors
from captum_layermask.removals.registry import REMOVALS, make_forward
from captum_layermask.text import shortened, text_table

__all__ = ["DEFAULT_REMOVALS", "LEAST_PROBABILITY", "Comparison", "Prediction", "Row", "compare", "marked"]

LEAST_PROBABILITY = 0.05
"""Likeliest classes under it are left out: there is nothing in their attributions to see."""


@dataclass(frozen=True)
class Prediction:
    """What the network predicts for the picture, or for what is left of it.

    Attributes:
        probability: of the explained class, in [0, 1].
        predicted: name of the likeliest class.
        vanished: whether pixels were visible but none reached the head of the network, so that this is the
            prediction for an empty image; None for removals that do not tell, since they lose none.

    Example:
        ```python
        prediction = comparison.rows[0].alone
        print(prediction.predicted, prediction.probability)
        ```
    """

    probability: float
    predicted: str
    vanished: bool | None = None


@dataclass(frozen=True)
class Row:
    """One class, explained under one removal.

    Attributes:
        removal: a key of ``REMOVALS``.
        title: its title.
        leaks: whether what the network is given depends on the missing pixels (``RemovalForward.leaks``).
        explanation: of the class.
        strongest: ids of the regions (segments; for occlusion, squares) that speak most for the class, by
            the attributions under this removal, best first.
        original: the prediction for the original image.
        removed: the prediction with those regions removed.
        alone: the prediction with everything else removed, so that those regions alone are visible.

    Example:
        ```python
        for row in comparison.rows:
            print(row.title, row.original.probability - row.removed.probability)
        ```
    """

    removal: str
    title: str
    leaks: bool
    explanation: Explanation
    strongest: tuple[int, ...]
    original: Prediction
    removed: Prediction
    alone: Prediction


@dataclass(frozen=True)
class Comparison:
    """One picture, its likeliest classes explained under several removals.

    Attributes:
        removals: keys of ``REMOVALS``.
        rows: likeliest class first; for each class, the removals in their order.
        left_out: names and probabilities of the classes that were too unlikely to be explained.

    Example:
        ```python
        comparison = compare(model, pixels, segments, class_names=names, colors=colors)
        print(comparison.table())
        ```
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
        lines = [["class", "removal", "original", f"top {top} removed", f"top {top} alone", "stability"]]
        for row in self.rows:
            label, stability = shortened(row.explanation.label, 30), row.explanation.stability
            predictions = map(_in_words, (row.original, row.removed, row.alone))
            agreement = "–" if stability is None else f"{stability:.2f}"
            lines.append([label, marked(row.title, row.leaks), *predictions, agreement])
        return text_table(lines)


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
    """Explain the likeliest classes of one picture, or those given as targets, under several removals.

    All removals and all classes see the same perturbations. The network runs once for all classes.

    Args:
        model: N×3×H×W → logits N×classes, in eval mode; it normalises inside.
        pixels: float 1×3×H×W in [0, 1], the image.
        segments: LongTensor 1×1×H×W, ids from 0 (see ``segments.py``).
        class_names: one name per class.
        colors: the scale of the images, ``Colors(mean, std, normalized=False)``; colours and noise need it.
        removals: keys of ``REMOVALS``.
        method: a key of ``METHODS``.
        classes: how many of the likeliest to explain; those under ``LEAST_PROBABILITY`` are left out, but
            for the first.
        targets: indices or names of the classes to explain instead, however unlikely they are.
        activation: as for ``explain``.
        n_samples: as for ``explain``.
        perturbations_per_eval: images per call of the network.
        top: how many segments (for occlusion, squares) to remove, and to leave alone visible, to test an
            explanation; all of them where there are fewer.
        seed: of the samples, and of removals that draw noise.
        show_progress: show Captum's progress bar on stderr, one for each removal.

    Returns:
        A row for each class and removal: its explanation, and the predictions that test it.

    Raises:
        UnknownNameError: there is no such removal or method.
        InputError: no removal is given, a count is out of range, or what ``explain`` or a removal cannot work
            with.

    Example:
        ```python
        colors = Colors(mean, std, normalized=False)
        comparison = compare(model, pixels, segments, class_names=names, colors=colors, targets=["tabby"])
        plot_comparison(comparison)
        ```

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
    likely = [likeliest[0], *(i for i in likeliest[1:] if probabilities[i] >= LEAST_PROBABILITY)]
    chosen = likely if wanted is None else wanted
    left_out = [] if wanted is not None else [i for i in likeliest if i not in likely]
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
    """The title of a removal, with a mark where it leaks."""
    return f"{title}{space}(sees missing pixels)" if leaks else title


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
    predictions = [
        Prediction(
            probability=float(row[explanation.target]),
            predicted=class_names[int(row.argmax())],
            vanished=None if vanished is None else bool(vanished[i]),
        )
        for i, row in enumerate(probabilities)
    ]
    of_name = REMOVALS[removal]
    return Row(removal, of_name.title, of_name.leaks, explanation, tuple(strongest.tolist()), *predictions)


def _in_words(prediction: Prediction) -> str:
    predicted = shortened(prediction.predicted, 30)
    return f"{prediction.probability:.3f} {predicted}" + (" (nothing left)" if prediction.vanished else "")


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
        raise InputError(f"no removal was given; give some of {', '.join(REMOVALS)}.")
    require_known("removal", removals, REMOVALS)
    if not 1 <= classes <= known_classes:
        raise InputError(f"the number of classes is {classes}; give one from 1 to {known_classes}.")
    require_positive("the number of segments to remove", top)
