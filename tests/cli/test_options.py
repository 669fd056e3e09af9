"""Options are checked before anything heavy is imported: one sentence each, and at once."""

import json
import os
import subprocess
import sys

import pytest
from command_line import FEW

from captum_layermask import REMOVALS, names
from captum_layermask.__main__ import main
from captum_layermask.explain.segments import SEGMENTATIONS
from captum_layermask.models.images import example_image

pytestmark = pytest.mark.usefixtures("folder")


HEAVY = {"torch", "numpy", "scipy", "matplotlib", "PIL", "skimage", "captum", "pyarrow", "jinja2"}
EVALUATE = ["evaluate", "curves", "--data", ".", "--out"]
LIGHT = [
    ["--version"],
    ["--help"],
    ["explain", "--help"],
    ["compare", "--help"],
    ["evaluate", "--help"],
    ["evaluate", "curves", "--help"],
]
WRONG = [
    ["explain", "absent.jpg"],
    ["explain", "https://a.org/b.jpg"],
    ["explain", "--weights", "absent.pt"],
    ["explain", "--class-names", "absent.txt"],
    ["explain", "--mean", "0.5,x"],
    ["explain", "--std", ""],
    ["explain", "--interpolation", "cubic"],
    ["explain", "--device", "gpu"],
    ["compare", "--dtype", "int8"],
    ["explain", "cat.jpg", "-o", "cat.jpg"],
    ["explain", "-o", "other.png"],
    ["explain", "-o", "out.pgf"],
    ["explain", "-o", "out.raw"],
    ["explain", "-o", "absent/out.png"],
    ["explain", "--seed", str(2**64)],
    ["explain", "--method", "limee"],
    ["explain", "--method", "occlusion", "--n-samples", "5"],
    ["compare", "--top", "0"],
    ["compare", "--classes", "0"],
    ["compare", "--classes", "1", "--targets", "cat"],
    ["compare", "-o", "other.png"],
    [*EVALUATE, "out", "--threads", "100000"],
    [*EVALUATE, "out", "--seed", str(2**64)],
    [*EVALUATE, "out", "--segmentations", "squares"],
    [*EVALUATE, "out", "--removals", "layer,gray"],
    [*EVALUATE, "out", "--orders", "randon"],
    [*EVALUATE, "out", "--limit", "0"],
    [*EVALUATE, "out", "--saliency", "absent"],
    [*EVALUATE, "other.png"],
    ["evaluate", "curves", "--data", "absent", "--out", "out"],
    ["evaluate", "shape", "--data", ".", "--out", "out", "--masks", "absent"],
    ["evaluate", "lime", "--data", ".", "--out", "out", "--top", "2;4"],
]


def test_help_and_wrong_options_import_nothing_heavy(folder):
    """In one fresh process: of each of these, the exit code, and what has been imported by then."""
    example_image().save("cat.jpg")
    (folder / "other.png").write_text("of another program")
    program = (
        "import json, sys\n"
        "from captum_layermask.__main__ import main\n"
        "for line in json.loads(sys.argv[1]):\n"
        "    try: main(line)\n"
        "    except SystemExit as ended: print('ended', ended.code, *sys.modules)\n"
    )
    command = [sys.executable, "-c", program, json.dumps(LIGHT + WRONG)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    ends = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("ended ")]
    assert [int(code) for code, *_ in ends] == [0] * len(LIGHT) + [2] * len(WRONG)
    for line, (_, *modules) in zip(LIGHT + WRONG, ends, strict=True):
        assert not HEAVY & set(modules), line
    assert done.stderr.count("error: ") == len(done.stderr.splitlines()) == len(WRONG)
    assert sorted(os.listdir()) == ["cat.jpg", "other.png"]


def test_the_names_that_are_known_without_imports_are_all_there_are():
    assert tuple(REMOVALS) == names.REMOVAL_NAMES
    assert tuple(SEGMENTATIONS) == names.SEGMENTATION_NAMES


def test_a_removal_of_ones_own_can_be_named(tiny, monkeypatch, capsys):
    monkeypatch.setitem(REMOVALS, "own", REMOVALS["black"])
    with pytest.raises(SystemExit) as caught:
        main(["compare", *FEW, "--removals", "own,grey"])
    assert not caught.value.code
    assert "compared own, grey" in capsys.readouterr().out


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_what_a_terminal_cannot_show_does_not_end_a_command(folder, encoding):
    done = subprocess.run(
        [sys.executable, "-m", "captum_layermask", "explain", b"caf\xc3\xa9 \xff.jpg"],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert b"there is no file" in done.stderr
    assert b"Traceback" not in done.stderr
