"""Benchmarks start, import nothing from the tests, and change none of the modules of the package."""

import ast
import runpy
import sys
from pathlib import Path

import pytest
import torch

TESTS = Path(__file__).parent
BENCHMARKS = TESTS.parent / "benchmarks"
FILES = sorted(BENCHMARKS.glob("*.py"))
STARTED = [path for path in FILES if '__name__ == "__main__"' in path.read_text()]
each = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


@pytest.fixture
def beside(monkeypatch):
    """The folder of benchmarks is where a benchmark's imports are looked up first, as when it is started."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    yield
    for path in FILES:
        sys.modules.pop(path.stem, None)


@pytest.mark.parametrize("path", STARTED, ids=lambda path: path.stem)
def test_a_benchmark_says_how_it_is_called(path, beside, monkeypatch, capsys):
    if path.stem in ("support_matrix", "timm_models"):
        pytest.importorskip("timm", reason="needs timm: pip install 'captum-layermask[timm]'")
    monkeypatch.setattr(sys, "argv", [path.name, "--help"])
    with pytest.raises(SystemExit, match=r"^0$"):
        runpy.run_path(str(path), run_name="__main__")
    assert f"python benchmarks/{path.name}" in capsys.readouterr().out


def test_benchmarks_share_one_maker_of_patch_masks(beside):
    import common

    visible = common.patches(20, 40, torch.Generator().manual_seed(0), fraction=0.3, patch=16)
    assert visible.shape == (20, 1, 40, 40) and visible.dtype == torch.bool
    corners = visible[:, 0, ::16, ::16]  # of 3×3 patches, the last of each row and column 8 pixels long
    assert ((~corners).flatten(1).sum(1) == 3).all() and len(corners.flatten(1).unique(dim=0)) > 10
    assert torch.equal(visible[:, 0], corners.repeat_interleave(16, 1).repeat_interleave(16, 2)[:, :40, :40])


def imports(tree):
    """Names bound by imports, and the modules that they come from."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from ((alias.asname or alias.name, node.module) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.asname or alias.name.split(".")[0], alias.name) for alias in node.names)


@each
def test_a_benchmark_imports_nothing_from_tests(path):
    tree = ast.parse(path.read_text())
    of_tests = {"tests", "conftest", *(p.stem for p in TESTS.rglob("*.py"))} - {p.stem for p in FILES}
    assert not of_tests & {module.split(".")[0] for _, module in imports(tree)}
    strings = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    assert "tests" not in strings, "a path to the tests"


@each
def test_a_benchmark_changes_nothing_that_it_imports_from_the_package(path):
    tree = ast.parse(path.read_text())
    ours = {name for name, module in imports(tree) if module.startswith("captum_layermask")}
    for node in ast.walk(tree):
        targets = getattr(node, "targets", [getattr(node, "target", None)])
        for target in targets if isinstance(node, (ast.Assign, ast.AugAssign, ast.Delete)) else ():
            changed = isinstance(target, (ast.Attribute, ast.Subscript))
            while isinstance(target, (ast.Attribute, ast.Subscript)):
                target = target.value
            assert not (changed and isinstance(target, ast.Name) and target.id in ours), ast.unparse(node)
