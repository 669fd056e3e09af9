"""Small networks and families of masks; what a check of a network is made of comes with them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_layermask.testing import redraw, relative, scramble, sees_nothing

__all__ = ["SmallVGG", "mask_families", "redraw", "relative", "scramble", "sees_nothing", "small_classifier"]


class SmallVGG(nn.Sequential):
    """Ceil-mode and overlapping pools, an asymmetric frame, dilation, and a head that flattens."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            nn.ZeroPad2d((0, 1, 0, 1)),
            nn.Conv2d(8, 8, 3, stride=2),
            nn.BatchNorm2d(8),
            nn.ReLU6(),
            nn.AvgPool2d(3, 2, padding=1),
            nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=2),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d((3, 2)),
            nn.Dropout(),
            nn.Flatten(),
            nn.Linear(48, 10),
        )


def small_classifier(classes: int) -> nn.Module:
    """Two convolutions and a head, random but the same every time, with predictions that differ."""
    torch.manual_seed(3)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, classes),
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(3)
    return network.eval()


def mask_families(size: int, seed: int = 0) -> dict[str, Tensor]:
    """One visible-pixel mask (size × size, bool) of each kind."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(1, 1, size, size, generator=generator)
    smooth = F.avg_pool2d(F.pad(noise, (6,) * 4, mode="reflect"), 13, 1)[0, 0]
    patches = torch.rand(size // 8, size // 8, generator=generator) > 0.5
    pixel = torch.zeros(size, size, dtype=torch.bool)
    pixel[size - 8, size - 8] = True
    return {
        "patches": patches.repeat_interleave(8, 0).repeat_interleave(8, 1),
        "blobs": smooth > smooth.median(),
        "one pixel": pixel,
        "one pixel that subsampling drops": pixel.roll((-12, -12), (0, 1)),
        "all but one pixel": ~pixel,
        "all": torch.ones_like(pixel),
        "none": torch.zeros_like(pixel),
        "speckle": torch.rand(size, size, generator=generator) > 0.9,
    }
