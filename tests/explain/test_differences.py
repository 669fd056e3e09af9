"""Removals that are compared on the same coalitions: what they differ by, and how sure that is."""

import numpy as np
import pytest
import torch
from figures import assert_readable
from support import small_classifier

from captum_layermask import REMOVALS, Colors, InputError, Removal, make_forward
from captum_layermask.explain.coalitions import Coalitions
from captum_layermask.explain.comparison import compare
from captum_layermask.explain.estimators.shapley import shapley_values
from captum_layermask.explain.explanation import explain
from captum_layermask.explain.segments import grid, region_means
from captum_layermask.names import ESTIMATORS
from captum_layermask.plots.comparison import plot_comparison
from captum_layermask.removals.fills import ColorFilledForward

CLASS_NAMES = ("ant", "bee", "cat", "dog")
COLORS = Colors((0.4, 0.5, 0.6), (0.2, 0.2, 0.2), normalized=False)
PIXELS = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(5))
SEGMENTS = grid(PIXELS, size=6)
FEW = grid(PIXELS, size=8)


@pytest.fixture
def model():
    return small_classifier(len(CLASS_NAMES))


def run(model, segments=SEGMENTS, **options):
    defaults = {"class_names": CLASS_NAMES, "colors": COLORS, "method": "shapley", "top": 3, "seed": 4}
    return compare(model, PIXELS, segments, **defaults | options)


def of(comparison, target, removal):
    (row,) = [r for r in comparison.rows if (r.explanation.target, r.removal) == (target, removal)]
    return row.explanation


@pytest.mark.parametrize("method", ESTIMATORS)
def test_each_explanation_is_the_one_made_by_hand(model, method):
    comparison = run(model, method=method, removals=("layer", "grey"), targets=[2, 0], budget=80)
    for target in (2, 0):
        for removal in ("layer", "grey"):
            forward = make_forward(removal, model, colors=COLORS, reference=PIXELS)
            alone = explain(
                forward,
                PIXELS,
                SEGMENTS,
                class_names=CLASS_NAMES,
                method=method,
                target=target,
                budget=80,
                seed=4,
            )
            row = of(comparison, target, removal)
            torch.testing.assert_close(row.attributions, alone.attributions)
            assert np.allclose(row.standard_errors, alone.standard_errors)
            assert row.refine(forward, budget=96).evaluations == 96


@pytest.mark.parametrize("method", ESTIMATORS)
def test_all_removals_and_classes_share_the_coalitions(model, monkeypatch, method):
    seen = []
    evaluate = Coalitions.__call__

    def watched(self, visible):
        seen.append((id(self), visible.tobytes() if isinstance(visible, np.ndarray) else None))
        return evaluate(self, visible)

    monkeypatch.setattr(Coalitions, "__call__", watched)
    run(model, method=method, removals=("layer", "grey"), classes=4, budget=64)
    calls = [content for _, content in seen if content is not None]
    assert calls[::2] == calls[1::2]
    assert len(calls) == 4


@pytest.mark.parametrize("method", ESTIMATORS)
def test_a_difference_is_that_of_the_maps(model, method):
    removals = ("layer", "grey", "black")
    comparison = run(model, method=method, removals=removals, targets=[3, 1], budget=100)
    found = comparison.differences()
    pairs = [("layer", "grey"), ("layer", "black"), ("grey", "black")]
    assert [(one.label, one.removals) for one in found] == [(n, p) for n in ("dog", "bee") for p in pairs]
    for one in found:
        first, second = (of(comparison, one.target, removal) for removal in one.removals)
        assert np.allclose(one.estimate.values, second.estimate.values - first.estimate.values, atol=1e-9)
        low, high = one.estimate.interval()
        assert one.changed().tolist() == [bool(a > 0 or b < 0) for a, b in zip(low, high, strict=True)]


