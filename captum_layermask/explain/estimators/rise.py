"""RISE: what the network predicts on average while a pixel is visible."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
import torch

from captum_layermask.errors import InputError, require_positive
from captum_layermask.explain.estimators.base import Estimator
from captum_layermask.explain.estimators.driver import Game, run
from captum_layermask.explain.estimators.estimate import Estimate

__all__ = ["RiseEstimator", "rise"]

#: Masks that are unpacked at once.
_CHUNK = 64


class RiseEstimator(Estimator):
    """Saliency of every pixel by random masks (RISE, Petsiuk et al., BMVC 2018), with standard errors.

    RISE draws cells that are visible with probability p, upsamples them bilinearly, shifts them, and
    multiplies the image with that smooth mask. A pixel here is visible or missing, and nothing between. So
    each smooth mask is cut at a level drawn evenly from 0 to 1: a pixel is visible with just the probability
    that the smooth mask gives it, and the edges stay round. The saliency of a pixel is the mean value over
    the masks that show it, as in RISE, divided by how many those were and not by how many were to be
    expected, which takes out their chance.

    A "coalition" is a mask here, and S the number of pixels. So a game is
    ``Coalitions(forward, image, grid(image, size=1))``.

    Args:
        shape: height and width of the image, in pixels.
        seed: of the stream.
        cells: along each side of the mask before it is upsampled.
        probability: p.

    Raises:
        InputError: a count below 1, or a probability that is not between 0 and 1.
    """

    settings: ClassVar[tuple[str, ...]] = ("shape", "cells", "probability")

    def __init__(
        self, shape: Sequence[int], *, seed: int = 0, cells: int = 7, probability: float = 0.5
    ) -> None:
        if len(shape) != 2 or min(shape) < 1:
            raise InputError(f"the shape is {tuple(shape)}; give height and width of the image, in pixels.")
        require_positive("the number of cells", cells)
        if not 0 < probability < 1:
            raise InputError(f"the probability is {probability}; give one between 0 and 1, such as 0.5.")
        self.shape, self.cells, self.probability = tuple(shape), cells, probability
        super().__init__(self.shape[0] * self.shape[1], seed=seed)

    @property
    def least_budget(self) -> int:
        """Enough to see a scatter."""
        return 2

    @property
    def trusted_from(self) -> int:
        """Enough for each pixel to be visible, and missing, in dozens."""
        return 128

    def _coalitions(self) -> Iterator[np.ndarray]:
        random = np.random.default_rng(self.seed)
        sides = [-(-side // self.cells) for side in self.shape]
        size = [side * (self.cells + 1) for side in sides]
        while True:
            visible = random.random((self.cells, self.cells)) < self.probability
            rows, columns = (int(random.integers(side)) for side in sides)
            level = random.random()
            smooth = torch.nn.functional.interpolate(
                torch.from_numpy(visible).double()[None, None], size, mode="bilinear", align_corners=False
            )[0, 0, rows : rows + self.shape[0], columns : columns + self.shape[1]]
            yield (smooth > level).numpy().flatten()

    def _estimated(self) -> tuple[np.ndarray, np.ndarray, float]:
        values = self.values.reshape(self.evaluations, -1)
        center = values.mean(0)
        spread = values - center
        count = np.zeros((self.n_segments, 1))
        total, squares = np.zeros((2, self.n_segments, spread.shape[1]))
        for start in range(0, len(spread), _CHUNK):
            part = spread[start : start + _CHUNK]
            visible = self._unpacked(start, start + len(part)).T.astype(np.float64)
            count += visible.sum(1, keepdims=True)
            total += visible @ part
            squares += visible @ part**2
        means = total / np.maximum(count, 1)
        scatter = np.maximum(squares - count * means**2, 0) / np.maximum(count * (count - 1), 1)
        return center + means, np.where(count > 1, np.sqrt(scatter), np.inf), np.inf


def rise(
    game: Game,
    shape: Sequence[int],
    *,
    budget: int | None = None,
    tolerance: float | None = None,
    cells: int = 7,
    probability: float = 0.5,
    seed: int = 0,
    show_progress: bool = False,
) -> Estimate:
    """Estimate RISE's saliency, one value for each pixel in reading order (``values.reshape(shape)``).

    Args:
        game: bool K×pixels → float K, or K×T for several targets:
            ``Coalitions(forward, image, grid(image, size=1), target=…)``.
        shape: height and width of the image, in pixels.
        budget: masks in all.
        tolerance: as for ``shapley_values``.
        cells: as for ``RiseEstimator``.
        probability: likewise.
        seed: of the masks.
        show_progress: show a progress bar on stderr.

    Returns:
        Values and standard errors, of the pixels, and what ended the run.

    Raises:
        InputError: as for ``RiseEstimator`` and ``shapley_values``.
    """
    estimator = RiseEstimator(shape, seed=seed, cells=cells, probability=probability)
    return run(estimator, game, budget=budget, tolerance=tolerance, show_progress=show_progress)
