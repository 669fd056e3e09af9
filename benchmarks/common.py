"""What benchmarks share: options, masks of patches, networks, a clock, where and when numbers were made."""

import argparse
import platform
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

from captum_layermask import Colors
from captum_layermask.models.images import read_image
from captum_layermask.models.load import load_model

PATCH = 16


def parser(doc: str, threads: int | None = 2, seed: bool = False) -> argparse.ArgumentParser:
    """A parser whose help is the benchmark's docstring; --threads (None for no such option) and --seed."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawTextHelpFormatter)
    if threads is not None:
        made.add_argument("--threads", type=int, default=threads, help="of PyTorch")
    if seed:
        made.add_argument("--seed", type=int, default=0)
    return made


def names(text: str) -> list[str]:
    """The type of an option that takes names separated by commas."""
    return text.split(",")


def part(text: str) -> slice:
    """The type of an option i/n: every n-th of a list, from the i-th."""
    index, parts = map(int, text.split("/"))
    return slice(index, None, parts)


def header(*facts: str) -> str:
    """What was measured, when, with what and on which class of machine."""
    where = f"{platform.machine()}, {torch.get_num_threads()} threads"
    versions = f"{date.today()}, torch {torch.__version__}, torchvision {torchvision.__version__}, {where}"
    return "; ".join([", ".join(facts), versions] if facts else [versions])


def head(columns: Sequence[str]) -> str:
    """The first two lines of a table in Markdown."""
    return f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}"


def ranks(images: int, cells: int, generator: torch.Generator) -> Tensor:
    """In which order each image loses its patches (images × cells), every image another."""
    return torch.rand(images, cells, generator=generator).argsort(1).argsort(1)


def patches(
    images: int, size: int, generator: torch.Generator, fraction: float = 0.5, patch: int = PATCH
) -> Tensor:
    """Visible pixels, bool, images×1×size×size: exactly this fraction of each image's patches is missing."""
    side = -(-size // patch)
    visible = ranks(images, side * side, generator) >= round(fraction * side * side)
    pixels = visible.view(images, 1, side, side).repeat_interleave(patch, 2).repeat_interleave(patch, 3)
    return pixels[..., :size, :size]


def lite0() -> nn.Module:
    """EfficientNet-Lite0 with random weights."""
    from efficientnet_lite_pytorch import EfficientNet

    return EfficientNet.from_name("efficientnet-lite0")


def imagenet(name: str, folder: Path, chosen: slice) -> tuple[nn.Module, Colors, Tensor, Tensor]:
    """A pretrained network, its colours, and some of the images of a folder with their classes.

    The folder holds one image for every fourth class, in class order when sorted by name.
    """
    loaded = load_model(name)
    files = [path for path in sorted(folder.iterdir()) if path.is_file()][chosen]
    images = torch.cat([loaded.preprocess(read_image(path)) for path in files])
    return loaded.network, loaded.colors, images, torch.arange(1000)[::4][chosen]


def elapsed(run: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds that a call takes."""
    start = clock()
    run()
    return clock() - start
