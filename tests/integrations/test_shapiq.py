"""Interactions by shapiq, of coalitions."""

import sys

import numpy as np
import pytest

from captum_layermask import InputError, UnknownNameError
from captum_layermask.errors import MissingPackageError


def game(visible):
    """Segments 1 and 2 add 2 together, segment 0 adds 1, and each a tenth more."""
    return visible[:, 0] + 2.0 * visible[:, 1] * visible[:, 2] + 0.1 * visible.sum(1)


def test_without_shapiq_one_sentence_says_what_to_install(monkeypatch):
    from captum_layermask.integrations.shapiq import interactions

    monkeypatch.setitem(sys.modules, "shapiq", None)
    with pytest.raises(MissingPackageError, match=r"Python package shapiq, .* run: pip install"):
        interactions(game, budget=64, n_segments=6)


class TestWithShapiq:
    @pytest.fixture(autouse=True)
    def installed(self):
        pytest.importorskip("shapiq")

    @pytest.mark.filterwarnings("ignore::UserWarning")
    @pytest.mark.parametrize("index", ["k-SII", "SII", "FSII", "STII", "FBII", "BII"])
    @pytest.mark.parametrize(("segments", "budget"), [(6, 64), (9, 400)])
    def test_pairs_are_found_exactly_and_from_fewer_coalitions(self, index, segments, budget):
        from captum_layermask.integrations.shapiq import interactions

        counted = []
        values = interactions(
            lambda z: counted.append(len(z)) or game(z), budget=budget, index=index, n_segments=segments
        )
        error = 1e-9 if budget == 2**segments else 0.35
        assert values[(1, 2)] == pytest.approx(2, abs=error)
        assert values[(0, 3)] == pytest.approx(0, abs=error)
        assert sum(counted) <= budget + 2

    def test_what_makes_no_sense_is_refused(self):
        from captum_layermask.integrations.shapiq import interactions

        with pytest.raises(UnknownNameError, match="unknown index 'k-SI'; did you mean 'k-SII'"):
            interactions(game, budget=64, index="k-SI", n_segments=6)
        with pytest.raises(InputError, match="the order is 7 with 6 segments; give 1 to 6"):
            interactions(game, budget=64, order=7, n_segments=6)
        with pytest.raises(InputError, match="the budget is 0"):
            interactions(game, budget=0, n_segments=6)
        with pytest.raises(InputError, match="give one of a single target"):
            interactions(lambda z: np.zeros((len(z), 2)), budget=64, n_segments=6)
        with pytest.raises(InputError, match="give n_segments"):
            interactions(game, budget=64)
