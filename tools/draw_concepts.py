"""Draw the pictures of ``docs/index.md``, ``concepts.md`` and ``propagation.md`` into ``docs/images``.

    python tools/draw_concepts.py [NAME …]

Needs ``captum-layermask[demo]``. The picture is the cat that ships with scikit-image, the network
EfficientNet-Lite0. Masks do not depend on weights, so where only masks are drawn a network has random ones.
"""

from __future__ import annotations

import io
import sys
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from PIL import Image
from torch import Tensor
from torchvision.models.resnet import Bottleneck, ResNet, resnet50

from captum_layermask import LayerMaskedForward, VanishedWarning, make_forward
from captum_layermask.explain.explanation import explain, predict
from captum_layermask.explain.segments import grid
from captum_layermask.masking.mask import Mask
from captum_layermask.masking.propagation import paper
from captum_layermask.masking.windows import Window
from captum_layermask.models.images import example_image
from captum_layermask.models.load import load_model
from captum_layermask.models.loaded import LoadedModel
from captum_layermask.plots.explanation import plot_explanation
from captum_layermask.plots.inside import plot_activations, plot_neighbor_padding

IMAGES = Path(__file__).parent.parent / "docs" / "images"
DPI = 90
VISIBLE, MISSING_COLOUR, FRAME, VANISHED = "#a6d8d2", "#e8e8e8", "#5c6b7a", "#d7191c"
HATCHED = {"facecolor": MISSING_COLOUR, "edgecolor": "#9a9a9a", "hatch": "////"}


@cache
def loaded() -> LoadedModel:
    """EfficientNet-Lite0."""
    return load_model()


@cache
def cat() -> Tensor:
    """The picture, float 1×3×224×224 in [0, 1]."""
    return loaded().preprocess(example_image())


def rectangle(top: int = 64, left: int = 72, high: int = 88, wide: int = 80) -> Tensor:
    """A mask with a missing rectangle, bool 1×1×224×224."""
    visible = torch.ones(1, 1, 224, 224, dtype=torch.bool)
    visible[..., top : top + high, left : left + wide] = False
    return visible


def half_of_the_patches(seed: int = 0) -> Tensor:
    """A mask without a random half of the 16×16 patches, bool 1×1×224×224."""
    order = torch.randperm(196, generator=torch.Generator().manual_seed(seed))
    return ~torch.isin(grid(cat(), size=16), order[:98])


def bias() -> Figure:
    """What the network predicts when the same half of the picture is taken by three removals."""
    model, visible = loaded(), half_of_the_patches()
    figure = Figure(figsize=(9.6, 3.6), layout="constrained")
    panels = figure.subplots(1, 4)
    for panel, removal in zip(panels, ("original", "black", "grey", "layer"), strict=True):
        mask = torch.ones_like(visible) if removal == "original" else visible
        forward = make_forward(
            "layer" if removal == "original" else removal, model.network, colors=model.colors
        )
        best = predict(lambda x, f=forward, m=mask: f(x, mask=m), cat())[0].topk(3)
        shown = (
            cat()[0]
            if removal == "original"
            else _filled(cat(), visible, {"black": 0.0, "grey": 0.5}.get(removal))
        )
        panel.patch.set(**HATCHED)
        panel.imshow(shown.permute(1, 2, 0).numpy())
        title = {"original": "original image", "layer": "layer masking:\nnothing is put there"}.get(
            removal, f"filled with {removal}"
        )
        panel.set_title(title, fontsize=11)
        lines = [
            f"{model.class_names[int(i)]} {p:.2f}" for p, i in zip(best.values, best.indices, strict=True)
        ]
        panel.set_xlabel("\n".join(lines), fontsize=10)
        _bare(panel)
    return figure


