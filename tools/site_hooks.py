"""Files beside ``docs/`` become part of the site, and links hold both in the repository and on the site.

Pages and notebooks are written for a reader of the repository: ``docs/metrics.md`` links to
``../captum_layermask/…``, and a notebook in ``tutorials/`` to ``../docs/removals.md``. MkDocs knows ``docs/``
alone, so these hooks of ``mkdocs.yml`` add the other files under their own paths, and turn such links into
those of the site.
"""

from __future__ import annotations

import logging
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
BESIDE_DOCS = (
    "tutorials/*.ipynb",
    "CHANGELOG.md",
    "CITATION.cff",
    "captum_layermask/metrics/data/WORDNET-LICENSE.txt",
)

log = logging.getLogger("mkdocs.hooks.site")


def on_config(config: Any) -> Any:
    """Put the notebooks into the navigation."""
    notebooks = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("tutorials/*.ipynb"))
    filled = []
    for entry in config.nav:
        if entry != {"Tutorials": "tutorials"}:
            filled.append(entry)
        elif notebooks:
            filled.append({"Tutorials": notebooks})
    config.nav = filled
    return config


@event_priority(100)  # before mkdocs-jupyter looks for notebooks
def on_files(files: Files, config: Any) -> Files:
    """Add the files that lie beside ``docs/``."""
    for pattern in BESIDE_DOCS:
        for path in sorted(ROOT.glob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            files.append(File(name, str(ROOT), config.site_dir, config.use_directory_urls))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turn links that leave ``docs/`` into links of the site."""
    here = _repository_path(page.file)

    def of_the_site(link: re.Match[str]) -> str:
        source = _site_path(posixpath.normpath(posixpath.join(posixpath.dirname(here), link["path"])))
        target = posixpath.relpath(source, posixpath.dirname(page.file.src_uri) or ".")
        return f"]({target}{link['anchor'] or ''})"

    return re.sub(r"\]\((?P<path>\.\./[^)\s#]+)(?P<anchor>#[^)\s]*)?\)", of_the_site, markdown)


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """Turn a notebook's links into links of the site, and take out what it would load from elsewhere."""
    if not page.file.src_uri.endswith(".ipynb"):
        return html
    html = re.sub(r"<script[^>]*>(?:(?!</script>).)*</script>", _without_network, html, flags=re.DOTALL)

    def of_the_site(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(page.file.src_uri), link["path"]))
        file = files.get_file_from_path(_site_path(path))
        if file is None:
            log.warning("%s links to %s, which is not on the site.", page.file.src_uri, link["path"])
            return link[0]
        return f'{link["attribute"]}="{file.url_relative_to(page.file)}{link["anchor"] or ""}"'

    return re.sub(r'(?P<attribute>href|src)="(?P<path>[^":#?]+)(?P<anchor>#[^"]*)?"', of_the_site, html)


def _without_network(script: re.Match[str]) -> str:
    return "" if re.search(r"https?://", script[0]) else script[0]


def _repository_path(file: Any) -> str:
    return Path(file.abs_src_path).relative_to(ROOT).as_posix()


def _site_path(path: str) -> str:
    return "index.md" if path == "README.md" else path.removeprefix("docs/")
