"""Metrics agree with hand computation and with other libraries, and merge into the same number."""

import math
import pickle
import subprocess
import sys

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
import torch
import torch.multiprocessing
from every_metric import a_metric_of_each_kind, batches_for, compute_in_a_process, of_all_batches
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from captum_layermask import Colors, make_forward
from captum_layermask.errors import InputError
from captum_layermask.explain.segments import grid
from captum_layermask.metrics import (
    AlignmentScore,
    ClassEntropy,
    GridPointingGame,
    TopKAblation,
    TopKJaccard,
    UnchangedPredictions,
    WordNetSimilarity,
    alignment_score,
    area_under_curve,
    grid_pointing_game,
    top_k_jaccard,
    top_k_region,
)
from captum_layermask.metrics.wordnet import wu_palmer

few = settings(deadline=None, max_examples=60)
finite = st.floats(-100, 100, width=32)


def quadrants():
    """Four segments, 0 1 above 2 3, each 2×2 pixels: 1×1×4×4."""
    return grid(torch.zeros(3, 4, 4), size=2)


@st.composite
def explained(draw, images=3):
    """Importance N×K, segments N×1×H×W that may leave ids out, and masks of zeros and ones."""
    count, ids = draw(st.integers(1, images)), draw(st.integers(1, 6))
    height, width = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    segments = torch.randint(ids, (count, 1, height, width), generator=generator)
    mask = torch.rand(segments.shape, generator=generator) < draw(st.floats(0, 1))
    importance = draw(st.lists(finite, min_size=count * ids, max_size=count * ids))
    return torch.tensor(importance).view(count, ids), segments, mask


# Predictions


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.randoms(use_true_random=False))
@few
def test_class_entropy_is_scipys_whatever_the_order(labels, random):
    expected = scipy.stats.entropy(np.bincount(labels, minlength=5))
    random.shuffle(labels)
    metric = ClassEntropy(5)
    for part in torch.tensor(labels).split(7):
        metric.update(part)
    assert metric.compute().item() == pytest.approx(expected, abs=1e-12)
    assert 0 <= metric.compute() <= math.log(5) + 1e-12


def test_class_entropy_by_hand():
    metric = ClassEntropy(10)
    metric.update(torch.tensor([3, 3, 7, 9]))  # shares 1/2, 1/4, 1/4
    assert metric.compute().item() == pytest.approx(1.5 * math.log(2))
    metric.reset()
    metric.update(torch.full((5,), 2))
    assert metric.compute() == 0


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
@few
def test_unchanged_predictions_are_an_accuracy(pairs):
    predictions, intact = torch.tensor(pairs).T
    metric = UnchangedPredictions()
    metric.update(predictions, intact)
    assert metric.compute().item() == pytest.approx(sklearn.metrics.accuracy_score(intact, predictions))


def test_wordnet_similarity_is_the_mean_over_images():
    metric = WordNetSimilarity()
    metric.update(torch.tensor([1, 404]), torch.tensor([0, 895]))
    metric.update(torch.tensor([0]), torch.tensor([0]))
    # tench and goldfish; airliner and warplane; a hit
    assert metric.compute().item() == pytest.approx((32 / 34 + 22 / 25 + 1) / 3, abs=1e-12)


@given(st.lists(st.tuples(st.integers(0, 999), st.integers(0, 999)), min_size=1, max_size=20))
@few
def test_wordnet_similarity_looks_pairs_up(pairs):
    predictions, labels = torch.tensor(pairs).T
    metric = WordNetSimilarity()
    metric.update(predictions.int(), labels)
    assert metric.compute().item() == pytest.approx(np.mean([wu_palmer(a, b) for a, b in pairs]), abs=1e-12)


# Area under a curve


@given(st.lists(st.floats(0, 1), min_size=2, max_size=12), st.floats(0.1, 3), st.floats(-1, 1))
@few
def test_area_is_scikit_learns_over_the_span(values, span, start):
    fractions = np.linspace(start, start + span, len(values))
    area = area_under_curve(values, fractions)
    assert area == pytest.approx(sklearn.metrics.auc(fractions, values) / (fractions[-1] - fractions[0]))
    assert min(values) - 1e-12 <= area <= max(values) + 1e-12


