"""The command line, with the real network: a picture, or one sentence and exit code 2."""

import os
import re
import subprocess
import sys
import warnings

import pytest
import torch
from command_line import FEW, fails, tiny_model
from matplotlib.figure import Figure
from PIL import Image
from torch import nn
from typer.testing import CliRunner

from captum_layermask import REMOVALS, Colors, InputError, make_forward
from captum_layermask.__main__ import main
from captum_layermask.cli import app as cli
from captum_layermask.cli import scene
from captum_layermask.cli.model import ModelOptions
from captum_layermask.explain import comparison, explanation
from captum_layermask.models.images import example_image
from captum_layermask.models.loaded import LoadedModel
from captum_layermask.plots import explanation as plots

pytestmark = pytest.mark.usefixtures("folder")


def test_one_command_explains_the_cat(folder):
    done = subprocess.run(
        [sys.executable, "-m", "captum_layermask", "explain", *FEW],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=80,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    table = done.stdout.splitlines()
    assert table[0].split() == ["prediction", "index", "probability"]
    assert {"281", "282", "285"} <= {line.split()[-2] for line in table[1:4]}
    assert len({len(line) for line in table[:6]}) == 1
    assert re.fullmatch(r"stability -?\d\.\d\d: rank correlation of two halves of the samples", table[6])
    assert table[7:] == ["explained 'tiger cat'", "wrote explanation.png"]
    assert "100%" in done.stderr
    assert "Traceback" not in done.stderr
    assert os.listdir(folder) == ["explanation.png"]
    with Image.open(folder / "explanation.png") as picture:
        assert picture.width > 1000


def test_a_picture_of_ones_own_and_every_option(folder, tiny, capsys):
    example_image().save("cat.jpg")
    result = CliRunner().invoke(
        cli.app,
        [
            *("explain", "cat.jpg", "--model", "efficientnet-lite0", "--method", "kernel-shap"),
            *("--segmentation", "slic", "--n-segments", "10", "--n-samples", "30"),
            *("--batch-size", "4", "--target", "bee", "--seed", "3", "-o", "out.pdf"),
        ],
    )
    assert result.exit_code == 0, result.output
    assert "'bee'" in result.output
    assert sorted(os.listdir()) == ["cat.jpg", "out.pdf"]


def test_the_options_reach_the_explanation(tiny, monkeypatch):
    seen = {}
    original = explanation.explain

    def spy(forward, pixels, segments, **options):
        seen.update(options, segments=int(segments.max()) + 1)
        return original(forward, pixels, segments, **options)

    monkeypatch.setattr(explanation, "explain", spy)
    args = ["--n-samples", "6", "--batch-size", "5", "--seed", "7", "--target", "2"]
    CliRunner().invoke(cli.app, ["explain", "--segmentation", "grid", "--n-segments", "16", *args])
    wanted = {"n_samples": 6, "perturbations_per_eval": 5, "seed": 7, "target": 2, "method": "lime"}
    assert seen | wanted == seen
    assert seen["segments"] == 16
    assert seen["show_progress"] is True


@pytest.mark.parametrize("removal", REMOVALS)
def test_explain_removes_pixels_as_it_is_told(tiny, monkeypatch, removal):
    monkeypatch.setattr(plots, "plot_explanation", lambda *args: shown.extend(args) or Figure())
    shown = []
    result = CliRunner().invoke(cli.app, ["explain", *FEW, "--removal", removal, "--seed", "2"])
    cat = scene.load_scene(None, ModelOptions("tiny"), "grid", 9)
    setting = {"colors": cat.colors, "reference": cat.pixels, "segments": cat.segments}
    try:
        forward = make_forward(removal, cat.network, seed=2, **setting)
    except InputError as error:
        assert str(result.exception) == str(error)
        return
    assert result.exit_code == 0, result.output
    expected = explanation.explain(
        forward, cat.pixels, cat.segments, class_names=cat.class_names, n_samples=12, seed=2
    )
    drawn, title = shown
    assert torch.equal(drawn.attributions, expected.attributions)
    assert title.startswith(REMOVALS[removal].title)
    assert ("sees missing pixels" in title) == REMOVALS[removal].leaks


def test_the_colours_of_the_model_are_those_of_its_preprocessing(tiny):
    assert scene.load_scene(None, ModelOptions("tiny"), "grid", 9).colors == Colors(
        [0.5] * 3, [0.5] * 3, normalized=False
    )


def test_one_command_compares(tiny, capsys):
    example_image().save("cat.jpg")
    with pytest.raises(SystemExit) as caught:
        main(["compare", "cat.jpg", *FEW, "--removals", "layer, grey,blur", "--top", "2", "-o", "out.png"])
    assert not caught.value.code
    head, *lines, _, last = capsys.readouterr().out.splitlines()
    assert head.split()[:2] == ["class", "removal"]
    assert "top 2 removed" in head
    assert len(lines) == 2 * 3
    assert [re.split(r"  +", line)[1] for line in lines] == [
        "layer masking",
        "grey",
        "blur (sees missing pixels)",
    ] * 2
    assert last == "wrote out.png"
    assert sorted(os.listdir()) == ["cat.jpg", "out.png"]
    with Image.open("out.png") as picture:
        assert picture.width > 1000


def test_the_options_reach_the_comparison(tiny, monkeypatch):
    seen = {}
    original = comparison.compare

    def spy(model, pixels, segments, **options):
        seen.update(options, segments=int(segments.max()) + 1)
        return original(model, pixels, segments, **options)

    monkeypatch.setattr(comparison, "compare", spy)
    args = ["--n-samples", "6", "--batch-size", "5", "--seed", "7", "--classes", "3", "--top", "4"]
    args += ["--method", "kernel-shap", "--removals", "grey,black"]
    result = CliRunner().invoke(cli.app, ["compare", "--segmentation", "grid", "--n-segments", "16", *args])
    assert result.exit_code == 0, result.output
    assert os.listdir() == ["comparison.png"]
    wanted = {"n_samples": 6, "perturbations_per_eval": 5, "seed": 7, "classes": 3, "top": 4}
    wanted |= {"method": "kernel-shap", "removals": ["grey", "black"], "segments": 16, "show_progress": True}
    assert seen | wanted == seen


@pytest.mark.parametrize(
    ("args", "what"),
    [
        (["absent.jpg"], "there is no file 'absent.jpg'"),
        (["--removals", "layer,gray"], "did you mean 'grey'"),
        (["--removals", ""], "unknown removal ''"),
        (["--method", "limee"], "did you mean 'lime'"),
        (["--classes", "0"], "--classes is 0; give at least 1"),
        (["--classes", "4"], "give one from 1 to 3"),
        (["--classes", "1", "--targets", "bee"], "give one of them"),
        (["--targets", "bee,bie"], "did you mean 'bee'"),
        (["--targets", ""], "unknown class ''"),
        (["--top", "0"], "--top is 0; give at least 1"),
        (["--n-samples", "0"], "--n-samples is 0"),
        (["--output", "out.xyz"], "end the name in"),
    ],
)
def test_a_comparison_that_makes_no_sense_is_one_sentence_and_exit_code_2(capsys, tiny, args, what):
    assert what in fails(capsys, "compare", *args)


@pytest.mark.parametrize("method", ["feature-ablation", "occlusion", "shapley-sampling"])
def test_the_other_methods_run(tiny, method):
    args = ["explain", "--method", method, "--segmentation", "quickshift", "--n-segments", "6"]
    result = CliRunner().invoke(cli.app, args)
    assert result.exit_code == 0, result.output
    assert os.listdir() == ["explanation.png"]


def test_a_warning_is_one_line_without_its_place_in_the_code(tiny, monkeypatch, capsys):
    original = explanation.explain

    def warn(*args, **options):
        warnings.warn("mind the gap", stacklevel=1)
        return original(*args, **options)

    monkeypatch.setattr(explanation, "explain", warn)
    with pytest.raises(SystemExit) as caught:
        main(["explain", *FEW])
    assert not caught.value.code
    assert "warning: mind the gap" in capsys.readouterr().err.splitlines()


def test_what_is_not_seen_of_a_picture_is_said_in_one_line(tiny, capsys):
    Image.new("RGBA", (32, 32)).save("clear.png")
    with pytest.raises(SystemExit) as caught:
        main(["explain", "clear.png", *FEW])
    assert not caught.value.code
    first, *others = capsys.readouterr().err.splitlines()
    assert first == "warning: 'clear.png' has transparent pixels; they are laid on white."
    assert not any("transparent" in other for other in others)


@pytest.mark.parametrize(("command", "own"), [("explain", "--target"), ("compare", "--classes")])
def test_help_shows_the_command_and_its_options(command, own):
    runner = CliRunner(env={"COLUMNS": "400", "NO_COLOR": "1", "TERM": "dumb"})
    assert command in runner.invoke(cli.app, ["--help"]).output
    text = runner.invoke(cli.app, [command, "--help"]).output
    for option in ("--model", "--removal", "--method", "--segmentation", "--n-samples", "--output", own):
        assert option in text
    assert ", ".join(REMOVALS) in " ".join(text.split())


@pytest.mark.parametrize(
    ("args", "what"),
    [
        (["absent.jpg"], "there is no file 'absent.jpg'"),
        (["https://a.org/b.jpg"], "is a URL; download the picture"),
        (["text.jpg"], "cannot read 'text.jpg'"),
        (["folder.png"], "there are no images in 'folder.png'"),
        (["--model", "efficientnet-lite9"], "did you mean 'efficientnet-lite"),
        (["--model", "torchvision:resnet51"], "did you mean 'resnet5"),
        (["--method", "limee"], "did you mean 'lime'"),
        (["--removal", "gray"], "did you mean 'grey'"),
        (["--segmentation", "slicc"], "did you mean 'slic'"),
        (["--target", "taby"], "did you mean 'tabby'"),
        (["--target", "1000"], "there is no class 1000"),
        (["--output", "absent/out.png"], "there is no folder 'absent'"),
        (["--output", "out.xyz"], "end the name in"),
        (["--output", "folder.png"], "is a folder"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(capsys, args, what):
    with open("text.jpg", "w") as file:
        file.write("not a picture")
    os.mkdir("folder.png")
    assert what in fails(capsys, "explain", *args)


@pytest.mark.parametrize(
    ("args", "what"),
    [
        (["--n-segments", "0"], "--n-segments is 0"),
        (["--n-samples", "0"], "--n-samples is 0"),
        (["--batch-size", "0"], "--batch-size is 0; give at least 1"),
        (["--seed", str(2**64)], "the seed is 18446744073709551616; give"),
        (["--seed", str(-(2**63) - 1)], "give a whole number from"),
        (["--method", "occlusion", "--n-samples", "5"], "draws no samples"),
        (["--method", "kernel-shap", "--segmentation", "grid", "--n-segments", "1"], "at least 2 segments"),
    ],
)
def test_a_number_that_makes_no_sense_is_one_sentence_and_exit_code_2(capsys, tiny, args, what):
    assert what in fails(capsys, "explain", *args)


def test_a_disk_that_fills_up_leaves_no_file(capsys, tiny, monkeypatch):
    def full_disk(self, file, **_):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full_disk)
    assert "No space left" in fails(capsys, "explain", *FEW)


def test_a_model_with_an_op_without_a_rule_is_one_sentence(capsys, tiny, monkeypatch):
    class Spectrum(nn.Module):
        def forward(self, x):
            return torch.fft.rfft2(x).abs().mean((2, 3))

    load = tiny_model
    monkeypatch.setattr(
        "captum_layermask.models.load.load_model",
        lambda name: LoadedModel(**{**vars(load(name)), "model": Spectrum()}),
    )
    assert "fft" in fails(capsys, "explain", *FEW)


def test_a_wrong_option_is_exit_code_2(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["explain", "--n-samples", "many"])
    assert caught.value.code == 2
    assert "Traceback" not in capsys.readouterr().err
    assert os.listdir() == []


def test_without_typer_the_command_says_what_to_install(capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "captum_layermask.cli.app")
    monkeypatch.setitem(sys.modules, "typer", None)
    assert "pip install 'captum-layermask[demo]'" in fails(capsys, "explain")
