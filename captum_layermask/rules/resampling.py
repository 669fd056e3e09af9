"""Operations that change the resolution fill missing cells first; what reads a visible cell is visible."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_layermask.errors import NoRuleError
from captum_layermask.masking.activation import MaskedMap, MaskedVector
from captum_layermask.masking.compiling import constant
from captum_layermask.masking.mask import Mask
from captum_layermask.masking.registry import rule_for
from captum_layermask.masking.windows import Runs, Spans, Transposed, Window, runs_read
from captum_layermask.rules.sliding import Size, adaptive_avg_pool2d, need_image, pair, slide, unbatched
from captum_layermask.rules.views import filled, image, repeated, where_not


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
    x = image(x)
    need_image(x)
    options = (mode, align_corners, recompute_scale_factor, antialias)
    outline = x.raw.new_empty((1, 1, *x.mask.size), device="meta")
    shape = resized(outline, size, scale_factor, *options).shape[2:]
    if mode == "area":
        return adaptive_avg_pool2d(x, tuple(shape))
    if x.mask.full and x.mask.frame is None:
        x.run.windows += 1
        visible = x.mask.visible
        mask = x.mask.memoize(
            ("everything", shape),
            lambda: Mask(visible.new_ones(len(visible), 1, *shape), full=True, images=x.mask.images),
        )
        return x.like(resized(x.raw, size, scale_factor, *options), mask)
    factors = scale_factor if isinstance(scale_factor, Sequence) else (scale_factor, scale_factor)
    across = (min(shape[1], 2), 1)
    rows, columns = (
        read_along(axis, n, c, None if size is None else m, f, options, x.raw.dtype, x.raw.device)
        for axis, (n, c, m, f) in enumerate(zip(x.mask.size, across, shape, factors, strict=True))
    )
    spans = Spans(rows, columns, x.mask.size)
    return slide(
        MaskedMap(x.zeroed(), x.mask, x.axes, x.run),
        spans,
        lambda v: resized(v, size, scale_factor, *options),
    )


Options = tuple[str, bool | None, bool | None, bool]


def resized(values: Tensor, size: Any, scale_factor: Any, *options: Any) -> Tensor:
    """Plain interpolation; antialiased, of contiguous values.

    Where it makes a map one column wide, PyTorch (2.14) antialiases the rows wrongly, and contiguous maps
    otherwise than channels-last ones. So ours are what most plain maps are, and the results agree.
    """
    if options[-1]:
        values = values.contiguous()
    return F.interpolate(values, size, scale_factor, *options)


@constant
def read_along(*call: Any) -> Runs:
    """The same as ``probed``, and a constant for ``torch.compile``, which would trace through the cache."""
    return probed(*call)


@functools.lru_cache(maxsize=256)
def probed(
    axis: int,
    size: int,
    across: int,
    length: int | None,
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
        length: how many cells the call gives for the output along this axis, if it does.
        factor: the factor along this axis, if the call gives one.
        options: its further options.
        dtype: that of the map, and
        device: too: their rounding decides which weights are 0.
    """

    def along(this: float | None, other: float) -> tuple[float, ...] | None:
        return None if this is None else (this, other) if axis == 0 else (other, this)

    def resize(maps: Tensor) -> Tensor:
        return resized(maps, along(length, across), along(factor, 1.0), *options)

    shape = (size, across) if axis == 0 else (across, size)
    with torch.no_grad():
        return runs_read(resize, shape, axis, torch.empty((), dtype=dtype, device=device))


@rule_for("conv_transpose2d")
@unbatched
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
@unbatched
def pixel_shuffle(x: MaskedMap, upscale_factor: int) -> MaskedMap:
    """Depth to space: every cell becomes a block of cells of its kind."""
    need_image(x)
    raw = torch.pixel_shuffle(x.raw, upscale_factor)
    return x.like(raw, repeated(x.mask, raw.shape[-2:]))


@rule_for("pixel_unshuffle")
@unbatched
def pixel_unshuffle(x: MaskedMap, downscale_factor: int) -> MaskedMap:
    """Space to depth: a window whose kernel and stride are the factor (S8)."""
    block = (downscale_factor, downscale_factor)
    return slide(x, Window(block, block), lambda v: torch.pixel_unshuffle(v, downscale_factor))


