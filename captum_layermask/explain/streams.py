"""The stream of coalitions behind an explanation: what was evaluated, and what it takes to go on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from captum_layermask.errors import InputError
from captum_layermask.explain.coalitions import Coalitions
from captum_layermask.explain.estimators.banzhaf import BanzhafEstimator
from captum_layermask.explain.estimators.base import Estimator
from captum_layermask.explain.estimators.estimate import Estimate
from captum_layermask.explain.estimators.rise import RiseEstimator
from captum_layermask.explain.estimators.shapley import ShapleyEstimator
from captum_layermask.explain.segments import grid

__all__ = ["Stream", "in_segments", "require_same_game"]

_CLASSES: dict[str, type[Estimator]] = {
    "shapley": ShapleyEstimator,
    "banzhaf": BanzhafEstimator,
    "rise": RiseEstimator,
}

#: How many coalitions tell one forward from another. The first of all streams of pairs are nothing and all.
_TRIED = 4

#: What networks differ by, in probability, on another machine.
_ROUNDING = 1e-3


@dataclass(frozen=True)
class Stream:
    """What was evaluated for an explanation, and the settings it takes to go on.

    Attributes:
        state: of the estimator, plain arrays (see ``Estimator.state``).
        baselines: as for ``explain``.
        activation: likewise.
        batch_size: images per call of the forward.
    """

    state: Mapping[str, np.ndarray]
    baselines: float
    activation: str
    batch_size: int

    @classmethod
    def started(
        cls, method: str, segments: Tensor, seed: int, *, baselines: float, activation: str, batch_size: int
    ) -> Self:
        """The stream of a method of ``ESTIMATORS``, before anything is evaluated."""
        estimator = (
            RiseEstimator(tuple(segments.shape[2:]), seed=seed)
            if method == "rise"
            else _CLASSES[method](int(segments.max()) + 1, seed=seed)
        )
        return cls(estimator.state(), baselines, activation, batch_size)

    @property
    def seed(self) -> int:
        """The seed that it is drawn from."""
        return int(self.state["seed"])

    def estimator(self, method: str) -> Estimator:
        """A new estimator that holds what was evaluated (errors: ``Estimator.from_state``)."""
        return _CLASSES[method].from_state(self.state)

    def combined(self, weights: np.ndarray) -> Self:
        """The stream of a combination of the targets: weights T, or T×U for several."""
        return replace(self, state={**self.state, "values": self.state["values"] @ weights})

    def game(
        self,
        forward: Callable[..., Any],
        method: str,
        pixels: Tensor,
        segments: Tensor,
        target: int | Sequence[int],
    ) -> Coalitions:
        """What is evaluated: the probability of a class, or of several, by which segments are visible."""
        return Coalitions(
            forward,
            pixels.contiguous(),  # a network's rounding depends on the layout, which a file does not keep
            grid(pixels, size=1) if method == "rise" else segments,
            target=target,
            baselines=self.baselines,
            activation=self.activation,
            batch_size=self.batch_size,
        )


def in_segments(estimate: Estimate, stream: Stream, segments: Tensor) -> tuple[Estimate, Tensor]:
    """The estimate in terms of segments, K values, and the attributions of pixels, float64 1×1×H×W.

    RISE's are of pixels, and become what a pixel changes: the mean while it is visible, less that of all
    masks. A segment has the mean of its pixels, and of their errors, which is an upper bound of its own.
    """
    ids = segments.cpu().numpy()
    if "shape" not in stream.state:
        return estimate, torch.from_numpy(estimate.values[ids])
    values = estimate.values - stream.state["values"].mean()
    sizes = np.bincount(ids.flatten())
    of_segments = replace(
        estimate,
        values=np.bincount(ids.flatten(), values) / sizes,
        standard_errors=np.bincount(ids.flatten(), estimate.standard_errors) / sizes,
    )
    return of_segments, torch.from_numpy(values.reshape(ids.shape))


def require_same_game(estimator: Estimator, game: Coalitions) -> None:
    """Raise ``InputError`` where the game gives other values than those that the estimator holds."""
    count = min(_TRIED, estimator.evaluations)
    if count == 0:
        return
    found, held = game(estimator.coalitions[:count]), estimator.values[:count]
    if not np.allclose(found, held, rtol=0, atol=_ROUNDING):
        raise InputError(
            f"the forward gives the first coalitions the probabilities {np.round(found, 4).tolist()}, and "
            f"{np.round(held, 4).tolist()} were saved; give the network, the removal and the image that it "
            "was started with."
        )
