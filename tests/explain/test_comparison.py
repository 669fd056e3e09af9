"""One picture under several removals: the same perturbations, true numbers, a figure to read."""

import dataclasses

import numpy as np
import pytest
import torch
from figures import assert_readable
from support import small_classifier
from torch import nn

from captum_layermask import MISSING, REMOVALS, Colors, InputError, Removal, UnknownNameError, make_forward
from captum_layermask.explain.comparison import compare
from captum_layermask.explain.explanation import METHODS, explain, predict
from captum_layermask.explain.segments import grid
from captum_layermask.plots.comparison import plot_comparison
from captum_layermask.removals.fills import ColorFilledForward

CLASS_NAMES = ("ant", "bee", "cat", "dog")
COLORS = Colors((0.4, 0.5, 0.6), (0.2, 0.2, 0.2), normalized=False)
PIXELS = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(5))
SEGMENTS = grid(PIXELS, size=6)
SAMPLES = {"lime": 30, "kernel-shap": 30, "shapley-sampling": 2}


@pytest.fixture
def model():
    return small_classifier(len(CLASS_NAMES))


def run(model, **options):
    defaults = {"class_names": CLASS_NAMES, "colors": COLORS, "n_samples": 30, "top": 3, "seed": 4}
    return compare(model, PIXELS, SEGMENTS, **defaults | options)


class Recording(ColorFilledForward):
    """A black fill that notes what it is given."""

    def __init__(self, model, seen):
        super().__init__(model, (0, 0, 0), COLORS)
        self.seen = seen

    def forward(self, x, *extra, mask=None):
        if mask is None:
            self.seen.append(x)
        return super().forward(x, *extra, mask=mask)


@pytest.fixture
def recorded(monkeypatch):
    """Two removals that note what they are given, by name."""
    seen = {"first": [], "second": []}
    for name, images in seen.items():
        monkeypatch.setitem(REMOVALS, name, Removal(name, Recording, {"seen": images}))
    return seen


@pytest.mark.parametrize("method", METHODS)
def test_every_removal_sees_the_same_perturbations(model, recorded, method):
    run(model, removals=tuple(recorded), method=method, n_samples=SAMPLES.get(method))
    first, second = (torch.cat(images) for images in recorded.values())
    assert torch.equal(first, second)
    assert len(first) > 10
    assert bool((first == MISSING).any())


@pytest.mark.parametrize("method", METHODS)
def test_further_classes_cost_no_run_of_the_network(model, recorded, method):
    options = {"removals": ("first",), "method": method, "n_samples": SAMPLES.get(method)}
    run(model, classes=1, **options)
    alone = sum(map(len, recorded["first"]))
    run(model, classes=4, **options)
    assert sum(map(len, recorded["first"])) == 2 * alone


@pytest.mark.parametrize("method", METHODS)
def test_an_explanation_is_the_one_made_by_hand(model, method):
    samples = SAMPLES.get(method)
    comparison = run(model, removals=("grey", "layer", "blur"), method=method, classes=2, n_samples=samples)
    order = predict(model, PIXELS)[0].argsort(descending=True)[:2].tolist()
    expected = [(target, removal) for target in order for removal in ("grey", "layer", "blur")]
    assert [(row.explanation.target, row.removal) for row in comparison.rows] == expected
    for row, (target, removal) in zip(comparison.rows, expected, strict=True):
        forward = make_forward(removal, model, colors=COLORS, reference=PIXELS)
        options = {"class_names": CLASS_NAMES, "method": method, "n_samples": samples, "seed": 4}
        alone = explain(forward, PIXELS, SEGMENTS, target=target, **options)
        assert torch.equal(row.explanation.attributions, alone.attributions)
        assert row.explanation.label == CLASS_NAMES[target]
    maps = [row.explanation.attributions for row in comparison.rows]
    assert not any(torch.equal(a, b) for i, a in enumerate(maps) for b in maps[:i])


