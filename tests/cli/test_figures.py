"""What the commands write: a figure that says how it was made, and takes the place of nothing else."""

import os
import re
import shlex
from pathlib import Path
from xml.etree import ElementTree

import pytest
from command_line import FEW, fails, tiny_model
from matplotlib.figure import Figure
from PIL import Image
from small_evaluation import class_folders, small_model
from typer.testing import CliRunner

from captum_layermask.__main__ import main
from captum_layermask.cli import app as cli
from captum_layermask.models.images import example_image
from captum_layermask.plots.files import save_figure

pytestmark = pytest.mark.usefixtures("folder")

#: The option that says how to remove pixels; ``compare`` takes several.
REMOVE = {"explain": "--removal", "compare": "--removals"}


@pytest.mark.parametrize("other", ["cat.png", "./cat.png", "link.png", "hard.png"])
@pytest.mark.parametrize("command", ["explain", "compare"])
def test_the_picture_is_never_overwritten(tiny, capsys, command, other):
    """Not even where it is a figure of ours, or where the output is another name of it."""
    save_figure(Figure(), "cat.png")
    os.symlink("cat.png", "link.png")
    os.link("cat.png", "hard.png")
    before = Path("cat.png").read_bytes()
    assert "is the picture to explain" in fails(capsys, command, "cat.png", *FEW, "-o", other)
    assert Path("cat.png").read_bytes() == before


@pytest.mark.parametrize("command", ["explain", "compare"])
def test_a_figure_is_replaced_with_a_word_and_nothing_else_is(tiny, capsys, command):
    def run(*args):
        with pytest.raises(SystemExit) as caught:
            main([command, *FEW, REMOVE[command], "grey", *args])
        assert not caught.value.code
        return capsys.readouterr().out.splitlines()[-1]

    assert run("-o", "out.png") == "wrote out.png"
    assert run("-o", "out.png", "--seed", "5") == "replaced out.png"
    with Image.open("out.png") as picture:
        assert picture.info["Seed"] == "5"
    example_image().save("holiday.png")
    before = Path("holiday.png").read_bytes()
    assert "remove that file" in fails(capsys, command, *FEW, "-o", "holiday.png")
    assert Path("holiday.png").read_bytes() == before
    Path("made_by_mktemp.png").touch()
    assert run("-o", "made_by_mktemp.png") == "wrote made_by_mktemp.png"


@pytest.mark.parametrize("command", ["explain", "compare"])
def test_a_file_that_came_while_the_command_ran_is_kept(tiny, capsys, monkeypatch, command):
    plot = {"explain": "explanation.plot_explanation", "compare": "comparison.plot_comparison"}[command]

    def draw(*_):
        Path("out.png").write_text("of another program")
        return Figure()

    monkeypatch.setattr(f"captum_layermask.plots.{plot}", draw)
    with pytest.raises(SystemExit) as caught:
        main([command, *FEW, REMOVE[command], "grey", "-o", "out.png"])
    assert caught.value.code == 2
    assert "remove that file" in capsys.readouterr().err
    assert Path("out.png").read_text() == "of another program"


@pytest.mark.parametrize("command", ["explain", "compare"])
def test_a_figure_says_how_it_was_made(tiny, command):
    line = [command, *FEW, REMOVE[command], "grey", "--model", "tiny", "--seed", "9", "-o", "a b.png"]
    assert CliRunner().invoke(cli.app, line, prog_name="captum-layermask").exit_code == 0
    with Image.open("a b.png") as picture:
        about = picture.info
    assert shlex.split(about["Command"]) == ["captum-layermask", *line]
    assert (about["Model"], about["Seed"], about["Samples"]) == ("tiny", "9", "12")
    assert about["Software"].startswith("made by captum-layermask")


@pytest.mark.parametrize(("method", "samples"), [("lime", "500"), ("occlusion", "none")])
def test_samples_that_were_not_chosen_are_told_too(tiny, method, samples):
    CliRunner().invoke(cli.app, ["explain", "--method", method, "--removal", "grey"])
    with Image.open("explanation.png") as picture:
        assert picture.info["Samples"] == samples


MARKUP = ("a$b$", r"$\frac{", "x_{", "<b>&amp;", "two\nlines\x1b[31m", "\udcff")


@pytest.mark.parametrize("name", MARKUP)
@pytest.mark.parametrize("command", ["explain", "compare"])
def test_a_class_may_be_called_anything(monkeypatch, capsys, name, command):
    monkeypatch.setattr(
        "captum_layermask.models.load.load_model",
        lambda _: tiny_model("tiny", [name, f"{name}2", f"{name}3"]),
    )
    for output in ("out.png", "out.svg"):
        with pytest.raises(SystemExit) as caught:
            main([command, *FEW, REMOVE[command], "grey", "-o", output])
        assert not caught.value.code, capsys.readouterr().err
    ElementTree.parse("out.svg")
    assert all(line.isprintable() for line in capsys.readouterr().out.splitlines())


def test_classes_to_compare_are_named_or_numbered(tiny, capsys):
    with pytest.raises(SystemExit):
        main(["compare", *FEW, "--removals", "grey", "--targets", "2, BEE"])
    _, *lines, _, _ = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["cat", "bee"]


def test_a_class_with_a_comma_in_its_name_can_be_compared(monkeypatch, capsys):
    monkeypatch.setattr(
        "captum_layermask.models.load.load_model", lambda _: tiny_model("tiny", ["ant, Formica", "bee"])
    )
    with pytest.raises(SystemExit):
        main(["compare", *FEW, "--removals", "grey", "--targets", "ant, Formica"])
    _, line, _, _ = capsys.readouterr().out.splitlines()
    assert line.startswith("ant, Formica ")


def test_a_class_that_is_left_out_is_told(tiny, monkeypatch, capsys):
    monkeypatch.setattr("captum_layermask.explain.comparison.LEAST_PROBABILITY", 1.0)
    with pytest.raises(SystemExit):
        main(["compare", *FEW, "--removals", "grey"])
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 1 + 1 + 2
    (told,) = [line for line in printed.err.splitlines() if line.startswith("left out ")]
    assert re.search(r"'(ant|bee|cat)' \(0\.\d+\): less likely than .*--targets", told)


def test_the_figures_of_an_experiment_say_how_they_were_made(capsys, monkeypatch, folder):
    images = class_folders(folder / "images", 2)
    monkeypatch.setattr("captum_layermask.models.load.load_model", lambda name: small_model())
    few = ["--removals", "grey", "--segmentations", "grid", "--n-segments", "9", "--n-samples", "12"]
    few += ["--top", "2", "--mosaics", "0", "--seed", "4"]
    with pytest.raises(SystemExit) as caught:
        main(["evaluate", "lime", "--data", str(images), "--out", "out", *few])
    assert not caught.value.code
    written = list(Path("out/figures").iterdir())
    assert written
    for path in written:
        with Image.open(path) as picture:
            about = picture.info
        assert about["Command"].startswith("captum-layermask evaluate lime --data")
        assert (about["Model"], about["Seed"], about["Samples"]) == ("small", "4", "12")