def cells() -> Figure:
    """The three kinds of cell, and what a 3×3 window makes of them."""
    visible = torch.ones(1, 1, 9, 9, dtype=torch.bool)
    visible[..., 2:8, 3:9] = False
    before = Mask(visible).framed((1, 1, 1, 1))
    after = before.after(Window(kernel=(3, 3)), paper)
    figure = Figure(figsize=(8.6, 4.3), layout="constrained")
    panels = figure.subplots(1, 2, width_ratios=(11, 9))
    titles = (
        "before: a missing region, and a frame\nthat the model added",
        "after a 3×3 window,\nby the paper's rule",
    )
    windows = {"A": (1, 6), "B": (3, 2), "C": (7, 5)}  # column and row of the upper left cell
    for panel, mask, title in zip(panels, (before, after), titles, strict=True):
        kind = torch.where(mask.visible, 0, torch.where(mask.missing, 1, 2))[0, 0].numpy()
        panel.imshow(kind, cmap=ListedColormap([VISIBLE, MISSING_COLOUR, FRAME]), vmin=0, vmax=2)
        for row, column in np.argwhere(kind == 1):
            panel.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, linewidth=0, **HATCHED))
        _lines(panel, kind.shape)
        panel.set_title(title, fontsize=11)
        _bare(panel)
    for name, (column, row) in windows.items():
        for panel, side in zip(panels, (3, 1), strict=True):
            corner = (column - 0.5, row - 0.5)
            panel.add_patch(
                Rectangle(corner, side, side, fill=False, edgecolor="black", linewidth=2.2, zorder=3)
            )
            middle = (side - 1) / 2
            panel.text(
                column + middle, row + middle, name, ha="center", va="center", fontsize=12, weight="bold"
            )
    _legend(figure, visible={"color": VISIBLE}, missing=HATCHED, frame={"color": FRAME})
    return figure


def boundary() -> Figure:
    """The boundary of a missing region, filled ring by ring."""
    return plot_neighbor_padding(cat()[..., 40:152, 56:168], rectangle()[..., 40:152, 56:168], (0, 2, 6, 20))


def propagated() -> Figure:
    """One mask inside two networks."""
    visible = rectangle(48, 56, 112, 104)
    networks = {"EfficientNet-Lite0": loaded().network, "ResNet-50": resnet50().eval()}
    figure = Figure(figsize=(9.6, 4.3), layout="constrained")
    for panels, (name, network) in zip(figure.subplots(2, 6), networks.items(), strict=True):
        steps = LayerMaskedForward(network, propagation="paper").trace(cat(), mask=visible, outputs=True)
        masks = {step.shape[-1]: step.mask for step in steps if step.mask is not None} | {224: visible}
        for panel, side in zip(panels, (224, 112, 56, 28, 14, 7), strict=True):
            panel.patch.set(**HATCHED)
            shown = np.where(masks[side][0, 0].numpy(), 0.0, np.nan)
            panel.imshow(shown, cmap=ListedColormap([VISIBLE]), interpolation="nearest")
            panel.set_xlabel(f"{masks[side].float().mean():.0%} visible", fontsize=10)
            panel.set_title("image, 224×224" if side == 224 else f"last of {side}×{side}", fontsize=10)
            _bare(panel)
        panels[0].set_ylabel(name, fontsize=11)
    return figure


def activations() -> Figure:
    """What an early layer makes of a missing region, under three removals."""
    model = loaded()
    return plot_activations(
        model.network,
        cat(),
        rectangle(),
        "1._blocks.1",
        colors=model.colors,
        removals=("grey", "layer-zero", "layer-paper"),  # which differ in padding alone
        channels=2,
    )


def vanishing() -> Figure:
    """Where a single visible square is lost before the head of a ResNet-50.

    Windows and additions treat rows and columns alike and apart, so a square is lost where its rows or its
    columns are: squares on the diagonal tell it of all places.
    """
    network = ResNet(
        Bottleneck, [3, 4, 6, 3], width_per_group=4
    ).eval()  # a ResNet-50 with few channels inside
    forward = LayerMaskedForward(network, propagation="paper", max_batch=32)
    figure = Figure(figsize=(9.0, 3.9), layout="constrained")
    places = torch.arange(224)
    for panel, size in zip(figure.subplots(1, 3), (8, 16, 32), strict=True):
        corners = torch.arange(224 - size + 1)[:, None]
        lines = (places >= corners) & (places < corners + size)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", VanishedWarning)
            forward(cat().expand(len(corners), -1, -1, -1), mask=lines[:, :, None] & lines[:, None, :])
        lost = forward.vanished[:, None] | forward.vanished
        panel.imshow(lost.numpy(), cmap=ListedColormap([VISIBLE, VANISHED]), vmin=0, vmax=1)
        panel.set_title(f"{size}×{size} pixels: {lost.float().mean():.0%} are lost", fontsize=11)
        panel.set_xlabel("left edge of the square", fontsize=10)
        panel.set_ylabel("top edge" if size == 8 else "", fontsize=10)
        panel.set_xticks([0, 64, 128, 192])
        panel.set_yticks([0, 64, 128, 192])
    _legend(figure, **{"reaches the head": {"color": VISIBLE}, "vanishes on the way": {"color": VANISHED}})
    return figure


