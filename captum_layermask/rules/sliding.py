"""An operation that slides a window fills missing cells at the boundary first, then runs as it is."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_layermask.errors import NoRuleError
from captum_layermask.masking.activation import MaskedMap, MaskedVector
from captum_layermask.masking.boundary import neighbor
from captum_layermask.masking.layout import NCHW, Axes, letters, spelled
from captum_layermask.masking.registry import rule_for
from captum_layermask.masking.signatures import Function
from captum_layermask.masking.windows import Geometry, Spans, Window
from captum_layermask.rules.reductions import amax, mean_of_one_window, weighed
from captum_layermask.rules.views import filled, image, where_not

Size = int | Sequence[int]


def pair(size: Size) -> tuple[int, int]:
    """(rows, columns) of an argument that PyTorch takes as one number or as two."""
    return (size, size) if isinstance(size, int) else (size[0], size[-1])


def slide(
    x: MaskedMap,
    window: Geometry,
    op: Callable[[Tensor], Tensor],
    axes: Axes = NCHW,
    linear: bool = True,
    apart: int = 0,
) -> MaskedMap:
    """Fill what visible windows read (S3), run the plain operation, and propagate the mask (S5).

    Args:
        x: the map, N×C×H×W, or C×H×W where its one image is left out.
        window: which cells each output reads.
        op: the plain operation, N×C×H×W → N×C'×H'×W', on the filled values.
        axes: of the output.
        linear: whether ``op`` is linear but for a constant, which partial convolution needs to know.
        apart: how many parts of the second dimension ``op`` keeps apart; 0 for all.

    Returns:
        The output's map.

    Raises:
        NoRuleError: rows and columns are not where the operation looks for them.

    Example:
        ```python
        @rule_for(MedianPool)  # a module of yours: the median of 3×3 cells
        def median_pool(module, x):
            return slide(x, Window(kernel=(3, 3)), module, linear=False)
        ```
    """
    x.run.windows += 1
    rounds = x.run.propagation.rounds(window)
    x.run.padded = rounds > 0 and not x.mask.full
    if x.raw.dtype in (torch.float16, torch.bfloat16):
        # PyTorch's kernels for half precision let NaN reach a neighbouring cell of a channels-last map.
        x = x.like(x.zeroed().view_as(x.raw))
    if x.axes == NCHW:
        raw = x.run.padding(op, x.raw, x.mask, window, rounds, linear)
        return x.like(raw, x.after(window), axes)
    if window.is_identity and axes == NCHW and letters(x.axes[1]) == "C":
        return x.like(op(x.raw))
    if axes != NCHW or x.run.padding is not neighbor:
        raise NoRuleError(where_not(x))
    return _slide_elsewhere(x, window, op, rounds, apart)


def _slide_elsewhere(
    x: MaskedMap, window: Geometry, op: Callable[[Tensor], Tensor], rounds: int, apart: int
) -> MaskedMap:
    """A window over a map laid out otherwise: whatever runs side by side may be in its first dimension.

    In the second, images or rows may stand in front of the channels, if the operation keeps them apart; in
    the last two channels may stand for rows or columns. Over blocks, a window is a dilated one over cells.
    """
    if x.raw.dim() != 4:
        raise NoRuleError(where_not(x))
    parts, sides = x.dimensions[1], (x.axes[2], x.axes[3])
    ahead = [f for f in parts if f[0] != "C"]
    beside = math.prod([size for _, size in ahead])
    if (
        set(sides) - {"C", "H", "W"}
        or tuple(ahead) != parts[: len(ahead)]
        or (apart or x.raw.shape[1]) % beside
    ):
        raise NoRuleError(where_not(x))
    if sides != ("H", "W"):
        if not isinstance(window, Window):
            raise NoRuleError(where_not(x))
        window = window.along(sides)
    offsets = {letter.upper(): size for d in x.dimensions[:2] for letter, size in d if letter in "hw"}
    if set(offsets) & set(sides):
        if not isinstance(window, Window) or window.stride != (1, 1):
            raise NoRuleError(where_not(x))
        window = window.over_blocks((offsets.get("H", 1), offsets.get("W", 1)))
        rounds = x.run.propagation.rounds(window)
    raw = op(filled(x, rounds))
    second = (*ahead, ("C", raw.shape[1] // beside))
    axes = spelled(
        [x.dimensions[0], second, *(((axis, n),) for axis, n in zip(x.axes[2:], raw.shape[2:], strict=True))]
    )
    return x.like(raw, x.after(window), axes)


def is_image(x: MaskedMap) -> bool:
    """Whether rows and columns are where image operations look for them."""
    return x.raw.dim() == 4 and x.axes[2:] == ("H", "W")


def need_image(x: MaskedMap) -> None:
    """Refuse a map whose rows and columns are not there."""
    if not is_image(x):
        raise NoRuleError(where_not(x))


def unbatch(result: Any) -> Any:
    """The one image of a result."""
    if isinstance(result, tuple):
        return tuple(unbatch(part) for part in result)
    if isinstance(result, MaskedMap):
        return MaskedMap(result.raw[0], result.mask, result.axes[1:], result.run)
    return MaskedVector(result.raw[0], result.sources, result.run)


def unbatched(rule: Function) -> Function:
    """Let the rule of an operation on N×C×H×W serve C×H×W too, as PyTorch's own operations do."""

    @functools.wraps(rule)
    def either(x: MaskedMap, *args: Any, **kwargs: Any) -> Any:
        if x.raw.dim() != 3:
            return rule(image(x), *args, **kwargs)
        return unbatch(rule(image(MaskedMap(x.raw[None], x.mask, ("C", *x.axes), x.run)), *args, **kwargs))

    return either


