"""Operations that change the resolution fill the rim first; what reads a visible cell is visible."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_layermask.activation import MaskedMap
from captum_layermask.registry import rule_for
from captum_layermask.rules.shapes import repeated
from captum_layermask.rules.sliding import Size, need_channels_first, pair, slide
from captum_layermask.windows import Spans, Transposed, Window


@rule_for("interpolate", "upsample")
def interpolate(
    x: MaskedMap,
    size: Size | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> MaskedMap:
    """Interpolation of the padded map: an output is visible if a cell with a weight in it is."""
    need_channels_first(x)

    def resize(values: Tensor) -> Tensor:
        return F.interpolate(
            values, size, scale_factor, mode, align_corners, recompute_scale_factor, antialias
        )

    key = ("interpolate", str((size, scale_factor, mode, align_corners, recompute_scale_factor, antialias)))
    spans = x.mask.remember(key, lambda: Spans.of(resize, x.mask.size))
    return slide(x, spans, resize)


@rule_for("conv_transpose2d")
def conv_transpose2d(
    x: MaskedMap,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
) -> MaskedMap:
    """Transposed convolution of the padded map: an output is visible if a visible cell is written to it."""
    kernel, edge = pair(weight.shape[-2:]), pair(padding)
    window = Window(kernel, pair(stride), edge, edge, pair(dilation))
    options: Any = (stride, padding, output_padding, groups, dilation)
    geometry = Transposed(window, pair(output_padding))
    return slide(x, geometry, lambda v: F.conv_transpose2d(v, weight, bias, *options))


@rule_for("pixel_shuffle")
def pixel_shuffle(x: MaskedMap, upscale_factor: int) -> MaskedMap:
    """Depth to space: every cell becomes a block of cells of its kind."""
    need_channels_first(x)
    raw = torch.pixel_shuffle(x.raw, upscale_factor)
    return x.like(raw, repeated(x.mask, raw.shape[-2:]))


@rule_for("pixel_unshuffle")
def pixel_unshuffle(x: MaskedMap, downscale_factor: int) -> MaskedMap:
    """Space to depth: a window whose kernel and stride are the factor (S8)."""
    block = (downscale_factor, downscale_factor)
    return slide(x, Window(block, block), lambda v: torch.pixel_unshuffle(v, downscale_factor))
