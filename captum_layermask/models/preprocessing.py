"""How a picture becomes the pixels that a network takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image
from torch import nn
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from captum_layermask.errors import InputError, UnknownNameError
from captum_layermask.models.images import as_rgb
from captum_layermask.names import INTERPOLATIONS

__all__ = [
    "Checked",
    "Normalize",
    "Preprocess",
    "Square",
    "as_colors",
    "gradient",
    "split_transform",
]

_LARGEST = 8192
_IN_8_BITS = 0.51 / 255


class Normalize(nn.Module):
    """``(pixels − mean) / std`` per channel.

    It belongs *inside* the network, ``nn.Sequential(normalize, model)``: a normalisation before a
    layer-masked forward would change the value that marks missing pixels.

    Args:
        mean: one number for each channel, for pixels in [0, 1].
        std: one number for each channel, for pixels in [0, 1].
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))
        self.eval()  # it is the same in both modes

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Map N×C×H×W pixels in [0, 1] to the range that the network was trained on."""
        return (pixels - self.mean) / self.std


class Preprocess:
    """Apply geometric steps to a picture and return its pixels, float 1×3×H×W in [0, 1]."""

    def __init__(self, *steps: Callable[[Any], Any]) -> None:
        self.steps = steps

    def __call__(self, picture: Image.Image) -> torch.Tensor:
        """RGB or any other picture of Pillow's → pixels."""
        result: Any = as_rgb(picture)
        for step in self.steps:
            result = step(result)
        tensor = result if isinstance(result, torch.Tensor) else functional.pil_to_tensor(result)
        return functional.to_dtype(tensor, torch.float32, scale=True)[None]


@dataclass(frozen=True)
class Square:
    """Resize the shorter side of a picture, and cut out the middle.

    Args:
        size: side of the square that the network takes.
        crop: which part of the resized shorter side that is, as timm's ``crop_pct``.
        interpolation: one of ``INTERPOLATIONS``.

    Raises:
        InputError: a size or a crop out of range.
        UnknownNameError: there is no such interpolation.
    """

    size: int
    crop: float = 1.0
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        if not 1 <= self.size <= _LARGEST:
            raise InputError(f"the size is {self.size}; give a number of pixels from 1 to {_LARGEST}.")
        if not 0 < self.crop <= 1 or self.resized > _LARGEST:
            raise InputError(f"the crop is {self.crop}; give the part that is cut out, such as 0.875, or 1.")
        if self.interpolation not in INTERPOLATIONS:
            raise UnknownNameError(
                "interpolation",
                self.interpolation,
                INTERPOLATIONS,
                f"Give one of {', '.join(INTERPOLATIONS)}.",
            )

    @property
    def resized(self) -> int:
        """The shorter side of the resized picture."""
        return round(self.size / self.crop)

    def changed(self, size: int | None, crop: float | None, interpolation: str | None) -> Square:
        """The same with what is not None."""
        given = {"size": size, "crop": crop, "interpolation": interpolation}
        return replace(self, **{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]

    def __call__(self, picture: Image.Image) -> torch.Tensor:
        """RGB or any other picture of Pillow's → pixels, float 1×3×size×size in [0, 1]."""
        resize = v2.Resize(self.resized, v2.InterpolationMode(self.interpolation), antialias=True)
        return Preprocess(resize, v2.CenterCrop(self.size))(picture)

    def __str__(self) -> str:
        return f"shorter side resized to {self.resized} ({self.interpolation}), middle cut out"


class Checked:
    """A transform of the user's own, whose result is checked each time.

    Args:
        transform: RGB picture → C×H×W or 1×C×H×W, floats in [0, 1] or whole numbers of 8 bits, or a picture.
        name: what errors call it.
    """

    def __init__(self, transform: Callable[[Any], Any], name: str) -> None:
        self.transform, self.name = transform, name

    def __call__(self, picture: Image.Image) -> torch.Tensor:
        """RGB or any other picture of Pillow's → pixels, float 1×C×H×W in [0, 1].

        Raises:
            InputError: the transform fails or gives anything else.
        """
        try:
            pixels = self.transform(as_rgb(picture))
        except Exception as error:
            raise InputError(
                f"{self.name} raised {type(error).__name__}: {' '.join(str(error).split())}; "
                "it must take an RGB picture of Pillow's."
            ) from error
        if isinstance(pixels, Image.Image):
            pixels = functional.pil_to_tensor(as_rgb(pixels))
        if not isinstance(pixels, torch.Tensor) or pixels.dim() not in (3, 4) or pixels.dtype == torch.bool:
            found = tuple(pixels.shape) if isinstance(pixels, torch.Tensor) else type(pixels).__name__
            raise InputError(f"{self.name} returned {found}; it must return a tensor C×H×W in [0, 1].")
        pixels = functional.to_dtype(pixels, torch.float32, scale=True)
        pixels = pixels if pixels.dim() == 4 else pixels[None]
        if len(pixels) != 1:
            raise InputError(f"{self.name} returned {len(pixels)} images of one; it must return one.")
        lowest, highest = float(pixels.min()), float(pixels.max())
        if not -_IN_8_BITS <= lowest <= highest <= 1 + _IN_8_BITS:
            raise InputError(
                f"{self.name} returned numbers from {lowest:.3g} to {highest:.3g}; it must return pixels in "
                "[0, 1], so leave out its normalisation and give mean and std."
            )
        return pixels.clamp(0, 1)


def split_transform(transform: Any, name: str) -> tuple[Checked, Normalize | None]:
    """A transform without the normalisation at its end, and that normalisation.

    Args:
        transform: a callable; of a ``Compose`` of torchvision's that ends in ``Normalize`` that is split off.
        name: what errors call it.

    Raises:
        InputError: it cannot be called.
    """
    if not callable(transform):
        raise InputError(f"{name} is of type {type(transform).__name__}; give a callable.")
    steps: Sequence[Any] = getattr(transform, "transforms", ())
    if isinstance(steps, (list, tuple)) and steps and type(steps[-1]).__name__ == "Normalize":
        last = steps[-1]
        try:
            return Checked(v2.Compose(list(steps[:-1])), name), Normalize(last.mean, last.std)
        except (AttributeError, TypeError, ValueError):
            pass
    return Checked(transform, name), None


def as_colors(what: str, numbers: Sequence[float]) -> list[float]:
    """One number for each channel; a single one counts for three.

    Raises:
        InputError: another count than 1 or 3.
    """
    if len(numbers) not in (1, 3):
        raise InputError(f"{what} has {len(numbers)} numbers; give three with commas between them, or one.")
    return [float(n) for n in numbers] * (3 // len(numbers))


def gradient() -> Image.Image:
    """A picture from black to white that is larger than most networks take."""
    return Image.linear_gradient("L").resize((400, 300)).convert("RGB")
