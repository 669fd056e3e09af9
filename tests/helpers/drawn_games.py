"""Games with interactions of every order that are over in no time, and their values by definition."""

import itertools
import math

import numpy as np


def network_game(n_segments, seed=0, targets=None):
    """A small random network over segments: bool K×S → float K, or K×targets."""
    random = np.random.default_rng([n_segments, seed])
    hidden = random.normal(size=(n_segments, 32)) * random.lognormal(size=(n_segments, 1)) / n_segments**0.5
    shift, out = random.normal(size=32), random.normal(size=(32, targets or 1)) / 32**0.5

    def game(visible):
        values = 1 / (1 + np.exp(-4 * np.maximum(visible @ hidden + shift, 0) @ out))
        return values if targets else values[:, 0]

    return game


def table_game(table):
    """A game whose 2^S values stand in a table, indexed by the visible segments as binary digits."""
    segments = int(math.log2(len(table)))
    return lambda visible: table[visible @ 2 ** np.arange(segments)]


def everything(n_segments):
    """All coalitions, bool 2^S×S."""
    return np.array(list(itertools.product([False, True], repeat=n_segments)))


def by_definition(game, n_segments, kind):
    """Shapley or Banzhaf values: what each segment adds to each coalition, weighted."""
    rows = everything(n_segments)
    worth = {tuple(row): value for row, value in zip(rows.tolist(), game(rows), strict=True)}
    values = np.zeros((n_segments, *np.shape(worth[tuple(rows[0].tolist())])))
    for row in worth:
        for i in np.flatnonzero(np.logical_not(row)):
            size = sum(row)
            shapley = 1 / (n_segments * math.comb(n_segments - 1, size))
            weight = shapley if kind == "shapley" else 2.0 ** (1 - n_segments)
            values[i] += weight * (worth[(*row[:i], True, *row[i + 1 :])] - worth[row])
    return values
