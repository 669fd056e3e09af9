"""A figure's file: written whole or not at all, in a format that is opened, with its origin in it."""

import os

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from captum_layermask.errors import InputError
from captum_layermask.plots.files import _FORMATS, check_figure_path, check_replacing, save_figure

ABOUT = {"Command": "captum-layermask explain 'é (a).jpg' \x01\udcff", "Seed": "3"}
PICTURES = ["png", "jpg", "jpeg", "tif", "tiff", "webp"]


def drawn():
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([0, 1])
    return figure


@pytest.mark.parametrize("suffix", _FORMATS)
def test_a_figure_knows_its_own_kind(tmp_path, suffix):
    path = tmp_path / f"figure.{suffix}"
    assert not check_replacing(path)
    save_figure(drawn(), path, ABOUT)
    assert check_replacing(path)
    assert b"Seed" in path.read_bytes().replace(b"\0", b"")  # PDF has two bytes for a letter
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", [*_FORMATS])
def test_a_figure_of_another_program_is_not_replaced(tmp_path, suffix):
    path = tmp_path / f"figure.{suffix}"
    drawn().savefig(path)
    with pytest.raises(InputError, match="was not written by this version of captum-layermask"):
        check_replacing(path)


@pytest.mark.parametrize("name", [*(f"figure.{suffix}" for suffix in PICTURES), "FIGURE.PNG"])
def test_a_saved_picture_can_be_read(tmp_path, name):
    save_figure(drawn(), tmp_path / name, ABOUT)
    with Image.open(tmp_path / name) as picture:
        assert picture.width == 240
        assert np.ptp(np.asarray(picture)) > 100
    assert os.listdir(tmp_path) == [name]


def test_a_png_holds_its_origin_word_by_word(tmp_path):
    save_figure(drawn(), tmp_path / "figure.png", ABOUT)
    with Image.open(tmp_path / "figure.png") as picture:
        assert picture.info["Seed"] == "3"
        assert picture.info["Command"] == r"captum-layermask explain 'é (a).jpg' \x01\udcff"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_refused_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "figure.png")
    with pytest.raises(InputError, match="no ordinary file"):
        check_figure_path(tmp_path / "figure.png")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "figure.png"
    path.write_text("old")

    def full_disk(self, file, **_):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full_disk)
    with pytest.raises(InputError, match="No space left on device"):
        save_figure(drawn(), path)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["figure.png"]


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("figure.xyz", r"end the name in .*\.png"),
        ("figure", r"end the name in .*\.png"),
        *((f"figure.{suffix}", "end the name in") for suffix in ("pgf", "raw", "rgba", "eps", "gif", "avif")),
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
