"""Which policy of mask propagation keeps most of what a network knows?

    python benchmarks/propagation.py NETWORK FOLDER --half choose|report [--patch 16] [--policies …]

NETWORK is efficientnet-lite0, -lite1, -lite2, or a file of weights of a CIFAR-10 ResNet (safetensors). FOLDER
holds ImageNet images, one for every fourth class in class order (``benchmarks/accuracy_masked.py``), or a
folder for each CIFAR-10 class. Policies are chosen on every second image and reported on the others. Patches
are removed at random, the same ones under every policy; areas are under the curve over fractions 0 to 1, and
ratios are to the paper's policy, with 95 % bootstrap intervals over images.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import cifar_resnet
import numpy as np
import torch
import torch.nn.functional as F
from common import head, header, imagenet, parser, ranks
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.functional import pil_to_tensor
from tqdm import tqdm

from captum_layermask import Colors, LayerMaskedForward, make_forward
from captum_layermask.evaluate.report.bootstrap import bootstrap, entropy, ratio
from captum_layermask.explain.coalitions import Coalitions
from captum_layermask.explain.segments import grid
from captum_layermask.masking.mask import Mask, Policy
from captum_layermask.masking.propagation import PROPAGATIONS, Propagation
from captum_layermask.masking.windows import Geometry, Window

Visible = Callable[[Mask, Window], Tensor]

OTHERS = ("neighbor", "grey", "black")


def share(cells: Tensor, window: Window) -> Tensor:
    """The share of the cells of the map in each window that are among the given ones."""
    return window.sum(cells.float()) / window.sum(torch.ones_like(cells[:1]).float()).clamp(min=1)


def at_least(threshold: float) -> Visible:
    """Windows of which this share is visible."""
    return lambda mask, window: share(mask.visible, window) >= threshold - 1e-6


def own_or(threshold: float) -> Visible:
    """Windows that own a visible cell, and those of which this share is visible."""
    return lambda mask, window: window.owns_any(mask.visible) | at_least(threshold)(mask, window)


def above(size: int, fine: Visible, coarse: Visible) -> Visible:
    """One rule for maps of at least this size, another below."""
    return lambda mask, window: (fine if min(mask.size) >= size else coarse)(mask, window)


def falling_back(rule: Visible, least: float) -> Visible:
    """A rule; any visible cell for images of which less than this share of the visible area would survive."""

    def visible(mask: Mask, window: Window) -> Tensor:
        strict, lenient = rule(mask, window), any_visible(mask, window)
        survives = strict.float().mean((2, 3), keepdim=True) >= least * mask.visible.float().mean(
            (2, 3), keepdim=True
        )
        return torch.where(survives, strict, lenient)

    return visible


def any_visible(mask: Mask, window: Window) -> Tensor:
    """The paper's rule."""
    return window.any(mask.visible)


def own(mask: Mask, window: Window) -> Tensor:
    """Windows that own a visible cell: at every resolution the image's own mask."""
    return window.owns_any(mask.visible)


def plain(rule: Visible) -> Policy:
    """The policy that follows one rule and has no anchor."""

    def policy(mask: Mask, window: Geometry) -> tuple[Tensor, Tensor]:
        visible = rule(mask, window) if isinstance(window, Window) else window.any(mask.visible)
        return visible, visible

    return policy


def with_anchor(
    fine: Callable[[Tensor, Tensor, Window], Tensor],
    coarse: Callable[[Tensor, Tensor, Window], Tensor] | None = None,
) -> Policy:
    """A policy from (visible, anchor, window) → visible; another where windows shrink the map, if given."""

    def policy(mask: Mask, window: Geometry) -> tuple[Tensor, Tensor]:
        anchor = window.owns_any(mask.anchor)
        if not isinstance(window, Window):
            return window.any(mask.visible) | anchor, anchor
        rule = coarse if coarse is not None and window.shrinks else fine
        return rule(mask.visible, mask.anchor, window) | anchor, anchor

    return policy


def near(distance: int) -> Policy:
    """Any visible cell, but at most so many cells from the anchor."""

    def policy(mask: Mask, window: Geometry) -> tuple[Tensor, Tensor]:
        anchor = window.owns_any(mask.anchor)
        close = F.max_pool2d(anchor.float(), 2 * distance + 1, 1, distance) > 0
        return (window.any(mask.visible) & close) | anchor, anchor

    return policy


def grow(visible: Tensor, anchor: Tensor, window: Window) -> Tensor:
    """Any visible cell."""
    return window.any(visible)


POLICIES: dict[str, Policy] = {
    "≥ 1/3": plain(at_least(1 / 3)),
    "≥ 1/2": plain(at_least(1 / 2)),
    "≥ 0.4, any where < 0.3 would survive": plain(falling_back(at_least(0.4), 0.3)),
    "≥ 1/2 from 56², any below": plain(above(56, at_least(1 / 2), any_visible)),
    "≥ 1/2 from 28², any below": plain(above(28, at_least(1 / 2), any_visible)),
    "own": plain(own),
    "own from 56², any below": plain(above(56, own, any_visible)),
    "own or > 1/3": plain(own_or(0.34)),
    "own or ≥ 1/2": plain(own_or(1 / 2)),
    "own or ≥ 2/3": plain(own_or(2 / 3)),
    "within 1 cell of the anchor": near(1),
    "within 2 cells of the anchor": near(2),
    "any anchor, everywhere": with_anchor(lambda v, a, w: w.any(a)),
    "any; own where maps shrink": with_anchor(grow, lambda v, a, w: w.owns_any(a)),
    "any; anchor ≥ 1/2 where maps shrink": with_anchor(grow, lambda v, a, w: share(a, w) >= 1 / 2 - 1e-6),
    "any; anchor ≥ 1/5 where maps shrink": with_anchor(grow, lambda v, a, w: share(a, w) >= 1 / 5 - 1e-6),
    "any; visible ≥ 1/3 where maps shrink": with_anchor(grow, lambda v, a, w: share(v, w) >= 1 / 3 - 1e-6),
    "> 1/3; own where maps shrink": with_anchor(
        lambda v, a, w: share(v, w) >= 0.34, lambda v, a, w: w.owns_any(a)
    ),
    "any; any anchor or visible ≥ 0.7 where maps shrink": with_anchor(
        grow, lambda v, a, w: w.any(a) | (share(v, w) >= 0.7 - 1e-6)
    ),
}

