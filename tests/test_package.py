"""The package's metadata agree with each other."""

import re
from importlib import metadata
from pathlib import Path

import pytest

from captum_layermask.__main__ import main

ROOT = Path(__file__).parent.parent
VERSION = metadata.version("captum-layermask")


def test_the_version_is_the_same_everywhere(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"captum-layermask {VERSION}\n"
    assert f'\nversion = "{VERSION}"\n' in (ROOT / "pyproject.toml").read_text()
    assert f"\nversion: {VERSION}\n" in (ROOT / "CITATION.cff").read_text()
    releases = re.findall(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert VERSION in releases[:2]
