"""The figures of a report: what is drawn, in which colour, and that it can be read."""

import math

import numpy as np
import pytest
import torch
from figures import assert_readable
from matplotlib.colors import to_hex, to_rgb
from torch import nn

from captum_layermask import REMOVALS, Colors, make_forward
from captum_layermask.evaluate.report.bootstrap import Interval
from captum_layermask.evaluate.report.figures import (
    attribution_picture,
    plot_curves,
    plot_pictures,
    plot_shape,
    remaining_picture,
    removal_color,
)
from captum_layermask.plots.explanation import DIVERGING, FOR
from captum_layermask.text import shortened

FRACTIONS = [0.0, 0.5, 1.0]
DEFAULT_REMOVALS = ("layer", "grey", "black")


def falling(by):
    value = 0.9 - by * np.array(FRACTIONS)
    return Interval(value, value - 0.05, value + 0.05)


def curves(metrics=("accuracy", "class entropy (nats)", "WordNet similarity", "unchanged predictions")):
    lines = {removal: falling(by) for removal, by in zip(DEFAULT_REMOVALS, (0.3, 0.5, 0.7), strict=True)}
    return plot_curves(FRACTIONS, dict.fromkeys(metrics, lines), "Four metrics.")


def test_a_colour_belongs_to_each_removal():
    colors = [removal_color(removal) for removal in REMOVALS]
    assert len(set(colors)) == len(REMOVALS)
    assert all(to_hex(to_rgb(color)) == color for color in colors)
    assert removal_color("a removal of one's own") == removal_color("another")


def test_curves_have_a_panel_for_each_metric_and_a_line_for_each_removal():
    figure = curves()
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in panels] == [
        "accuracy",
        "class entropy (nats)",
        "WordNet similarity",
        "unchanged predictions",
    ]
    for axes in panels:
        drawn = {line.get_color(): line.get_ydata() for line in axes.lines if len(line.get_ydata())}
        assert set(drawn) == {removal_color(removal) for removal in DEFAULT_REMOVALS}
        np.testing.assert_allclose(drawn[removal_color("grey")], [0.9, 0.65, 0.4])
        bands = {to_hex(band.get_facecolor()[0]): band.get_paths()[0] for band in axes.collections}
        extent = bands[removal_color("grey")].get_extents()
        assert (extent.y0, extent.y1) == pytest.approx((0.35, 0.95))


def test_layer_masking_stands_out():
    widths = {line.get_color(): line.get_linewidth() for line in curves().axes[0].lines}
    assert widths.pop(removal_color("layer")) > 1.5 * max(widths.values())
    dashes = [line.get_linestyle() for line in curves().axes[0].lines if len(line.get_ydata())]
    assert len(set(dashes)) == len(DEFAULT_REMOVALS)


@pytest.mark.parametrize("metrics", [("accuracy",), ("accuracy", "entropy", "similarity")])
def test_panels_that_are_not_needed_are_not_shown(metrics):
    assert sum(axes.get_visible() for axes in curves(metrics).axes) == len(metrics)


def test_curves_can_be_read():
    lines = {removal: falling(0.5) for removal in REMOVALS}
    assert_readable(plot_curves(FRACTIONS, {"accuracy": lines, "class entropy (nats)": lines}, ""))
    assert curves().get_label() == "Four metrics."


def shapes(classes):
    return {name: {"layer": (0.25, 0.75), "grey": (0.5, 0.25), "black": (math.nan, 0.5)} for name in classes}


def test_shape_has_a_dark_and_a_pale_bar_and_their_difference():
    figure = plot_shape(shapes(["average", "sunglasses"]), "Shape.", removals=DEFAULT_REMOVALS)
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["average", "sunglasses"]
    bars = [
        (round(bar.get_height(), 2), to_hex(bar.get_facecolor(), keep_alpha=True)) for bar in axes.patches
    ]
    layer, grey = removal_color("layer"), removal_color("grey")
    of_a_class = [(0.25, f"{layer}ff"), (0.75, f"{layer}55"), (0.5, f"{grey}ff"), (0.25, f"{grey}55")]
    assert bars == of_a_class * 2
    assert [text.get_text() for text in axes.texts] == ["+0.50", "−0.25"] * 2


def test_many_classes_take_several_rows_and_can_be_read():
    names = [f"class number {i} with a longer name" for i in range(23)]
    figure = plot_shape(shapes(names), "", removals=DEFAULT_REMOVALS)
    assert len(figure.axes) == 3
    assert sum(len(axes.get_xticklabels()) for axes in figure.axes) == 23
    assert_readable(plot_shape(shapes(names[:9]), "", removals=DEFAULT_REMOVALS))


def test_pictures_stand_in_a_grid():
    rng = np.random.default_rng(0)
    pictures = {row: [rng.random((8, 8, 3)) for _ in range(3)] for row in ("layer masking", "grey")}
    figure = plot_pictures(pictures, ["10 %", "50 %", "a title that is rather long"], "Masked.")
    assert [axes.get_title() for axes in figure.axes[:2]] == ["10 %", "50 %"]
    assert figure.axes[3].get_ylabel() == "grey"
    assert np.array_equal(figure.axes[5].images[0].get_array(), pictures["grey"][2])
    assert_readable(figure)


def test_what_remains_is_what_the_network_sees():
    pixels = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    visible = torch.ones(1, 1, 16, 16, dtype=torch.bool)
    visible[..., :8] = False
    original = pixels[0].permute(1, 2, 0).double().numpy()
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    colors = Colors([0.25, 0.5, 0.75], [1.0] * 3, normalized=False)
    for removal in ("layer", "grey"):
        picture = remaining_picture(make_forward(removal, network, colors=colors), pixels, visible)
        assert picture.shape == (16, 16, 3)
        assert np.array_equal(picture[:, 8:], original[:, 8:])
        missing = picture[:, :8].reshape(-1, 3)
        if removal == "grey":
            assert np.array_equal(missing, np.tile([0.25, 0.5, 0.75], (128, 1)))
        else:
            assert missing.min() == pytest.approx(0.85)
            assert set(np.unique(missing)) == {missing.min(), 1.0}


def test_an_explanation_has_the_colours_of_all_attributions():
    segments = torch.tensor([[[[0, 1], [2, 2]]]])
    picture = attribution_picture([2.0, -1.0, 0.0], segments)
    assert picture.shape == (2, 2, 3)
    assert to_hex(picture[0, 0]) == FOR
    np.testing.assert_allclose(picture[0, 1], DIVERGING(0.25)[:3], atol=0.01)
    np.testing.assert_allclose(picture[1], [DIVERGING(0.5)[:3]] * 2, atol=0.01)
    np.testing.assert_allclose(attribution_picture([0.0], segments * 0), [[DIVERGING(0.5)[:3]] * 2] * 2)


@pytest.mark.parametrize("name", ["a$b$", r"$\frac{$", "two\nlines"])
def test_a_class_may_be_called_anything(name):
    figure = plot_shape(shapes(["average", name]), "Shape.", removals=DEFAULT_REMOVALS)
    assert_readable(figure)
    assert " ".join(figure.axes[0].get_xticklabels()[1].get_text().split()) == shortened(name, 40)
    assert_readable(plot_pictures({name: [np.zeros((2, 2, 3))]}, [name], name))
