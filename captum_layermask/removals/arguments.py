"""What a model is called with: the image, and everything beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from captum_layermask.errors import InputError
from captum_layermask.removals.missing import MISSING

__all__ = ["Call", "taken_apart"]


@dataclass(frozen=True)
class Call:
    """Calls a model with an image in its place among the other arguments.

    Attributes:
        args: the positional arguments.
        kwargs: the keyword arguments.
        place: position or name of the image.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    place: int | str

    def __call__(self, model: nn.Module, image: Tensor) -> Any:
        """What the model returns for this image."""
        if isinstance(self.place, str):
            return model(*self.args, **{**self.kwargs, self.place: image})
        return model(*self.args[: self.place], image, *self.args[self.place + 1 :], **self.kwargs)

    def of_images(self, part: slice, count: int) -> Call:
        """The call for some images: tensors with ``count`` rows, one for each image, are cut."""

        def rows(value: Any) -> Any:
            has_rows = isinstance(value, Tensor) and value.dim() > 0 and len(value) == count
            return value[part] if has_rows else value

        args, kwargs = pytree.tree_map(rows, (self.args, self.kwargs))
        return Call(args, kwargs, self.place)


def taken_apart(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, Call]:
    """Find the image: the first argument of four dimensions, those without a name before those with one.

    Args:
        args: the positional arguments.
        kwargs: the keyword arguments.

    Returns:
        The image, not checked yet (where nothing has four dimensions, the first argument), and the call.

    Raises:
        InputError: there is no argument, or another one than the image holds MISSING.
    """
    named: dict[int | str, Any] = dict([*enumerate(args), *kwargs.items()])
    if not named:
        raise InputError("there is no image; give one, N×C×H×W.")
    of_four = (place for place, value in named.items() if getattr(value, "ndim", None) == 4)
    place = next(of_four, next(iter(named)))
    for other, value in named.items():
        if other != place and any(map(_holds_missing, pytree.tree_leaves(value))):
            raise InputError(
                f"MISSING was found in {_words(other)}, and pixels can be removed from the image alone, "
                f"which is {_words(place)}; give other inputs baselines of their own: baselines=(MISSING, 0)."
            )
    return named[place], Call(tuple(args), dict(kwargs), place)


def _holds_missing(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and bool((value == MISSING).any())


def _words(place: int | str) -> str:
    return f"argument {place!r}" if isinstance(place, str) else f"argument {place + 1}"