@rule_for("max_unpool2d")
@unbatched
def max_unpool2d(
    x: MaskedMap,
    indices: Any,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    output_size: Any = None,
) -> MaskedMap:
    """The inverse of a max pool: every cell becomes a window of its kind, one with its value, others 0."""
    kernel, step, edge = pair(kernel_size), pair(stride or kernel_size), pair(padding)
    if any(k > s for k, s in zip(kernel, step, strict=True)) or not isinstance(indices, MaskedMap):
        raise NoRuleError("unpooling of windows that overlap, or by indices without a mask, has no rule.")
    options: Any = (kernel_size, stride, padding, output_size)
    rows, columns = F.max_unpool2d(x.raw[:1, :1] * 0, indices.raw[:1, :1] * 0, *options).shape[2:]
    # A missing cell may have any place; here all have one in a row of their own, which is cut off.
    places = torch.where(indices.over(indices.mask.present), indices.raw, rows * columns)
    raw = torch.ops.aten.max_unpool2d(x.zeroed(), places, (rows + 1, columns))[:, :, :rows]
    mask, window = x.mask.meet(indices.mask), Window(kernel, step, edge, edge)
    more = tuple(
        n - ((m - 1) * s - 2 * e + k)
        for n, m, s, e, k in zip(raw.shape[2:], mask.size, step, edge, kernel, strict=True)
    )
    mask = mask.after(Transposed(window, (more[0], more[1])), x.run.propagation.policy)
    return MaskedMap(raw, mask, x.axes, x.run)


@rule_for("fold")
def fold(
    x: MaskedMap, output_size: Any, kernel_size: Size, dilation: Size = 1, padding: Size = 0, stride: Size = 1
) -> MaskedMap:
    """Sums of overlapping windows: missing ones are 0; visible where a visible window is written (S8)."""
    edge = pair(padding)
    window = Window(pair(kernel_size), pair(stride), edge, edge, pair(dilation))
    counts = tuple(window.count(n, axis) for axis, n in enumerate(pair(output_size)))
    if x.axes != ("N", "C", "HW") or counts != x.mask.size:
        raise NoRuleError(f"folding a map with axes {x.named} that no unfold made has no rule.")
    options: Any = (kernel_size, dilation, padding, stride)
    raw = F.fold(x.zeroed(), output_size, *options)
    written = [
        (m - 1) * s - 2 * e + d * (k - 1) + 1
        for m, s, e, d, k in zip(counts, window.stride, edge, window.dilation, window.kernel, strict=True)
    ]
    geometry = Transposed(window, (raw.shape[-2] - written[0], raw.shape[-1] - written[1]))
    return MaskedMap(raw, x.after(geometry), ("N", "C", "H", "W"), x.run)


_LEAST_WEIGHT = 1e-3
"""Of a pixel: a grid that means the middle of a cell misses it by rounding."""


@rule_for("grid_sample", "grid_sampler")
def grid_sample(
    x: Any,
    grid: Any,
    mode: Any = "bilinear",
    padding_mode: Any = "zeros",
    align_corners: bool | None = None,
) -> MaskedMap:
    """Samples of the padded map: visible where a visible cell has a weight, else missing where any has."""
    if not isinstance(x, MaskedMap) or not isinstance(grid, Tensor) or isinstance(grid, MaskedMap):
        raise NoRuleError("a grid that is itself a map, or samples of a tensor without a mask, have no rule.")
    need_image(x)
    if len(x.raw) != len(x.mask.visible):
        raise NoRuleError(where_not(x))

    def sample(values: Tensor) -> Tensor:
        if isinstance(mode, int):
            return torch.grid_sampler(values, grid.to(values), mode, int(padding_mode), bool(align_corners))
        return F.grid_sample(values, grid.to(values), mode, padding_mode, align_corners)

    def reads(cells: Tensor) -> Tensor:
        weights = sample(cells.expand(len(x.raw), 1, -1, -1).to(grid.dtype))
        return weights.abs() > _LEAST_WEIGHT

    cells = MaskedMap(x.zeroed(), x.mask, x.axes, x.run)
    raw = sample(filled(cells, 1))
    visible, missing = reads(x.mask.visible), reads(x.mask.missing)
    anchor = visible if x.mask.anchor is x.mask.visible else reads(x.mask.anchor)
    frame = (~visible & ~missing).cpu()
    mask = Mask(visible, anchor, frame, full=x.mask.full, images=x.mask.images)
    return x.like(raw, mask)
