"""The commands of the experiments: options, what is written and printed, and errors of one sentence."""

import json
import os
import re
import sys

import pytest
import torch
from coloured import draw, mean_colour_model
from coloured_experiments import GREENISH, PINK, REDDISH
from PIL import Image
from small_evaluation import CLASSES, class_folders, save_pictures, small_model
from typer.testing import CliRunner

from captum_layermask import InputError
from captum_layermask.__main__ import main
from captum_layermask.cli import evaluate as cli
from captum_layermask.evaluate.data.dataset import find_images


@pytest.fixture
def data(tmp_path):
    return find_images(class_folders(tmp_path / "data", 4), CLASSES)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr("captum_layermask.models.load.load_model", lambda name: small_model())


def command(*options):
    few = ["--segmentations", "grid", "--n-segments", "16", "--fractions", "3", "--orders", "random"]
    with pytest.raises(SystemExit) as caught:
        main(["evaluate", "curves", *few, *map(str, options)])
    return caught.value.code or 0


def test_the_command_writes_a_folder_and_prints_the_tables(small, data, tmp_path, capsys):
    out = tmp_path / "out"
    assert command("--data", data.folder, "--out", out, "--removals", "layer,grey", "--limit", 3) == 0
    assert {path.name for path in out.iterdir()} == {
        "figures",
        "records",
        "report.html",
        "report.json",
        "settings.json",
        "tables.md",
        "left_out.parquet",
        ".lock",
    }
    printed = capsys.readouterr()
    for line in (out / "tables.md").read_text().splitlines():
        assert line in printed.out
    assert "6/6" in printed.err
    assert str(out / "report.html") in printed.out
    about = json.loads((out / "report.json").read_text())
    units = re.search(
        r"\n1000 images × 2 segmentations, orders and removals × 3 fractions .* (\d+) s of", printed.out
    )
    assert int(units[1]) == round(1000 * about["facts"]["this start"]["loop_seconds"] / 3)
    assert about["facts"]["images"] == 3
    spent = about["facts"]["this start"]
    assert 0 < spent["forward_seconds"] < spent["loop_seconds"]
    assert spent["units"] == 6
    assert command("--data", data.folder, "--out", out, "--removals", "layer,grey", "--limit", 3) == 0
    assert "all was recorded before" in capsys.readouterr().out


def test_the_options_reach_the_experiment(small, data, tmp_path, monkeypatch):
    seen = {}

    def spy(model, data, **options):
        seen.update(options, images=data.images, labels=data.labels, maps=set(data.saliency_maps))
        raise InputError("enough")

    monkeypatch.setattr("captum_layermask.evaluate.curves.experiment.Curves", spy)
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: seen.update(threads=threads))
    maps = save_pictures(tmp_path / "maps", ["00.png"])
    options = [
        "--data",
        data.folder,
        "--out",
        "o",
        "--removals",
        "blur, layer,blur",
        "--segmentations",
        "slic",
    ]
    options += ["--orders", "least-salient,random", "--fractions", 6, "--seed", 9, "--n-segments", 30]
    (tmp_path / "labels.txt").write_text(f"{data.images[0]} fox")
    options += ["--labels", tmp_path / "labels.txt"]
    assert command(*options, "--threads", 2, "--limit", 1, "--saliency", maps) == 2
    assert seen == {
        "removals": ["blur", "layer"],
        "segmentations": ["slic"],
        "orders": ["least-salient", "random"],
        "fractions": 6,
        "n_segments": 30,
        "seed": 9,
        "threads": 2,
        "images": data.images[:1],
        "labels": {data.images[0]: CLASSES.index("fox")},
        "maps": {data.images[0]},
    }


