"""The figure of an explanation: what it shows, and that everybody can read it."""

import dataclasses
import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from figures import assert_readable
from matplotlib import rc_context
from matplotlib.text import Text
from PIL import Image
from skimage.color import rgb2lab

import captum_layermask
from captum_layermask import REMOVALS
from captum_layermask.explain.estimators.estimate import Estimate
from captum_layermask.explain.explanation import Explanation
from captum_layermask.explain.segments import grid
from captum_layermask.plots.explanation import DIVERGING, HATCH, plot_explanation, save_figure

SEGMENT_SCORES = torch.arange(16.0) - 5.25


def explanation(scores=SEGMENT_SCORES, method="lime"):
    pixels = torch.full((1, 3, 40, 40), 0.5)
    segments = grid(pixels, size=10)
    return Explanation(
        pixels=pixels,
        segments=segments,
        attributions=scores[segments],
        target=0,
        label="tabby",
        probability=0.625,
        method=method,
        top5=(("tabby", 0.625),),
    )


def panel(figure, title):
    (axes,) = [axes for axes in figure.axes if axes.get_title() == title]
    return axes


def test_the_title_gives_class_probability_and_method():
    title = plot_explanation(explanation()).get_suptitle()
    assert title == "tabby (probability 0.62), explained by LIME"


@pytest.mark.parametrize("size", [8, 10, 14])
@pytest.mark.parametrize("method", ["lime", "occlusion"])
def test_the_figure_can_be_read(method, size):
    with rc_context({"font.size": size}):
        assert_readable(plot_explanation(explanation(method=method)))


def test_the_scale_tells_how_stable_the_map_is():
    def scale(stability):
        figure = plot_explanation(dataclasses.replace(explanation(), stability=stability))
        return [axes.get_xlabel() for axes in figure.axes if axes.get_xlabel()]

    assert scale(None) == ["change of the probability"]
    assert scale(0.625) == ["change of the probability (stability of the map 0.62)"]
    assert_readable(plot_explanation(dataclasses.replace(explanation(), stability=-0.625)))


ESTIMATE = Estimate(
    values=SEGMENT_SCORES.double().numpy(),
    standard_errors=np.full(16, 1.25),
    freedom=np.inf,
    evaluations=300,
    forecast=1200,
    vanished=None,
    ended="budget",
)
UNDECIDED = [i for i, score in enumerate(SEGMENT_SCORES) if abs(score) < 1.96 * 1.25]


def estimated(**changes):
    estimate = dataclasses.replace(ESTIMATE, **changes)
    return dataclasses.replace(explanation(method="shapley"), estimate=estimate)


def hatched(axes):
    """Pixels that lie in a hatched area, bool 40×40."""
    places = np.stack(np.meshgrid(range(40), range(40)), axis=-1).reshape(-1, 2)
    inside = np.zeros(1600, dtype=bool)
    for drawn in axes.collections:
        assert drawn.hatches == [HATCH]
        inside |= np.any([path.contains_points(places) for path in drawn.get_paths()], axis=0)
    return inside.reshape(40, 40)


def centres(pixels):
    return np.flatnonzero(pixels[5::10, 5::10]).tolist()


def test_segments_that_may_be_zero_are_hatched():
    figure = plot_explanation(estimated())
    assert 0 < len(UNDECIDED) < 16
    assert centres(hatched(panel(figure, "attribution"))) == UNDECIDED
    strongest = set(SEGMENT_SCORES.abs().argsort(descending=True)[:10].tolist())
    shown = centres(hatched(panel(figure, "the 10 strongest segments")))
    assert shown == [i for i in UNDECIDED if i in strongest]
    (key,) = [axes.get_legend() for axes in figure.axes if axes.get_legend()]
    assert [text.get_text() for text in key.get_texts()] == ["+ supports", "− speaks against", "may be 0"]


