"""Draw the masks of EfficientNet-Lite0's first map of each size (docs/images/propagation.png).

python tools/draw_propagation.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import skimage.data
import torch
import torch.nn.functional as F
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch
from PIL import Image
from torch import Tensor

from captum_layermask import LayerMaskedForward
from captum_layermask.models import load_model

PATCH, REMOVED, SIDES = 16, 0.6, (112, 56, 28, 14, 7)
COLOURS = {"missing": "#d9d9d9", "grown": "#f2a541", "holds a visible pixel": "#1b7f79"}
OUT = Path(__file__).parent.parent / "docs" / "images" / "propagation.png"


def patches(side: int) -> Tensor:
    """Visible pixels, bool 1×1×side×side: patches are missing at random."""
    torch.manual_seed(0)
    kept = torch.rand(1, 1, side // PATCH, side // PATCH) > REMOVED
    return kept.repeat_interleave(PATCH, 2).repeat_interleave(PATCH, 3)


@torch.no_grad()
def main() -> None:
    """Draw the picture."""
    loaded = load_model("efficientnet-lite0")
    image = loaded.preprocess(Image.fromarray(skimage.data.chelsea()))
    visible = patches(image.shape[-1])
    figure, axes = plt.subplots(2, 6, figsize=(10, 4.1), dpi=100, layout="constrained", facecolor="white")
    for row, name in zip(axes, ("paper", "anchored"), strict=True):
        trace = LayerMaskedForward(loaded.network, propagation=name).trace(image, mask=visible, outputs=True)
        masks: dict[int, Tensor] = {}
        for step in trace:
            if step.operation.endswith("conv2d"):
                masks.setdefault(step.shape[-1], step.mask)
        row[0].imshow(torch.where(visible, image, 1)[0].permute(1, 2, 0))
        row[0].set_ylabel({"paper": "the paper's rule", "anchored": "anchored"}[name], fontsize=11)
        row[0].set_title(f"pixels, {visible.float().mean():.0%}", fontsize=10)
        for panel, side in zip(row[1:], SIDES, strict=True):
            own = F.adaptive_max_pool2d(visible.float(), side).bool()
            kinds = masks[side].int() + (masks[side] & own).int()
            panel.imshow(kinds[0, 0], cmap=ListedColormap([*COLOURS.values()]), vmin=0, vmax=2)
            panel.set_title(f"{side}×{side}, {masks[side].float().mean():.0%}", fontsize=10)
        for panel in row:
            panel.set_xticks([]), panel.set_yticks([])
    handles = [Patch(color=colour, label=label) for label, colour in COLOURS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=10, frameon=False)
    figure.savefig(OUT, dpi=100)
    Image.open(OUT).convert("RGB").quantize(128).save(OUT, optimize=True)


if __name__ == "__main__":
    main()
