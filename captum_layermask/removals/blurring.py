"""A Gaussian blur of maps of any size."""

from __future__ import annotations

import math

from torch import Tensor


def gaussian_blur(x: Tensor, sigma: float) -> Tensor:
    """Blur N×C×H×W with a kernel of three standard deviations; edges are reflected.

    Args:
        x: floating point.
        sigma: standard deviation in pixels, positive.
    """
    from torchvision.transforms.v2 import functional  # slow to import

    sizes = [2 * min(math.ceil(3 * sigma), size - 1) + 1 for size in (x.shape[-1], x.shape[-2])]
    return functional.gaussian_blur(x, sizes, [sigma, sigma])