def test_areas_of_many_curves_lie_on_the_scale_of_the_values():
    values = np.array([[[0.7, 0.7, 0.7]], [[1.0, 0.5, 0.0]]])
    areas = area_under_curve(values, [0, 0.1, 0.4])
    assert areas.shape == (2, 1)
    # 0.75 over a quarter of the span, 0.25 over the rest
    assert areas.ravel() == pytest.approx([0.7, 0.75 / 4 + 0.25 * 3 / 4])
    assert f"{area_under_curve([0, 1], [0, 1]):.2f}" == "0.50"


@pytest.mark.parametrize(
    ("values", "fractions", "sentence"),
    [
        ([1], [0], "two or more that increase"),
        ([1, 1], [0, 0], "two or more that increase"),
        ([1, 1], [1, 0], "two or more that increase"),
        ([1, 1], [[0, 1]], "two or more that increase"),
        ([1, 1, 1], [0, 1], "one value for each"),
        (1, [0, 1], "one value for each"),
    ],
)
def test_an_area_that_cannot_be_is_refused(values, fractions, sentence):
    with pytest.raises(InputError, match=sentence):
        area_under_curve(values, fractions)


# The k most important segments


@given(explained(), st.integers(1, 8))
@few
def test_the_region_is_that_of_the_k_largest(explanations, k):
    importance, segments, _ = explanations
    region = top_k_region(importance, segments, k)
    assert region.dtype == torch.bool
    assert region.shape == segments.shape
    for row, ids, chosen in zip(importance.tolist(), segments, region, strict=True):
        ranked = sorted(ids.unique().tolist(), key=lambda i: (-row[i], i))
        assert sorted(ids[chosen].unique().tolist()) == sorted(ranked[:k])
        assert sorted(ids[~chosen].unique().tolist()) == sorted(ranked[k:])


def test_signs_count_and_ties_go_to_the_lower_id():
    importance = torch.tensor([0.5, -9.0, 0.5, 0.1])
    assert top_k_region(importance, quadrants(), 1)[0, 0].nonzero().tolist() == [
        [0, 0],
        [0, 1],
        [1, 0],
        [1, 1],
    ]
    assert set(quadrants()[top_k_region(importance, quadrants(), 3)].tolist()) == {0, 2, 3}


def test_columns_of_no_segment_are_not_read():
    importance = torch.tensor([[0.0, 1.0, 0.0, 0.0, math.nan, math.inf]])
    mask = quadrants() == 1
    assert torch.equal(top_k_region(importance, quadrants(), 1), mask)
    assert torch.equal(
        alignment_score(importance, quadrants(), mask), alignment_score(importance[:, :4], quadrants(), mask)
    )
    assert top_k_jaccard(importance, quadrants(), mask, 1) == 1


# Top-k ablation


class RedOrBlue(nn.Module):
    """Class 0 where there is more red, class 1 where there is more blue."""

    def forward(self, x):
        return x.mean((2, 3))[:, ::2]


def test_ablation_tells_an_explanation_that_is_right_from_one_that_is_not():
    segments = quadrants()
    pixels = torch.tensor([0.4, 0.4, 0.5]).view(1, 3, 1, 1).repeat(1, 1, 4, 4)
    pixels[:, 0][segments[:, 0] == 1] = 1.0  # one red quarter, which decides
    colors = Colors((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), normalized=False)
    forward = make_forward("grey", RedOrBlue(), colors=colors)
    ablation = TopKAblation(k=1)
    for importance, right in ((torch.tensor([0, 1.0, 0, 0]), True), (torch.tensor([0, 0, 0, 1.0]), False)):
        visible = ablation.visible(importance, segments)
        assert torch.equal(visible, segments != (1 if right else 3))
        ablation.update(forward(pixels, mask=visible).argmax(1), torch.tensor([0]))
        assert ablation.compute() == (0 if right else 0.5)


# Alignment


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


# Jaccard


@given(explained(), st.integers(1, 4))
@few
def test_jaccard_is_scikit_learns_over_pixels(explanations, k):
    importance, segments, mask = explanations
    scores = top_k_jaccard(importance, segments, mask, k)
    regions = top_k_region(importance, segments, k)
    for score, region, object_ in zip(scores, regions, mask, strict=True):
        expected = sklearn.metrics.jaccard_score(object_.flatten(), region.flatten(), zero_division=0.0)
        assert score.item() == pytest.approx(expected)


