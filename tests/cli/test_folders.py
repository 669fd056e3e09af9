"""``explain FOLDER`` and ``compare FOLDER``: each picture, the numbers behind it, and an index of all."""

import json
import os
import re
import signal
import subprocess
import sys
from html import unescape
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from command_line import fails, tiny_model
from PIL import Image
from small_evaluation import save_pictures

import captum_layermask
from captum_layermask.__main__ import main
from captum_layermask.explain.explanation import explain
from captum_layermask.removals.registry import make_forward

SCRIPT = Path(__file__).parents[1] / "helpers" / "small_evaluation.py"
ENVIRONMENT = os.environ | {
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": str(Path(captum_layermask.__file__).parents[1]),
}
FEW = ["--segmentation", "grid", "--n-segments", "9", "--n-samples", "18"]
#: The same by an estimator that knows its error.
ESTIMATED = ["--segmentation", "grid", "--n-segments", "9", "--method", "shapley", "--budget", "64"]
NAMES = ["b/ä & 1.png", "a.png", "c%2F#?.png"]


@pytest.fixture
def pictures(folder):
    """Three pictures, one file that is none, and one that is no image's."""
    save_pictures(folder / "in", NAMES)
    (folder / "in" / "broken.jpg").write_bytes(b"no picture")
    (folder / "in" / "notes.txt").write_text("not an image's")
    return folder / "in"


def succeeds(capsys, *args):
    with pytest.raises(SystemExit) as caught:
        main([str(arg) for arg in args])
    printed = capsys.readouterr()
    assert not caught.value.code, printed.err
    return printed


def files(out):
    """Everything below a folder, hidden or not: name → bytes."""
    found = (path for path in out.rglob("*") if path.is_file())
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in found}


def test_each_picture_is_explained_and_listed(tiny, capsys, pictures, folder):
    printed = succeeds(capsys, "explain", "in", *FEW, "-o", "out", "--removal", "grey")
    assert "LIME with grey: efficientnet-lite0: 3 images; the page is out/index.html" in printed.out
    assert "left out 1 of 4, which left_out.parquet lists, first broken.jpg: cannot read" in printed.err
    index = json.loads((folder / "out" / "index.json").read_text())
    assert [entry["image"] for entry in index["images"]] == sorted(NAMES)
    assert [row["image"] for row in index["left_out"]] == ["broken.jpg"]
    assert index["settings"]["removals"] == ["grey"]
    for entry in index["images"]:
        with Image.open(folder / "out" / entry["picture"]) as picture:
            assert picture.width > 500
        assert entry["prediction"] == entry["explained"] == entry["top5"][0][0]
        with np.load(folder / "out" / entry["numbers"]) as numbers:
            assert numbers["attributions"].shape == (1, 1, 32, 32)
            assert json.loads(str(numbers["about"]))["target"] == entry["target"]


def test_the_numbers_are_those_of_explain(tiny, capsys, pictures, folder):
    succeeds(capsys, "explain", "in", *FEW, "-o", "out", "--target", "bee", "--batch-size", "5")
    loaded = tiny_model("x")
    with np.load(folder / "out" / "numbers" / "a.png.npz") as numbers:
        pixels = loaded.preprocess(Image.open(pictures / "a.png").convert("RGB"))
        torch.testing.assert_close(torch.from_numpy(numbers["pixels"]), pixels)
        segments = torch.from_numpy(numbers["segments"]).long()
        made = explain(
            make_forward("layer", loaded.network, colors=loaded.colors),
            pixels,
            segments,
            class_names=loaded.class_names,
            target="bee",
            n_samples=18,
            perturbations_per_eval=5,
        )
        torch.testing.assert_close(torch.from_numpy(numbers["attributions"]), made.attributions)


def test_the_page_needs_nothing_but_the_files_beside_it(tiny, capsys, pictures, folder):
    succeeds(capsys, "explain", "in", *FEW, "-o", "out")
    page = (folder / "out" / "index.html").read_text()
    assert not re.search(r"(?:src|href)=[\"'](?!data:)(?:\w+:)?//", page)
    links = set(re.findall(r'<a href="([^"]*)"', page))
    reached = {unquote(unescape(link)) for link in links}
    assert reached == {f"pictures/{name}.png" for name in NAMES} | {f"numbers/{name}.npz" for name in NAMES}
    assert all((folder / "out" / path).is_file() for path in reached)
    assert page.count('src="data:image/jpeg;base64,') == 3
    assert page.count('<button type="button">') == 5
    assert "broken.jpg" in page and "prefers-color-scheme: dark" in page


