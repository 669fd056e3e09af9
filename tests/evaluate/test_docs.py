"""The documentation of the experiments: its example runs, and its commands have their options."""

import re
import shlex
from pathlib import Path

import typer
from coloured import draw, mean_colour_model

from captum_layermask.cli.app import app

TEXT = (Path(__file__).parents[2] / "docs" / "evaluate.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.M | re.S)


def test_the_example_runs(tmp_path, capsys):
    draw(tmp_path, [(0, (0, 0, 16, 16)), (1, (0, 0, 16, 16))], labelled=False)
    names = {
        "model": mean_colour_model(),
        "images": tmp_path / "images",
        "masks": tmp_path / "masks",
        "out": tmp_path / "out",
    }
    (example,) = blocks("python")
    exec(example, names)
    assert "2 object masks" in capsys.readouterr().out
    (layout,) = blocks("text")
    promised = {line.split()[0].removeprefix("out/") for line in layout.splitlines()}
    for path in promised:
        assert [*(tmp_path / "out").glob(path)], path
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {path.split("/")[0] for path in promised}


def test_the_commands_have_their_options():
    commands = typer.main.get_command(app).commands["evaluate"].commands
    options = {
        name: {option for parameter in command.params for option in parameter.opts}
        for name, command in commands.items()
    }
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    assert len(lines) == 4
    for line in lines:
        words = shlex.split(line)
        name = words[words.index("evaluate") + 1]
        assert {word for word in words[words.index(name) :] if word.startswith("--")} <= options[name]
    everywhere = set.union(*options.values()) | {"--help", "--nproc-per-node"}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", TEXT)) <= everywhere
    shared = set.intersection(*options.values())
    assert {"--model", "--removals", "--seed", "--limit", "--threads", "--data", "--out"} <= shared