def test_jaccard_by_hand():
    importance, mask = torch.tensor([3.0, 2, 1, 0]), quadrants() == 1
    assert top_k_jaccard(importance, quadrants(), mask, 1) == 0
    assert top_k_jaccard(importance, quadrants(), mask, 2) == 0.5
    assert top_k_jaccard(importance, quadrants(), mask, 4) == 0.25
    assert top_k_jaccard(importance, quadrants(), torch.zeros(1, 1, 4, 4), 1) == 0
    # half a pixel's worth in each of the 4 chosen, and 4 halves outside: 2 / (4 + 2)
    assert top_k_jaccard(importance, quadrants(), (quadrants() < 2) / 2, 1).item() == pytest.approx(1 / 3)


# Grid Pointing Game


def slow_pointing(attributions, cell, side):
    """The share of the positive part that lies in one cell, cut out by hand."""
    positive = np.maximum(attributions.double().numpy().sum(0), 0)
    height, width = (length // side for length in positive.shape)
    row, column = divmod(cell, side)
    inside = positive[row * height : (row + 1) * height, column * width : (column + 1) * width].sum()
    return inside / positive.sum() if positive.sum() > 0 else 0.0


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 2), st.integers(0, 2**31))
@few
def test_pointing_counts_positive_attribution_in_the_cell(side, size, channels, seed):
    generator = torch.Generator().manual_seed(seed)
    attributions = torch.randn(2, channels, side * size, side * (size + 1), generator=generator)
    cells = torch.randint(side * side, (2,), generator=generator)
    shares = grid_pointing_game(attributions, cells, side)
    for share, attribution, cell in zip(shares, attributions, cells.tolist(), strict=True):
        assert share.item() == pytest.approx(slow_pointing(attribution, cell, side))
    everywhere = sum(grid_pointing_game(attributions, torch.full((2,), c), side) for c in range(side**2))
    some = (attributions.sum(1) > 0).flatten(1).any(1)
    assert everywhere.tolist() == pytest.approx(some.double().tolist())


def test_pointing_by_hand():
    attributions = torch.zeros(1, 1, 4, 4)
    attributions[..., 0, 3], attributions[..., 3, 0], attributions[..., 3, 3] = 3.0, 1.0, -5.0
    shares = [grid_pointing_game(attributions, torch.tensor([cell])).item() for cell in range(4)]
    assert shares == [0, 0.75, 0.25, 0]
    assert grid_pointing_game(torch.ones(1, 3, 4, 4), torch.tensor([2])) == 0.25
    assert grid_pointing_game(attributions * 1e-30, torch.tensor([1])).item() == pytest.approx(0.75)


def test_pointing_nowhere_counts_as_zero():
    metric = GridPointingGame()
    metric.update(-torch.ones(1, 1, 4, 4), torch.tensor([0]))
    metric.update(torch.zeros(1, 1, 4, 4), torch.tensor([0]))
    metric.update(torch.ones(1, 1, 4, 4), torch.tensor([0]))
    assert metric.compute().item() == pytest.approx(0.25 / 3)


# Every metric


kinds = pytest.mark.parametrize("metric", a_metric_of_each_kind(), ids=lambda metric: type(metric).__name__)


@kinds
def test_merged_replicas_are_one(metric):
    expected = of_all_batches(metric.clone())
    replicas = metric.clone(), metric.clone()
    for i, batch in enumerate(batches_for(metric)):
        replicas[i % 2].update(*batch)
    copy = pickle.loads(pickle.dumps(replicas[1]))
    replicas[0].merge_state(copy)
    assert replicas[0].compute().item() == pytest.approx(expected, rel=1e-12)
    replicas[0].reset()
    assert of_all_batches(replicas[0]) == pytest.approx(expected, rel=1e-12)


@kinds
def test_a_batch_in_one_piece_or_in_many(metric):
    expected = of_all_batches(metric.clone())
    single = metric.clone()
    for batch in batches_for(metric):
        for image in zip(*batch, strict=True):
            single.update(*(argument[None] for argument in image))
    assert single.compute().item() == pytest.approx(expected, rel=1e-12)


