"""The code blocks of the documentation run, and do what the text promises; its links lead somewhere."""

import ast
import importlib
import inspect
import re
import textwrap
from pathlib import Path

import matplotlib
import pytest
import torch
from coloured import draw, mean_colour_model
from support import scramble, sees_nothing, small_classifier
from torchvision.models import resnet18

from captum_layermask import REMOVALS, LayerMaskedForward, NoRuleError
from captum_layermask.explain.segments import grid
from captum_layermask.masking.registry import MODULE_RULES, RULES
from captum_layermask.models import example_image

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "README.md", *DOCS.rglob("*.md")))
LANGUAGES = {"bash", "bibtex", "diff", "python", "text"}


@pytest.fixture(autouse=True)
def as_before():
    """Rules and removals that a page registers are gone when it ends, and figures are not shown."""
    matplotlib.use("agg")
    registries = [(registry, dict(registry)) for registry in (RULES, MODULE_RULES, REMOVALS)]
    yield
    for registry, content in registries:
        registry.clear(), registry.update(content)


def fences(page):
    """Language and content of every code block of a page, also of those inside lists."""
    text = (ROOT / page).read_text()
    found = re.findall(r"^( *)```(\S*)[^\n]*\n(.*?)^\1```$", text, re.M | re.S)
    assert len(re.findall(r"^ *```", text, re.M)) == 2 * len(found), f"{page} has a block that does not end"
    return [(language, textwrap.dedent(content)) for _, language, content in found]


def blocks(page):
    return [content for language, content in fences(page) if language == "python"]


def run(page, names=()):
    """Run the Python blocks of a page one after the other; returns the names that they leave behind."""
    names = dict(names)
    for block in blocks(page):
        exec(compile(fewer_samples(block), page, "exec"), names)
    return names


def fewer_samples(block):
    """Pages explain with as many samples as a reader wants; to see that a block runs, a tenth will do."""
    return re.sub(r"n_samples=(\d+)00,", lambda count: f"n_samples={count[1]}0,", block)


def a_cnn(tmp_path):
    """What "your model" and "your image" stand for."""
    image = torch.rand(1, 3, 32, 32)
    return {"model": small_classifier(300), "image": image, "segments": grid(image, size=8)}


def a_folder(tmp_path, labelled=False):
    draw(tmp_path, [(0, (0, 0, 16, 16)), (1, (0, 0, 16, 16))], labelled=labelled)
    folders = {name: tmp_path / name for name in ("images", "masks", "out")}
    return {"model": mean_colour_model(), **folders}


def a_fine_tuned_network(tmp_path):
    torch.save(resnet18(num_classes=3).state_dict(), "birds.pt")
    (tmp_path / "birds.txt").write_text("ant\nbee\ncat\n")
    return {"picture": example_image()}


def a_labelled_folder(tmp_path):
    return a_folder(tmp_path, labelled=True)


STAND_INS = {
    "README.md": a_cnn,
    "docs/evaluate.md": a_folder,
    "docs/contribute.md": a_labelled_folder,
    "docs/models.md": a_fine_tuned_network,
}


