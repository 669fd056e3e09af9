"""Operations of random networks, each a line of code that changes the activation ``x``.

A family is a function that draws a line for a map of c × h × w cells. Lines are ordinary Python with
``torch``, ``nn`` and ``F``; ``new(nn.Conv2d(…))`` stands for a module that belongs to the network. A family
may draw a line that the plain network cannot run (a kernel larger than the map): ``random_networks`` then
draws another.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

Family = Callable[[Random, int, int, int], str]


def pair(r: Random, low: int, high: int) -> str:
    """A number for both axes, or one for each."""
    first = r.randint(low, high)
    return str(first if r.random() < 0.6 else (first, r.randint(low, high)))


def rarely(r: Random, text: str, chance: float = 0.3) -> str:
    return text if r.random() < chance else ""


def some(r: Random, *choices: str) -> str:
    return r.choice(choices)


# Windows


def convolution(r: Random, c: int, h: int, w: int) -> str:
    groups = rarely(r, f", groups={some(r, '2', str(c))}")
    out = c if str(c) in groups and r.random() < 0.5 else r.choice([2, 4, 6, 8])
    options = rarely(r, f", stride={pair(r, 1, 3)}") + rarely(r, f", dilation={pair(r, 1, 3)}") + groups
    options += some(r, "", f", padding={pair(r, 0, 2)}", f", padding={pair(r, 1, 3)}", ", padding='same'")
    options += rarely(r, ", bias=False")
    return f"x = new(nn.LazyConv2d({out}, {pair(r, 1, 4)}{options}))(x)"


def usual_convolution(r: Random, c: int, h: int, w: int) -> str:
    k = r.choice([1, 3, 3, 5])
    stride = rarely(r, ", stride=2")
    return f"x = new(nn.LazyConv2d({r.choice([2, 4, 6, 8])}, {k}{stride}, padding={k // 2}))(x)"


def convolution_on_copied_edges(r: Random, c: int, h: int, w: int) -> str:
    mode, k, p = some(r, "reflect", "replicate", "circular"), pair(r, 2, 4), pair(r, 1, 2)
    stride = rarely(r, ", stride=2")
    return f"x = new(nn.LazyConv2d(4, {k}{stride}, padding={p}, padding_mode={mode!r}))(x)"


def transposed_convolution(r: Random, c: int, h: int, w: int) -> str:
    options = some(
        r, "", ", stride=2", ", stride=2, padding=1, output_padding=1", ", padding=1", ", stride=3"
    )
    options += rarely(r, ", dilation=2") + rarely(r, ", groups=2")
    return f"x = new(nn.LazyConvTranspose2d({r.choice([2, 4])}, {pair(r, 1, 4)}{options}))(x)"


def max_pool(r: Random, c: int, h: int, w: int) -> str:
    options = rarely(r, f", stride={pair(r, 1, 3)}", 0.6) + rarely(r, ", padding=1")
    options += rarely(r, ", dilation=2", 0.2) + rarely(r, ", ceil_mode=True")
    return f"x = new(nn.MaxPool2d({pair(r, 2, 3)}{options}))(x)"


def average_pool(r: Random, c: int, h: int, w: int) -> str:
    options = rarely(r, f", stride={pair(r, 1, 3)}", 0.6) + rarely(r, ", padding=1")
    options += rarely(r, ", ceil_mode=True") + rarely(r, ", count_include_pad=False")
    return f"x = new(nn.AvgPool2d({pair(r, 2, 4)}{options}))(x)"


def power_pool(r: Random, c: int, h: int, w: int) -> str:
    options = rarely(r, ", stride=2") + rarely(r, ", ceil_mode=True")
    return f"x = F.lp_pool2d(x.abs() + 0.1, {r.choice([2, 3])}, {pair(r, 2, 3)}{options})"


def adaptive_pool(r: Random, c: int, h: int, w: int) -> str:
    rows, columns = r.randint(1, max(h, 2)), r.choice([None, r.randint(1, max(w, 2))])
    return f"x = F.adaptive_{some(r, 'avg', 'avg', 'max')}_pool2d(x, ({rows}, {columns}))"


def frame(r: Random, c: int, h: int, w: int) -> str:
    sides = tuple(r.randint(0, 2) for _ in range(4))
    return some(
        r,
        f"x = new(nn.ZeroPad2d({sides}))(x)",
        f"x = F.pad(x, {sides})",
        f"x = F.pad(x, {sides}, value=0.5)",
        f"x = F.pad(x, {sides[:2]})",
        "x = F.pad(x, (-1, 0, 0, -1))",
    )


def copied_edges(r: Random, c: int, h: int, w: int) -> str:
    sides = tuple(r.randint(0, 2) for _ in range(4))
    mode = some(r, "reflect", "replicate", "circular")
    module = {"reflect": "ReflectionPad2d", "replicate": "ReplicationPad2d", "circular": "CircularPad2d"}[
        mode
    ]
    return some(r, f"x = F.pad(x, {sides}, mode={mode!r})", f"x = new(nn.{module}({sides}))(x)")


def interpolation(r: Random, c: int, h: int, w: int) -> str:
    size = some(r, "scale_factor=2", "scale_factor=0.5", f"size=({r.randint(1, 12)}, {r.randint(1, 12)})")
    mode = some(r, "nearest", "nearest-exact", "bilinear", "bicubic", "area")
    linear = mode in ("bilinear", "bicubic")
    options = rarely(r, ", align_corners=True") if linear else ""
    options += rarely(r, ", antialias=True", 0.2) if linear and not options else ""
    return f"x = F.interpolate(x, {size}, mode={mode!r}{options})"


# Single cells


def activation(r: Random, c: int, h: int, w: int) -> str:
    modules = "ReLU ReLU6 LeakyReLU ELU SiLU Hardswish Hardtanh Mish CELU SELU Hardsigmoid"
    always = "GELU Sigmoid Tanh PReLU Softplus Softsign"
    if r.random() < 0.7:
        return f"x = new(nn.{r.choice(modules.split())}({rarely(r, 'inplace=True', 0.5)}))(x)"
    return f"x = new(nn.{r.choice(always.split())}())(x)"


def function_of_a_cell(r: Random, c: int, h: int, w: int) -> str:
    lines = [
        "x = F.relu(x, inplace=True)",
        "x = F.relu_(x)",
        "x = x.relu_()",
        "x = x.clamp(-1, 1)",
        "x.clamp_(min=-0.5)",
        "x = x * x.sigmoid()",
        "x = torch.where(x > 0, x, 0.1 * x)",
        "x = x * (x > -0.2)",
        "x += 1",
        "x = (x - 0.4) / 0.3",
        "x *= 0.5",
        "x = x.abs() ** 1.5",
        "x = x.square() + x",
        "x = 1 - x",
        "x = x.masked_fill(x < -1, -1.0)",
        "x = new(nn.Dropout2d(0.5))(x)",
        "x = x.clone()",
        "x = x.to(memory_format=torch.channels_last)",
        "x = x.contiguous()",
        f"x = x * new(nn.Parameter(torch.ones({c}, 1, 1)))",
        f"x += new(nn.Parameter(torch.ones(1, {c}, 1, 1)))",
        "x = x * 300",
    ]
    if h * w > 1:  # a pooled map of no evidence is 0, and its logarithm or inverse is as it stands
        lines += ["x = x.abs().log()", "x = torch.rsqrt(x.abs() + 1e-3)", "x = (1 / x).clamp(-3, 3)"]
    return r.choice(lines)


def along_channels(r: Random, c: int, h: int, w: int) -> str:
    return some(
        r,
        "x = x.softmax(1)",
        "x = F.log_softmax(x, 1)",
        "x = new(nn.GLU(1))(x)",
        "x = x - x.mean(1, keepdim=True)",
        "x = x.cumsum(1)",
        "x = F.normalize(x, dim=1)",
        "x = x / (x.square().mean(1, keepdim=True) + 1e-3).sqrt()",
        "x = F.local_response_norm(x, 3)",
        "x = x.amax(1, keepdim=True) + x",
        "x = torch.stack([x, -x], 1).amax(1)",
        "x = x.unsqueeze(1).mean(1)",
        "x = x.sort(1).values",
        "x = x.topk(1, 1).values + x",
    )


def batch_norm(r: Random, c: int, h: int, w: int) -> str:
    return "x = new(nn.LazyBatchNorm2d())(x)"


def statistics_norm(r: Random, c: int, h: int, w: int) -> str:
    groups = r.choice([g for g in (1, 2, c) if c % g == 0])
    return some(
        r,
        f"x = new(nn.GroupNorm({groups}, {c}))(x)",
        f"x = new(nn.InstanceNorm2d({c}, affine=True))(x)",
        "x = F.instance_norm(x)",
        f"x = new(nn.LayerNorm(({c}, {h}, {w})))(x)",
        "x = F.layer_norm(x, x.shape[1:])",
        "x = F.layer_norm(x, x.shape[2:])",
        "a = x.norm(2, (2, 3), keepdim=True); x = x + x * a / (a.mean(1, keepdim=True) + 1e-3)",
        "x = x - x.mean((2, 3), keepdim=True);"
        " x = x * torch.rsqrt(x.square().mean((2, 3), keepdim=True) + 0.1)",
        "v, m = torch.var_mean(x, (1, 2, 3), keepdim=True); x = (x - m) / (v + 0.1).sqrt()",
        "x = x / (x.std((2, 3), keepdim=True, correction=0) + 0.1)",
        f"n, c, h, w = x.shape; x = x.reshape(n, {groups}, c // {groups}, h, w);"
        " x = x - x.mean((2, 3, 4), keepdim=True); x = x.reshape(n, c, h, w)",
    )


FAMILIES: tuple[Family, ...] = (
    *[convolution] * 3,
    *[usual_convolution] * 2,
    *[activation] * 2,
    *(convolution_on_copied_edges, transposed_convolution, max_pool, average_pool, power_pool, adaptive_pool),
    *(frame, copied_edges, interpolation, function_of_a_cell, along_channels, batch_norm, statistics_norm),
)
