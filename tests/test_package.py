"""The package's metadata agree with each other."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import captum_layermask
from captum_layermask.__main__ import main

ROOT = Path(__file__).parent.parent
VERSION = metadata.version("captum-layermask")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PYTHONS = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["project"]["classifiers"]))


def test_the_version_is_the_same_everywhere(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"captum-layermask {VERSION}\n"
    assert f'\nversion = "{VERSION}"\n' in (ROOT / "pyproject.toml").read_text()
    assert f"\nversion: {VERSION}\n" in (ROOT / "CITATION.cff").read_text()
    releases = re.findall(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert VERSION in releases[:2]


def test_the_package_offers_what_its_stub_says():
    stub = (ROOT / "captum_layermask" / "__init__.pyi").read_text()
    promised = re.findall(r"^from \.[\w.]+ import (\w+) as \1$", stub, re.M)
    assert len(promised) == len(stub.splitlines())
    assert sorted(captum_layermask.__all__) == sorted(promised)
    for name in promised:
        assert getattr(captum_layermask, name) is not None
    with pytest.raises(AttributeError):
        captum_layermask.absent  # noqa: B018


def test_the_bounds_are_those_that_passed():
    """Where this fails, run ``.ci/check_bounds lowest``: it writes what it could install and test."""
    project = PROJECT["project"]
    lines = [*PROJECT["build-system"]["requires"], *project["dependencies"]]
    needs = [Requirement(line) for line in sum(project["optional-dependencies"].values(), lines)]
    bounds = {
        canonicalize_name(need.name): [(s.operator, Version(s.version)) for s in need.specifier]
        for need in needs
        if need.name != project["name"]
    }
    assert len(bounds) > 30 and project["requires-python"] == f">={PYTHONS[0]}"
    for python in (PYTHONS[0], PYTHONS[-1]):
        record = (ROOT / ".ci" / "passed" / f"lowest-{python}.txt").read_text()
        passed = dict(line.split("==") for line in record.splitlines() if "==" in line)
        assert re.search(r"^# [1-9]\d* passed(?!.*failed)", record, re.M)
        assert {name: [(">=", Version(passed[name]))] for name in bounds} == bounds, python


def test_documents_name_the_pythons_that_the_package_takes():
    for page in ("README.md", "docs/index.md", "docs/contribute.md"):
        assert f"Python {PYTHONS[0]} to {PYTHONS[-1]}" in (ROOT / page).read_text(), page
