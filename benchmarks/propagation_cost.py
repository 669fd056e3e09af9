"""What do anchored masks cost, beside the paper's and the plain network?

    python benchmarks/propagation_cost.py [--rounds 9]

Medians of ratios of process time, one thread, the three in turn in one process, new masks in every round:
half of the 16×16 patches, batches of 8, channels-last.
"""

import time

import numpy as np
import torch
import torchvision
from common import elapsed, head, header, parser, patches

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
    arguments = parser(__doc__, threads=None)
    arguments.add_argument("--rounds", type=int, default=9)
    options = arguments.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    print(header(f"{options.rounds} rounds") + "\n")
    print(head(["network", *PROPAGATIONS, "anchored / paper"]))
    for name, make in NETWORKS.items():
        model = make().eval().to(memory_format=torch.channels_last)
        image = (torch.rand(8, 3, 224, 224) + 1).to(memory_format=torch.channels_last)
        forwards = [LayerMaskedForward(model, propagation=policy) for policy in PROPAGATIONS]
        seconds = []
        for _ in range(options.rounds + 1):
            mask = patches(len(image), image.shape[-1], generator)
            runs = [lambda: model(image), *(lambda f=f: f(image, mask=mask) for f in forwards)]  # noqa: B023
            seconds.append([elapsed(run, time.process_time) for run in runs])
        plain, anchored, paper = np.array(seconds[1:]).T
        cells = [np.median(anchored / plain), np.median(paper / plain), np.median(anchored / paper)]
        print(f"| {name} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |", flush=True)


if __name__ == "__main__":
    main()
