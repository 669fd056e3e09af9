"""The code blocks of the documentation run, and do what the text says."""

import re
from pathlib import Path

import pytest
import torch
from support import scramble, sees_nothing

from captum_layermask import REMOVALS, LayerMaskedForward, NoRuleError
from captum_layermask.registry import MODULE_RULES, RULES

DOCS = Path(__file__).parent.parent / "docs"


def blocks(name):
    return re.findall(r"^```python\n(.*?)^```", (DOCS / name).read_text(), re.M | re.S)


@torch.no_grad()
def test_the_examples_of_rules(capsys):
    functions, modules = dict(RULES), dict(MODULE_RULES)
    try:
        names = {}
        for block in blocks("rules.md"):
            exec(block, names)
        table = capsys.readouterr().out
        assert "1×8×12×12" in table
        x, mask = torch.randn(2, 3, 16, 16, dtype=torch.double), torch.ones(16, 16)
        mask[:8] = 0
        forward = LayerMaskedForward(names["model"].double())
        masked = forward(x, mask=mask)
        assert torch.allclose(forward._observed(x, (), mask, scramble), masked, rtol=1e-9)
        forward._observed(x, (), torch.zeros(16, 16), sees_nothing)
        running = LayerMaskedForward(names["nn"].Sequential(Cummax()))
        assert torch.equal(running(x, mask=mask), torch.cummax(x, 1)[0] * mask)
    finally:
        RULES.clear(), RULES.update(functions)
        MODULE_RULES.clear(), MODULE_RULES.update(modules)
    with pytest.raises(NoRuleError):
        LayerMaskedForward(Cummax())(x, mask=mask)


@torch.no_grad()
def test_the_examples_of_removals(capsys):
    torch.manual_seed(0)
    known = dict(REMOVALS)
    try:
        names = {}
        for block in blocks("removals.md"):
            exec(block, names)
        printed = capsys.readouterr().out.splitlines()
    finally:
        REMOVALS.clear(), REMOVALS.update(known)
    assert [line.split()[0] for line in printed[:4]] == ["layer", "grey", "black", "neighbor"]
    assert len({line.split()[1] for line in printed[:4]}) == 4


def test_the_examples_of_metrics_print_what_their_comments_say(capsys):
    names = {}
    for block in blocks("metrics.md"):
        exec(block, names)
    *numbers, mouse, clock, giraffe = capsys.readouterr().out.splitlines()
    assert [float(line.split()[-1]) for line in numbers] == [
        *(0.333, 0.637, 0.667, 0.940, 0.941, 0.550),
        *(0.000, 0.232, 0.333, 0.889),
    ]
    assert f"```text\n{mouse}\n{clock}\n{giraffe}\n```" in (DOCS / "metrics.md").read_text()


def test_the_table_of_removals_is_the_registry():
    rows = re.findall(r"^\| `([^`]+)` \|.*\| (no|\*\*yes\*\*)", (DOCS / "removals.md").read_text(), re.M)
    assert rows == [(name, "**yes**" if way.leaks else "no") for name, way in REMOVALS.items()]


class Cummax(torch.nn.Module):
    def forward(self, x):
        return torch.cummax(x, 1)[0]
