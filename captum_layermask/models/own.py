"""A module of one's own, from a file or an installed package."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from captum_layermask.errors import InputError, UnknownNameError
from captum_layermask.models.loaded import LoadedModel
from captum_layermask.models.parts import Parts

__all__ = ["find_object", "names_own", "own_model"]


def names_own(name: str) -> bool:
    """Whether a text has the form ``FILE.py:NAME`` or ``package.module:NAME``, and there is such a module."""
    source, separator, attribute = name.rpartition(":")
    if not separator or not attribute.replace(".", "_").isidentifier():
        return False
    return source.endswith(".py") or _is_module(source)


def find_object(name: str) -> Any:
    """Import what ``FILE.py:NAME`` or ``package.module:NAME`` names.

    Modules beside the file, or in the current folder, can be imported by it.

    Raises:
        InputError: there is no such file, or it raises; tells the line.
        UnknownNameError: there is nothing of that name in it.
    """
    source, _, attributes = name.rpartition(":")
    found: Any = _in_words(name, lambda: _imported(source))
    for attribute in attributes.split("."):
        if not hasattr(found, attribute):
            public = [known for known in vars(found) if not known.startswith("_")]
            raise UnknownNameError(f"name in {source!r}:", attribute, public)
        found = getattr(found, attribute)
    return found


def own_model(name: str) -> Parts:
    """A network of one's own.

    Args:
        name: ``FILE.py:NAME`` or ``package.module:NAME`` of an ``nn.Module``, a ``LoadedModel``, or a
            callable without arguments (a class, a function) that returns one of them.

    Raises:
        InputError: it is none of them, or raises; tells the line.
        UnknownNameError: there is nothing of that name.
    """
    found = find_object(name)
    if not isinstance(found, (nn.Module, LoadedModel)) and callable(found):
        found = _in_words(name, found)
    if isinstance(found, LoadedModel):
        return Parts(name, found.model.eval(), found.preprocess, found.normalize, found.class_names)
    if not isinstance(found, nn.Module):
        raise InputError(
            f"{name} is of type {type(found).__name__}; give an nn.Module, a LoadedModel, or a function "
            "without arguments that returns one."
        )
    return Parts(name, found.eval())


def _is_module(source: str) -> bool:
    if not all(part.isidentifier() for part in source.split(".")):
        return False
    with _importable(Path.cwd()):
        try:
            return importlib.util.find_spec(source) is not None
        except ModuleNotFoundError:
            return False
        except Exception:  # of the package around it, which is told when it is imported
            return True


def _imported(source: str) -> ModuleType:
    path = Path(source)
    if path.suffix != ".py":
        with _importable(Path.cwd()):
            return importlib.import_module(source)
    if not path.is_file():
        raise InputError(f"there is no file {source!r}; give the path of a Python file.")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None, "the suffix is .py"
    module = importlib.util.module_from_spec(spec)
    with _importable(path.parent.absolute()):
        sys.modules.setdefault(path.stem, module)  # dataclasses and pickle look their module up
        spec.loader.exec_module(module)
    return module


def _in_words(name: str, call: Callable[[], Any]) -> Any:
    """What a call returns; whatever it raises is one sentence, with the line where it was raised."""
    source = name.rpartition(":")[0]
    folder = Path(source).parent.absolute() if source.endswith(".py") else Path.cwd()
    try:
        with _importable(folder):
            return call()
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        place = next((f for f in reversed(frames) if Path(f.filename).is_relative_to(folder)), frames[-1])
        reason = " ".join(str(error).split())
        raise InputError(
            f"{name} raised {type(error).__name__}{f': {reason}' if reason else ''} "
            f"({Path(place.filename).name}, line {place.lineno}); mend it."
        ) from error


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
