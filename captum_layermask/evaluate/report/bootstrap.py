"""How far a number would move with other images: bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse, special

from captum_layermask.errors import InputError

__all__ = ["FEWEST", "Interval", "Statistic", "bootstrap", "entropy", "mean", "ratio"]

_Numbers = NDArray[np.float64]

#: How often each of N images was drawn in each of R resamples, float R×N → the statistic of each, R×….
Statistic = Callable[[_Numbers], _Numbers]

#: An interval from fewer images says nothing: of one image it would have no width at all.
FEWEST = 10

#: Weights that are held at once; 32 MB.
_WEIGHTS_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Interval:
    """A statistic of the images, and where it lies for images drawn again.

    Attributes:
        value: float, any shape (0-d for one number); NaN where there is none.
        low: the interval's lower end, of the same shape; NaN where it is of fewer than 10 images.
        high: the interval's upper end, likewise.

    One number prints as ``0.540 [0.521, 0.561]``; a format, ``f"{interval:+.2f}"``, holds for all three. Of
    fewer than 10 images it prints as ``0.540 [–]``.

    Example:
        ```python
        f"{bootstrap(mean(right), len(right)):.2f}"  # "0.54 [0.52, 0.56]"
        ```
    """

    value: _Numbers
    low: _Numbers
    high: _Numbers

    def __iter__(self) -> Iterator[_Numbers]:
        return iter((self.value, self.low, self.high))

    def __getitem__(self, index: Any) -> Interval:
        return Interval(*(np.asarray(numbers, float)[index] for numbers in (self.value, self.low, self.high)))

    def __format__(self, numbers: str) -> str:
        if np.isnan(self.value):
            return "–"
        value, low, high = (format(float(number), numbers or ".3f") for number in self)
        return f"{value} [–]" if np.isnan(self.low) else f"{value} [{low}, {high}]"

    def __str__(self) -> str:
        return format(self)


def bootstrap(
    statistic: Statistic,
    images: int,
    *,
    counted: ArrayLike | None = None,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    recentred: bool = False,
) -> Interval:
    """The percentile interval of a statistic of images that are drawn with replacement.

    A resample is a row of weights, so a statistic of many numbers, and the difference of two, cost one pass.
    The same seed and number of images give the same resamples: statistics of the same images stay paired.

    Args:
        statistic: weights R×N → R×…, ``mean`` and ``ratio`` make some. It is called with a row of ones for
            the value itself, then with some resamples at a time.
        images: N.
        counted: bool N×…, of which images each number of the statistic is; None: of all.
        resamples: how many times N images are drawn.
        confidence: of the interval, in (0, 1).
        seed: of the resamples.
        recentred: shift the resamples so that their mean is the value. Means need no shift. An entropy does:
            a resample holds about 63 % of the images, so its entropy lies below that of all of them.

    Returns:
        The statistic of the images as they are, and the interval's ends, where there are enough images.

    Raises:
        InputError: no images, no resamples, or a confidence outside (0, 1).

    Example:
        ```python
        right = predictions == labels
        print(bootstrap(mean(right), images=len(right)))
        ```

    Source: Efron & Tibshirani, 1993, §13.
    """
    if images < 1 or resamples < 1 or not 0 < confidence < 1:
        raise InputError(
            f"cannot resample {images} images {resamples} times for a confidence of {confidence}; give at "
            "least one of each and a confidence between 0 and 1."
        )
    generator = np.random.default_rng(seed)
    rows = max(1, _WEIGHTS_AT_ONCE // images)
    parts = [
        statistic(np.stack([_drawn(images, generator) for _ in range(min(rows, resamples - start))]))
        for start in range(0, resamples, rows)
    ]
    drawn = np.concatenate(parts)
    value = np.asarray(statistic(np.ones((1, images))), float)[0]
    shift = value - drawn.mean(0) if recentred else 0.0
    low, high = _quantiles(drawn, (1 - confidence) / 2)
    enough = (images if counted is None else np.asarray(counted, bool).sum(0)) >= FEWEST
    return Interval(value, np.where(enough, low + shift, np.nan), np.where(enough, high + shift, np.nan))


def mean(values: ArrayLike) -> Statistic:
    """The mean over images.

    Args:
        values: N×…, an entry for each image.

    Example:
        ```python
        bootstrap(mean([1, 0, 1, 1]), images=4).value  # 0.75
        ```
    """
    numbers = np.asarray(values, float)
    return ratio(numbers, np.ones_like(numbers))


def ratio(numerators: ArrayLike, denominators: ArrayLike) -> Statistic:
    """The sum of numerators over that of denominators, for images that have several records or none.

    Args:
        numerators: N×…, such as the number of hits among an image's records.
        denominators: of the same shape, such as the number of its records. Where they add up to 0, the ratio
            is NaN.

    Example:
        ```python
        bootstrap(ratio([2, 0, 1], [3, 0, 2]), images=3).value  # 0.6
        ```
    """
    above, below = np.asarray(numerators, float), np.asarray(denominators, float)

    def statistic(weights: _Numbers) -> _Numbers:
        with np.errstate(invalid="ignore", divide="ignore"):
            return _weighted(weights, above) / _weighted(weights, below)

    return statistic


def entropy(predictions: ArrayLike) -> Statistic:
    """The entropy, in nats, of the histogram of predicted classes.

    Args:
        predictions: integers N×…, a class index for each image.

    Example:
        ```python
        bootstrap(entropy(predictions), images=len(predictions), recentred=True)
        ```
    """
    classes, indices = np.unique(np.asarray(predictions), return_inverse=True)
    indices = indices.reshape(np.shape(predictions))
    images, shape = len(indices), indices.shape[1:]
    columns = indices.reshape(images, -1).T

    def statistic(weights: _Numbers) -> _Numbers:
        return np.stack([_entropy(weights, column, len(classes)) for column in columns], 1).reshape(
            -1, *shape
        )

    return statistic


def _entropy(weights: _Numbers, column: NDArray[np.int64], classes: int) -> _Numbers:
    images = len(column)
    one_hot = sparse.csr_array((np.ones(images), (column, np.arange(images))), (classes, images))
    return special.entr((one_hot @ weights.T) / images).sum(0)


def _drawn(images: int, generator: np.random.Generator) -> _Numbers:
    return np.bincount(generator.integers(images, size=images), minlength=images).astype(float)


def _weighted(weights: _Numbers, values: _Numbers) -> _Numbers:
    return (weights @ values.reshape(len(values), -1)).reshape(len(weights), *values.shape[1:])


def _quantiles(drawn: _Numbers, tail: float) -> tuple[_Numbers, _Numbers]:
    """Ends of the interval; resamples without a value (NaN) do not count, unless there are no others."""
    empty = np.isnan(drawn).all(0)
    low, high = np.nanquantile(np.where(empty, 0, drawn), [tail, 1 - tail], axis=0)
    return np.where(empty, np.nan, low), np.where(empty, np.nan, high)