def propagation() -> Figure:
    """The masks of EfficientNet-Lite0's first map of each size under both policies."""
    model = loaded()
    torch.manual_seed(0)
    visible = (torch.rand(196) > 0.6)[grid(cat(), size=16)]
    colours = {"missing": "#d9d9d9", "grown": "#f2a541", "holds a visible pixel": "#1b7f79"}
    figure = Figure(figsize=(10, 4.1), layout="constrained")
    titles = {"paper": "the paper's rule", "anchored": "anchored"}
    for row, (name, title) in zip(figure.subplots(2, 6), titles.items(), strict=True):
        masks: dict[int, Tensor] = {}
        forward = LayerMaskedForward(model.network, propagation=name)
        for step in forward.trace(cat(), mask=visible, outputs=True):
            if step.operation.endswith("conv2d"):
                masks.setdefault(step.shape[-1], step.mask)
        row[0].imshow(torch.where(visible, cat(), 1)[0].permute(1, 2, 0).numpy())
        row[0].set_ylabel(title, fontsize=11)
        row[0].set_title(f"pixels, {visible.float().mean():.0%}", fontsize=10)
        for panel, side in zip(row[1:], (112, 56, 28, 14, 7), strict=True):
            own = F.adaptive_max_pool2d(visible.float(), side).bool()
            kinds = masks[side].int() + (masks[side] & own).int()
            panel.imshow(kinds[0, 0].numpy(), cmap=ListedColormap([*colours.values()]), vmin=0, vmax=2)
            panel.set_title(f"{side}×{side}, {masks[side].float().mean():.0%}", fontsize=10)
        for panel in row:
            _bare(panel)
    _legend(figure, **{label: {"color": colour} for label, colour in colours.items()})
    return figure


def explanation() -> Figure:
    """What the example of the start page draws."""
    model = loaded()
    found = explain(
        LayerMaskedForward(model.network),
        cat(),
        grid(cat(), size=16),
        class_names=model.class_names,
        n_samples=500,
    )
    return plot_explanation(found, removal="layer masking")


PICTURES = {
    "start-explanation": explanation,
    "concepts-bias": bias,
    "concepts-boundary": boundary,
    "concepts-activations": activations,
    "concepts-cells": cells,
    "concepts-propagation": propagated,
    "concepts-vanishing": vanishing,
    "propagation": propagation,
}

#: Pages show these at two thirds of their size.
WIDE = ("start-explanation", "concepts-activations", "concepts-boundary")


def _filled(image: Tensor, visible: Tensor, shade: float | None) -> Tensor:
    """3×H×W filled with a shade of grey, or 4×H×W with nothing there."""
    if shade is None:
        return torch.cat([image, visible.to(image)], 1)[0]
    return torch.where(visible, image, shade)[0]


def _lines(panel: Axes, shape: tuple[int, ...]) -> None:
    for edge in range(shape[0] + 1):
        panel.axhline(edge - 0.5, color="white", linewidth=0.8)
    for edge in range(shape[1] + 1):
        panel.axvline(edge - 0.5, color="white", linewidth=0.8)


def _legend(figure: Figure, **patches: dict[str, str]) -> None:
    """A legend below the panels: label → how its patch is drawn."""
    handles = [Patch(label=label, **style) for label, style in patches.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)


def _bare(panel: Axes) -> None:
    panel.set_xticks([])
    panel.set_yticks([])


def save(figure: Figure, path: Path) -> None:
    """Write a figure on white, with a palette."""
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=DPI, facecolor="white")
    picture = Image.open(written).convert("RGB")
    palette = picture.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=2)
    reduced = picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
    colours = np.array(reduced.getpalette()).reshape(-1, 3)
    colours[(colours >= 248).all(1)] = 255  # the background is white in all of them
    reduced.putpalette(colours.flatten().tolist())
    reduced.save(path, optimize=True)


def main() -> None:
    """Draw the named pictures, or all of them."""
    for name in sys.argv[1:] or PICTURES:
        path = IMAGES / f"{name}.png"
        with rc_context({"font.size": 14 if name in WIDE else 10}):
            save(PICTURES[name](), path)
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} KB")


if __name__ == "__main__":
    main()