def test_the_error_of_a_difference_is_that_of_the_game_of_differences(model):
    comparison = run(model, removals=("layer", "grey"), targets=[1], budget=100)
    games = [
        Coalitions(
            make_forward(removal, model, colors=COLORS), PIXELS, SEGMENTS, target=1, activation="softmax"
        )
        for removal in ("layer", "grey")
    ]
    expected = shapley_values(lambda z: games[1](z) - games[0](z), n_segments=16, budget=100, seed=4)
    (found,) = comparison.differences()
    assert np.allclose(found.estimate.standard_errors, expected.standard_errors)
    assert np.allclose(found.estimate.interval(), expected.interval())


def test_exact_differences_are_those_of_exact_values(model):
    """With all 2⁹ coalitions nothing is left to chance, and what differs, differs."""
    comparison = run(model, FEW, removals=("grey", "black"), targets=[1], budget=2**9)
    (found,) = comparison.differences()
    assert found.estimate.ended == "exact"
    assert not found.estimate.standard_errors.any()
    assert found.changed().all()


class Black(ColorFilledForward):
    """A removal that needs no options."""

    def __init__(self, model):
        super().__init__(model, (0, 0, 0), COLORS)


def test_the_same_removal_twice_differs_nowhere(model, monkeypatch):
    for name in ("one", "two"):
        monkeypatch.setitem(REMOVALS, name, Removal(name, Black, {}))
    comparison = run(model, removals=("one", "two"), targets=[1], budget=64)
    assert not comparison.differences()[0].changed().any()
    assert comparison.table().splitlines()[2].endswith("0 of 16")


def test_the_table_tells_errors_and_what_has_changed(model):
    comparison = run(model, removals=("layer", "grey"), classes=1, budget=100)
    head, first, second = comparison.table().splitlines()
    assert "largest error" in head and head.endswith("differs from layer masking")
    assert "stability" not in head
    changed = int(comparison.differences()[0].changed().sum())
    assert first.endswith("–")
    assert second.endswith(f"{changed} of 16")
    for line, row in zip((first, second), comparison.rows, strict=True):
        assert f"{float(row.explanation.standard_errors.max()):.2g}" in line


def test_methods_without_errors_have_no_differences(model):
    with pytest.raises(InputError, match="feature-ablation does not know its errors, nor those of"):
        run(model, method="feature-ablation").differences()


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"method": "lime", "budget": 64}, "takes no budget"),
        ({"n_samples": 64}, "shapley takes no number of samples"),
        ({"budget": 17}, "16 segments take at least 18"),
        ({"perturbations_per_eval": 0}, "perturbations per evaluation is 0"),
    ],
)
def test_options_that_make_no_sense_are_errors(model, options, what):
    with pytest.raises(InputError, match=what):
        run(model, **options)


def dots(figure):
    return [
        {(int(y) // 6, int(x) // 6) for line in axes.lines for x, y in line.get_xydata()}
        for axes in figure.axes
        if axes.get_xlabel().startswith("removed")
    ]


def test_segments_that_a_removal_changes_have_a_dot(model):
    comparison = run(model, removals=("layer", "grey", "blur"), classes=1, budget=200)
    figure = plot_comparison(comparison)
    changed = comparison.changed()
    expected = [set()] + [
        {
            divmod(i, 4)
            for i in changed[comparison.rows[0].explanation.target, name].nonzero().flatten().tolist()
        }
        for name in ("grey", "blur")
    ]
    assert dots(figure) == expected
    assert any(expected)
    heading = figure.get_suptitle().replace("\n", " ")
    assert "Hatched: may be 0. Dots: differs from layer masking. 200 evaluations, largest error" in heading
    assert_readable(figure)


@pytest.mark.parametrize("method", ESTIMATORS)
def test_the_figure_of_every_method_can_be_read(model, method):
    assert_readable(plot_comparison(run(model, method=method, removals=("layer",), budget=64)))


def test_rise_differs_in_means_over_segments(model):
    comparison = run(model, method="rise", removals=("layer", "grey"), targets=[1], budget=64)
    (found,) = comparison.differences()
    first, second = (of(comparison, 1, removal).attributions for removal in ("layer", "grey"))
    expected = region_means((second - first).double(), SEGMENTS)
    assert np.allclose(found.estimate.values, expected, atol=1e-6)
