"""Pairs of complements come once each, every size its share, and in the end all of them."""

import itertools
import math

import numpy as np
import pytest

from captum_layermask.explain.estimators import design


def drawn(n_segments, count=None, seed=0, shares=design.shapley_shares):
    return np.array(list(itertools.islice(design.pairs(n_segments, shares(n_segments), seed), count)))


@pytest.mark.parametrize("shares", [design.shapley_shares, design.banzhaf_weights])
@pytest.mark.parametrize("n_segments", [1, 2, 3, 6, 7, 10, 13])
def test_all_pairs_come_once_and_then_it_ends(n_segments, shares):
    rows = drawn(n_segments, shares=shares)
    both = {row.tobytes() for row in np.concatenate([rows, ~rows])}
    assert len(rows) == 2 ** (n_segments - 1) and len(both) == 2**n_segments
    assert not rows[0].any() and rows.sum(1).max() <= n_segments // 2


def test_large_classes_end_too(monkeypatch):
    monkeypatch.setattr(design, "_FEW", 4)
    random = np.random.default_rng(0)
    for size in (2, 3):
        count = int(design.pair_counts(6)[size])
        rows = np.array(list(itertools.islice(design._shuffled(6, size, random), count)))
        both = {row.tobytes() for row in np.concatenate([rows, ~rows] if size == 3 else [rows])}
        assert len(both) == math.comb(6, size) and (rows.sum(1) == size).all() | (size == 3)


@pytest.mark.parametrize("count", [60, 255, 1000])
def test_every_size_has_its_share_at_any_time(count):
    sizes = np.bincount(drawn(60, count).sum(1), minlength=31)[1:]
    shares = design.shapley_shares(60)[1:]
    assert abs(sizes - (count - 1) * shares / shares.sum()).max() < 3


def test_within_a_size_every_segment_is_as_likely():
    rows = np.concatenate([drawn(8, 30, seed) for seed in range(400)])
    for size in (1, 2, 3, 4):
        shown = rows[rows.sum(1) == size]
        shown = np.concatenate([shown, ~shown]) if size == 4 else shown
        expected = size / 8
        assert abs(shown.mean(0) - expected).max() < 4 * (expected / len(shown)) ** 0.5


def test_another_seed_draws_others_and_the_same_seed_the_same():
    assert np.array_equal(drawn(20, 50, 3), drawn(20, 50, 3))
    assert not np.array_equal(drawn(20, 50, 3), drawn(20, 50, 4))


@pytest.mark.parametrize("n_segments", [2, 5, 8])
def test_the_weights_are_those_of_the_kernels(n_segments):
    counts = design.pair_counts(n_segments)
    sizes = np.arange(1, n_segments // 2 + 1)
    kernel = (n_segments - 1) / ([math.comb(n_segments, s) for s in sizes] * sizes * (n_segments - sizes))
    of_a_pair = design.shapley_weights(n_segments)[1:] / counts[1:]
    assert np.allclose(of_a_pair / of_a_pair[0], kernel / kernel[0])
    assert np.allclose(design.banzhaf_weights(n_segments), counts / 2 ** (n_segments - 1))
