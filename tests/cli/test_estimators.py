"""The commands with methods that know their errors: goals, what is told, and runs that go on from a file."""

import signal
from pathlib import Path

import numpy as np
import pytest
from command_line import fails, tiny_model
from PIL import Image

from captum_layermask.__main__ import main
from captum_layermask.explain.explanation import Explanation
from captum_layermask.models.images import example_image

GRID = ["--segmentation", "grid", "--n-segments", "9", "--removal", "grey"]
SHAPLEY = [*GRID, "--method", "shapley"]

pytestmark = pytest.mark.usefixtures("folder", "tiny")


def explains(capsys, *args, command="explain"):
    with pytest.raises(SystemExit) as caught:
        main([command, *args])
    printed = capsys.readouterr()
    assert not caught.value.code, printed.err
    return printed


@pytest.mark.parametrize(
    ("goal", "told"),
    [
        (["--budget", "64"], "the budget is spent; about "),
        (["--tolerance", "0.3"], "the tolerance is reached"),
        (["--top-k", "1"], "the strongest are told apart"),
        (["--budget", "512"], "nothing is left to chance"),
    ],
)
def test_what_ended_a_run_is_told(capsys, goal, told):
    lines = explains(capsys, *SHAPLEY, *goal).out.splitlines()
    (line,) = [line for line in lines if " evaluations, largest standard error " in line]
    assert f": {told}" in line
    if "--budget" in goal:
        assert line.startswith(f"{goal[1]} evaluations")


def test_compare_tells_errors_and_differences(capsys):
    args = ["--segmentation", "grid", "--n-segments", "9", "--method", "shapley", "--budget", "64"]
    printed = explains(capsys, *args, "--removals", "grey,black", command="compare").out
    assert "differs from grey" in printed
    assert "64 evaluations, largest standard error " in printed
    assert Path("comparison.png").exists()


@pytest.mark.parametrize("command", ["explain", "compare"])
@pytest.mark.parametrize(
    ("args", "what"),
    [
        (["--method", "lime", "--budget", "100"], "lime does not know its errors, and takes no budget"),
        (["--method", "shapley", "--n-samples", "9"], "shapley takes no number of samples"),
        (["--method", "rise", "--top-k", "2"], "leave out top_k"),
        (["--method", "shapley", "--tolerance", "2"], "the tolerance is 2.0; give a share"),
        (["--method", "shapley", "--budget", "0"], "--budget is 0"),
        (["--method", "shapley", "--top-k", "0"], "--top-k is 0"),
    ],
)
def test_options_that_make_no_sense_are_one_sentence(capsys, command, args, what):
    assert what in fails(capsys, command, *args)


def test_a_saved_run_goes_on_and_ends_as_one_that_was_not_stopped(capsys):
    explains(capsys, *SHAPLEY, "--budget", "200", "--save", "straight.npz")
    explains(capsys, *SHAPLEY, "--budget", "64", "--save", "run.npz")
    printed = explains(capsys, *SHAPLEY, "--budget", "200", "--save", "run.npz")
    assert "going on after 64 evaluations" in printed.err
    assert "saved run.npz" in printed.out
    straight, resumed = (Explanation.load(name) for name in ("straight.npz", "run.npz"))
    assert resumed.evaluations == 200
    assert np.array_equal(resumed.estimate.values, straight.estimate.values)
    assert np.array_equal(resumed.estimate.standard_errors, straight.estimate.standard_errors)


def killed_after(monkeypatch, evaluations, error):
    save = Explanation.save

    def saved(self, path):
        save(self, path)
        if self.evaluations == evaluations:
            monkeypatch.setattr(Explanation, "save", save)
            error()

    monkeypatch.setattr(Explanation, "save", saved)


def test_a_killed_run_loses_nothing(capsys, monkeypatch):
    explains(capsys, *SHAPLEY, "--budget", "200", "--save", "straight.npz")

    def kill():
        raise SystemExit(9)

    killed_after(monkeypatch, 96, kill)
    with pytest.raises(SystemExit) as caught:
        main(["explain", *SHAPLEY, "--budget", "200", "--save", "run.npz"])
    assert caught.value.code == 9
    printed = explains(capsys, *SHAPLEY, "--budget", "200", "--save", "run.npz")
    assert "going on after 96 evaluations" in printed.err
    straight, resumed = (Explanation.load(name).estimate for name in ("straight.npz", "run.npz"))
    assert np.array_equal(resumed.values, straight.values)
    assert np.array_equal(resumed.standard_errors, straight.standard_errors)


def test_ctrl_c_draws_what_is_there_as_unfinished(capsys, monkeypatch):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        killed_after(monkeypatch, 96, lambda: signal.raise_signal(signal.SIGINT))
        printed = explains(capsys, *SHAPLEY, "--budget", "200", "--save", "run.npz").out
    finally:
        signal.signal(signal.SIGINT, before)
    assert "96 evaluations" in printed
    assert ": interrupted" in printed
    assert Path("explanation.png").exists()
    assert Explanation.load("run.npz").ended == "interrupted"


@pytest.mark.parametrize(
    ("args", "what"),
    [
        (["--method", "banzhaf"], "another --method"),
        (["--seed", "1"], "another --seed"),
        (["--batch-size", "8"], "another --batch-size"),
        (["--n-segments", "4"], "another image or other segments"),
        (["--target", "0"], "another --target"),
        (["other.png"], "another image or other segments"),
        (["--removal", "black"], "give the network, the removal and the image"),
    ],
)
def test_a_file_of_another_run_is_kept(capsys, args, what):
    explains(capsys, *SHAPLEY, "--target", "1", "--budget", "32", "--save", "run.npz")
    example_image().transpose(Image.Transpose.FLIP_LEFT_RIGHT).save("other.png")
    before = Path("run.npz").read_bytes()
    with pytest.raises(SystemExit) as caught:
        main(["explain", *SHAPLEY, "--budget", "64", "--save", "run.npz", *args])
    assert caught.value.code == 2
    assert what in capsys.readouterr().err
    assert Path("run.npz").read_bytes() == before


@pytest.mark.parametrize(
    ("save", "method", "what"),
    [
        ("notes.txt", "shapley", "is there and is no saved explanation"),
        ("absent/run.npz", "shapley", "there is no folder 'absent'"),
        (".", "shapley", "is a folder"),
        ("run.npz", "lime", "lime cannot go on from a file; leave out --save"),
    ],
)
def test_a_file_that_cannot_be_saved_to_is_one_sentence(capsys, save, method, what):
    Path("notes.txt").write_text("mine")
    assert what in fails(capsys, "explain", *GRID, "--method", method, "--save", save)
    assert Path("notes.txt").read_text() == "mine"


def test_a_network_of_other_classes_is_refused(capsys, monkeypatch):
    explains(capsys, *SHAPLEY, "--budget", "32", "--save", "run.npz")
    monkeypatch.setattr(
        "captum_layermask.models.load.load_model", lambda _: tiny_model("tiny", ["ant", "bee", "cat", "dog"])
    )
    with pytest.raises(SystemExit) as caught:
        main(["explain", *SHAPLEY, "--budget", "64", "--save", "run.npz"])
    assert caught.value.code == 2
    assert "give the network, the removal and the image" in capsys.readouterr().err