CANDIDATES = PROPAGATIONS | {
    name: Propagation(policy, lambda window: PROPAGATIONS["anchored"].rounds(window) + 1)
    for name, policy in POLICIES.items()
}


def cifar(weights: Path, folder: Path, chosen: slice) -> tuple[nn.Module, Colors, Tensor, Tensor]:
    """What ``imagenet`` returns, for a CIFAR-10 ResNet; the half is of the images of every class."""
    images, classes = [], []
    for index, class_folder in enumerate(sorted(path for path in folder.iterdir() if path.is_dir())):
        for path in sorted(class_folder.iterdir())[chosen]:
            images.append(pil_to_tensor(Image.open(path).convert("RGB")) / 255)
            classes.append(index)
    colors = Colors(*cifar_resnet.IMAGENET, normalized=False)
    return cifar_resnet.load(weights), colors, torch.stack(images), torch.tensor(classes)


@torch.inference_mode()
def predictions(
    forward: nn.Module, images: Tensor, order: Tensor, patch: int, fractions: np.ndarray
) -> tuple[Tensor, int]:
    """Predicted classes, images × fractions, and how many samples with visible pixels vanished."""
    segments, side = grid(images[:1], patch), -(-images.shape[-1] // patch)
    removed = torch.tensor([round(fraction * side * side) for fraction in fractions])[:, None]
    predicted, vanished = [], 0
    for x, places in zip(images.split(1), order, strict=True):
        coalitions = Coalitions(forward, x, segments, batch_size=len(fractions))
        predicted.append(coalitions(places >= removed).argmax(1))
        vanished += 0 if coalitions.vanished is None else int(coalitions.vanished.sum())
    return torch.stack(predicted), vanished


def main() -> None:
    """Print a table for one network."""
    arguments = parser(__doc__, seed=True)
    arguments.add_argument("network")
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--half", choices=("choose", "report"), required=True)
    arguments.add_argument("--patch", type=int, default=16, help="pixels")
    arguments.add_argument(
        "--policies", help="separated by semicolons; by default all (choose) or anchored (report)"
    )
    arguments.add_argument("--fractions", type=int, default=10, help="steps from 0 to 1")
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)

    part = slice(0 if options.half == "choose" else 1, None, 2)
    is_file = Path(options.network).is_file()
    load, source = (cifar, Path(options.network)) if is_file else (imagenet, options.network)
    network, colors, images, classes = load(source, options.folder, part)
    fractions = np.linspace(0, 1, options.fractions + 1)
    generator = torch.Generator().manual_seed(options.seed)
    order = ranks(len(images), (-(-images.shape[-1] // options.patch)) ** 2, generator)
    default = [*CANDIDATES] if options.half == "choose" else ["anchored", "paper"]
    policies = options.policies.split(";") if options.policies else default
    removals = ["paper", *(name for name in policies if name != "paper"), *OTHERS]

    found, lost = {}, {}
    for removal in tqdm(removals, unit="policy", file=sys.stderr):
        if removal in OTHERS:
            forward = make_forward(removal, network, colors=colors)
        else:
            forward = LayerMaskedForward(network, propagation=CANDIDATES[removal])
        found[removal], lost[removal] = predictions(forward, images, order, options.patch, fractions)

    weights = np.full(len(fractions), 1 / options.fractions)
    weights[[0, -1]] /= 2
    areas = {removal: (p == classes[:, None]).double().numpy() @ weights for removal, p in found.items()}
    middle = sorted({round(share * options.fractions) for share in (0.1, 0.3, 0.5, 0.7, 0.9)})
    columns = [f"{fractions[i]:.0%}" for i in middle]
    columns += ["area", "ratio to the paper's", "entropy less the paper's", "vanished"]
    facts = (f"{len(images)} images", f"patch {options.patch}", f"seed {options.seed}")
    print(header(Path(options.network).stem, f"{options.half} half", *facts) + "\n")
    print(head(["policy", *columns]))
    for removal, predicted in found.items():
        right = (predicted == classes[:, None]).double().mean(0)
        times = bootstrap(ratio(areas[removal], areas["paper"]), len(images))
        entropies = [entropy(found[name].numpy()) for name in (removal, "paper")]
        gain = bootstrap(lambda w, e=entropies: (e[0](w) - e[1](w)) @ weights, len(images), recentred=True)
        cells = [f"{right[i]:.3f}" for i in middle] + [
            f"{areas[removal].mean():.3f}",
            f"{times:.3f}",
            f"{gain:+.3f}",
        ]
        print(f"| {removal} | {' | '.join(cells)} | {lost[removal]} |")


if __name__ == "__main__":
    main()
