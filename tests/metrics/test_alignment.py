"""The alignment score is the paper's formula."""

import math

import pytest
import torch
from explained import explained, few, quadrants
from hypothesis import given
from hypothesis import strategies as st

from captum_layermask.explain.segments import grid
from captum_layermask.metrics import alignment_score, top_k_jaccard


def slow_alignment(importance, segments, mask):
    """§4.4.2 (b), letter by letter: g_i is the sum over segment i of m[u, v] less the mean of m."""
    mean = mask.double().mean().item()
    g = dict.fromkeys(segments.unique().tolist(), 0.0)
    for u in range(mask.shape[0]):
        for v in range(mask.shape[1]):
            g[int(segments[u, v])] += float(mask[u, v]) - mean
    s = {i: float(importance[i]) for i in g}
    norm = math.hypot(*g.values()) * math.hypot(*s.values())
    return sum(g[i] * s[i] for i in g) / norm if norm > 1e-9 else None


@given(explained())
@few
def test_alignment_is_the_papers_formula(explanations):
    importance, segments, mask = explanations
    scores = alignment_score(importance, segments, mask)
    assert ((scores >= -1) & (scores <= 1)).all()
    for score, *explanation in zip(scores, importance, segments[:, 0], mask[:, 0], strict=True):
        expected = slow_alignment(*explanation)
        if expected is not None:
            assert score.item() == pytest.approx(expected, abs=1e-9)


def test_alignment_by_hand():
    mask = (quadrants() == 1).float()  # g = (−1, 3, −1, −1), of length √12
    assert alignment_score(torch.tensor([0, 2.0, 0, 0]), quadrants(), mask).item() == pytest.approx(
        3 / 12**0.5
    )
    assert alignment_score(torch.tensor([-1, 3.0, -1, -1]), quadrants(), mask).item() == pytest.approx(1)
    assert alignment_score(torch.tensor([1, -3.0, 1, 1]), quadrants(), mask).item() == pytest.approx(-1)
    assert alignment_score(torch.tensor([5.0, 5, 5, 5]), quadrants(), mask).item() == pytest.approx(
        0, abs=1e-12
    )
    half = torch.tensor([-1, 3.0, -1, -1])
    assert alignment_score(half, quadrants(), mask / 2).item() == pytest.approx(1)  # a soft mask


@pytest.mark.parametrize("mask", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("importance", [[0.0, 0, 0, 0], [0.3, -0.1, 0, 2]])
def test_alignment_without_a_direction_is_zero(importance, mask):
    quarters = grid(torch.zeros(3, 7, 7), size=4)
    full = torch.full(quarters.shape, mask, dtype=torch.double)  # whose mean need not be 0.1 to the last bit
    assert alignment_score(torch.tensor(importance), quarters, full) == 0
    assert alignment_score(torch.zeros(4), quadrants(), (quadrants() == 2)) == 0


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e200])
def test_alignment_does_not_depend_on_the_scale_of_importance(scale):
    importance = torch.tensor([0.1, 2.0, -0.3, 0], dtype=torch.double)
    expected = alignment_score(importance, quadrants(), quadrants() == 1)
    assert alignment_score(importance * scale, quadrants(), quadrants() == 1).item() == pytest.approx(
        expected.item()
    )


@given(explained(images=1), st.randoms(use_true_random=False))
@few
def test_explanation_scores_do_not_depend_on_how_segments_are_numbered(explanations, random):
    importance, segments, mask = explanations
    importance = importance + torch.arange(importance.shape[1]) * 1e3  # no ties
    order = list(range(importance.shape[1]))
    random.shuffle(order)
    renumbered = torch.tensor(order)[segments]
    moved = torch.empty_like(importance)
    moved[:, order] = importance
    for score in (alignment_score, lambda *explanation: top_k_jaccard(*explanation, k=2)):
        assert score(moved, renumbered, mask).item() == pytest.approx(
            score(importance, segments, mask).item(), abs=1e-9
        )
