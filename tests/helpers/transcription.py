"""Layer masking written out literally: one cell, one window at a time, in float64.

A slow reference for the tests. Every function names the semantic (S1-S13) that it transcribes.
``Cells.values`` is meaningless where ``kinds == MISSING``: compare ``Cells.kept_values()``.
Kernels, strides, dilations and paddings are ints or (height, width) pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import VGG, AlexNet, ResNet
from torchvision.models.resnet import BasicBlock, Bottleneck

VISIBLE, MISSING, FRAME = 0, 1, 2

ACTIVATIONS = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SiLU, nn.GELU),
    *(nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Sigmoid, nn.Tanh),
)


@dataclass(frozen=True)
class Cells:
    """S4: an activation (N×C×H×W, float64) and the kind of each of its cells (N×H×W, int)."""

    values: Tensor
    kinds: np.ndarray

    def kept_values(self) -> Tensor:
        """The values, with 0 in missing cells (the paper's ``x ⊙ m``)."""
        return torch.where(torch.from_numpy(self.kinds != MISSING)[:, None], self.values, 0.0)


def enter(image: Tensor, visible: Tensor | np.ndarray) -> Cells:
    """S2a: select at the entrance. ``image`` is N×3×H×W, ``visible`` is a bool N×H×W."""
    kinds = np.where(np.asarray(visible, dtype=bool), VISIBLE, MISSING)
    return Cells(Cells(image.detach().double(), kinds).kept_values(), kinds)


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def neighbor_pad(x: Tensor, kinds: np.ndarray, rounds: int) -> Tensor:
    """S3: Algorithm 1 without its ε. Missing cells that no round reaches are 0.

    In each round, all missing cells that are not filled yet and have a visible or filled cell among
    their 8 neighbours get the mean of these neighbours, simultaneously. Frame cells are neither
    filled nor averaged; they keep their value, as visible cells do.
    """
    out = Cells(x, kinds).kept_values().numpy().copy()
    height, width = kinds.shape[1:]
    for n in range(len(kinds)):
        usable = kinds[n] == VISIBLE  # visible or filled in an earlier round
        for _ in range(rounds):
            fills = {}
            for r, c in np.argwhere((kinds[n] == MISSING) & ~usable):
                neighbours = [
                    out[n, :, v, u]
                    for v in range(max(r - 1, 0), min(r + 2, height))
                    for u in range(max(c - 1, 0), min(c + 2, width))
                    if usable[v, u]  # the cell itself is not
                ]
                if neighbours:
                    fills[r, c] = sum(neighbours) / len(neighbours)
            for (r, c), value in fills.items():
                out[n, :, r, c] = value
                usable[r, c] = True
    return torch.from_numpy(out)


def output_size(size, kernel, stride, dilation, padding, ceil_mode) -> int:
    """PyTorch's number of windows along an axis (``padding`` on both sides)."""
    room = size + 2 * padding - dilation * (kernel - 1) - 1
    count = (-(-room // stride) if ceil_mode else room // stride) + 1
    if ceil_mode and (count - 1) * stride >= size + padding:
        count -= 1  # the last window must start inside the input or the left padding
    return count


def _windows(size, kernel, stride, dilation, padding, ceil_mode=False):
    """Output height and width, and each output cell (i, j) with the rows and columns that it reads.

    Rows and columns are those of the map padded by ``padding`` on all sides; in ceil mode a window
    may stick out of it.
    """
    args = list(zip(*map(_pair, (size, kernel, stride, dilation, padding)), strict=True))
    oh, ow = (output_size(*axis, ceil_mode) for axis in args)

    def reads(axis: int, i: int) -> slice:
        _, k, s, d, _ = args[axis]
        return slice(i * s, i * s + d * (k - 1) + 1, d)

    cells = ((i, j, reads(0, i), reads(1, j)) for i in range(oh) for j in range(ow))
    return (oh, ow), cells


def _kind_of_window(window: np.ndarray) -> int:
    """S5: visible if any cell is; else missing if any cell is; else frame."""
    if (window == VISIBLE).any():
        return VISIBLE
    return MISSING if (window == MISSING).any() else FRAME


def window_kinds(kinds, kernel, stride=1, dilation=1, padding=0, ceil_mode=False) -> np.ndarray:
    """S5, with the op's implicit padding as frame."""
    (ph, pw), n = _pair(padding), len(kinds)
    padded = np.pad(kinds, ((0, 0), (ph, ph), (pw, pw)), constant_values=FRAME)
    shape, cells = _windows(kinds.shape[1:], kernel, stride, dilation, padding, ceil_mode)
    out = np.empty((n, *shape), dtype=kinds.dtype)
    for i, j, rows, cols in cells:
        for b in range(n):
            out[b, i, j] = _kind_of_window(padded[b, rows, cols])
    return out


def _rounds(kernel, dilation=1) -> int:
    """S3: the largest ``dilation · (k − 1)`` over the axes."""
    return max(d * (k - 1) for k, d in zip(_pair(kernel), _pair(dilation), strict=True))


def _filled_and_padded(cells: Cells, rounds: int, padding, value: float) -> Tensor:
    """S3, then the op's implicit padding."""
    ph, pw = _pair(padding)
    return F.pad(neighbor_pad(cells.values, cells.kinds, rounds), (pw, pw, ph, ph), value=value)


def conv2d(cells, weight, bias=None, stride=1, padding=0, dilation=1, groups=1) -> Cells:
    """S3, S5: fill, then convolve with zero padding. ``"same"`` is S4: pad, then ``padding=0``."""
    kernel = (weight.shape[2], weight.shape[3])
    if padding == "same":
        down, across = (d * (k - 1) for k, d in zip(kernel, _pair(dilation), strict=True))
        left, top = across // 2, down // 2
        cells = pad(cells, (left, across - left, top, down - top))
    if isinstance(padding, str):
        padding = 0
    x = _filled_and_padded(cells, _rounds(kernel, dilation), padding, 0.0)
    x = x.unflatten(1, (groups, -1))
    w = weight.detach().double().unflatten(0, (groups, -1))
    shape, windows = _windows(cells.kinds.shape[1:], kernel, stride, dilation, padding)
    out = torch.empty(len(x), len(weight), *shape, dtype=torch.float64)
    for i, j, rows, cols in windows:
        out[:, :, i, j] = torch.einsum("ngcyx,gocyx->ngo", x[..., rows, cols], w).flatten(1)
    if bias is not None:
        out = out + bias.detach().double()[:, None, None]
    return Cells(out, window_kinds(cells.kinds, kernel, stride, dilation, padding))


def max_pool2d(cells, kernel, stride=None, padding=0, dilation=1, ceil_mode=False) -> Cells:
    """S3, S5: fill, then take the maximum. Implicit padding is −inf; frame cells count (S4)."""
    geometry = (kernel, kernel if stride is None else stride, dilation, padding, ceil_mode)
    x = _filled_and_padded(cells, _rounds(kernel, dilation), padding, -torch.inf)
    shape, windows = _windows(cells.kinds.shape[1:], *geometry)
    out = torch.empty(*x.shape[:2], *shape, dtype=torch.float64)
    for i, j, rows, cols in windows:
        out[:, :, i, j] = x[:, :, rows, cols].amax(dim=(2, 3))
    return Cells(out, window_kinds(cells.kinds, *geometry))


def avg_pool2d(cells, kernel, stride=None, padding=0, ceil_mode=False, count_include_pad=True) -> Cells:
    """S3, S5: fill, then average; S7 if the one window holds the whole map.

    ``count_include_pad`` counts implicit padding, but not what sticks out beyond it in ceil mode.
    """
    geometry = (kernel, kernel if stride is None else stride, 1, padding, ceil_mode)
    (height, width), (kh, kw), (ph, pw) = cells.kinds.shape[1:], _pair(kernel), _pair(padding)
    shape, windows = _windows((height, width), *geometry)
    if shape == (1, 1) and kh - ph >= height and kw - pw >= width:
        if count_include_pad:  # S4: the implicit padding in the window is frame
            padded = pad(cells, (pw, pw, ph, ph))
            cells = Cells(padded.values[:, :, :kh, :kw], padded.kinds[:, :kh, :kw])
        return global_avg_pool(cells)
    x = _filled_and_padded(cells, _rounds(kernel), padding, 0.0)
    counts = F.pad(torch.ones(height, width), (pw, pw, ph, ph), value=float(count_include_pad))
    out = torch.empty(*x.shape[:2], *shape, dtype=torch.float64)
    for i, j, rows, cols in windows:
        out[:, :, i, j] = x[:, :, rows, cols].sum(dim=(2, 3)) / counts[rows, cols].sum().item()
    return Cells(out, window_kinds(cells.kinds, *geometry))


def adaptive_avg_pool2d(cells, size) -> Cells:
    """S7 for a 1×1 output; else S3 with rounds = largest bin − 1, and S5 bin by bin."""
    wanted = (size, size) if isinstance(size, int) else size
    have = cells.kinds.shape[1:]
    oh, ow = (h if o is None else o for o, h in zip(wanted, have, strict=True))
    if (oh, ow) == (1, 1):
        return global_avg_pool(cells)
    rows, cols = (
        [slice(i * h // o, -(-(i + 1) * h // o)) for i in range(o)]
        for o, h in zip((oh, ow), have, strict=True)
    )
    x = neighbor_pad(cells.values, cells.kinds, max(b.stop - b.start for b in rows + cols) - 1)
    out = torch.empty(*x.shape[:2], oh, ow, dtype=torch.float64)
    kinds = np.empty((len(x), oh, ow), dtype=cells.kinds.dtype)
    for i, r in enumerate(rows):
        for j, c in enumerate(cols):
            out[:, :, i, j] = x[:, :, r, c].mean(dim=(2, 3))
            kinds[:, i, j] = [_kind_of_window(k[r, c]) for k in cells.kinds]
    return Cells(out, kinds)


def global_avg_pool(cells: Cells) -> Cells:
    """S7: the mean over the cells that are not missing, as a 1×1 map; 0 if all are missing.

    The one cell is missing only where it averages nothing.
    """
    out = torch.zeros(*cells.values.shape[:2], 1, 1, dtype=torch.float64)
    kinds = np.full((len(out), 1, 1), MISSING)
    for n, kind in enumerate(cells.kinds):
        kept = torch.from_numpy(kind != MISSING)
        if kept.any():
            out[n, :, 0, 0] = cells.values[n][:, kept].mean(dim=1)
            kinds[n] = VISIBLE if (kind == VISIBLE).any() else FRAME
    return Cells(out, kinds)


def pad(cells: Cells, widths: int | tuple[int, ...], value: float = 0.0) -> Cells:
    """S4: padding as an op of its own, (left, right, top, bottom); the new cells are frame."""
    left, right, top, bottom = (widths,) * 4 if isinstance(widths, int) else widths
    around = ((0, 0), (top, bottom), (left, right))
    values = F.pad(cells.values, (left, right, top, bottom), value=value)
    return Cells(values, np.pad(cells.kinds, around, constant_values=FRAME))


def per_pixel(cells: Cells, function: Callable[[Tensor], Tensor]) -> Cells:
    """S8: an op on each cell alone passes the kinds through."""
    return Cells(function(cells.values.clone()), cells.kinds)


def batch_norm(cells: Cells, norm: nn.BatchNorm2d) -> Cells:
    """S8: BatchNorm in eval mode, a per-pixel op."""
    assert not norm.training and norm.running_mean is not None and norm.running_var is not None
    mean, var = norm.running_mean.double(), norm.running_var.double()
    weight = norm.weight.detach().double() if norm.affine else torch.ones_like(mean)
    bias = norm.bias.detach().double() if norm.affine else torch.zeros_like(mean)
    mean, scale, bias = (t[:, None, None] for t in (mean, weight / (var + norm.eps).sqrt(), bias))
    return per_pixel(cells, lambda x: (x - mean) * scale + bias)


def _kinds_of_both(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """S6: missing if either is; then visible if either is; else both are frame."""
    visible = np.where((a == VISIBLE) | (b == VISIBLE), VISIBLE, FRAME)
    return np.where((a == MISSING) | (b == MISSING), MISSING, visible)


def add(a: Cells, b: Cells) -> Cells:
    """S6: the residual add."""
    return Cells(a.kept_values() + b.kept_values(), _kinds_of_both(a.kinds, b.kinds))


def cat(parts: list[Cells]) -> Cells:
    """S6: concatenation over channels, masked as the residual add."""
    kinds = parts[0].kinds
    for part in parts[1:]:
        kinds = _kinds_of_both(kinds, part.kinds)
    return Cells(torch.cat([part.kept_values() for part in parts], dim=1), kinds)


def flatten(cells: Cells) -> Tensor:
    """S9: a vector per sample, with 0 in missing cells."""
    return cells.kept_values().flatten(1)


def linear(x: Tensor, module: nn.Linear) -> Tensor:
    """S9: as usual, after flattening."""
    out = x @ module.weight.detach().double().T
    return out if module.bias is None else out + module.bias.detach().double()


def layer(m: nn.Module, x: Cells | Tensor) -> Cells | Tensor:
    """Run one module; ``x`` is a plain tensor once it has been flattened (S9)."""
    if isinstance(m, nn.Sequential):
        return sequential(m, x)
    if isinstance(m, nn.Identity | nn.Dropout | nn.Dropout2d):
        assert isinstance(m, nn.Identity) or not m.training
        return x
    if isinstance(m, ACTIVATIONS):
        return per_pixel(x, m) if isinstance(x, Cells) else m(x.clone())
    if isinstance(x, Tensor):
        assert isinstance(m, nn.Linear), f"{type(m).__name__} on a vector is not transcribed"
        return linear(x, m)
    if isinstance(m, nn.Conv2d) and m.padding_mode == "zeros":
        return conv2d(x, m.weight, m.bias, m.stride, m.padding, m.dilation, m.groups)
    if isinstance(m, nn.BatchNorm2d):
        return batch_norm(x, m)
    if isinstance(m, nn.MaxPool2d):
        return max_pool2d(x, m.kernel_size, m.stride, m.padding, m.dilation, m.ceil_mode)
    if isinstance(m, nn.AvgPool2d) and m.divisor_override is None:
        pooling = (m.kernel_size, m.stride, m.padding, m.ceil_mode, m.count_include_pad)
        return avg_pool2d(x, *pooling)
    if isinstance(m, nn.AdaptiveAvgPool2d):
        return adaptive_avg_pool2d(x, m.output_size)
    if isinstance(m, nn.ConstantPad2d):  # ZeroPad2d is one
        return pad(x, m.padding, m.value)
    if isinstance(m, nn.Flatten):
        return flatten(x)
    if isinstance(m, BasicBlock | Bottleneck):
        return residual_block(m, x)
    raise NotImplementedError(f"{type(m).__name__} is not transcribed")


def sequential(module: nn.Sequential, cells: Cells | Tensor) -> Cells | Tensor:
    """Run the modules in order."""
    for child in module:
        cells = layer(child, cells)
    return cells


def residual_block(block: BasicBlock | Bottleneck, x: Cells) -> Cells:
    """S6: the branch plus the shortcut."""
    steps = [block.conv1, block.bn1, block.relu, block.conv2, block.bn2]
    if isinstance(block, Bottleneck):
        steps += [block.relu, block.conv3, block.bn3]
    branch = sequential(nn.Sequential(*steps), x)
    shortcut = x if block.downsample is None else layer(block.downsample, x)
    return layer(block.relu, add(branch, shortcut))


def resnet(model: ResNet, image: Tensor, visible: Tensor | np.ndarray) -> Tensor:
    """Logits of a torchvision ResNet, ResNeXt or wide ResNet."""
    stages = [model.conv1, model.bn1, model.relu, model.maxpool]
    stages += [model.layer1, model.layer2, model.layer3, model.layer4]
    head = [model.avgpool, nn.Flatten(), model.fc]
    return sequential(nn.Sequential(*stages, *head), enter(image, visible))


def run(model: nn.Module, image: Tensor, visible: Tensor | np.ndarray) -> Tensor:
    """Logits of a ResNet, a torchvision VGG or AlexNet, or an ``nn.Sequential`` that flattens."""
    if isinstance(model, ResNet):
        return resnet(model, image, visible)
    if isinstance(model, VGG | AlexNet):
        model = nn.Sequential(model.features, model.avgpool, nn.Flatten(), model.classifier)
    return sequential(model, enter(image, visible))
