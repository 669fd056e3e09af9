"""Several removals on the same coalitions, so that their differences are surer than either."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum_layermask.explain.estimators.driver import run
from captum_layermask.explain.estimators.estimate import Estimate
from captum_layermask.explain.estimators.games import Together
from captum_layermask.explain.explanation import Explanation, unexplained
from captum_layermask.explain.memoized import Memoized
from captum_layermask.explain.prediction import predict
from captum_layermask.explain.streams import Stream, in_segments

__all__ = ["Difference", "differences", "explained_together"]


@dataclass(frozen=True)
class Difference:
    """What the attributions of a class are more under one removal than under another.

    Attributes:
        target: index of the class.
        label: its name.
        removals: keys of ``REMOVALS``: the one that is taken off, and the one that it is taken off from.
        estimate: of the segments, float64 K, in units of probability; its errors are those of the difference,
            which are smaller than those of either, since both saw the same coalitions.

    Example:
        ```python
        for difference in comparison.differences():
            print(difference.label, difference.removals, difference.changed().nonzero().flatten().tolist())
        ```
    """

    target: int
    label: str
    removals: tuple[str, str]
    estimate: Estimate

    def changed(self, confidence: float = 0.95) -> Tensor:
        """In which segments the removals differ, their interval leaving out 0: bool K on the CPU."""
        low, high = self.estimate.interval(confidence)
        return torch.from_numpy((low > 0) | (high < 0))


def explained_together(
    forwards: Mapping[str, Memoized],
    pixels: Tensor,
    segments: Tensor,
    targets: Sequence[int],
    class_names: Sequence[str],
    stream: Stream,
    method: str,
    goals: Mapping[str, Any],
) -> tuple[dict[tuple[int, str], Explanation], Stream]:
    """Explain classes under several removals by one stream of coalitions.

    Returns:
        The explanation of each target and removal, and the stream, whose values K×T are of the targets under
        the first removal, then of those under the second.
    """
    estimator = stream.estimator(method)
    games = [
        stream.game(forward.forward, method, pixels, segments, list(targets)) for forward in forwards.values()
    ]
    estimate = run(estimator, Together(games), **goals)
    stream = replace(stream, state=estimator.state())
    explanations = {}
    for i, (removal, forward) in enumerate(forwards.items()):
        probabilities = predict(forward, pixels, stream.activation)[0]
        for j, target in enumerate(targets):
            column = i * len(targets) + j
            known = unexplained(probabilities, pixels, segments, class_names, target, method)
            explanations[target, removal] = known.estimated(
                _column(estimate, column), stream.combined(np.eye(estimate.values.shape[1])[column])
            )
    return explanations, stream


def differences(
    stream: Stream, removals: Sequence[str], explanations: Sequence[Explanation]
) -> tuple[Difference, ...]:
    """What every two removals differ by, for each class.

    Args:
        stream: as ``explained_together`` returns it.
        removals: in the order of that stream.
        explanations: one of each class, in the order of that stream.
    """
    pairs = list(combinations(range(len(removals)), 2))
    columns = [(target, pair) for target in range(len(explanations)) for pair in pairs]
    if not columns:
        return ()
    weights = np.zeros((len(removals) * len(explanations), len(columns)))
    for number, (target, (first, second)) in enumerate(columns):
        weights[first * len(explanations) + target, number] = -1
        weights[second * len(explanations) + target, number] = 1
    combined = stream.combined(weights)
    estimate = combined.estimator(explanations[0].method).estimate()
    found = []
    for number, (target, (first, second)) in enumerate(columns):
        explained = explanations[target]
        of_segments, _ = in_segments(
            _column(estimate, number), stream.combined(weights[:, number]), explained.segments
        )
        removed = (removals[first], removals[second])
        found.append(Difference(explained.target, explained.label, removed, of_segments))
    return tuple(found)


def _column(estimate: Estimate, column: int) -> Estimate:
    return replace(
        estimate,
        values=estimate.values[:, column],
        standard_errors=estimate.standard_errors[:, column],
    )
