"""Packages that only some models need."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import TypeVar

from captum_layermask.errors import LayerMaskError

__all__ = ["ModelUnavailableError", "downloaded", "needed"]

_T = TypeVar("_T")


class ModelUnavailableError(LayerMaskError, RuntimeError):
    """A known model whose package or weights cannot be had here."""


def needed(module: str, requirement: str) -> ModuleType:
    """Import a module.

    Raises:
        ModelUnavailableError: its package is not installed; tells what to install.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name not in (module, module.partition(".")[0]):
            raise
        raise ModelUnavailableError(
            f"this model needs the Python package {module.partition('.')[0]}, which is not installed; "
            f"run: pip install {requirement}"
        ) from error


def downloaded(name: str, load: Callable[[], _T]) -> _T:
    """Load what may have to be downloaded.

    Raises:
        ModelUnavailableError: it cannot be had.
    """
    try:
        return load()
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split()).partition(". ")[0] or type(error).__name__
        raise ModelUnavailableError(
            f"cannot get the weights of {name} ({reason}); check the network connection, give the weights as "
            "--weights FILE, or use efficientnet-lite0, whose weights come with its package."
        ) from error
