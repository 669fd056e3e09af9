"""How the numbers in an image stand for colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from captum_layermask.errors import InputError


@dataclass(frozen=True)
class Colors:
    """The scale of the images that reach a forward.

    Args:
        mean: of each channel in the model's preprocessing, for colours in [0, 1]. This is its grey.
        std: of each channel in the model's preprocessing, for colours in [0, 1].
        normalized: True where images were normalised before they reach the forward,
            ``(color - mean) / std``; False where they are colours in [0, 1] and the model normalises inside.

    Raises:
        InputError: lengths differ, a mean is outside [0, 1], or a standard deviation is not positive.

    Example:
        ```python
        colors = Colors(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))  # ImageNet's
        grey = make_forward("grey", model, colors=colors)
        ```
    """

    mean: Sequence[float]
    std: Sequence[float]
    normalized: bool = True

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std):
            raise InputError(
                f"there are {len(self.mean)} means and {len(self.std)} standard deviations; give one of each "
                "for every channel."
            )
        _check_range("a mean", self.mean)
        if not all(s > 0 for s in self.std):
            raise InputError(f"standard deviations must be positive, not {tuple(self.std)}.")

    def values(self, color: Sequence[float]) -> Tensor:
        """What stands for a colour: C×1×1, float32.

        Raises:
            InputError: ``color`` has another number of channels or is outside [0, 1].
        """
        if len(color) != len(self.mean):
            raise InputError(
                f"the colour {tuple(color)} has {len(color)} channels where images have {len(self.mean)}."
            )
        _check_range("a colour", color)
        return self.scaled(torch.tensor(color).view(-1, 1, 1))

    def scaled(self, pixels: Tensor) -> Tensor:
        """Colours in [0, 1], …×C×H×W, on the scale of the images (same shape)."""
        if not self.normalized:
            return pixels
        mean, std = (torch.tensor(s).view(-1, 1, 1) for s in (self.mean, self.std))
        return (pixels - mean) / std


def _check_range(what: str, numbers: Sequence[float]) -> None:
    if not all(0 <= number <= 1 for number in numbers):
        raise InputError(
            f"{what} must be in [0, 1], not {tuple(numbers)}; divide colours of 0 to 255 by 255."
        )
