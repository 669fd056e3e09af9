"""A classifier, taken apart where pixels are removed."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import nn

from captum_layermask.errors import InputError
from captum_layermask.models.preprocessing import Square, gradient
from captum_layermask.names import DTYPES
from captum_layermask.removals.colors import Colors
from captum_layermask.removals.mode import Wrapper
from captum_layermask.text import printable

__all__ = ["LoadedModel"]


class _Normalized(Wrapper, nn.Sequential):
    """A normalisation and the network after it, in the mode of the latter."""

    inside = "1"


class _InPrecision(Wrapper):
    """A network of another floating type, for images and logits of float32."""

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self.dtype = model.to(dtype), dtype

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x.to(self.dtype)).float()


@dataclass(frozen=True)
class LoadedModel:
    """A classifier, taken apart where pixels are removed.

    Attributes:
        name: the name that it was loaded by.
        model: the network in eval mode; normalised N×3×H×W → logits N×classes.
        preprocess: geometry only (resize, crop); RGB picture → float 1×3×H×W in [0, 1], on the CPU.
        normalize: per-channel mean and standard deviation; N×3×H×W in [0, 1] → normalised.
        class_names: one name per class.
    """

    name: str
    model: nn.Module
    preprocess: Callable[[Image.Image], torch.Tensor]
    normalize: nn.Module
    class_names: tuple[str, ...]

    @property
    def network(self) -> nn.Module:
        """The model with its normalisation inside: N×3×H×W in [0, 1] → logits N×classes."""
        return _Normalized(self.normalize, self.model)

    @property
    def colors(self) -> Colors:
        """The scale of the images that ``network`` takes."""
        mean, std = (getattr(self.normalize, name).flatten().tolist() for name in ("mean", "std"))
        return Colors(mean, std, normalized=False)

    @property
    def device(self) -> torch.device:
        """Where the network is, and where the images that it is given must be."""
        return next((tensor.device for tensor in self.model.parameters()), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """What the network computes in; images and logits are float32."""
        return next((tensor.dtype for tensor in self.model.parameters()), torch.float32)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> LoadedModel:
        """Move the network, itself and no copy of it, as ``nn.Module.to`` does.

        Args:
            device: where to; None leaves it where it is.
            dtype: float32, bfloat16 or float16, for the network alone: its images, their normalisation and
                its logits are float32. None leaves it as it is.

        Returns:
            The model with the moved network.

        Raises:
            InputError: another type.
        """
        if dtype is not None and str(dtype).removeprefix("torch.") not in DTYPES:
            raise InputError(f"the type is {dtype}; give torch.float32, torch.bfloat16 or torch.float16.")
        model = self.model.to(device)
        if dtype is not None:
            inner = model.model if isinstance(model, _InPrecision) else model
            model = inner.to(dtype) if dtype == torch.float32 else _InPrecision(inner, dtype)
        return replace(self, model=model, normalize=self.normalize.to(device))

    def summary(self) -> str:
        """What was decided, in lines of at most 80 letters: the images that it takes, classes, device."""
        _, _, height, width = self.preprocess(gradient()).shape
        geometry = f": {self.preprocess}" if isinstance(self.preprocess, Square) else ""
        numbers = (" ".join(f"{n:.4g}" for n in sequence) for sequence in (self.colors.mean, self.colors.std))
        names = textwrap.shorten(
            ", ".join(printable(" ".join(name.split())) for name in self.class_names), 62, placeholder=" …"
        )
        rows = {
            "model": printable(self.name),
            "images": f"{height}×{width}{geometry}",
            "colours": "mean {}, standard deviation {}".format(*numbers),
            "classes": f"{len(self.class_names)}: {names}",
            "device": f"{self.device}, {str(self.dtype).removeprefix('torch.')}",
        }
        return "\n".join(f"{name:<7}  {value}" for name, value in rows.items())