@pytest.mark.parametrize("removal", ["layer", "black", "segment-mean"])
def test_the_predictions_are_those_of_a_removal_by_hand(model, removal):
    for row in run(model, removals=(removal,), classes=3).rows:
        scores = row.explanation.segment_attributions()
        assert row.strongest == tuple(scores.argsort(descending=True)[:3].tolist())
        strongest = torch.isin(SEGMENTS, torch.tensor(row.strongest))
        forward = make_forward(removal, model, colors=COLORS, reference=PIXELS, segments=SEGMENTS)
        pictures = {
            "original": PIXELS,
            "removed": torch.where(strongest, MISSING, PIXELS),
            "alone": torch.where(strongest, PIXELS, MISSING),
        }
        for name, picture in pictures.items():
            prediction, probabilities = getattr(row, name), predict(forward, picture)[0]
            expected = float(probabilities[row.explanation.target])
            assert prediction.probability == pytest.approx(expected, abs=1e-6)
            assert prediction.predicted == CLASS_NAMES[int(probabilities.argmax())]
        assert len({row.original.probability, row.removed.probability, row.alone.probability}) == 3


@pytest.mark.filterwarnings("ignore::captum_layermask.VanishedWarning")
def test_what_vanished_is_told():
    subsampling = nn.Conv2d(3, 4, 1, stride=24)  # sees the corner alone
    model = nn.Sequential(subsampling, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    comparison = run(model, removals=("layer-paper", "grey"), classes=1)
    layer, grey = comparison.rows
    corner = 0 in layer.strongest
    assert [layer.original.vanished, layer.removed.vanished, layer.alone.vanished] == [
        False,
        corner,
        not corner,
    ]
    assert [grey.original.vanished, grey.removed.vanished, grey.alone.vanished] == [None] * 3
    _, of_layer, of_grey = comparison.table().splitlines()
    assert of_layer.count("(nothing left)") == 1
    assert "(nothing left)" not in of_grey


def test_removals_that_see_missing_pixels_are_marked(model):
    comparison = run(model, removals=("layer", "blur"), classes=1)
    assert [row.leaks for row in comparison.rows] == [False, True]
    _, layer, blur = comparison.table().splitlines()
    assert "sees missing pixels" in blur
    assert "sees missing pixels" not in layer


def test_the_table_holds_the_numbers(model):
    comparison = run(model, removals=("layer", "black"), classes=2)
    head, *lines = comparison.table().splitlines()
    names = ("class", "removal", "original", "top 3 removed", "top 3 alone", "stability")
    assert all(word in head for word in names)
    for line, row in zip(lines, comparison.rows, strict=True):
        predictions = [f"{p.probability:.3f} {p.predicted}" for p in (row.original, row.removed, row.alone)]
        predictions.append(f"{row.explanation.stability:.2f}")
        assert line.split() == " ".join([row.explanation.label, row.title, *predictions]).split()
    exact = run(model, removals=("layer",), classes=1, method="feature-ablation", n_samples=None)
    assert exact.table().endswith("  –")


def test_more_segments_than_there_are_means_all_of_them(model):
    (row,) = run(model, removals=("black",), classes=1, top=99).rows
    assert sorted(row.strongest) == list(range(16))
    assert row.alone == row.original


class Sure(nn.Module):
    """Gives the classes fixed probabilities, whatever it sees."""

    def __init__(self, *probabilities):
        super().__init__()
        self.logits = torch.tensor(probabilities).log()

    def forward(self, x):
        return self.logits.expand(len(x), -1) + 0 * x.mean((2, 3))[:, :1]


@pytest.mark.parametrize(
    ("probabilities", "explained", "left_out"),
    [
        ((0.60, 0.30, 0.06, 0.04), [0, 1, 2], [("dog", 0.04)]),
        ((0.04, 0.01, 0.89, 0.06), [2, 3], [("ant", 0.04), ("bee", 0.01)]),
        ((0.25, 0.25, 0.25, 0.25), [0, 1, 2, 3], []),
    ],
)
def test_unlikely_classes_are_left_out(probabilities, explained, left_out):
    comparison = run(Sure(*probabilities), removals=("black",), classes=4)
    assert sorted(row.explanation.target for row in comparison.rows) == explained
    assert [name for name, _ in comparison.left_out] == [name for name, _ in left_out]
    assert [p for _, p in comparison.left_out] == pytest.approx([p for _, p in left_out])


def test_the_likeliest_class_is_explained_however_unlikely_it_is(monkeypatch):
    monkeypatch.setattr("captum_layermask.explain.comparison.LEAST_PROBABILITY", 0.5)
    comparison = run(Sure(0.3, 0.4, 0.2, 0.1), removals=("black",), classes=2)
    assert [row.explanation.target for row in comparison.rows] == [1]


def test_the_classes_can_be_chosen():
    comparison = run(Sure(0.97, 0.01, 0.01, 0.01), removals=("black", "grey"), targets=[3, 1, 3])
    assert [row.explanation.label for row in comparison.rows] == ["dog", "dog", "bee", "bee"]
    assert comparison.left_out == ()


def test_occlusion_is_tested_by_its_own_squares(model):
    (row,) = run(model, removals=("black",), method="occlusion", n_samples=None, classes=1).rows
    squares = grid(PIXELS, size=3)
    scores = torch.stack([row.explanation.attributions[squares == i].mean() for i in range(64)])
    assert set(row.strongest) == set(scores.topk(3).indices.tolist())
    strongest = torch.isin(squares, torch.tensor(row.strongest))
    removed = predict(make_forward("black", model, colors=COLORS), torch.where(strongest, MISSING, PIXELS))[0]
    assert row.removed.probability == pytest.approx(float(removed[row.explanation.target]), abs=1e-6)
    comparison = run(model, removals=("black",), method="occlusion", n_samples=None, classes=1)
    figure = plot_comparison(comparison)
    (axes,) = cells(figure)
    edges = np.asarray(axes.images[1].get_array())[..., 3] > 0
    outlined = np.where(strongest[0, 0], squares[0, 0], -1)
    expected = np.zeros_like(edges)
    expected[:, :-1] |= outlined[:, :-1] != outlined[:, 1:]
    expected[:-1] |= outlined[:-1] != outlined[1:]
    assert np.array_equal(edges, expected)
    assert "the 3 squares" in figure.get_suptitle().replace("\n", " ")


def test_a_removal_named_twice_is_compared_once(model):
    assert run(model, removals=("grey", "black", "grey")).removals == ("grey", "black")


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"removals": ()}, "no removal was given"),
        ({"classes": 0}, "number of classes is 0"),
        ({"classes": 5}, "one from 1 to 4"),
        ({"targets": []}, "no class to explain was given"),
        ({"targets": [4]}, "there is no class 4"),
        ({"seed": 2**64}, "the seed is"),
        ({"top": 0}, "give at least 1"),
        ({"colors": None}, "pass colors="),
        ({"n_samples": 0}, "number of samples is 0"),
    ],
)
def test_options_that_make_no_sense_are_errors(model, options, what):
    with pytest.raises(InputError, match=what):
        run(model, **options)


