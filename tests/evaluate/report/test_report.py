"""The report: tables that can be compared byte by byte, one page that needs nothing else."""

import base64
import dataclasses
import html.parser
import json
import re

import pytest
import torch
from markdown_it import MarkdownIt
from matplotlib.figure import Figure
from PIL import Image

from captum_layermask.errors import InputError
from captum_layermask.evaluate.report.report import Report, Table, absent, markdown, write_report

TABLE = Table(
    "Accuracy",
    "Training images: <compare> ratios.",
    ("removal", "random", "vanished"),
    (("layer masking", "0.540 [0.521, 0.561]", "0"), ("a|b", "–", "12")),
)


def figure(label="A curve & its band."):
    drawn = Figure(figsize=(2, 1))
    drawn.subplots().plot([0, 1])
    drawn.set_label(label)
    return drawn


def report():
    facts = {"images": 250, "vanished": {"layer": 0, "grey": 2}, "seconds": 1.25, "saliency": None}
    return Report("Missingness <bias>", "Two removals.", (TABLE, TABLE), {"grid-random": figure()}, facts)


def tags(page):
    found = []

    class Reader(html.parser.HTMLParser):
        def handle_starttag(self, tag, attributes):
            found.append((tag, dict(attributes)))

    Reader().feed(page)
    return found


@pytest.fixture
def folder(tmp_path):
    write_report(
        report(), tmp_path / "new" / "out", {"experiment": "curves", "seed": 3, "removals": ["layer"]}
    )
    return tmp_path / "new" / "out"


def test_a_table_becomes_an_aligned_pipe_table():
    assert markdown(TABLE) == (
        "## Accuracy\n\nTraining images: &lt;compare&gt; ratios.\n\n"
        "| removal       |               random | vanished |\n"
        "| ------------- | -------------------: | -------: |\n"
        "| layer masking | 0.540 [0.521, 0.561] |        0 |\n"
        "| a\\|b          |                    – |       12 |\n"
    )


def test_a_table_without_rows_has_its_header():
    assert markdown(Table("t", "c", ("removal", "n"), ())).endswith("| removal | n   |\n| ------- | --- |\n")


def test_a_table_that_could_not_be_made_says_why(tmp_path):
    missing = absent("Lead", "it takes <two> removals")
    assert markdown(missing) == "## Lead\n\nNot here: it takes &lt;two&gt; removals.\n"
    write_report(dataclasses.replace(report(), tables=(missing, TABLE)), tmp_path, {})
    page = (tmp_path / "report.html").read_text()
    assert "Not here: it takes &lt;two&gt; removals." in page
    assert page.count("<table>") == 1


def test_the_page_names_no_accelerator_that_the_run_did_not_use(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda *_: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda *_: torch.device("cuda"))
    write_report(report(), tmp_path, {"device": "cpu"})
    for name in ("report.html", "report.json", "tables.md"):
        assert "cuda" not in re.sub(r"\+cu\w+", "", (tmp_path / name).read_text())


def test_the_folder_holds_what_is_promised_and_no_more(folder):
    written = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert written == {"tables.md", "report.json", "report.html", "figures/grid-random.png"}


def test_the_tables_hold_nothing_that_changes(folder, tmp_path):
    text = (folder / "tables.md").read_text()
    assert text == f"# Missingness &lt;bias&gt;\n\nTwo removals.\n\n{markdown(TABLE)}\n{markdown(TABLE)}"
    write_report(report(), tmp_path / "other", {"seed": 4})
    assert (tmp_path / "other" / "tables.md").read_bytes() == (folder / "tables.md").read_bytes()


def test_the_json_has_facts_settings_versions_and_the_class_of_machine(folder):
    about = json.loads((folder / "report.json").read_text())
    assert about["facts"] == report().facts
    assert about["settings"] == {"experiment": "curves", "seed": 3, "removals": ["layer"]}
    assert {"python", "torch", "torchvision", "captum", "captum-layermask"} <= set(about["versions"])
    assert set(about["machine"]) == {"system", "processor", "cpus"}


