"""What does layer masking cost, as a ratio to the plain model?

    python benchmarks/performance.py [NAME …] [--pairs 15] [--threads 2]

Every round runs the plain model, the layer-masked one and a dense first version of it in turn on one batch,
with masks that are new to all; half of the 16×16 patches of 224×224 pixels are masked, a different half in
each sample. Printed are the medians of the ratios to the plain model, with a 95 % interval (of the median, by
order statistics), of the time of the dense version to ours, and of the peak memory that two forwards add to a
fresh process (Linux). The dense version fills every layer with average pools in the contiguous format; it
shares our memoized masks.

Below the networks, whole calls in the same way, each beside what it replaces: Captum's Lime with a grey
baseline (--samples perturbed images), lime's own explainer with black, the compiled plain model.
"""

import os
import re
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from captum.attr import Lime
from common import elapsed, head, header, lite0, parser, patches
from lime.lime_image import LimeImageExplainer
from scipy.stats import binom
from torch import Tensor, nn

from captum_layermask import MISSING, LayerMaskedForward
from captum_layermask.explain.segments import grid
from captum_layermask.integrations.image_classifier import ImageClassifier
from captum_layermask.integrations.lime import FastLimeImageExplainer
from captum_layermask.masking.boundary import Op
from captum_layermask.masking.mask import Mask
from captum_layermask.masking.windows import Geometry

SIZE = 224


def half(batch: int, generator: torch.Generator) -> Tensor:
    """Half of the 16×16 patches, visible, bool."""
    return patches(batch, SIZE, generator)


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


def dense(op: Op, cells: Tensor, mask: Mask, window: Geometry, rounds: int, linear: bool) -> Tensor:
    """Neighbour padding of all cells at once, by box sums (a ``Boundary``)."""
    known = mask.visible.to(cells.dtype)
    missing = mask.missing.to(cells.dtype)
    cells = cells * (1 - missing)
    for _ in range(0 if mask.full else window.reach):
        counts = F.avg_pool2d(known, 3, 1, 1) * 9
        means = F.avg_pool2d(cells * known, 3, 1, 1) * 9 / counts.clamp(min=1)
        ring = (counts > 0.5) * missing * (1 - known)
        cells, known = cells + ring * means, known + ring
    return op(cells)


Case = tuple[Callable[[], nn.Module], int, Callable[[int, torch.Generator], Tensor], bool, bool, float]

CASES: dict[str, Case] = {
    "resnet50 patches": (torchvision.models.resnet50, 16, half, True, True, 1.10),
    "resnet50 blobs": (torchvision.models.resnet50, 16, blobs, True, True, 1.10),
    "resnet50 as the user made it": (torchvision.models.resnet50, 16, half, False, False, 1.00),
    "efficientnet-lite0": (lite0, 16, half, True, True, 1.30),
    "mobilenet_v2": (torchvision.models.mobilenet_v2, 16, half, True, True, 1.30),
    "vgg16": (torchvision.models.vgg16, 8, half, True, True, 1.15),
    "densenet121": (torchvision.models.densenet121, 8, half, True, True, 1.15),
    "convnext_tiny": (torchvision.models.convnext_tiny, 8, half, True, True, 1.15),
    "vit_b_16": (torchvision.models.vit_b_16, 16, half, False, False, 1.05),
    "resnet50 nothing masked": (torchvision.models.resnet50, 16, everything, True, True, 1.05),
    "resnet50 one segment": (torchvision.models.resnet50, 16, segment, True, True, 1.10),
}


def peak(name: str, masked: bool, threads: int) -> int:
    """By how many KiB two forwards raise the peak memory of a fresh process."""
    torch.set_num_threads(threads)
    make, batch, masks, *_ = CASES[name]
    model = make().eval()
    run = LayerMaskedForward(model) if masked else model
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, 3, SIZE, SIZE, generator=generator).to(memory_format=torch.channels_last)
    options = {"mask": masks(batch, generator)} if masked else {}
    with torch.inference_mode():
        run(x[:1], **{key: value[:1] for key, value in options.items()})
        Path("/proc/self/clear_refs").write_text("5")  # from here on the peak counts
        before = status("VmRSS")
        run(x, **options)
        run(x, **options)
    return status("VmHWM") - before


def status(field: str) -> int:
    """A field of this process's status, KiB (Linux)."""
    return int(re.search(rf"{field}:\s+(\d+)", Path("/proc/self/status").read_text())[1])


def captum_lime(samples: int) -> tuple[Callable[[], object], Callable[[], object]]:
    """Captum's Lime with a grey baseline on the plain ResNet-50, and layer-masked."""
    model = torchvision.models.resnet50().eval()
    x = torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    options = {"feature_mask": grid(x), "target": 0, "n_samples": samples, "perturbations_per_eval": 16}
    plain, masked = Lime(model), Lime(LayerMaskedForward(model))
    return (
        lambda: plain.attribute(x, baselines=0.0, **options),
        lambda: masked.attribute(x, baselines=MISSING, **options),
    )