def test_unknown_names_offer_near_ones(model):
    with pytest.raises(UnknownNameError, match="did you mean 'layer'"):
        run(model, removals=("grey", "layr"))
    with pytest.raises(UnknownNameError, match="did you mean 'lime'"):
        run(model, method="limee")


def cells(figure):
    """The panels of attributions, in reading order."""
    return [axes for axes in figure.axes if axes.get_xlabel().startswith("removed")]


def test_the_figure_has_a_cell_for_each_class_and_removal(model):
    comparison = run(model, removals=("layer", "grey", "blur"), classes=2)
    figure = plot_comparison(comparison)
    shown = cells(figure)
    assert len(shown) == len(comparison.rows)
    for axes, row in zip(shown, comparison.rows, strict=True):
        drawn = axes.images[0]
        assert np.array_equal(drawn.get_array(), row.explanation.attributions[0, 0])
        assert drawn.norm is shown[0].images[0].norm
        assert (
            axes.get_xlabel() == f"removed {row.removed.probability:.2f}, alone {row.alone.probability:.2f}"
        )
    rights, downs = ([round(axes.get_position().p0[i], 6) for axes in shown] for i in (0, 1))
    assert rights[:3] == sorted(set(rights)) == rights[3:]
    assert len(set(downs[:3])) == len(set(downs[3:])) == 1
    assert downs[0] > downs[3]


def test_the_colours_are_symmetric_and_reach_the_strongest_cell(model):
    comparison = run(model, removals=("layer", "grey"))
    norm = cells(plot_comparison(comparison))[0].images[0].norm
    largest = max(float(row.explanation.attributions.abs().max()) for row in comparison.rows)
    assert (norm.vmin, norm.vmax) == (-largest, largest)


