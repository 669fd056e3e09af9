"""The ways to remove pixels, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from captum_layermask.colors import Colors
from captum_layermask.errors import UnknownNameError
from captum_layermask.fills import (
    ColorFilledForward,
    NeighborFilledForward,
    NoiseFilledForward,
    VisibleBlurredForward,
)
from captum_layermask.forward import RemovalForward
from captum_layermask.inpainting import ImputedForward, InpaintedForward
from captum_layermask.layer_masking import LayerMaskedForward
from captum_layermask.leaking import BlurredForward, SegmentMeanForward
from captum_layermask.token_dropping import TokenDroppedForward


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


REMOVALS: dict[str, Removal] = {
    "layer": Removal("layer masking", lambda m, s: LayerMaskedForward(m)),
    "layer-paper": Removal(
        "layer masking, paper's masks", lambda m, s: LayerMaskedForward(m, propagation="paper")
    ),
    "grey": Removal("grey", lambda m, s: ColorFilledForward(m, None, s.colors)),
    "black": Removal("black", lambda m, s: ColorFilledForward(m, _shade(0, s), s.colors)),
    "white": Removal("white", lambda m, s: ColorFilledForward(m, _shade(1, s), s.colors)),
    "uniform-noise": Removal(
        "uniform noise", lambda m, s: NoiseFilledForward(m, "uniform", s.colors, s.seed)
    ),
    "gaussian-noise": Removal(
        "Gaussian noise", lambda m, s: NoiseFilledForward(m, "gaussian", s.colors, s.seed)
    ),
    "neighbor": Removal("neighbour fill", lambda m, s: NeighborFilledForward(m)),
    "visible-blur": Removal("blur of the visible", lambda m, s: VisibleBlurredForward(m)),
    "blur": Removal("blur", lambda m, s: BlurredForward(m, s.reference), leaks=True),
    "segment-mean": Removal(
        "segment mean", lambda m, s: SegmentMeanForward(m, s.reference, s.segments), leaks=True
    ),
    "telea": Removal("Telea inpainting", lambda m, s: InpaintedForward(m, "telea")),
    "navier-stokes": Removal("Navier–Stokes inpainting", lambda m, s: InpaintedForward(m, "navier-stokes")),
    "road": Removal("noisy linear imputation", lambda m, s: ImputedForward(m, seed=s.seed)),
    "layer-zero": Removal(
        "layer masking, zero padding", lambda m, s: LayerMaskedForward(m, propagation="paper", padding="zero")
    ),
    "layer-first": Removal(
        "layer masking, first layer only", lambda m, s: LayerMaskedForward(m, propagation="paper", until=1)
    ),
    "partial-conv": Removal(
        "partial convolution", lambda m, s: LayerMaskedForward(m, propagation="paper", padding="partial")
    ),
    "drop-tokens": Removal("token dropping", lambda m, s: TokenDroppedForward(m)),
}
"""Name → way. Add your own: ``REMOVALS["zap"] = Removal("zapping", lambda model, s: Zapped(model))``."""


def _shade(brightness: float, setting: Setting) -> list[float]:
    return [brightness] * (0 if setting.colors is None else len(setting.colors.mean))


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