def need_values_only(return_indices: bool) -> None:
    """Refuse pools that also return where their maxima were: an index into a filled cell means nothing."""
    if return_indices:
        raise NoRuleError("max-pooling with return_indices=True has no layer-masking rule.")


@rule_for("conv2d")
@unbatched
def conv2d(
    x: MaskedMap,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> MaskedMap:
    """Convolution of the padded map (the paper's g_k, §3.2)."""
    kernel, dilations = pair(weight.shape[-2:]), pair(dilation)
    if isinstance(padding, str):
        total = [d * (k - 1) * (padding == "same") for k, d in zip(kernel, dilations, strict=True)]
        before, after = pair([t // 2 for t in total]), pair([t - t // 2 for t in total])
    else:
        before = after = pair(padding)
    window = Window(kernel, pair(stride), before, after, dilations)
    op = functools.partial(
        F.conv2d, weight=weight, bias=bias, stride=stride, padding=padding, dilation=dilation, groups=groups
    )
    return slide(x, window, op, apart=groups)


@rule_for(F.unfold)
@unbatched
def unfold(
    x: MaskedMap, kernel_size: Any, dilation: Size = 1, padding: Size = 0, stride: Size = 1
) -> MaskedMap:
    """The windows of a convolution as channels, one for every flattened position."""
    edge = pair(padding)
    window = Window(pair(kernel_size), pair(stride), edge, edge, pair(dilation))
    options: Any = (dilation, padding, stride)
    return slide(x, window, lambda v: F.unfold(v, kernel_size, *options), ("N", "C", "HW"))


@rule_for("max_pool2d_with_indices")
def max_pool2d_with_indices(x: MaskedMap, *args: Any, return_indices: bool = True, **kwargs: Any) -> Any:
    """Max-pooling that always returns where the maxima were."""
    return max_pool2d(x, *args, **kwargs, return_indices=True)


@rule_for("max_pool2d")
@unbatched
def max_pool2d(
    x: MaskedMap,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Max-pooling of the padded map; one window over everything is the maximum of what is there (S8).

    Its index is that of the greatest cell of the window that was not filled.
    """
    window = pool_window(kernel_size, stride, padding, dilation, ceil_mode)
    arguments: Any = (kernel_size, stride or kernel_size, padding, dilation, ceil_mode)
    if is_image(x) and window.is_whole(x.mask.size):
        values = amax(x, (2, 3), keepdim=True)
        if not return_indices:
            return values
        return values, x.pooled(F.max_pool2d(weighed(x, True, (2, 3)), *arguments, return_indices=True)[1])
    if not return_indices:
        return slide(x, window, lambda v: torch.max_pool2d(v, *arguments), linear=False)
    values = slide(x, window, lambda v: torch.max_pool2d(v, *arguments), linear=False)
    return values, values.like(F.max_pool2d(weighed(x, True, (2, 3)), *arguments, return_indices=True)[1])


@rule_for("avg_pool2d")
@unbatched
def avg_pool2d(
    x: MaskedMap,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> MaskedMap | MaskedVector:
    """Average-pooling of the padded map; one window over everything is the mean of what is there (S7)."""
    window = pool_window(kernel_size, stride, padding, 1, ceil_mode)
    options: Any = (kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)

    def pool(values: Tensor) -> Tensor:
        return F.avg_pool2d(values, *options)

    if not is_image(x) or not window.is_whole(x.mask.size):
        return slide(x, window, pool)
    rows, columns = x.mask.size
    if count_include_pad:
        rows, columns = (
            min(k, before + n + after)
            for k, before, n, after in zip(
                window.kernel, window.before, x.mask.size, window.after, strict=True
            )
        )
    return mean_of_one_window(x, pool, rows * columns)


@rule_for("lp_pool2d")
def lp_pool2d(
    x: MaskedMap, norm_type: float, kernel_size: Size, stride: Size | None = None, ceil_mode: bool = False
) -> Tensor:
    """PyTorch's own definition: a root of the cells in a window times their average power (S3, S7)."""
    rows, columns = pair(kernel_size)
    size: Any = kernel_size
    step: Any = stride
    if math.isinf(norm_type):
        sign = math.copysign(1, norm_type)
        return sign * F.max_pool2d(sign * x.abs(), size, step, ceil_mode=ceil_mode)
    power = F.avg_pool2d(x.pow(norm_type), size, step, ceil_mode=ceil_mode)
    return (torch.sign(power) * F.relu(torch.abs(power))).mul(rows * columns).pow(1 / norm_type)


def pool_window(kernel: Size, stride: Size | None, padding: Size, dilation: Size, ceil: bool) -> Window:
    """The window of a pool; PyTorch's default stride is the kernel."""
    edge = pair(padding)
    return Window(pair(kernel), pair(stride or kernel), edge, edge, pair(dilation), ceil)


@rule_for("adaptive_avg_pool2d")
@unbatched
def adaptive_avg_pool2d(x: MaskedMap, output_size: Any) -> MaskedMap | MaskedVector:
    """Per-bin averages of the padded map; a single bin is the mean of what is there (S7)."""
    bins = adaptive_bins(x, output_size)
    if bins.is_whole(x.mask.size):
        return mean_of_one_window(x, lambda v: F.adaptive_avg_pool2d(v, 1), x.mask.size[0] * x.mask.size[1])
    return slide(x, bins, lambda v: F.adaptive_avg_pool2d(v, output_size))


@rule_for("adaptive_max_pool2d")
@unbatched
def adaptive_max_pool2d(
    x: MaskedMap, output_size: Any, return_indices: bool = False
) -> MaskedMap | MaskedVector:
    """Per-bin maxima of the padded map; a single bin is the maximum of what is there (S8)."""
    need_values_only(return_indices)
    bins = adaptive_bins(x, output_size)
    if bins.is_whole(x.mask.size):
        return amax(x, (2, 3), keepdim=True)
    return slide(x, bins, lambda v: F.adaptive_max_pool2d(v, output_size), linear=False)


def adaptive_bins(x: MaskedMap, output_size: Any) -> Spans:
    """The bins of an adaptive pool; None stands for the map's own size."""
    need_image(x)
    wanted = (output_size, output_size) if isinstance(output_size, int) else output_size
    rows, columns = (s if a is None else a for s, a in zip(x.mask.size, wanted, strict=True))
    return Spans.bins(x.mask.size, (rows, columns))