def test_compare_explains_each_picture_under_several_removals(tiny, capsys, pictures, folder):
    printed = succeeds(capsys, "compare", "in", *FEW, "--removals", "layer,grey", "--targets", "ant,bee")
    assert "the page is comparisons/index.html" in printed.out
    index = json.loads((folder / "comparisons" / "index.json").read_text())
    for entry in index["images"]:
        assert entry["explained"] == ["ant", "bee"]
        assert [(row["class"], row["removal"]) for row in entry["rows"]] == [
            (name, removal) for name in ("ant", "bee") for removal in ("layer", "grey")
        ]
        with np.load(folder / "comparisons" / entry["numbers"]) as numbers:
            assert numbers["attributions"].shape == (4, 1, 32, 32)
    assert "drop, grey" in (folder / "comparisons" / "index.html").read_text()


def test_a_second_start_does_nothing_twice_and_other_settings_need_overwrite(
    tiny, capsys, pictures, folder, monkeypatch
):
    line = ["explain", "in", *FEW, "-o", "out"]
    succeeds(capsys, *line)
    before = files(folder / "out")
    with monkeypatch.context() as patched:
        patched.setattr("captum_layermask.evaluate.gallery.explanations.explain", None)
        succeeds(capsys, *line)
    assert files(folder / "out") == before
    assert "n_samples = 18, and this one has 19" in fails(capsys, *line, "--n-samples", "19")
    assert files(folder / "out") == before
    succeeds(capsys, *line, "--n-samples", "19", "--overwrite")
    changed = files(folder / "out")
    assert changed != before
    succeeds(capsys, *line, "--overwrite")
    assert files(folder / "out") == before


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
@pytest.mark.parametrize("theirs", ["thesis.tex", "settings.json", "records/a.parquet"])
def test_a_folder_that_holds_other_things_is_left_alone(tiny, capsys, pictures, folder, overwrite, theirs):
    (folder / "out" / theirs).parent.mkdir(parents=True)
    (folder / "out" / theirs).write_text('{"experiment": "curves"}')
    assert "holds other things" in fails(capsys, "explain", "in", *FEW, "-o", "out", *overwrite)
    assert list(files(folder / "out")) == [theirs]


@pytest.mark.parametrize(
    ("args", "what"),
    [
        (["empty"], "there are no images in 'empty'; give a folder with .jpg"),
        (["in", "-o", "in/out"], "lies in 'in', which is read; give a folder outside it"),
        (["in", "-o", "in/a.png"], "is no folder; give another folder to write to"),
        (["in", "-o", "out", "--target", "wasp"], "unknown class 'wasp'"),
        (["in", "-o", "out", "--method", "occlusion", "--n-samples", "5"], "draws no samples"),
    ],
)
def test_bad_input_is_one_sentence(tiny, capsys, pictures, folder, args, what):
    (folder / "empty").mkdir()
    assert what in fails(capsys, "explain", *args)


def test_a_folder_of_unreadable_pictures_is_one_sentence(tiny, capsys, pictures):
    for name in NAMES:
        (pictures / name).unlink()
    with pytest.raises(SystemExit) as caught:
        main(["explain", "in", *FEW, "-o", "out"])
    assert caught.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: not one image was left; broken.jpg, the first: cannot read")


def test_few_samples_are_warned_of_once(tiny, capsys, pictures):
    printed = succeeds(capsys, "explain", "in", *FEW, "--n-samples", "12", "-o", "out")
    assert printed.err.count("warning: 12 samples for 9 segments") == 1
    printed = succeeds(capsys, "explain", "in", "--n-samples", "12", "-o", "other")
    assert printed.err.count("warning: 12 samples for 64 segments") == 1


def test_overwrite_replaces_a_file_that_is_no_figure_but_never_the_picture(tiny, capsys, pictures, folder):
    (folder / "mine.png").write_bytes(b"mine")
    line = ["explain", "in/a.png", *FEW, "-o"]
    assert "give another name for the figure, or --overwrite" in fails(capsys, *line, "mine.png")
    assert "is the picture to explain" in fails(capsys, *line, "in/a.png", "--overwrite")
    assert "replaced mine.png" in succeeds(capsys, *line, "mine.png", "--overwrite").out


