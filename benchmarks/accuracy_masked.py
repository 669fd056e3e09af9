"""How much top-1 accuracy is left when patches of 16×16 pixels are removed at random?

    python benchmarks/accuracy_masked.py FOLDER [--removals layer,grey,black]

FOLDER holds ImageNet images, one for every fourth of the 1000 classes (--step 4), in class order when sorted
by name: the class of the i-th file is ``step · i``.
"""

from pathlib import Path

import torch
from common import PATCH, header, names, parser, patches
from tqdm import tqdm

from captum_layermask import REMOVALS, LayerMaskedForward, make_forward
from captum_layermask.explain.segments import grid
from captum_layermask.models.images import read_image
from captum_layermask.models.load import load_model


@torch.inference_mode()
def main() -> None:
    arguments = parser(__doc__, seed=True)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument(
        "--removals", type=names, default=["black", "grey", "layer"], help=f"of {', '.join(REMOVALS)}"
    )
    arguments.add_argument("--fraction", type=float, default=0.5, help="share of the patches that is removed")
    arguments.add_argument("--step", type=int, default=4, help="classes from one file to the next")
    arguments.add_argument("--batch", type=int, default=25)
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)

    loaded = load_model("efficientnet-lite0")
    plain, colors = loaded.network, loaded.colors
    generator = torch.Generator().manual_seed(options.seed)
    files = sorted(path for path in options.folder.iterdir() if path.is_file())
    correct, vanished = dict.fromkeys(["unmasked", *options.removals], 0), dict.fromkeys(options.removals, 0)
    for start in tqdm(range(0, len(files), options.batch), unit="batch"):
        batch = files[start : start + options.batch]
        pixels = torch.cat([loaded.preprocess(read_image(path)) for path in batch])
        target = torch.arange(start, start + len(batch)) * options.step
        visible = patches(len(batch), pixels.shape[-1], generator, options.fraction)
        setting = {"colors": colors, "reference": pixels, "segments": grid(pixels[:1], PATCH)}
        correct["unmasked"] += int((plain(pixels).argmax(1) == target).sum())
        for name in options.removals:
            forward = make_forward(name, plain, seed=options.seed, **setting)
            correct[name] += int((forward(pixels, mask=visible).argmax(1) == target).sum())
            if isinstance(forward, LayerMaskedForward):
                vanished[name] += int(forward.vanished.sum())
    share = f"{options.fraction:.0%} of the patches"
    print(header("efficientnet-lite0", f"{len(files)} images", share, f"seed {options.seed}"))
    for name, count in correct.items():
        leaks = ", leaks the mask's shape" if name in REMOVALS and REMOVALS[name].leaks else ""
        lost = f", {vanished[name]} vanished" if vanished.get(name) else ""
        print(f"{name:14} {count / len(files):.3f}{leaks}{lost}")


if __name__ == "__main__":
    main()
