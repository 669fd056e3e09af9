"""How often does a visible square vanish before it reaches the head of the network?

    python benchmarks/vanishing.py [--positions 100]

A single square is visible, at random places, and everything else is missing. Weights are random: what
vanishes depends on the geometry of the network alone.
"""

import warnings

import cifar_resnet
import torch
import torchvision
from common import head, header, lite0, parser
from tqdm import tqdm

from captum_layermask import LayerMaskedForward, VanishedWarning
from captum_layermask.masking.propagation import PROPAGATIONS

NETWORKS = {
    "ResNet-50": (torchvision.models.resnet50, 224, (4, 8, 16, 32, 48)),
    "ResNet-18": (torchvision.models.resnet18, 224, (4, 8, 16, 32, 48)),
    "DenseNet-121": (torchvision.models.densenet121, 224, (4, 8, 16, 32, 48)),
    "EfficientNet-Lite0": (lite0, 224, (4, 8, 16, 32, 48)),
    "ResNet-20 (CIFAR)": (lambda: cifar_resnet.geometry(3), 32, (1, 2, 4, 8)),
}


def squares(count: int, size: int, side: int, generator: torch.Generator) -> torch.Tensor:
    """Visible pixels, bool, count×1×size×size: a square of side × side at a random place in each."""
    corner = torch.randint(size - side + 1, (count, 2, 1), generator=generator)
    along = torch.arange(size)
    rows, columns = ((along >= corner[:, axis]) & (along < corner[:, axis] + side) for axis in (0, 1))
    return (rows[:, :, None] & columns[:, None, :])[:, None]


@torch.inference_mode()
def main() -> None:
    """Print one table."""
    arguments = parser(__doc__, seed=True)
    arguments.add_argument("--positions", type=int, default=100)
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore", VanishedWarning)
    torch.manual_seed(options.seed)

    print(header(f"{options.positions} positions", f"seed {options.seed}") + "\n")
    print(head(["network", "visible square", "share of the image", *PROPAGATIONS]))
    cases = [(name, *rest, side) for name, (*rest, sides) in NETWORKS.items() for side in sides]
    for name, make, size, side in tqdm(cases, unit="case"):
        model = make().eval()
        visible = squares(options.positions, size, side, torch.Generator().manual_seed(options.seed))
        shares = []
        for propagation in PROPAGATIONS:
            forward = LayerMaskedForward(model, propagation=propagation, max_batch=10)
            forward(torch.randn(options.positions, 3, size, size), mask=visible)
            shares.append(f"{forward.vanished.float().mean():.2f}")
        print(f"| {name} | {side}×{side} | {side**2 / size**2:.2%} | {' | '.join(shares)} |")


if __name__ == "__main__":
    main()
