"""What can go wrong, each with one sentence that tells what to do."""

from __future__ import annotations

import copyreg
import difflib
from collections.abc import Collection, Iterable
from typing import Any


class LayerMaskError(Exception):
    """Base of every error that this package raises on purpose."""


class InputError(LayerMaskError, ValueError):
    """An image, a mask or an option that cannot mean anything here."""


class LeftOutError(InputError):
    """An image of many that cannot be used, be it for its own file, its mask or its map."""


class NoRuleError(LayerMaskError, NotImplementedError):
    """The model used an operation that has no masked version."""


class MaskLostError(LayerMaskError, RuntimeError):
    """The model returned a tensor that no longer knows which cells are missing."""


class MisfitError(LayerMaskError, RuntimeError):
    """A rule paired values with the mask of other images, rows or columns."""


class CompileError(LayerMaskError, RuntimeError):
    """``torch.compile`` cannot trace the masked forward of a network; without it the forward runs."""


class TrainingModeError(LayerMaskError, RuntimeError):
    """The model would update or use batch statistics, which masked cells must not enter."""


class InplaceError(LayerMaskError, RuntimeError):
    """An in-place operation would change the mask of another tensor unseen."""


class MissingPackageError(LayerMaskError, ImportError):
    """A package that only this part of the library needs is not installed."""


class StoppedError(LayerMaskError):
    """The user stopped a command; tells what was written and how to go on."""


class UnknownNameError(LayerMaskError, ValueError):
    """A name (of a model, a class, a method …) that is not one of those known."""

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        spelled = {k.lower(): k for k in known}
        near = difflib.get_close_matches(name.lower(), spelled, n=3, cutoff=0.5)
        offer = ", ".join(repr(spelled[n]) for n in near)
        message = f"unknown {kind} {name!r}" + (f"; did you mean {offer}?" if offer else ".")
        super().__init__(f"{message} {hint}".strip())

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as its sentence; a process pool breaks where it cannot make an error anew."""
        return copyreg.__newobj__, (type(self), *self.args), vars(self)  # type: ignore[attr-defined]


def require_known(kind: str, names: str | Iterable[str], known: Collection[str], hint: str = "") -> None:
    """Raise ``UnknownNameError`` for the first name that is not one of those known.

    Args:
        kind: what it names, such as "model".
        names: one name, or several.
        known: all that there are.
        hint: a sentence in the place of the list of those known, where that would be too long.
    """
    for name in [names] if isinstance(names, str) else names:
        if name not in known:
            raise UnknownNameError(kind, name, known, hint or f"Known are {', '.join(known)}.")


def require_positive(what: str, value: int | None) -> None:
    """Raise ``InputError`` for a count below 1; None is none."""
    if value is not None and value < 1:
        raise InputError(f"{what} is {value}; give at least 1.")


def require_seed(seed: int) -> None:
    """Raise ``InputError`` for a seed that torch cannot take."""
    if not -(2**63) <= seed < 2**64:
        raise InputError(f"the seed is {seed}; give a whole number from −2⁶³ to 2⁶⁴ − 1, such as 0.")


class NothingMissingWarning(UserWarning):
    """A forward was called with many images and never saw a missing pixel."""


class VanishedWarning(UserWarning):
    """A sample had visible pixels, but none of them reached the head of the network."""


class FewSamplesWarning(UserWarning):
    """An attribution is fitted to so few samples that its map is one of them rather than of the image."""


class PictureWarning(UserWarning):
    """A picture file holds more than what is seen: transparency, or several frames."""
