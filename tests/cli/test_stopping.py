"""Ctrl-C: a word on what is kept and how to go on, and exit code 130."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import FEW, tiny_model
from small_evaluation import class_folders, small_model

from captum_layermask.__main__ import main
from captum_layermask.evaluate.curves.experiment import Curves
from captum_layermask.evaluate.records import recorded_units
from captum_layermask.models.images import example_image


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def listens():
    """Jobs in the background begin with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr("captum_layermask.models.load.load_model", tiny_model)


@pytest.mark.parametrize(
    "step",
    [
        "cli.scene.read_image",
        "models.load.load_model",
        "explain.explanation.predict",
        "cli.scene.save_figure",
    ],
)
def test_ctrl_c_is_a_word_and_exit_code_130(tiny, capsys, monkeypatch, step):
    def interrupted(*_, **__):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(f"captum_layermask.{step}", interrupted)
    example_image().save("cat.jpg")
    with pytest.raises(SystemExit) as caught:
        main(["explain", "cat.jpg", *FEW])
    assert caught.value.code == 130
    assert capsys.readouterr().err.splitlines()[-1].startswith("stopped: nothing was written; give the same")
    assert os.listdir() == ["cat.jpg"]


@pytest.mark.parametrize("module", ["typer", "captum_layermask.names", "torch", "captum.attr"])
def test_ctrl_c_while_modules_are_imported_is_a_word_and_exit_code_130(module):
    program = (
        "import signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from captum_layermask.__main__ import main\n"
        "class Key:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == sys.argv[1]: signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, Key())\n"
        "main(['explain'])\n"
    )
    command = [sys.executable, "-c", program, module]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert abs(done.returncode) in (130, signal.SIGINT)  # in exec(), Python notes that a key was pressed
    assert re.fullmatch(r"\nstopped.*\.\n", done.stderr)
    assert os.listdir() == []


def test_ctrl_c_in_an_experiment_keeps_what_was_recorded(capsys, monkeypatch, folder):
    images = class_folders(folder / "images")
    monkeypatch.setattr("captum_layermask.models.load.load_model", lambda name: small_model())
    few = ["--segmentations", "grid", "--n-segments", "9", "--fractions", "3", "--orders", "random"]
    line = ["evaluate", "curves", "--data", str(images), "--out", "out", "--removals", "grey", *few]
    work, calls = Curves.work, iter(range(100))

    def interrupted(self, opened, unit):
        if next(calls) == 2:
            signal.raise_signal(signal.SIGINT)
        return work(self, opened, unit)

    monkeypatch.setattr(Curves, "work", interrupted)
    with pytest.raises(SystemExit) as caught:
        main(line)
    assert caught.value.code == 130
    told = capsys.readouterr().err.splitlines()[-1]
    assert (
        told
        == "stopped: what was recorded is kept in 'out'; give the same command again to go on from there."
    )
    assert len(recorded_units(Path("out"))) == 2
    with pytest.raises(SystemExit) as caught:
        main(line)
    assert not caught.value.code
    assert "4 units of work took" in capsys.readouterr().out
