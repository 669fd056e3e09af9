"""Imports run one way, and what is heavy or optional is imported when it is needed."""

import ast
import importlib
import re
import subprocess
import sys
from collections import deque
from pathlib import Path

import captum_layermask

ROOT = Path(captum_layermask.__file__).parent

#: Each layer may import those before it; the folders of one layer stand beside each other.
LAYERS = [
    {"errors", "names", "text"},
    {"files"},
    {"masking"},
    {"rules"},
    {"removals"},
    {"explain", "testing"},
    {"models", "metrics", "integrations"},
    {"plots"},
    {"evaluate"},
    {"cli"},
    {"__main__"},
]
LAYER = {name: number for number, layer in enumerate(LAYERS) for name in layer}


def modules():
    return [(path, ast.parse(path.read_text())) for path in sorted(ROOT.rglob("*.py")) if path.parent != ROOT]


def imported(tree):
    """Absolute names of what a module imports, wherever in it the import stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            # from captum_layermask import X: X may be a module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def place(name):
    """The folder, or the file beside the folders, that a module lies in."""
    return name.split(".")[1]


def test_every_folder_has_its_place():
    names = {path.stem for path in ROOT.glob("*.py")} | {path.parent.name for path in ROOT.glob("*/*.py")}
    assert names - {"__init__"} == set(LAYER)


def test_imports_run_one_way():
    wrong = []
    for path, tree in [*modules(), *((path, ast.parse(path.read_text())) for path in ROOT.glob("*.py"))]:
        here = path.relative_to(ROOT).parts[0].removesuffix(".py")
        for name in imported(tree) if here != "__init__" else ():
            if name.startswith("captum_layermask."):
                there = place(name)
                if there in LAYER and there != here and LAYER[there] >= LAYER[here]:
                    wrong.append(f"{path.relative_to(ROOT)} imports {name}")
                # the package's own face is for users: it would hide where a name comes from
                assert there in LAYER, f"{path.relative_to(ROOT)} imports {name} through the package"
    assert not wrong


def test_no_module_imports_itself_by_way_of_others():
    """At run time; what only annotations need may point back."""
    edges = {}
    for path, tree in modules():
        name = ".".join(["captum_layermask", *path.relative_to(ROOT).with_suffix("").parts])
        at_import = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
        edges[name] = set(imported(ast.Module(at_import, [])))
    edges = {
        a: {b for b in edges if any(found == b or found.startswith(f"{b}.") for found in founds)}
        for a, founds in edges.items()
    }
    for start in edges:
        seen, queue = set(), deque(edges[start])
        while queue:
            if (name := queue.popleft()) not in seen:
                seen.add(name)
                queue.extend(edges.get(name, ()))
        assert start not in seen or start.endswith("__init__"), f"{start} imports itself by way of others"


def test_the_engine_imports_torch_and_nothing_else():
    allowed = {*sys.stdlib_module_names, "torch", "captum_layermask"}
    for path, tree in modules():
        if path.parent.name in ("masking", "rules"):
            assert {name.split(".")[0] for name in imported(tree)} <= allowed, path.name


def loaded(program):
    """Which packages a fresh process has loaded after a program."""
    ended = subprocess.run(
        [sys.executable, "-c", f"{program}; import sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.split(".")[0] for name in ended.stdout.split()}


HEAVY = {"scipy", "matplotlib", "lime", "skimage", "torchvision", "captum", "PIL", "cv2", "timm", "sklearn"}


def test_importing_the_package_is_quick():
    assert not loaded("import captum_layermask") & {*HEAVY, "torch", "numpy"}


def test_layer_masking_needs_torch_alone():
    assert not loaded("from captum_layermask import LayerMaskedForward, MISSING, Colors, rule_for") & HEAVY


def test_removals_need_no_explainer():
    assert not loaded("from captum_layermask import make_forward") & HEAVY


def test_moved_modules_are_where_the_changelog_says():
    text = (ROOT.parent / "CHANGELOG.md").read_text()
    rows = re.findall(r"^\| `(captum_layermask\.[\w.]+)` \| `(captum_layermask\.[\w.]+)` \|", text, re.M)
    assert len(rows) > 50
    for _, new in rows:
        importlib.import_module(new)
