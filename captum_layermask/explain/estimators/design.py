"""Which coalitions are drawn: pairs of complements, each size its share, none of them twice."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np

__all__ = ["banzhaf_weights", "pair_counts", "pairs", "shapley_shares", "shapley_weights", "size_curves"]

#: Pairs of a size are shuffled as a list where they are few; where they are many, a repeated draw is drawn
#: again.
_FEW = 4096

#: Steps of this length fill the unit interval more evenly than random numbers do (Weyl, 1916).
_GOLDEN = (math.sqrt(5) - 1) / 2


def pair_counts(n_segments: int) -> np.ndarray:
    """How many pairs of complements there are: float64, entry s for a smaller half of s segments."""
    counts = [float(math.comb(n_segments, size)) for size in range(n_segments // 2 + 1)]
    if n_segments % 2 == 0:
        counts[-1] /= 2
    return np.array(counts)


def shapley_weights(n_segments: int) -> np.ndarray:
    """KernelSHAP's weights (Lundberg and Lee, 2017), of all pairs of a size together.

    A coalition of s of S segments weighs (S − 1) / (C(S, s) s (S − s)), so those of a size 1 / (s (S − s)).

    Returns:
        Float64, entry s for pairs whose smaller half has s segments, s = 0 … S // 2. Entry 0 is 0: the empty
        coalition and the whole image are a constraint of the regression, not a part of it.
    """
    sizes = np.arange(1, n_segments // 2 + 1)
    weights = np.where(2 * sizes == n_segments, 1.0, 2.0) / (sizes * (n_segments - sizes))
    return np.append(0.0, weights)


def shapley_shares(n_segments: int) -> np.ndarray:
    """Which share of the draws each size gets for Shapley values; entries as for ``shapley_weights``.

    It is the same for all sizes of a coalition, since so are their leverages in the regression (Musco and
    Witter, ICLR 2025). On real networks, draws by KernelSHAP's weights leave 1.5 to 1.8 times the mean
    squared error, and the geometric mean of both 1.1 to 1.2 times (docs/estimators.md).
    """
    sizes = np.arange(n_segments // 2 + 1)
    return np.where(sizes == 0, 0.0, np.where(2 * sizes == n_segments, 1.0, 2.0))


def banzhaf_weights(n_segments: int) -> np.ndarray:
    """Weights of all pairs of a size together where every coalition weighs alike; entries likewise.

    They are the shares of the draws for Banzhaf values, too.
    """
    logs = [math.lgamma(s + 1) + math.lgamma(n_segments - s + 1) for s in range(n_segments // 2 + 1)]
    weights = np.exp(min(logs) - np.array(logs))
    if n_segments % 2 == 0:
        weights[-1] /= 2
    return weights / weights.sum()


def size_curves(weights: np.ndarray, n_segments: int) -> np.ndarray:
    """Odd curves over the number of visible segments: straight, cubic, of degree 5.

    Args:
        weights: of all pairs of each size together, entry s for pairs whose smaller half has s segments.
        n_segments: S.

    Returns:
        Float64 (S // 2 + 1)×3, or fewer for so few sizes that they have no more; orthonormal over all pairs.
    """
    visible = np.arange(len(weights)) / n_segments - 0.5
    count = min(3, int(((weights > 0) & (visible != 0)).sum()))
    roots = np.sqrt(weights)[:, None]
    curves = visible[:, None] ** np.array([1, 3, 5])[:count]
    return curves @ np.linalg.inv(np.linalg.qr(roots * curves).R)


def pairs(n_segments: int, shares: np.ndarray, seed: int) -> Iterator[np.ndarray]:
    """Draw pairs of complements until there is no other: first the empty one with the whole image.

    Then sizes follow their shares as evenly as a sequence can, and within a size each pair is as likely and
    comes once. So a size whose pairs have all been drawn is known. That is the exact treatment of the
    smallest and largest sizes, without a decision beforehand how far it goes; and with all sizes known, all
    is.

    Args:
        n_segments: S, at least 1.
        shares: of the draws, not normalised, entry s for pairs whose smaller half has s segments.
        seed: the same seed gives the same pairs.

    Yields:
        The half with fewer segments, bool S.
    """
    yield np.zeros(n_segments, bool)
    random = np.random.default_rng(seed)
    place = random.random()
    left = pair_counts(n_segments)
    left[0] = 0
    classes = [_shuffled(n_segments, size, random) for size in range(len(left))]
    while (unknown := np.flatnonzero(left)).size:
        place = (place + _GOLDEN) % 1.0
        ends = shares[unknown].cumsum()
        size = unknown[min(np.searchsorted(ends, place * ends[-1], side="right"), len(unknown) - 1)]
        left[size] -= 1
        yield next(classes[size])


def _shuffled(n_segments: int, size: int, random: np.random.Generator) -> Iterator[np.ndarray]:
    """All coalitions of a size in random order; one of half the segments stands for its complement too."""
    halves = 2 * size == n_segments
    if math.comb(n_segments, size) <= _FEW:
        chosen = [c for c in itertools.combinations(range(n_segments), size) if not halves or c[0] == 0]
        for i in random.permutation(len(chosen)):
            yield np.isin(np.arange(n_segments), chosen[i])
        return
    seen: set[bytes] = set()
    while True:
        coalition = random.permutation(n_segments) < size
        if halves and not coalition[0]:
            coalition = ~coalition
        key = np.packbits(coalition).tobytes()
        if key not in seen:
            seen.add(key)
            yield coalition