def test_hatches_are_seen_without_colour():
    """Some pixels of a segment that may be 0 are much darker than the others; elsewhere none are."""
    figure = plot_explanation(estimated())
    with Image.open(io.BytesIO(figure._repr_png_())) as picture:
        grey = np.asarray(picture.convert("L"), dtype=float)
    axes = panel(figure, "attribution")
    scale = grey.shape[1] / figure.bbox.width
    for i in range(16):
        row, column = divmod(i, 4)
        (left, low), (right, high) = axes.transData.transform(
            [(10 * column + 1, 10 * row + 8), (10 * column + 8, 10 * row + 1)]
        )
        top, bottom = (round(grey.shape[0] - y * scale) for y in (high, low))
        inside = grey[top:bottom, round(left * scale) : round(right * scale)]
        assert (np.ptp(inside) > 25) == (i in UNDECIDED), i


def test_methods_that_know_no_errors_have_no_hatches():
    figure = plot_explanation(explanation())
    assert not hatched(panel(figure, "attribution")).any()
    (key,) = [axes.get_legend() for axes in figure.axes if axes.get_legend()]
    assert len(key.get_texts()) == 2


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "300 evaluations, largest error 1.2"),
        ({"ended": "interrupted"}, "unfinished: 300 evaluations, largest error 1.2"),
        ({"standard_errors": np.full(16, np.inf)}, "300 evaluations, errors not known yet"),
    ],
)
def test_the_scale_tells_how_sure_the_map_is(changes, told):
    figure = plot_explanation(estimated(**changes))
    (label,) = [axes.get_xlabel() for axes in figure.axes if axes.get_xlabel()]
    assert label == f"change of the probability\n{told}"
    assert_readable(figure)


def test_a_long_class_name_fits_in_the_title():
    long = dataclasses.replace(explanation(), label="terrier, " * 20)
    figure = plot_explanation(long)
    (title,) = figure.texts
    assert title.get_window_extent().width < figure.bbox.width


@pytest.mark.parametrize("removal", [*REMOVALS.values()], ids=[*REMOVALS])
def test_the_removal_fits_in_the_title(removal):
    long = dataclasses.replace(explanation(method="shapley-sampling"), label="terrier, " * 20)
    figure = plot_explanation(long, removal.title)
    assert figure.get_suptitle().endswith(f" with {removal.title}")
    (title,) = figure.texts
    assert title.get_window_extent().width < figure.bbox.width


def test_the_first_panel_is_the_image():
    shown = panel(plot_explanation(explanation()), "image").images[0].get_array()
    assert np.allclose(shown, 0.5)


def test_attributions_are_coloured_on_a_symmetric_scale():
    figure = plot_explanation(explanation())
    shown = panel(figure, "attribution").images[0]
    assert np.array_equal(shown.get_array()[::10, ::10].ravel(), SEGMENT_SCORES)
    assert shown.get_clim() == (-9.75, 9.75)
    assert shown.cmap is DIVERGING


#: What a person without one kind of cones sees of linear RGB (Viénot et al. 1999; Brettel et al. 1997).
COLOUR_VISIONS = {
    "all": np.eye(3),
    "no red cones": [[0.11238, 0.88762, 0.0], [0.11238, 0.88762, 0.0], [0.00401, -0.00401, 1.0]],
    "no green cones": [[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]],
    "no blue cones": [[1.0, 0.14461, -0.14461], [0.0, 0.85924, 0.14076], [0.0, 0.85924, 0.14076]],
    "none: a print without colour": np.tile([0.2126, 0.7152, 0.0722], (3, 1)),
}


def seen(colours, vision):
    """The colours in CIELAB as they look, rows of three."""
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear @ np.asarray(COLOUR_VISIONS[vision]).T, 0, 1)
    return rgb2lab(np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055))


@pytest.mark.parametrize("vision", COLOUR_VISIONS)
def test_everybody_can_read_the_scale(vision):
    """It grows lighter in every step, and what speaks for a class never looks like what speaks against it."""
    looks = seen(DIVERGING(np.linspace(0, 1, 21))[:, :3], vision)
    assert np.diff(looks[:, 0]).min() > 0
    distances = np.linalg.norm(looks[:10] - looks[:10:-1], axis=1)
    assert (distances > np.linspace(45, 2, 10)).all(), distances
    assert np.linalg.norm(looks[[0, -1]] - looks[10], axis=1).min() > 20


