"""Networks with every parameter drawn anew, families of masks, and a check of both."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_layermask import LayerMaskedForward
from captum_layermask.masking.activation import MaskedMap
from captum_layermask.masking.carrier import Carrier
from captum_layermask.masking.trees import instances
from captum_layermask.removals.layer_masking import unwrapped
from captum_layermask.testing import relative, scramble


def redraw(model: nn.Module, seed: int = 0) -> nn.Module:
    """Draw every parameter, gain and buffer anew and away from zero, so that no branch is silent."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if not tensor.is_floating_point():
            continue
        if tensor.dim() > 1:
            fan_in = max(tensor[0].numel(), 1)
            drawn = torch.randn(tensor.shape, generator=generator) * (1.5 / fan_in) ** 0.5
        elif name.endswith(("bias", "mean")):
            drawn = torch.randn(tensor.shape, generator=generator) * 0.3
        else:
            drawn = torch.rand(tensor.shape, generator=generator) + 0.5
        tensor.data.copy_(drawn)
    return model.eval()


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
    """Two convolutions and a head, random but the same every time, with answers that are not all alike."""
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


def sees_nothing(run: object, function: object, rule: str, result: object) -> None:
    """An observer for a wholly masked image: evidence must not come out of nothing (S5)."""
    for carrier in instances(result, Carrier):
        if isinstance(carrier, MaskedMap):
            assert not carrier.mask.visible.any(), f"{rule} made cells visible"


@dataclass(frozen=True)
class Verdict:
    """What one network did under layer masking.

    Attributes:
        identity: relative error of the rows in which nothing is masked (S1).
        depth: relative change when missing cells are scrambled after every operation (S2b).
        pixels: NaN in masked pixels leaves every bit of the output (S2a).
        nothing: an image without a visible pixel gives a finite output and never a visible cell (S5, S10).
        alive: the output does depend on the visible pixels.
    """

    identity: float
    depth: float
    pixels: bool
    nothing: bool
    alive: bool

    def passes(self, tolerance: float) -> bool:
        """Whether every property holds: S1 to 1e-5, S2b to a tolerance that fits the number type."""
        near = self.identity <= 1e-5 and self.depth <= tolerance
        return near and self.pixels and self.nothing and self.alive


def images_and_masks(model: nn.Module, size: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Three images (3 channels) and which of their pixels are visible (N×1×H×W): all of them in the first.

    The images are channels-last in memory, as padded maps are, so that the plain and the masked network run
    the same kernels: some deep networks with random parameters amplify a rounding error to the size of the
    output, plain in one format against plain in the other too. Where the plain network cannot (it flattens
    with ``view``), they are as anybody makes them.
    """
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, 3, size, size, generator=generator).to(dtype)
    block = max(8, size // 8)
    coarse = torch.ones(3, 1, -(-size // block), -(-size // block), dtype=torch.bool)
    coarse[1] = False
    coarse[1, :, 1:4, 2:7] = True
    coarse[1:, :, 2, 3] = False
    visible = coarse.repeat_interleave(block, 2).repeat_interleave(block, 3)[..., :size, :size]
    try:
        same_kernels = x.contiguous(memory_format=torch.channels_last)
        model(same_kernels)
        return same_kernels, visible
    except RuntimeError:
        return x, visible


def tensors(answer: object) -> list[Tensor]:
    """Every tensor in what a model returns."""
    found: list[Tensor] = []
    unwrapped(answer, lambda tensor: found.append(tensor) or tensor)
    return found


def rows(answer: object, part: slice, images: int = 3) -> list[Tensor]:
    """What a model returns for some of its images, where it has a row for each of them."""
    return [tensor[part] for tensor in tensors(answer) if tensor.dim() and len(tensor) == images]


def apart(a: object, b: object) -> float:
    """The largest relative difference between two answers of a model, infinite where they do not match."""
    pairs = list(zip(tensors(a), tensors(b), strict=True))
    if any(one.shape != other.shape for one, other in pairs):
        return float("inf")
    return max((relative(one.double(), other.double()) for one, other in pairs if one.numel()), default=0.0)


def same(a: object, b: object) -> bool:
    """Whether two answers of a model agree in every bit."""
    return all(map(torch.equal, tensors(a), tensors(b)))


def check_model(model: nn.Module, size: int, dtype: torch.dtype = torch.double) -> Verdict:
    """Check one network with every parameter drawn anew, on images of ``size`` × ``size`` pixels."""
    model = redraw(model).to(dtype)
    forward = LayerMaskedForward(model)
    nothing = torch.zeros(size, size)
    whole, last = slice(0, 1), slice(2, 3)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x, visible = images_and_masks(model, size, dtype)
        plain, masked = model(x), forward(x, mask=visible)
        empty = forward._observed(x[:1], (), nothing, sees_nothing)
        return Verdict(
            identity=max(apart(forward(x), plain), apart(rows(masked, whole), rows(plain, whole))),
            depth=apart(forward._observed(x, (), visible, scramble), masked),
            pixels=same(forward(torch.where(visible, x, torch.nan), mask=visible), masked),
            nothing=all(bool(tensor.isfinite().all()) for tensor in tensors(empty)),
            alive=not same(rows(forward(-x, mask=visible), last), rows(masked, last)),
        )