def test_a_disk_that_fills_up_is_one_sentence_and_the_next_start_goes_on(
    tiny, capsys, pictures, folder, monkeypatch
):
    line = ["explain", "in", *FEW, "-o"]
    succeeds(capsys, *line, "whole")
    written = iter(range(100))

    def full(descriptor):
        if next(written) >= 5:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("captum_layermask.files.os.fsync", full)
        with pytest.raises(SystemExit) as caught:
            main([*line, "out"])
    assert caught.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.fullmatch(r"error: cannot write .* \(No space left on device\); choose another place\.", error)
    assert not list((folder / "out").rglob(".*.part"))
    succeeds(capsys, *line, "out")
    assert files(folder / "out") == files(folder / "whole")


OPTIONS = ["--segmentation", "grid", "--n-segments", "9", "--n-samples", "6", "--batch-size", "6"]


def start(command, data, out, *launcher, expect=0, **environment):
    done = subprocess.run(
        [sys.executable, *launcher, SCRIPT, command, data, "-o", out, *OPTIONS],
        env=ENVIRONMENT | environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == expect, done.stderr


@pytest.fixture(scope="module")
def in_one_go(tmp_path_factory):
    """Pictures, and a run by one process that nothing disturbed."""
    place = tmp_path_factory.mktemp("gallery")
    save_pictures(place / "data", ["a.png", "b/c.png", "d.png"])
    (place / "data" / "e.png").write_bytes(b"broken")
    start("explain", place / "data", place / "out")
    return place


def test_a_run_that_is_killed_again_and_again_ends_with_the_same_files(in_one_go, tmp_path):
    for rename in ("1", "3", "5", "8"):  # settings; a picture; numbers; records made one
        start("explain", in_one_go / "data", tmp_path, expect=-signal.SIGKILL, KILL_AT=rename)
    start("explain", in_one_go / "data", tmp_path)
    assert files(tmp_path) == files(in_one_go / "out")


def test_two_processes_end_with_the_same_files_as_one(in_one_go, tmp_path):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    start("explain", in_one_go / "data", tmp_path, *launcher)
    assert files(tmp_path) == files(in_one_go / "out")


def test_an_estimate_that_ctrl_c_ended_is_not_the_images(tiny, capsys, pictures, folder, monkeypatch):
    """An estimator returns what is there; recorded, it would never be finished."""
    from captum_layermask.evaluate.gallery import explanations

    line = ["explain", "in", *ESTIMATED, "-o"]
    succeeds(capsys, *line, "in-one-go")
    real, images = explanations.explain, iter(range(10))

    def interrupted(forward, *args, **options):
        calls = iter(range(1000))

        def stopping(x, mask=None):
            if next(calls) == 3:
                raise KeyboardInterrupt
            return forward(x, mask=mask)

        return real(stopping if next(images) == 1 else forward, *args, **options)

    monkeypatch.setattr(explanations, "explain", interrupted)
    with pytest.raises(SystemExit) as caught:
        main([*line, "out"])
    assert caught.value.code == 130
    assert len(list((folder / "out" / "pictures").iterdir())) == 1
    monkeypatch.setattr(explanations, "explain", real)
    succeeds(capsys, *line, "out")
    assert files(folder / "out") == files(folder / "in-one-go")


def test_ctrl_c_keeps_what_was_done(tiny, capsys, pictures, folder, monkeypatch):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        from captum_layermask.evaluate.gallery import explanations

        real, calls = explanations.explain, iter(range(10))

        def interrupted(*args, **options):
            if next(calls) == 1:
                signal.raise_signal(signal.SIGINT)
            return real(*args, **options)

        monkeypatch.setattr(explanations, "explain", interrupted)
        line = ["explain", "in", *FEW, "-o", "out"]
        with pytest.raises(SystemExit) as caught:
            main(line)
        assert caught.value.code == 130
        assert "what was recorded is kept in 'out'" in capsys.readouterr().err
        assert not (folder / "out" / "index.html").exists()
        succeeds(capsys, *line)
        assert next(calls) == 4  # two of the first start, two of the second
    finally:
        signal.signal(signal.SIGINT, before)