def test_there_is_one_scale():
    """No module but ``plots`` names colours for attributions."""
    package = Path(captum_layermask.__file__).parent
    named = re.compile(r"from_list|cmap=\"|colormaps\[\"(?!viridis)|ListedColormap")
    found = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if named.search(path.read_text("utf-8"))
    }
    assert found <= {"plots/explanation.py", "plots/inside.py"}


def test_the_ten_strongest_segments_are_coloured_and_signed():
    axes = panel(plot_explanation(explanation()), "the 10 strongest segments")
    shown = axes.images[0]
    signs = {text.get_position(): text.get_text() for text in axes.texts}
    centres = np.asarray(shown.get_array())[5::10, 5::10].reshape(16, 3)
    strongest = set(SEGMENT_SCORES.abs().argsort(descending=True)[:10].tolist())
    for i, colour in enumerate(centres):
        if i not in strongest:
            assert np.ptp(colour) < 1e-6
        else:
            speaks_for = SEGMENT_SCORES[i] > 0
            ends = DIVERGING(1.0 if speaks_for else 0.0)[:3]
            assert np.allclose(colour, 0.35 * 0.5 + 0.65 * np.array(ends))
            row, column = divmod(i, 4)
            ((_, sign),) = [
                (place, sign)
                for place, sign in signs.items()
                if (place[1] // 10, place[0] // 10) == (row, column)
            ]
            assert sign == ("+" if speaks_for else "−")
    assert len(signs) == len(strongest)


def edges(labels):
    found = np.zeros(labels.shape, dtype=bool)
    found[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    found[:-1] |= labels[:-1] != labels[1:]
    return found


@pytest.mark.parametrize("method", ["lime", "occlusion"])
def test_a_method_shows_its_own_regions(method):
    """Occlusion: squares of half a segment's side, whatever the segments are."""
    drawn = explanation(method=method)
    side = {"lime": 10, "occlusion": 5}[method]
    squares = grid(drawn.pixels, size=side)[0, 0].numpy()
    assert np.array_equal(drawn.regions()[0, 0], squares)
    figure = plot_explanation(drawn)
    _, outlines = panel(figure, "attribution").images
    assert np.array_equal(np.asarray(outlines.get_array())[..., 3] > 0, edges(squares))
    unit = {"lime": "segments", "occlusion": "squares"}[method]
    shown = np.asarray(panel(figure, f"the 10 strongest {unit}").images[0].get_array())
    coloured = np.ptp(shown, axis=2) > 1e-6
    assert coloured.sum() == 10 * side**2
    assert np.array_equal(coloured, np.kron(coloured[::side, ::side], np.ones((side, side), dtype=bool)))


@pytest.mark.parametrize("name", ["a$b$", r"$\frac{$", "$$", r"\$a$ _{x}^"])
def test_a_name_is_never_mathematics(name):
    figure = plot_explanation(dataclasses.replace(explanation(), label=name), f"{name} fill")
    assert_readable(figure)
    assert figure.get_suptitle().startswith(f"{name} (probability")
    assert not any(text.get_parse_math() for text in figure.findobj(Text))


def test_no_attribution_at_all_can_be_drawn(tmp_path):
    figure = plot_explanation(explanation(torch.zeros(16)))
    save_figure(figure, tmp_path / "zero.png")
    shown = panel(figure, "the 10 strongest segments").images[0].get_array()
    assert np.ptp(np.asarray(shown), axis=2).max() < 1e-6


def test_a_notebook_shows_the_figure_on_white():
    with Image.open(io.BytesIO(plot_explanation(explanation())._repr_png_())) as picture:
        assert picture.format == "PNG"
        assert picture.convert("RGBA").getpixel((0, 0)) == (255, 255, 255, 255)
