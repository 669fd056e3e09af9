"""List the vision classifiers of timm that take an image.

    python benchmarks/timm_models.py > benchmarks/timm_models.txt

A name is in if its network, built for ten classes, returns ten numbers for an image of three channels. It is
built and run on the meta device, so nothing is computed. Where that cannot be (the code looks at values), the
network's own declaration decides: an input of three channels in its configuration, and a classifier of ten
classes. What is out, and why, goes to standard error.
"""

import sys
import warnings

import timm
import torch
from common import parser

CLASSES = 10


def verdict(name: str) -> str:
    """Why a name is out, or nothing."""
    try:
        with torch.device("meta"):
            model = timm.create_model(name, pretrained=False, num_classes=CLASSES).eval()
    except Exception as error:
        return f"cannot be built for {CLASSES} classes ({type(error).__name__})"
    channels, *size = timm.get_pretrained_cfg(name, allow_unregistered=True).input_size
    if channels != 3:
        return f"takes {channels} channels"
    try:
        with torch.no_grad():
            output = model(torch.zeros(1, channels, *size, device="meta"))
    except Exception:
        return "" if getattr(model, "num_classes", None) == CLASSES else "has no classifier"
    shape = tuple(getattr(output, "shape", ()))
    return "" if shape == (1, CLASSES) else f"returns {shape or type(output).__name__}"


def main() -> None:
    parser(__doc__, threads=None).parse_args()
    warnings.simplefilter("ignore")
    for name in timm.list_models(pretrained=False):
        why = verdict(name)
        print(f"{name}: {why}" if why else name, file=sys.stderr if why else sys.stdout, flush=True)


if __name__ == "__main__":
    main()
