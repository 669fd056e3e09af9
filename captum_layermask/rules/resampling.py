"""Operations that change the resolution fill the rim first; what reads a visible cell is visible."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_layermask.activation import MaskedMap, MaskedVector
from captum_layermask.mask import Mask
from captum_layermask.registry import rule_for
from captum_layermask.rules.shapes import repeated
from captum_layermask.rules.sliding import Size, adaptive_avg_pool2d, need_channels_first, pair, slide
from captum_layermask.windows import Runs, Spans, Transposed, Window, runs_read


@rule_for("interpolate", "upsample")
def interpolate(
    x: MaskedMap,
    size: Size | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> MaskedMap | MaskedVector:
    """Interpolation of the padded map: an output is visible if a cell with a weight in it is.

    Interpolation by area is adaptive average pooling. Others may multiply a cell by a weight of 0, so what is
    missing must be 0 where nothing fills it.
    """
    need_channels_first(x)
    options = (mode, align_corners, recompute_scale_factor, antialias)
    outline = x.raw.new_empty((1, 1, *x.mask.size), device="meta")
    behind = resized(outline, size, scale_factor, *options).shape[2:]
    if mode == "area":
        return adaptive_avg_pool2d(x, tuple(behind))
    if x.mask.full and x.mask.frame is None:
        x.run.count_window(x)
        visible = x.mask.visible
        mask = x.mask.remember(
            ("everything", behind),
            lambda: Mask(visible.new_ones(len(visible), 1, *behind), full=True),
        )
        return x.like(resized(x.raw, size, scale_factor, *options), mask)
    factors = scale_factor if isinstance(scale_factor, Sequence) else (scale_factor, scale_factor)
    across = (min(behind[1], 2), 1)
    rows, columns = (
        read_along(axis, n, c, None if size is None else m, f, options, x.raw.dtype, x.raw.device)
        for axis, (n, c, m, f) in enumerate(zip(x.mask.size, across, behind, factors, strict=True))
    )
    spans = Spans(rows, columns, x.mask.size)
    return slide(x.like(x.zeroed()), spans, lambda v: resized(v, size, scale_factor, *options))


Options = tuple[str, bool | None, bool | None, bool]


def resized(values: Tensor, size: Any, scale_factor: Any, *options: Any) -> Tensor:
    """Plain interpolation; antialiased, of contiguous values.

    Where it makes a map one column wide, PyTorch (2.14) antialiases the rows wrongly, and contiguous maps
    otherwise than channels-last ones. So ours are what most plain maps are, and the answers agree.
    """
    if options[-1]:
        values = values.contiguous()
    return F.interpolate(values, size, scale_factor, *options)


@torch.compiler.assume_constant_result
def read_along(*call: Any) -> Runs:
    """The same as ``probed``, and a constant for ``torch.compile``, which would trace through the cache."""
    return probed(*call)


@functools.lru_cache(maxsize=256)
def probed(
    axis: int,
    size: int,
    across: int,
    behind: int | None,
    factor: float | None,
    options: Options,
    dtype: torch.dtype,
    device: torch.device,
) -> Runs:
    """What interpolation reads along one axis; it is separable, so a narrow map tells, once for all maps.

    Args:
        axis: 0 for rows, 1 for columns.
        size: cells along this axis.
        across: cells along the other axis, 1, or 2 where PyTorch reads otherwise when it makes one (see
            ``resized``).
        behind: how many cells the call asks for along this axis, if it does.
        factor: the factor along this axis, if the call gives one.
        options: its further options.
        dtype: that of the map, and
        device: too: their rounding decides which weights are 0.
    """

    def along(this: float | None, other: float) -> tuple[float, ...] | None:
        return None if this is None else (this, other) if axis == 0 else (other, this)

    def resize(maps: Tensor) -> Tensor:
        return resized(maps, along(behind, across), along(factor, 1.0), *options)

    shape = (size, across) if axis == 0 else (across, size)
    with torch.no_grad():
        return runs_read(resize, shape, axis, torch.empty((), dtype=dtype, device=device))


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
