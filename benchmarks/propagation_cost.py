"""What do anchored masks cost, beside the paper's and the plain network?

    python benchmarks/propagation_cost.py [--rounds 9]

Medians of ratios of process time, one thread, the three in turn in one process, new masks in every round:
half of the 16×16 patches, batches of 8, channels-last.
"""

import argparse
import platform
import time
from datetime import date

import numpy as np
import torch
import torchvision

from captum_layermask import LayerMaskedForward
from captum_layermask.masking.propagation import PROPAGATIONS
from captum_layermask.models.load import load_model

NETWORKS = {
    "resnet50": torchvision.models.resnet50,
    "efficientnet-lite0": lambda: load_model().network,
    "mobilenet_v2": torchvision.models.mobilenet_v2,
}


@torch.inference_mode()
def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    versions = f"torch {torch.__version__}, torchvision {torchvision.__version__}"
    print(f"{date.today()}, {versions}, {platform.machine()}\n")
    print("| network | " + " | ".join(PROPAGATIONS) + " | anchored / paper |\n" + "| --- " * 4 + "|")
    for name, make in NETWORKS.items():
        model = make().eval().to(memory_format=torch.channels_last)
        image = (torch.rand(8, 3, 224, 224) + 1).to(memory_format=torch.channels_last)
        forwards = [LayerMaskedForward(model, propagation=policy) for policy in PROPAGATIONS]
        seconds = []
        for _ in range(options.rounds + 1):
            patches = torch.rand(8, 14, 14) > 0.5
            mask = patches.repeat_interleave(16, 1).repeat_interleave(16, 2)
            plain = elapsed(model, image)
            seconds.append([plain, *(elapsed(forward, image, mask=mask) for forward in forwards)])
        plain, anchored, paper = np.array(seconds[1:]).T
        cells = [np.median(anchored / plain), np.median(paper / plain), np.median(anchored / paper)]
        print(f"| {name} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |", flush=True)


def elapsed(call, *args, **options) -> float:
    """Seconds of process time."""
    start = time.process_time()
    call(*args, **options)
    return time.process_time() - start


if __name__ == "__main__":
    main()