def test_the_page_is_whole_in_itself(folder):
    page = (folder / "report.html").read_text()
    found = tags(page)
    assert not {"script", "iframe", "object", "embed"} & {tag for tag, _ in found}
    for tag, attributes in found:
        for name in ("src", "href", "srcset", "poster", "data"):
            assert attributes.get(name, "#").startswith(("#", "data:")), (tag, attributes)
    assert not re.search(r"url\(|@import|@font-face", page)
    (image,) = [attributes for tag, attributes in found if tag == "img"]
    picture = base64.b64decode(image["src"].partition("base64,")[2])
    assert picture == (folder / "figures" / "grid-random.png").read_bytes()


def test_the_page_shows_every_cell_fact_and_setting(folder):
    page = (folder / "report.html").read_text()
    words = re.sub(r"\s+", " ", html.unescape(re.sub(r"<style>.*?</style>|<[^>]+>", "", page, flags=re.S)))
    for text in (
        "Missingness <bias>",
        "Training images: <compare> ratios.",
        "0.540 [0.521, 0.561]",
        "a|b",
        "A curve & its band.",
        "layer: 0; grey: 2",
        "1.25",
        "curves",
    ):
        assert text in words, text
    assert [tag for tag, _ in tags(page)].count("table") == 2


def test_text_is_escaped(folder):
    assert "<bias>" not in (folder / "report.html").read_text()


NASTY = "<script>a|b</script> *x* [y](z) $w$\nend"


def test_no_name_is_markup_anywhere(tmp_path):
    """Not in a title, caption, header, cell, figure, fact or setting; in neither file."""
    drawn = figure(NASTY)
    table = Table(NASTY, NASTY, (NASTY, "n"), ((NASTY, "1"),))
    facts = {NASTY: NASTY, "by": {NASTY: [NASTY]}}
    write_report(Report(NASTY, NASTY, (table,), {"figure": drawn}, facts), tmp_path, {NASTY: NASTY})
    page = (tmp_path / "report.html").read_text()
    assert not {"script", "em", "strong"} & {tag for tag, _ in tags(page)}
    assert page.count("&lt;script&gt;") >= 12
    text = (tmp_path / "tables.md").read_text()
    assert len(text.splitlines()) == len((f"#\n\n\n\n{markdown(TABLE)}").splitlines()) - 1
    shown = MarkdownIt("commonmark").enable("table").render(text)
    found = [tag for tag, _ in tags(shown)]
    assert found == ["h1", "p", "h2", "p", "table", "thead", "tr", "th", "th", "tbody", "tr", "td", "td"]
    assert html.unescape(shown).count(NASTY.replace("\n", " ")) == 6


def test_a_cell_keeps_its_column_aligned():
    lines = markdown(Table("t", "c", ("class", "n"), (("<b>", "1"), ("cat", "12")))).splitlines()
    assert len({len(line) for line in lines[4:]}) == 1


def test_a_figure_holds_its_origin(tmp_path):
    settings = {"model": "small", "seed": 3, "n_samples": 50}
    write_report(report(), tmp_path, settings, "captum-layermask evaluate lime")
    with Image.open(tmp_path / "figures" / "grid-random.png") as picture:
        about = picture.info
    assert about["Command"] == "captum-layermask evaluate lime"
    assert (about["Model"], about["Seed"], about["Samples"]) == ("small", "3", "50")


def test_the_page_suits_phones_darkness_and_paper(folder):
    page = (folder / "report.html").read_text()
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in tags(page)
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page


def test_every_link_within_the_page_has_its_goal(folder):
    found = tags((folder / "report.html").read_text())
    goals = {attributes.get("id") for _, attributes in found}
    links = {attributes["href"] for tag, attributes in found if tag == "a"}
    assert links
    assert links <= {f"#{goal}" for goal in goals}


def test_long_tables_come_after_the_figures(tmp_path):
    long = Table("By class", "Many.", ("class",), (("cat",),) * 21)
    write_report(dataclasses.replace(report(), tables=(long, TABLE)), tmp_path, {})
    page = (tmp_path / "report.html").read_text()
    places = [page.index(f'<section id="{name}"') for name in ("table-2", "figures", "table-1", "settings")]
    assert places == sorted(places)
    text = (tmp_path / "tables.md").read_text()
    assert text.index("## By class") < text.index("## Accuracy")


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write"):
        write_report(report(), tmp_path / "file" / "out", {})
