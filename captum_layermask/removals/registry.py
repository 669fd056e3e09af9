"""The removals, by name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from torch import Tensor, nn

from captum_layermask.errors import require_known
from captum_layermask.removals.base import RemovalForward
from captum_layermask.removals.colors import Colors
from captum_layermask.removals.fills import (
    ColorFilledForward,
    NeighborFilledForward,
    NoiseFilledForward,
    VisibleBlurredForward,
)
from captum_layermask.removals.inpainting import ImputedForward, InpaintedForward
from captum_layermask.removals.layer_masking import LayerMaskedForward
from captum_layermask.removals.leaking_fills import BlurredForward, SegmentMeanForward
from captum_layermask.removals.token_dropping import TokenDroppedForward


@dataclass(frozen=True)
class Setting:
    """What a removal may need to know besides the model.

    Attributes:
        colors: the scale of the images, for colours and noise.
        reference: the original image, 1×C×H×W, for removals that leak.
        segments: LongTensor 1×1×H×W, for the mean of a segment.
        seed: of noise.

    Example:
        ```python
        forward = REMOVALS["blur"].make(model, Setting(reference=image))
        ```
    """

    colors: Colors | None = None
    reference: Tensor | None = None
    segments: Tensor | None = None
    seed: int = 0


@dataclass(frozen=True)
class Removal:
    """A way to remove pixels: a class of forwards, with options, under a title.

    Attributes:
        title: for tables and figures.
        forward: a subclass of ``RemovalForward``.
        options: keyword arguments for it.

    Example:
        ```python
        REMOVALS["pink"] = Removal("pink", ColorFilledForward, {"color": (1, 0.4, 0.7)})
        forward = make_forward("pink", model, colors=colors)
        ```
    """

    title: str
    forward: type[RemovalForward]
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def leaks(self) -> bool:
        """Whether what the model is given depends on the missing pixels (``RemovalForward.leaks``)."""
        return self.forward.leaks

    @property
    def needs(self) -> frozenset[str]:
        """The fields of a ``Setting`` that the forward takes, as parameters of their names."""
        taken = inspect.signature(self.forward).parameters.keys() - self.options.keys()
        return frozenset(taken & {one.name for one in fields(Setting)})

    def make(self, model: nn.Module, setting: Setting) -> RemovalForward:
        """The forward of a model.

        Args:
            model: the network.
            setting: what is known besides; of this the forward is given what it takes.

        Raises:
            InputError: it needs something that was not given, or cannot work with this model.
        """
        return self.forward(model, **self.options, **{name: getattr(setting, name) for name in self.needs})


_PAPER: dict[str, Any] = {"propagation": "paper"}

REMOVALS: dict[str, Removal] = {
    "layer": Removal("layer masking", LayerMaskedForward),
    "layer-paper": Removal("layer masking, paper's masks", LayerMaskedForward, _PAPER),
    "grey": Removal("grey", ColorFilledForward, {"color": None}),
    "black": Removal("black", ColorFilledForward, {"color": 0.0}),
    "white": Removal("white", ColorFilledForward, {"color": 1.0}),
    "uniform-noise": Removal("uniform noise", NoiseFilledForward, {"noise": "uniform"}),
    "gaussian-noise": Removal("Gaussian noise", NoiseFilledForward, {"noise": "gaussian"}),
    "neighbor": Removal("neighbour fill", NeighborFilledForward),
    "visible-blur": Removal("blur of the visible", VisibleBlurredForward),
    "blur": Removal("blur", BlurredForward),
    "segment-mean": Removal("segment mean", SegmentMeanForward),
    "telea": Removal("Telea inpainting", InpaintedForward, {"method": "telea"}),
    "navier-stokes": Removal("Navier–Stokes inpainting", InpaintedForward, {"method": "navier-stokes"}),
    "road": Removal("noisy linear imputation", ImputedForward),
    "layer-zero": Removal("layer masking, zero padding", LayerMaskedForward, {**_PAPER, "padding": "zero"}),
    "layer-first": Removal("layer masking, first layer only", LayerMaskedForward, {**_PAPER, "until": 1}),
    "partial-conv": Removal("partial convolution", LayerMaskedForward, {**_PAPER, "padding": "partial"}),
    "drop-tokens": Removal("token dropping", TokenDroppedForward),
}
"""Name → removal. Add your own: ``REMOVALS["zap"] = Removal("zapping", ZappedForward)``."""


def make_forward(
    name: str,
    model: nn.Module,
    *,
    colors: Colors | None = None,
    reference: Tensor | None = None,
    segments: Tensor | None = None,
    seed: int = 0,
) -> RemovalForward:
    """The forward of a removal that is given by its name.

    Args:
        name: a key of ``REMOVALS``.
        model: the network.
        colors: the scale of the images; colours and noise need it.
        reference: the original image, 1×C×H×W; removals that leak need it.
        segments: LongTensor 1×1×H×W; the mean of a segment needs them.
        seed: of noise.

    Returns:
        The forward; all of them have the call of ``RemovalForward.forward``.

    Raises:
        UnknownNameError: there is no such removal; near matches are offered.
        InputError: the removal needs something that was not given, or cannot work with this model.

    Example:
        ```python
        for name in ("layer", "grey"):
            print(name, make_forward(name, model, colors=colors)(image, mask=visible).softmax(1).max())
        ```
    """
    require_known("removal", name, REMOVALS)
    return REMOVALS[name].make(model, Setting(colors, reference, segments, seed))
