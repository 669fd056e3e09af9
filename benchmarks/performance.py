"""What does layer masking cost, as a ratio to the plain model?

    python benchmarks/performance.py [NAME …] [--pairs 15] [--threads 2]

Every pair runs the plain model and the layer-masked one in turn on the same batch, with masks that are new to
both; half of the 16×16 patches of 224×224 pixels are masked, a different half in each sample. Printed is the
median of the ratios with a 95 % interval (of the median, by order statistics).
"""

import argparse
import platform
import time
import warnings
from collections.abc import Callable
from datetime import date

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from scipy.stats import binom
from torch import Tensor, nn

from captum_layermask import LayerMaskedForward

SIZE = 224


def patches(batch: int, generator: torch.Generator) -> Tensor:
    """Half of the 16×16 patches, visible, bool."""
    order = torch.rand(batch, 196, generator=generator).argsort(1)
    coarse = (order < 98).view(batch, 1, 14, 14)
    return coarse.repeat_interleave(16, 2).repeat_interleave(16, 3)


def blobs(batch: int, generator: torch.Generator) -> Tensor:
    """Smooth regions that cover half of the area, visible, bool."""
    noise = torch.randn(batch, 1, 7, 7, generator=generator)
    smooth = F.interpolate(noise, SIZE, mode="bicubic")
    return smooth > smooth.flatten(1).median(1).values[:, None, None, None]


def segment(batch: int, generator: torch.Generator) -> Tensor:
    """All but one 32×32 square, visible, bool."""
    visible = torch.ones(batch, 1, SIZE, SIZE, dtype=torch.bool)
    for row in visible:
        top, left = torch.randint(0, SIZE - 32, (2,), generator=generator).tolist()
        row[:, top : top + 32, left : left + 32] = False
    return visible


def everything(batch: int, generator: torch.Generator) -> Tensor:
    """Nothing masked."""
    return torch.ones(batch, 1, SIZE, SIZE, dtype=torch.bool)


def lite0() -> nn.Module:
    """EfficientNet-Lite0 with random weights."""
    from efficientnet_lite_pytorch import EfficientNet

    return EfficientNet.from_name("efficientnet-lite0")


Case = tuple[Callable[[], nn.Module], int, Callable[[int, torch.Generator], Tensor], bool, bool, float]

CASES: dict[str, Case] = {
    "resnet50 patches": (torchvision.models.resnet50, 16, patches, True, True, 1.10),
    "resnet50 blobs": (torchvision.models.resnet50, 16, blobs, True, True, 1.10),
    "resnet50 as the user made it": (torchvision.models.resnet50, 16, patches, False, False, 1.00),
    "efficientnet-lite0": (lite0, 16, patches, True, True, 1.30),
    "mobilenet_v2": (torchvision.models.mobilenet_v2, 16, patches, True, True, 1.30),
    "vgg16": (torchvision.models.vgg16, 8, patches, True, True, 1.15),
    "densenet121": (torchvision.models.densenet121, 8, patches, True, True, 1.15),
    "convnext_tiny": (torchvision.models.convnext_tiny, 8, patches, True, True, 1.15),
    "resnet50 nothing masked": (torchvision.models.resnet50, 16, everything, True, True, 1.05),
    "resnet50 one segment": (torchvision.models.resnet50, 16, segment, True, True, 1.10),
}


def measure(case: Case, pairs: int) -> tuple[np.ndarray, float]:
    """The ratios masked / plain, and the plain model's median seconds."""
    make, batch, masks, plain_channels_last, masked_channels_last, _ = case
    generator = torch.Generator().manual_seed(0)
    model = make().eval()
    forward = LayerMaskedForward(model)
    ratios, seconds = [], []
    for pair in range(-1, pairs):
        x = torch.randn(batch, 3, SIZE, SIZE, generator=generator)
        visible = masks(batch, generator)
        plain_x = x.to(memory_format=torch.channels_last) if plain_channels_last else x
        masked_x = x.to(memory_format=torch.channels_last) if masked_channels_last else x
        times = []
        for run in (lambda: model(plain_x), lambda: forward(masked_x, mask=visible)):  # noqa: B023
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
        if pair >= 0:
            ratios.append(times[1] / times[0])
            seconds.append(times[0])
    return np.sort(ratios), float(np.median(seconds))


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(CASES)}; all by default")
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(options.threads)
    print(f"{date.today()}, torch {torch.__version__}, torchvision {torchvision.__version__}, ", end="")
    print(f"{platform.machine()}, {options.threads} threads, float32, {options.pairs} pairs\n")
    print("| work | batch | plain, s | ratio | 95 % interval | bar |\n| --- | --- | --- | --- | --- | --- |")
    for name in options.names or CASES:
        ratios, seconds = measure(CASES[name], options.pairs)
        low = int(binom.ppf(0.025, len(ratios), 0.5))
        interval = f"{ratios[max(low - 1, 0)]:.2f} – {ratios[len(ratios) - max(low, 1)]:.2f}"
        batch, bar = CASES[name][1], CASES[name][-1]
        row = f"{seconds:.2f} | {np.median(ratios):.2f} | {interval} | ≤ {bar:.2f} |"
        print(f"| {name} | {batch} | {row}", flush=True)


if __name__ == "__main__":
    main()
