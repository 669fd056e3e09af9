"""How much top-1 accuracy is left when patches of 16×16 pixels are removed at random?

    python benchmarks/accuracy_masked.py FOLDER [--removals layer,grey,black]

FOLDER holds ImageNet images, one for every fourth of the 1000 classes (--step 4), in class order when sorted
by name: the class of the i-th file is ``step · i``.
"""

import argparse
import platform
from datetime import date
from pathlib import Path

import torch
import torchvision
from tqdm import tqdm

from captum_layermask import REMOVALS, LayerMaskedForward, make_forward
from captum_layermask.explain.segments import grid
from captum_layermask.models.images import read_image
from captum_layermask.models.load import load_model

PATCH = 16


def random_patches(count: int, size: int, fraction: float, generator: torch.Generator) -> torch.Tensor:
    """Missing pixels, bool, count×1×size×size: exactly a fraction of each image's patches."""
    side = size // PATCH
    order = torch.rand(count, side * side, generator=generator).argsort(1)
    missing = (order < round(fraction * side * side)).view(count, 1, side, side)
    return missing.repeat_interleave(PATCH, 2).repeat_interleave(PATCH, 3)


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--removals", default="black,grey,layer", help=f"of {', '.join(REMOVALS)}")
    parser.add_argument("--fraction", type=float, default=0.5, help="share of the patches that is removed")
    parser.add_argument("--step", type=int, default=4, help="classes from one file to the next")
    parser.add_argument("--batch", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    loaded = load_model("efficientnet-lite0")
    plain, colors = loaded.network, loaded.colors
    generator = torch.Generator().manual_seed(options.seed)
    files = sorted(path for path in options.folder.iterdir() if path.is_file())
    names = options.missing.split(",")
    correct, vanished = dict.fromkeys(["unmasked", *names], 0), dict.fromkeys(names, 0)
    for start in tqdm(range(0, len(files), options.batch), unit="batch"):
        batch = files[start : start + options.batch]
        pixels = torch.cat([loaded.preprocess(read_image(path)) for path in batch])
        target = torch.arange(start, start + len(batch)) * options.step
        visible = ~random_patches(len(batch), pixels.shape[-1], options.fraction, generator)
        setting = {"colors": colors, "reference": pixels, "segments": grid(pixels[:1], PATCH)}
        correct["unmasked"] += int((plain(pixels).argmax(1) == target).sum())
        for name in names:
            forward = make_forward(name, plain, seed=options.seed, **setting)
            correct[name] += int((forward(pixels, mask=visible).argmax(1) == target).sum())
            if isinstance(forward, LayerMaskedForward):
                vanished[name] += int(forward.vanished.sum())
    print(f"{date.today()}, torch {torch.__version__}, torchvision {torchvision.__version__}, ", end="")
    print(f"{platform.machine()}, {torch.get_num_threads()} threads")
    print(
        f"efficientnet-lite0, {len(files)} images, {options.fraction:.0%} of the patches, seed {options.seed}"
    )
    for name, count in correct.items():
        leaks = ", sees what it hides" if name in REMOVALS and REMOVALS[name].leaks else ""
        lost = f", {vanished[name]} vanished" if vanished.get(name) else ""
        print(f"{name:14} {count / len(files):.3f}{leaks}{lost}")


if __name__ == "__main__":
    main()