def test_corrupt_images_do_not_end_the_run(small, data, tmp_path, capsys):
    for image in data.images[:2]:
        whole = (data.folder / image).read_bytes()
        (data.folder / image).write_bytes(whole[: len(whole) // 2])
    Image.new("RGB", (1, 1)).save(data.folder / data.images[2])
    options = ["--data", data.folder, "--out", tmp_path / "out", "--removals", "grey"]
    assert command(*options) == 0
    printed = capsys.readouterr()
    assert f"left out 2 of 4, which left_out.parquet lists, first {data.images[0]}" in printed.err
    facts = json.loads((tmp_path / "out" / "report.json").read_text())["facts"]
    assert (facts["images"], facts["left out"]) == (2, 2)


def test_a_run_does_not_write_among_its_images(small, data, tmp_path, capsys):
    maps = save_pictures(tmp_path / "maps", ["00.png", "01.png", "02.png", "03.png"])
    for out in (data.folder, data.folder / "out", maps / "out"):
        assert command("--data", data.folder, "--saliency", maps, "--out", out) == 2
        assert "give a folder outside it" in capsys.readouterr().err
        assert not (out / "settings.json").exists()


def test_names_that_are_no_text_do_not_end_the_run(small, data, tmp_path, capsys):
    odd = os.fsdecode(b"\xe9")
    (data.folder / data.images[0]).rename(data.folder / "ant" / f"{odd}.png")
    (data.folder / data.images[1]).rename(data.folder / "bee" / f"{odd}.png")
    (data.folder / "bee" / f"{odd}.png").write_bytes(b"broken")
    out = tmp_path / odd
    assert command("--data", data.folder, "--out", out, "--removals", "grey") == 0
    printed = capsys.readouterr()
    assert "3 images; " in printed.out
    assert "first bee/\\xe9.png: cannot read" in printed.err
    assert (out / "report.html").read_text().count("ant/\\xe9.png")


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--removals", "gray"], "did you mean 'grey'"),
        (["--removals", "grey,"], "''. Known are layer"),
        (["--segmentations", "squares"], "unknown segmentation 'squares'"),
        (["--orders", "randon"], "did you mean 'random'"),
        (["--fractions", "1"], "fractions is 1"),
        (["--limit", "0"], "limit is 0"),
        (["--threads", "0"], "threads is 0"),
        (["--data", "nowhere"], "there is no folder 'nowhere'"),
        (["--saliency", "nowhere"], "there is no folder 'nowhere'"),
        (["--labels", "nowhere"], "cannot read the labels 'nowhere'"),
    ],
)
def test_what_makes_no_sense_is_one_sentence_and_nothing_is_written(
    small, data, tmp_path, capsys, options, what
):
    out = tmp_path / "out"
    assert command("--data", data.folder, "--out", out, *options) == 2
    error = capsys.readouterr().err
    error = error[error.index("error: ") :]  # after what was decided about the network
    assert what in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_a_folder_of_other_settings_and_one_without_a_readable_image(small, data, tmp_path, capsys):
    options = ["--data", data.folder, "--out", tmp_path / "out", "--removals"]
    assert command(*options, "grey") == 0
    assert command(*options, "black") == 2
    assert 'removals = ["grey"], and this one has ["black"]' in capsys.readouterr().err
    for image in data.images:
        (data.folder / image).write_bytes(b"")
    options[3] = tmp_path / "none"
    assert command(*options, "grey") == 2
    assert (
        f"not one image was left to evaluate; {data.images[0]}, the first: cannot read"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("package", ["jinja2", "pyarrow", "torchmetrics"])
def test_without_its_packages_the_command_says_what_to_install(small, data, monkeypatch, capsys, package):
    monkeypatch.setitem(sys.modules, package, None)
    assert command("--data", data.folder, "--out", "out") == 2
    assert f"needs {package}" in capsys.readouterr().err


def test_help_shows_the_options(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        main(["evaluate", "curves", "--help"])
    text = capsys.readouterr().out
    for option in (
        "--data",
        "--out",
        "--removals",
        "--segmentations",
        "--orders",
        "--saliency",
        "--limit",
        "--seed",
    ):
        assert option in text


def test_shape_runs_reports_and_goes_on(tmp_path, monkeypatch):
    draw(tmp_path, [(i % 4, (0, 0, 14, 14)) for i in range(8)], ground=GREENISH)
    monkeypatch.setattr("captum_layermask.models.load.load_model", lambda name: mean_colour_model(REDDISH))
    arguments = [
        *("shape", "--data", str(tmp_path / "images"), "--masks", str(tmp_path / "masks")),
        *("--out", str(tmp_path / "out"), "--removals", "layer,grey", "--pairs", "2", "--seed", "3"),
    ]
    runner = CliRunner()
    first = runner.invoke(cli.app, arguments, catch_exceptions=False)
    assert first.exit_code == 0
    assert "Accuracy with object mask and broken mask" in first.stdout
    tables = (tmp_path / "out" / "tables.md").read_bytes()
    again = runner.invoke(cli.app, arguments, catch_exceptions=False)
    assert "all was recorded before" in again.stdout
    assert (tmp_path / "out" / "tables.md").read_bytes() == tables
    with pytest.raises(InputError, match="seed"):
        runner.invoke(cli.app, [*arguments[:-1], "4"], catch_exceptions=False)


def test_lime_has_its_options(tmp_path, monkeypatch):
    draw(tmp_path, [(i % 4, (0, 0, 16, 16)) for i in range(4)], ground=GREENISH)
    monkeypatch.setattr("captum_layermask.models.load.load_model", lambda name: mean_colour_model(PINK))
    arguments = [
        *("lime", "--data", str(tmp_path / "images"), "--masks", str(tmp_path / "masks")),
        *(
            "--out",
            str(tmp_path / "out"),
            "--removals",
            "layer",
            "--segmentations",
            "grid",
            "--n-segments",
            "16",
        ),
        *("--n-samples", "20", "--top", "2,4", "--mosaics", "1", "--batch-size", "8", "--limit", "4"),
    ]
    result = CliRunner().invoke(cli.app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert "top-4 Jaccard similarity ↑, squares" in result.stdout
    about = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (about["facts"]["images"], about["facts"]["mosaics"]) == (4, 1)
    with pytest.raises(InputError, match="no list of numbers"):
        CliRunner().invoke(cli.app, [*arguments, "--top", "2;4"], catch_exceptions=False)
