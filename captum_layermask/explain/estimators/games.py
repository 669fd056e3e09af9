"""Several games on the same coalitions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from captum_layermask.errors import InputError
from captum_layermask.explain.estimators.driver import Game

__all__ = ["Together"]


class Together:
    """Several games as one whose targets are those of all: the same coalitions, removed in several ways.

    Args:
        games: at least one; each bool K×S → K or K×T.

    Attributes:
        n_segments: S, where one of the games tells.
        vanished: which coalitions of the last call lost their evidence in one of the games; None where none
            tells.

    Raises:
        InputError: no game, or games of different numbers of segments.

    Example:
        ```python
        estimator = ShapleyEstimator(63)
        estimate = run(estimator, Together([layer, grey]), budget=1024)  # values S×2
        difference = estimator.combined(np.array([1.0, -1.0])).estimate()  # values S, with their own errors
        ```
    """

    def __init__(self, games: Sequence[Game]) -> None:
        counts = {n for game in games if (n := getattr(game, "n_segments", None)) is not None}
        if not games or len(counts) > 1:
            raise InputError(
                f"{len(games)} games, of {sorted(counts)} segments; give some, of the same segments."
            )
        self.games = tuple(games)
        self.n_segments: int | None = counts.pop() if counts else None
        self.vanished: np.ndarray | None = None

    def __call__(self, coalitions: np.ndarray) -> np.ndarray:
        """Evaluate all games: bool K×S → float64 K×T, the targets of the first game first."""
        values = [_columns(game(coalitions)) for game in self.games]
        told = [lost for game in self.games if (lost := getattr(game, "vanished", None)) is not None]
        self.vanished = np.any([np.asarray(lost) for lost in told], axis=0) if told else None
        return np.concatenate(values, axis=1)


def _columns(values: Any) -> np.ndarray:
    array = values.detach().cpu().double().numpy() if isinstance(values, Tensor) else np.asarray(values)
    return array.reshape(len(array), -1)
