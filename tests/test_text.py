"""Names and paths are shown as what they are: in Markdown, in figures, on a terminal; tables are aligned."""

import html
import html.parser

import markdown
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from captum_layermask.text import in_markdown, markdown_table, printable, shortened, text_table

NASTY = [
    "<script>alert(1)</script>",
    "<b>bold</b> &amp; &lt;",
    "a|b",
    "**bold** _slanted_ __init__ `code` ~~gone~~",
    "[text](http://example.org) ![x](y) [x][y] [x]: y",
    "# title",
    "- item",
    "+ item",
    "* item",
    "1. item",
    "12) item",
    "> quote",
    "---",
    "===",
    "~~~",
    "$x^2$",
    r"back\slash \* \|",
    "two\nlines\n\n# of",
    "    indented",
    "trailing #",
    "ends with a backslash\\",
]
RENDERERS = {
    "CommonMark and GitHub's tables": MarkdownIt("commonmark").enable(["table", "strikethrough"]).render,
    "Python-Markdown": lambda text: markdown.markdown(text, extensions=["tables"]),
}


def parsed(page):
    """Tags, and the text between them with spaces as they are shown."""
    tags, words = [], []

    class Reader(html.parser.HTMLParser):
        def handle_starttag(self, tag, attributes):
            tags.append(tag)

        def handle_data(self, data):
            words.append(data)

    Reader().feed(page)
    return tags, " ".join("".join(words).split())


def as_shown(text):
    return " ".join(printable(" ".join(text.split())).split())


@pytest.mark.parametrize("render", RENDERERS.values(), ids=RENDERERS)
@pytest.mark.parametrize("text", NASTY)
def test_nothing_in_a_name_is_markup(text, render):
    assert parsed(render(in_markdown(text))) == (["p"], as_shown(text))
    assert parsed(render(f"## {in_markdown(text)}")) == (["h2"], as_shown(text))
    tags, words = parsed(render(f"| a | b |\n| --- | --- |\n| {in_markdown(text)} | end |"))
    assert tags == ["table", "thead", "tr", "th", "th", "tbody", "tr", "td", "td"]
    assert words.split() == ["a", "b", *as_shown(text).split(), "end"]


@given(st.text("ab1 .)#-+=*_`~$<>&|[](){}!\\:\n\x01é", min_size=1))
@example("](")
@example("*a*\n=")
def test_commonmark_shows_any_text_as_it_is(text):
    tags, words = parsed(RENDERERS["CommonMark and GitHub's tables"](in_markdown(text)))
    assert (set(tags), words) == ({"p"} if as_shown(text) else set(), as_shown(text))


def test_ordinary_text_is_left_alone():
    plain = "0.540 [0.521, 0.561], “tiger cat” (ImageNet's & R&D) – 100 %, +0.123 efficientnet-lite0: ↑"
    assert in_markdown(plain) == plain
    assert in_markdown("-0.5") == "-0.5"


@pytest.mark.parametrize("text", ["a\nb", "\x1b[31mred", "\udcff", "\u202egnp", "\x00"])
def test_what_cannot_be_printed_is_escaped(text):
    assert printable(text).isprintable()
    assert shortened(text, 30).isprintable()


def test_a_long_name_is_cut_between_words():
    assert shortened("a long  name\nof a class", 10) == "a long …"


def test_a_text_table_has_aligned_columns():
    rows = [("name", "index"), ("cat", "7"), ("golden retriever", "207")]
    assert text_table(rows).splitlines() == [
        "name              index",
        "cat               7",
        "golden retriever  207",
    ]
    assert text_table(rows, "<>").splitlines()[1] == f"{'cat':<16}  {'7':>5}"
    with pytest.raises(ValueError, match="argument 2"):
        text_table(rows, "<")


@pytest.mark.parametrize("render", RENDERERS.values(), ids=RENDERERS)
def test_a_markdown_table_shows_any_text_as_it_is(render):
    header, rows = ("name", "mean"), [(name, "0.5") for name in NASTY]
    table = markdown_table(header, rows, "<>")
    assert len({len(line) for line in table.splitlines()}) == 1
    assert table.splitlines()[1].endswith("---: |")
    tags, words = parsed(render(table))
    assert tags.count("tr") == len(rows) + 1 and tags.count("td") == 2 * len(rows)
    assert words.split() == " ".join(as_shown(cell) for row in (header, *rows) for cell in row).split()
