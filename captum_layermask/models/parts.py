"""What the source of a model tells of it, and what the user adds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import nn

from captum_layermask.errors import InputError
from captum_layermask.models.class_names import numbered_class_names
from captum_layermask.models.loaded import LoadedModel
from captum_layermask.models.preprocessing import Normalize, Square, as_colors, gradient, split_transform
from captum_layermask.removals.colors import Colors

__all__ = ["Added", "Parts"]


@dataclass(frozen=True)
class Added:
    """What the user tells of a model; None is not told.

    Attributes:
        class_names: one name per class.
        size: side of the square that the network takes.
        crop: which part of the resized shorter side that is.
        mean: one number for each channel, for pixels in [0, 1].
        std: one number for each channel, for pixels in [0, 1].
        interpolation: how pictures are resized.
        preprocess: a transform of the user's own, and what errors call it.
    """

    class_names: tuple[str, ...] | None = None
    size: int | None = None
    crop: float | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    interpolation: str | None = None
    preprocess: tuple[Any, str] | None = None


@dataclass(frozen=True)
class Parts:
    """What the source of a model tells of it; None is not told.

    Attributes:
        name: what it was loaded by.
        model: the network in eval mode; normalised N×3×H×W → logits N×classes.
        preprocess: RGB picture → float 1×3×H×W in [0, 1].
        normalize: per-channel mean and standard deviation.
        class_names: one name per class.
        square: the geometry that a size, a crop or an interpolation of the user's change.
    """

    name: str
    model: nn.Module
    preprocess: Callable[[Image.Image], torch.Tensor] | None = None
    normalize: nn.Module | None = None
    class_names: tuple[str, ...] | None = None
    square: Square | None = None

    def completed(self, added: Added) -> LoadedModel:
        """The model, tried on a picture from black to white.

        Raises:
            InputError: something is told by nobody, or does not fit: another number of names than of outputs,
                images that the network does not take, outputs that are no logits.
        """
        preprocess, normalize = self._preprocess(added), self.normalize
        if added.preprocess is not None:
            preprocess, own = split_transform(*added.preprocess)
            normalize = own or normalize
        mean = _numbers("mean", added.mean, normalize)
        std = _numbers("std", added.std, normalize)
        wanted = {"--size (or --preprocess)": preprocess, "--mean": mean, "--std": std}
        if missing := [option for option, value in wanted.items() if value is None]:
            raise InputError(
                f"{self.name} does not tell how it takes its images; give {', '.join(missing)}, "
                "or a LoadedModel that holds them."
            )
        assert preprocess is not None and mean is not None and std is not None  # for mypy
        Colors(mean, std)  # checks them
        if normalize is None or added.mean is not None or added.std is not None:
            normalize = Normalize(mean, std)
        loaded = LoadedModel(self.name, self.model, preprocess, normalize, ())
        return self._named(loaded, added.class_names)

    def _preprocess(self, added: Added) -> Callable[[Image.Image], torch.Tensor] | None:
        if added.size is None and added.crop is None and added.interpolation is None:
            return self.preprocess
        if added.preprocess is not None:
            raise InputError(
                "a transform of one's own takes no size, crop or interpolation; leave these out."
            )
        if self.square is not None:
            return self.square.changed(added.size, added.crop, added.interpolation)
        if added.size is None:
            raise InputError(f"{self.name} does not tell the size of its images; give --size too.")
        return Square(added.size).changed(None, added.crop, added.interpolation)

    def _named(self, loaded: LoadedModel, class_names: tuple[str, ...] | None) -> LoadedModel:
        count = _count_outputs(loaded)
        names = self.class_names if class_names is None else class_names
        names = numbered_class_names(count) if names is None else names
        if len(names) != count:
            raise InputError(
                f"there are {len(names)} class names for a network of {count} classes; give one for each."
            )
        return LoadedModel(loaded.name, loaded.model, loaded.preprocess, loaded.normalize, names)


def _numbers(what: str, given: Sequence[float] | None, normalize: nn.Module | None) -> list[float] | None:
    """The mean or the standard deviation: as given, else as the normalisation holds it."""
    if given is not None:
        return as_colors(f"--{what}", given)
    held: torch.Tensor | None = getattr(normalize, what, None)
    return None if held is None else held.flatten().tolist()


@torch.no_grad()
def _count_outputs(loaded: LoadedModel) -> int:
    """How many classes the network has, by what it returns for a picture from black to white."""
    pixels = loaded.preprocess(gradient()).to(loaded.device)
    size = "×".join(map(str, pixels.shape[2:]))
    try:
        logits = loaded.network(pixels)
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{loaded.name} does not take an image of {size} pixels ({reason:.160}); give another size, or "
            "mend the network."
        ) from error
    if not isinstance(logits, torch.Tensor) or logits.dim() != 2 or not logits.shape[1]:
        found = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise InputError(
            f"{loaded.name} returns {found} where logits 1×classes are needed; give a classifier."
        )
    return logits.shape[1]