@kinds
def test_sums_are_kept_in_double_precision(metric):
    metric = metric.clone()
    assert all(state.dtype in (torch.double, torch.long) for state in metric.metric_state.values())
    metric.update(*next(batches_for(metric)))
    metric.reset()
    assert all(state.dtype in (torch.double, torch.long) for state in metric.metric_state.values())


def test_two_processes_compute_what_one_does(tmp_path):
    torch.multiprocessing.spawn(compute_in_a_process, (2, str(tmp_path)), nprocs=2)
    expected = [of_all_batches(metric) for metric in a_metric_of_each_kind()]
    for rank in range(2):
        assert torch.load(tmp_path / f"{rank}.pt") == pytest.approx(expected, rel=1e-12)


LABELS = torch.tensor([0, 1])
ONE = torch.zeros(1, 4), quadrants(), quadrants() == 1


@pytest.mark.parametrize(
    ("metric", "arguments", "sentence"),
    [
        (ClassEntropy(2), (torch.tensor([2]),), "predictions hold an index outside 0 … 1"),
        (ClassEntropy(2), (torch.tensor([-1]),), "predictions hold an index outside 0 … 1"),
        (ClassEntropy(2), (torch.zeros(3, 2),), "class indices, integers N, for example logits.argmax"),
        (UnchangedPredictions(), (LABELS, LABELS[:1]), "2 predictions and 1 intact"),
        (UnchangedPredictions(), (LABELS > 0, LABELS > 0), "class indices, integers N"),
        (WordNetSimilarity(), (LABELS, LABELS + 999), "labels hold an index outside 0 … 999"),
        (TopKAblation(), (LABELS[:1], LABELS), "1 predictions and 2 labels"),
        (AlignmentScore(), (ONE[0], ONE[1].int(), ONE[2]), "give a LongTensor N×1×H×W"),
        (AlignmentScore(), (ONE[0][:, :3], *ONE[1:]), "ids go from 0 to 3, but there are 3 values"),
        (AlignmentScore(), (ONE[0], ONE[1] - 1, ONE[2]), "ids go from -1"),
        (AlignmentScore(), (ONE[0].repeat(2, 1), *ONE[1:]), "for 1 image"),
        (AlignmentScore(), (ONE[0].long(), *ONE[1:]), "give floats N×K"),
        (AlignmentScore(), (ONE[0] * math.nan, *ONE[1:]), "NaN or infinity"),
        (AlignmentScore(), (*ONE[:2], ONE[2][0]), "segments' shape"),
        (AlignmentScore(), (*ONE[:2], ONE[2].long()), "give bool or float"),
        (TopKJaccard(), (*ONE[:2], ONE[2] * 1.5), "values outside"),
        (TopKJaccard(), (*ONE[:2], ONE[2] * math.nan), "values outside"),
        (GridPointingGame(), (torch.zeros(1, 1, 4, 5), LABELS[:1]), "multiples of 2"),
        (GridPointingGame(), (torch.zeros(1, 4, 4), LABELS[:1]), "give floats N×C×H×W"),
        (GridPointingGame(), (torch.zeros(1, 1, 4, 4), LABELS), "a LongTensor of the 1 cells"),
        (
            GridPointingGame(),
            (torch.zeros(1, 1, 4, 4), torch.tensor([4])),
            "each from 0 to 3",
        ),
        (GridPointingGame(), (torch.full((1, 1, 4, 4), math.inf), LABELS[:1]), "NaN or infinity"),
    ],
)
def test_what_cannot_be_measured_is_refused_and_not_counted(metric, arguments, sentence):
    before = {name: state.clone() for name, state in metric.metric_state.items()}
    with pytest.raises(InputError, match=sentence):
        metric.update(*arguments)
    assert all(torch.equal(state, before[name]) for name, state in metric.metric_state.items())


@pytest.mark.parametrize(
    "make",
    [lambda: ClassEntropy(0), lambda: TopKAblation(0), lambda: TopKJaccard(k=0), lambda: GridPointingGame(0)],
)
def test_a_count_below_one_is_refused(make):
    with pytest.raises(InputError, match="give at least 1"):
        make()


def test_without_torchmetrics_the_error_says_what_to_install():
    program = (
        "import sys; sys.modules['torchmetrics'] = None; from captum_layermask.metrics import ClassEntropy"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "pip install 'captum-layermask[evaluate]'" in ended.stderr
