"""The figure: what it shows, and that it is written whole or not at all."""

import dataclasses
import io
import os

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from captum_layermask import REMOVALS, plots
from captum_layermask.errors import InputError
from captum_layermask.explain import Explanation
from captum_layermask.plots import check_figure_path, plot_explanation, save_figure
from captum_layermask.segments import grid

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


def test_a_long_class_name_fits_in_the_title():
    long = dataclasses.replace(explanation(), label="terrier, " * 20)
    figure = plot_explanation(long)
    (title,) = figure.texts
    assert title.get_window_extent().width < figure.bbox.width


@pytest.mark.parametrize("way", [*REMOVALS.values()], ids=[*REMOVALS])
def test_the_way_of_removing_fits_in_the_title(way):
    long = dataclasses.replace(explanation(method="shapley-sampling"), label="terrier, " * 20)
    figure = plot_explanation(long, way.title)
    assert figure.get_suptitle().endswith(f" with {way.title}")
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
    red, white, green = (np.array(shown.cmap(value))[:3] for value in (0.0, 0.5, 1.0))
    assert red.argmax() == 0
    assert np.allclose(white, 1, atol=0.01)
    assert green.argmax() == 1


def test_the_ten_strongest_segments_are_green_and_red():
    shown = panel(plot_explanation(explanation()), "the 10 strongest segments").images[0]
    centres = np.asarray(shown.get_array())[5::10, 5::10].reshape(16, 3)
    strongest = set(SEGMENT_SCORES.abs().argsort(descending=True)[:10].tolist())
    for i, colour in enumerate(centres):
        if i not in strongest:
            assert np.ptp(colour) < 1e-6
        elif SEGMENT_SCORES[i] > 0:
            assert np.allclose(colour, 0.25 + 0.5 * np.array(to_rgb(plots._GREEN)))
        else:
            assert np.allclose(colour, 0.25 + 0.5 * np.array(to_rgb(plots._RED)))


def test_segments_are_outlined_unless_the_map_has_its_own_squares():
    assert len(panel(plot_explanation(explanation()), "attribution").images) == 2
    occlusion = plot_explanation(explanation(method="occlusion"))
    assert len(panel(occlusion, "attribution").images) == 1


def test_no_attribution_at_all_can_be_drawn(tmp_path):
    figure = plot_explanation(explanation(torch.zeros(16)))
    save_figure(figure, tmp_path / "zero.png")
    shown = panel(figure, "the 10 strongest segments").images[0].get_array()
    assert np.ptp(np.asarray(shown), axis=2).max() < 1e-6


@pytest.mark.parametrize("name", ["figure.png", "FIGURE.PNG", "figure.jpg"])
def test_a_saved_picture_can_be_read(tmp_path, name):
    save_figure(plot_explanation(explanation()), tmp_path / name)
    with Image.open(tmp_path / name) as picture:
        assert picture.width > 1000
        assert np.ptp(np.asarray(picture)) > 100
    assert os.listdir(tmp_path) == [name]


def test_a_notebook_shows_the_figure_on_white():
    with Image.open(io.BytesIO(plot_explanation(explanation())._repr_png_())) as picture:
        assert picture.format == "PNG"
        assert picture.convert("RGBA").getpixel((0, 0)) == (255, 255, 255, 255)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "figure.png"
    path.write_text("old")

    def full_disk(self, file, **_):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full_disk)
    with pytest.raises(InputError, match="No space left on device"):
        save_figure(plot_explanation(explanation()), path)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["figure.png"]


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("figure.xyz", r"end the name in .*\.png"),
        ("figure", r"end the name in .*\.png"),
        ("absent/figure.png", "there is no folder"),
        ("folder.png", "is a folder"),
        ("file/figure.png", "there is no folder"),
        (f"{'x' * 300}.png", "cannot write"),
    ],
)
def test_a_place_that_cannot_be_written_is_known_beforehand(tmp_path, name, what):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=what):
        check_figure_path(tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder.png"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes anywhere")
def test_a_read_only_folder_is_known_beforehand(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="cannot write"):
        check_figure_path(tmp_path / "figure.png")


def test_a_good_place_is_left_as_it_was(tmp_path):
    check_figure_path(tmp_path / "figure.png")
    assert os.listdir(tmp_path) == []