def test_columns_and_rows_are_named(model):
    comparison = run(model, removals=("layer", "blur"), classes=2)
    figure = plot_comparison(comparison)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == ["image", "layer masking", "blur\n(sees missing pixels)"]
    names = [axes.get_ylabel() for axes in figure.axes if "probability " in axes.get_ylabel()]
    expected = [rows[0].explanation for rows in comparison.of_classes()]
    assert names == [f"{one.label}\nprobability {one.probability:.2f}" for one in expected]
    assert "the 3 segments" in figure.get_suptitle().replace("\n", " ")


def test_the_outlined_segments_are_those_of_the_table(model):
    comparison = run(model, removals=("layer",), classes=1)
    (axes,) = cells(plot_comparison(comparison))
    edges = np.asarray(axes.images[1].get_array())[..., 3] > 0
    strongest = np.where(np.isin(SEGMENTS[0, 0], comparison.rows[0].strongest), SEGMENTS[0, 0], -1)
    expected = np.zeros_like(edges)
    expected[:, :-1] |= strongest[:, :-1] != strongest[:, 1:]
    expected[:-1] |= strongest[:-1] != strongest[1:]
    assert np.array_equal(edges, expected)


@pytest.mark.parametrize("classes", [1, 4])
@pytest.mark.parametrize("removals", [("layer-first",), ("layer", "segment-mean", "layer-zero", "blur")])
def test_no_text_is_cut_off_or_written_over_another(model, removals, classes):
    comparison = run(model, removals=removals, classes=classes)
    rows = tuple(
        dataclasses.replace(row, explanation=dataclasses.replace(row.explanation, label="terrier, " * 20))
        for row in comparison.rows
    )
    assert_readable(plot_comparison(dataclasses.replace(comparison, rows=rows)))


DEFAULT_REMOVALS = ("layer", "segment-mean", "layer-zero", "navier-stokes", "neighbor", "blur")


@pytest.mark.parametrize("width", [3.37, 7, 10, 20])
@pytest.mark.parametrize("removals", [DEFAULT_REMOVALS[:1], DEFAULT_REMOVALS[:4], DEFAULT_REMOVALS])
def test_a_figure_of_a_given_width_breaks_its_rows(model, removals, width):
    comparison = run(model, removals=removals, classes=2)
    figure = plot_comparison(comparison, width=width)
    assert figure.get_figwidth() == width
    assert_readable(figure)
    shown = cells(figure)
    assert len(shown) == len(comparison.rows)
    for axes, row in zip(shown, comparison.rows, strict=True):
        assert np.array_equal(axes.images[0].get_array(), row.explanation.attributions[0, 0])
        assert axes.get_position().width * width >= 1.5 - 1e-9
        label = f"removed {row.removed.probability:.2f}, alone {row.alone.probability:.2f}"
        assert axes.get_xlabel() in (label, label.replace(", ", ",\n"))
    downs = {round(axes.get_position().y0, 6) for axes in shown}
    if len(downs) > 2:
        titles = [" ".join(axes.get_title().split()) for axes in shown]
        expected = [row.title + " (sees missing pixels)" * row.leaks for row in comparison.rows]
        assert titles == expected


@pytest.mark.parametrize(("count", "widest"), [(1, 2), (5, 6), (6, 4), (11, 6), (17, 6)])
def test_many_removals_go_on_in_further_rows(model, count, widest):
    removals = [removal for removal in REMOVALS if removal not in ("drop-tokens",)][:count]
    figure = plot_comparison(run(model, removals=removals, classes=2, n_samples=4))
    shown = cells(figure)
    assert len(shown) == 2 * count
    assert len({round(axes.get_position().x0, 6) for axes in figure.axes if axes.get_xlim()[0] < 0}) == widest
    assert len({round(axes.get_position().width * figure.get_figwidth(), 6) for axes in shown}) == 1
    assert figure.get_figwidth() < 18
    assert_readable(figure)


def test_a_width_without_room_for_a_cell_is_an_error(model):
    with pytest.raises(InputError, match=r"at least 3\.37"):
        plot_comparison(run(model, removals=("grey",), classes=1), width=2)


def test_no_attribution_at_all_can_be_drawn(model):
    comparison = run(model, removals=("grey",), classes=1)
    (row,) = comparison.rows
    flat = dataclasses.replace(row.explanation, attributions=torch.zeros(1, 1, 24, 24))
    empty = dataclasses.replace(comparison, rows=(dataclasses.replace(row, explanation=flat),))
    figure = plot_comparison(empty)
    assert_readable(figure)
    assert cells(figure)[0].images[0].get_clim() == (-1, 1)
