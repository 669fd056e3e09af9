"""The ways to remove pixels, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from captum_layermask.errors import UnknownNameError
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
    """What a way of removing pixels may need to know.

    Attributes:
        colors: the scale of the images, for colours and noise.
        reference: the intact image, 1×C×H×W, for ways that leak.
        segments: LongTensor 1×1×H×W, for the mean of a segment.
        seed: of noise.
    """

    colors: Colors | None = None
    reference: Tensor | None = None
    segments: Tensor | None = None
    seed: int = 0


@dataclass(frozen=True)
class Removal:
    """One way to remove pixels.

    Attributes:
        title: for tables and figures.
        make: builds its forward from a model and a setting.
        leaks: whether what it puts in the hole is mixed from the hidden pixels.
    """

    title: str
    make: Callable[[nn.Module, Setting], RemovalForward]
    leaks: bool = False


def _of_model(
    kind: Callable[..., RemovalForward], model: nn.Module, setting: Setting, **options: Any
) -> RemovalForward:
    """A way that needs the model alone."""
    return kind(model, **options)


def _colored(brightness: float | None, model: nn.Module, setting: Setting) -> RemovalForward:
    channels = 0 if setting.colors is None else len(setting.colors.mean)
    color = None if brightness is None else [brightness] * channels
    return ColorFilledForward(model, color, setting.colors)


def _noisy(noise: str, model: nn.Module, setting: Setting) -> RemovalForward:
    return NoiseFilledForward(model, noise, setting.colors, setting.seed)


def _blurred(model: nn.Module, setting: Setting) -> RemovalForward:
    return BlurredForward(model, setting.reference)


def _averaged(model: nn.Module, setting: Setting) -> RemovalForward:
    return SegmentMeanForward(model, setting.reference, setting.segments)


def _imputed(model: nn.Module, setting: Setting) -> RemovalForward:
    return ImputedForward(model, seed=setting.seed)


_masked = partial(_of_model, LayerMaskedForward)

# Functions of the module, and no lambdas: these can be pickled, and so sent to another process.
REMOVALS: dict[str, Removal] = {
    "layer": Removal("layer masking", _masked),
    "layer-paper": Removal("layer masking, paper's masks", partial(_masked, propagation="paper")),
    "grey": Removal("grey", partial(_colored, None)),
    "black": Removal("black", partial(_colored, 0)),
    "white": Removal("white", partial(_colored, 1)),
    "uniform-noise": Removal("uniform noise", partial(_noisy, "uniform")),
    "gaussian-noise": Removal("Gaussian noise", partial(_noisy, "gaussian")),
    "neighbor": Removal("neighbour fill", partial(_of_model, NeighborFilledForward)),
    "visible-blur": Removal("blur of the visible", partial(_of_model, VisibleBlurredForward)),
    "blur": Removal("blur", _blurred, leaks=True),
    "segment-mean": Removal("segment mean", _averaged, leaks=True),
    "telea": Removal("Telea inpainting", partial(_of_model, InpaintedForward, method="telea")),
    "navier-stokes": Removal(
        "Navier–Stokes inpainting", partial(_of_model, InpaintedForward, method="navier-stokes")
    ),
    "road": Removal("noisy linear imputation", _imputed),
    "layer-zero": Removal(
        "layer masking, zero padding", partial(_masked, propagation="paper", padding="zero")
    ),
    "layer-first": Removal("layer masking, first layer only", partial(_masked, propagation="paper", until=1)),
    "partial-conv": Removal("partial convolution", partial(_masked, propagation="paper", padding="partial")),
    "drop-tokens": Removal("token dropping", partial(_of_model, TokenDroppedForward)),
}
"""Name → way. Add your own: ``REMOVALS["zap"] = Removal("zapping", lambda model, s: Zapped(model))``."""


def make_forward(
    name: str,
    model: nn.Module,
    *,
    colors: Colors | None = None,
    reference: Tensor | None = None,
    segments: Tensor | None = None,
    seed: int = 0,
) -> RemovalForward:
    """The forward that removes pixels in the named way.

    Args:
        name: a key of ``REMOVALS``.
        model: the network.
        colors: the scale of the images; colours and noise need it.
        reference: the intact image, 1×C×H×W; ways that leak need it.
        segments: LongTensor 1×1×H×W; the mean of a segment needs them.
        seed: of noise.

    Returns:
        The forward; all of them have the call of ``RemovalForward.forward``.

    Raises:
        UnknownNameError: there is no such way; near matches are offered.
        InputError: the way needs something that was not given, or cannot work with this model.
    """
    if name not in REMOVALS:
        raise UnknownNameError("way of removing", name, REMOVALS, f"Give one of {', '.join(REMOVALS)}.")
    return REMOVALS[name].make(model, Setting(colors, reference, segments, seed))