def lime_package(samples: int) -> tuple[Callable[[], object], Callable[[], object]]:
    """lime's own explainer with black on the plain EfficientNet-Lite0, and the fast one, layer-masked."""
    model = lite0().eval()
    image = np.random.default_rng(0).random((SIZE, SIZE, 3))
    segments = grid(torch.zeros(3, SIZE, SIZE))[0, 0].numpy()

    def explain(explainer: LimeImageExplainer, forward: nn.Module, color: float) -> object:
        options = {"hide_color": color, "num_samples": samples, "batch_size": 16}
        classifier = ImageClassifier(forward)
        return explainer.explain_instance(image, classifier, segmentation_fn=lambda _: segments, **options)

    return (
        lambda: explain(LimeImageExplainer(random_state=0), model, 0),
        lambda: explain(FastLimeImageExplainer(random_state=0), LayerMaskedForward(model), MISSING),
    )


def compiled(samples: int) -> tuple[Callable[[], object], Callable[[], object]]:
    """One batch of 16 through the compiled ResNet-50, and through the compiled layer-masked one."""
    model = torchvision.models.resnet50().eval()
    generator = torch.Generator().manual_seed(0)
    plain, masked = torch.compile(model), torch.compile(LayerMaskedForward(model))
    x = torch.randn(16, 3, SIZE, SIZE, generator=generator)
    return lambda: plain(x), lambda: masked(x, mask=half(16, generator))


CALLS: dict[str, tuple[Callable[..., Any], float]] = {
    "captum Lime, resnet50": (captum_lime, 1.12),
    "lime package, lite0": (lime_package, 1.00),
    "torch.compile, resnet50": (compiled, 1.15),
}


def measure_calls(make: Callable[..., Any], samples: int, pairs: int) -> np.ndarray:
    """Seconds of what is replaced and of ours, rounds × 2."""
    runs = make(samples)
    return np.array([[elapsed(run) for run in runs] for _ in range(pairs + 1)][1:])


def measure(case: Case, pairs: int) -> np.ndarray:
    """Seconds of the plain model, the masked one and the dense version, rounds × 3."""
    make, batch, masks, plain_channels_last, masked_channels_last, _ = case
    generator = torch.Generator().manual_seed(0)
    model = make().eval()
    forward, first = LayerMaskedForward(model), LayerMaskedForward(model, padding=dense)
    seconds = []
    for _ in range(pairs + 1):
        x = torch.randn(batch, 3, SIZE, SIZE, generator=generator)
        visible = masks(batch, generator)
        plain_x = x.to(memory_format=torch.channels_last) if plain_channels_last else x
        masked_x = x.to(memory_format=torch.channels_last) if masked_channels_last else x
        runs = (
            lambda: model(plain_x),  # noqa: B023
            lambda: forward(masked_x, mask=visible),  # noqa: B023
            lambda: first(x, mask=visible),  # noqa: B023
        )
        seconds.append([elapsed(run) for run in runs])
    return np.array(seconds[1:])


@torch.inference_mode()
def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("names", nargs="*", help=f"of {', '.join([*CASES, *CALLS])}; all by default")
    arguments.add_argument("--pairs", type=int, default=15)
    arguments.add_argument("--samples", type=int, default=64, help="perturbed images of an explanation")
    options = arguments.parse_args()
    warnings.simplefilter("ignore")
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"  # of the processes that measure memory: nothing is cached
    torch.set_num_threads(options.threads)
    print(header("float32", f"{options.pairs} pairs") + "\n")
    columns = ["work", "batch", "plain, s", "ratio", "95 % interval", "bar", "dense / ours", "memory"]
    print(head(columns))
    for name in options.names or [*CASES, *CALLS]:
        if name in CALLS:
            make, bar = CALLS[name]
            seconds = measure_calls(make, options.samples, options.pairs)
            print(row(name, "", seconds, bar), "| |", flush=True)
            continue
        seconds = measure(CASES[name], options.pairs)
        speed = np.median(seconds[:, 2] / seconds[:, 1])
        with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
            plain, masked = (
                pool.submit(peak, name, is_masked, options.threads).result() for is_masked in (False, True)
            )
        batch, bar = str(CASES[name][1]), CASES[name][-1]
        print(row(name, batch, seconds, bar), f"{speed:.1f} | {masked / plain:.2f} |", flush=True)


def row(name: str, batch: str, seconds: np.ndarray, bar: float) -> str:
    """The first cells of a line of the table."""
    ratios = np.sort(seconds[:, 1] / seconds[:, 0])
    low = int(binom.ppf(0.025, len(ratios), 0.5))
    interval = f"{ratios[max(low - 1, 0)]:.2f} – {ratios[len(ratios) - max(low, 1)]:.2f}"
    cells = [
        name,
        batch,
        f"{np.median(seconds[:, 0]):.2f}",
        f"{np.median(ratios):.2f}",
        interval,
        f"≤ {bar:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
