"""The documentation site builds without a warning, its links hold, and it loads nothing from elsewhere."""

import os
import re
import subprocess
import sys
from html import unescape
from pathlib import Path
from urllib.parse import unquote

import pytest

for package in ("mkdocs", "material", "mkdocstrings_handlers.python", "mkdocs_jupyter"):
    pytest.importorskip(package, reason="the site needs captum-layermask[docs]")

ROOT = Path(__file__).parent.parent
LOADS = r'<(?:script|img|iframe|source)\b[^>]*\bsrc="([^"]*)"|<link\b[^>]*\bhref="([^"]*)"[^>]*>'


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Path → HTML of every page of the site, built into an empty folder."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert built.returncode == 0, built.stdout + built.stderr
    assert "WARNING" not in built.stdout + built.stderr
    return {path: path.read_text() for path in sorted(folder.rglob("*.html"))}


def test_every_page_and_tutorial_is_there(pages):
    (start,) = [path for path in pages if path.name == "index.html" and path.parent.name != "api"]
    sources = [*(ROOT / "docs").rglob("*.md"), *(ROOT / "tutorials").glob("*.ipynb"), ROOT / "CHANGELOG.md"]
    for source in sources:
        path = source.relative_to(ROOT / "docs" if source.is_relative_to(ROOT / "docs") else ROOT)
        assert (start.parent / path).with_suffix(".html") in pages


def test_links_lead_to_pages_and_headings_of_the_site(pages):
    names = {path: set(re.findall(r'\b(?:id|name)="([^"]*)"', html)) for path, html in pages.items()}
    broken = []
    for path, html in pages.items():
        if path.name == "404.html":
            continue
        for link in re.findall(r'\b(?:href|src)="([^"]*)"', html):
            target, _, anchor = unquote(unescape(link)).partition("#")
            if re.match(r"(?:https?|data|mailto|javascript):", target):
                continue
            file = (path.parent / target).resolve() if target else path
            if file.is_dir():
                file /= "index.html"
            if not file.exists() or (anchor and file in names and anchor not in names[file]):
                broken.append(f"{path.name}: {link}")
    assert not broken, "\n".join(broken)


def test_nothing_is_loaded_from_elsewhere(pages):
    for path, html in pages.items():
        for found in re.findall(LOADS, html):
            assert not re.match(r"(?:https?:)?//", "".join(found)), f"{path.name} loads {found}"
        assert not re.search(r"@import\s|url\(\s*[\"']?https?:|import\s.*[\"']https?:", html), path.name


def test_the_reference_shows_what_is_public(pages):
    import captum_layermask

    reference = "".join(html for path, html in pages.items() if path.parent.name == "api")
    missing = [name for name in captum_layermask.__all__ if not re.search(rf'id="[\w.]*\b{name}"', reference)]
    assert not missing