@pytest.mark.parametrize("section", ["Add a removal", "Add an estimator", "Add an experiment"])
def test_what_is_added_is_short(section):
    """They are executed with the rest of their page."""
    text = (DOCS / "contribute.md").read_text().split(f"## {section}\n")[1].split("\n## ")[0]
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    assert blocks and all(block.count("\n") < 40 for block in blocks)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)])
def test_the_code_of_a_page_runs_and_prints_what_its_comments_say(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    run(page, STAND_INS.get(page, lambda _: {})(tmp_path))
    printed = capsys.readouterr().out
    for expected in re.findall(r"^print\(.*\)  # (True|False|torch\.\S.*)$", "".join(blocks(page)), re.M):
        line, _, printed = printed.partition("\n")
        assert line == expected.partition(":")[0]


def test_the_page_of_models_shows_what_is_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run("docs/models.md", a_fine_tuned_network(tmp_path))
    assert f"```text\n{capsys.readouterr().out}```" in (DOCS / "models.md").read_text()


def test_blocks_are_of_languages_that_are_run_or_need_no_running():
    assert {language for page in PAGES for language, _ in fences(page)} <= LANGUAGES
    for page in PAGES:
        for block in blocks(page):
            ast.parse(block)


FACES = ["explain", "removals", "plots", "integrations"]
OFFERED = {
    f"{folder}.{name}": getattr(module, name)
    for folder in FACES
    for module in [importlib.import_module(f"captum_layermask.{folder}")]
    for name in module.__all__
    if callable(getattr(module, name))
}


@pytest.mark.parametrize("name", OFFERED)
def test_what_is_offered_has_an_example(name):
    (example,) = re.findall(r"```python\n(.*?)```", inspect.getdoc(OFFERED[name]) or "", re.S)
    nodes = ast.walk(ast.parse(textwrap.dedent(example)))
    assert any(isinstance(node, (ast.Call, ast.ClassDef)) for node in nodes)
    assert name.split(".")[1] in example or isinstance(OFFERED[name], type), "it does not show its own use"


@torch.no_grad()
def test_the_examples_of_rules(capsys):
    names = run("docs/rules.md")
    assert "1×8×12×12" in capsys.readouterr().out
    x, mask = torch.randn(2, 3, 16, 16, dtype=torch.double), torch.ones(16, 16)
    mask[:8] = 0
    forward = LayerMaskedForward(names["model"].double())
    masked = forward(x, mask=mask)
    assert torch.allclose(forward._observed(x, (), mask, scramble), masked, rtol=1e-9)
    forward._observed(x, (), torch.zeros(16, 16), sees_nothing)
    running = LayerMaskedForward(names["nn"].Sequential(Cummax()))
    assert torch.equal(running(x, mask=mask), torch.cummax(x, 1)[0] * mask)


def test_without_its_rule_the_example_of_rules_is_refused():
    with pytest.raises(NoRuleError):
        LayerMaskedForward(Cummax())(torch.rand(2, 3, 16, 16), mask=torch.zeros(16, 16))


@torch.no_grad()
def test_the_example_of_a_rule_to_contribute_is_told_apart_from_a_wrong_one(tmp_path):
    names = run("docs/contribute.md", a_labelled_folder(tmp_path))
    pool, rule_for = names["GlobalMedianPool"], names["rule_for"]
    rule_for(pool, replace=True)(lambda module, x: x.pooled(x.raw.flatten(2).nanmedian(2).values))
    with pytest.raises(AssertionError, match=r"FAIL  noise in missing cells"):
        names["test_global_median_pool"]()


def test_the_examples_of_removals(capsys):
    torch.manual_seed(0)
    run("docs/removals.md")
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed[:4]] == ["layer", "grey", "black", "neighbor"]
    assert len({line.split()[1] for line in printed[:4]}) == 4


def test_the_examples_of_metrics_print_what_their_comments_say(capsys):
    run("docs/metrics.md")
    *numbers, mouse, clock, giraffe = capsys.readouterr().out.splitlines()
    assert [float(line.split()[-1]) for line in numbers] == [
        *(0.333, 0.637, 0.667, 0.940, 0.941, 0.550),
        *(0.000, 0.232, 0.333, 0.889),
    ]
    assert f"```text\n{mouse}\n{clock}\n{giraffe}\n```" in (DOCS / "metrics.md").read_text()


def test_the_table_of_removals_is_the_registry():
    rows = re.findall(r"^\| `([^`]+)` \|.*\| (no|\*\*yes\*\*)", (DOCS / "removals.md").read_text(), re.M)
    assert rows == [(name, "**yes**" if removal.leaks else "no") for name, removal in REMOVALS.items()]


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings_of_the_repository(page):
    here = (ROOT / page).parent
    for target, anchor in links(page):
        path = (here / target).resolve() if target else ROOT / page
        assert path.is_relative_to(ROOT) and path.exists(), f"{page} links to {target}"
        assert not anchor or path.suffix != ".md" or anchor in headings(path), f"{page}: {target}#{anchor}"


def links(page):
    text = re.sub(r"^ *```.*?^ *```$|`[^`\n]*`", "", (ROOT / page).read_text(), flags=re.M | re.S)
    found = re.findall(r"\]\(([^)\s#]*)(?:#([^)\s]*))?\)", text)
    return [(target, anchor) for target, anchor in found if not re.match(r"https?:|mailto:", target)]


def headings(path):
    """The anchors that the site and code hosts make of the headings of a page."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.M | re.S)
    titles = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", title.strip().lower())) for title in titles}


class Cummax(torch.nn.Module):
    def forward(self, x):
        return torch.cummax(x, 1)[0]
