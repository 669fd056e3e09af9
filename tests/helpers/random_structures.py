"""Structures of random networks: several maps, places, layouts of dimensions, inner batches, and heads.

They are families of lines as in ``random_operations``.
"""

from __future__ import annotations

from random import Random

from random_operations import Family, average_pool, convolution, max_pool, some

# Several maps


def branch(r: Random, c: int) -> str:
    """A function of ``x`` with the same shape."""
    conv = some(
        r,
        f"nn.LazyConv2d({c}, 3, padding=1)",
        f"nn.LazyConv2d({c}, 3, padding=2, dilation=2)",
        f"nn.LazyConv2d({c}, 1)",
        f"nn.LazyConv2d({c}, 3, padding=1, groups={c})",
        f"nn.LazyConv2d({c}, (1, 5), padding=(0, 2))",
        f"nn.LazyConv2d({c}, 2, padding='same')",
        "nn.MaxPool2d(3, 1, 1)",
        "nn.AvgPool2d(3, 1, 1, count_include_pad=False)",
    )
    after = some(r, "", ", nn.ReLU()", ", nn.ReLU(inplace=True)", ", nn.LazyBatchNorm2d()", ", nn.SiLU()")
    return f"new(nn.Sequential({conv}{after}))(x)"


def residual(r: Random, c: int, h: int, w: int) -> str:
    y, z = branch(r, c), branch(r, c)
    return some(
        r,
        f"x = x + {y}",
        f"x = {y} + x",
        f"y = {y}; y += x; x = y",
        f"x = torch.add(x, {y}, alpha=0.5)",
        f"x = torch.maximum(x, {y})",
        f"x = x * {y}",
        f"x = {y} * new(nn.Parameter(torch.ones({c}, 1, 1))) + x",
        f"x = {y} + {z}",
        f"x = F.relu({y} - x, inplace=True)",
        f"x = torch.stack([x, {y}]).sum(0)",
        f"x = x.add({y}).mul_(0.5)",
        f"x = sum([x, {y}, {z}])",
    )


def strided_residual(r: Random, c: int, h: int, w: int) -> str:
    short = some(
        r,
        "new(nn.LazyConv2d(4, 1, stride=2))(x)",
        "new(nn.LazyConv2d(4, 1))(F.avg_pool2d(x, 2, ceil_mode=True))",
    )
    return f"x = new(nn.LazyConv2d(4, 3, stride=2, padding=1))(x) + {short}"


def concatenation(r: Random, c: int, h: int, w: int) -> str:
    y, z = branch(r, c), branch(r, c)
    return some(
        r,
        f"x = torch.cat([x, {y}], 1)",
        f"x = torch.cat(({y}, {z}), dim=1)",
        "x = torch.cat([x[..., :1], x[..., 1:].flip(3)], 3)",
        "x = torch.cat([x, x.flip(2)], 2)",
        "x = torch.cat([x, torch.zeros_like(x)], 3)",
        "a, b = x.chunk(2, 1); x = torch.cat([b.relu(), a], 1)",
        "x = torch.cat([x, x.mean((2, 3), keepdim=True).expand_as(x)], 1)",
    )


def gate(r: Random, c: int, h: int, w: int) -> str:
    pooled = some(
        r,
        "x.mean((2, 3), keepdim=True)",
        "F.adaptive_avg_pool2d(x, 1)",
        "x.amax((2, 3), keepdim=True)",
        "F.adaptive_max_pool2d(x, 1)",
        "F.avg_pool2d(x, x.shape[2:])",
        "x.mean(3, keepdim=True).mean(2, keepdim=True)",
    )
    narrow = f"new(nn.Sequential(nn.LazyConv2d(2, 1), nn.ReLU(inplace=True), nn.LazyConv2d({c}, 1)))"
    return some(
        r,
        f"x = x * {narrow}({pooled}).sigmoid()",
        f"s = {narrow}({pooled}); x *= F.hardsigmoid(s)",
        f"s = new(nn.LazyLinear({c}))(x.mean((2, 3))); x = x * s.sigmoid()[:, :, None, None]",
        f"n, c, h, w = x.shape; s = F.adaptive_avg_pool2d(x, 1).view(n, c);"
        f" x = x * new(nn.LazyLinear({c}))(s).sigmoid().view(n, c, 1, 1)",
        "s = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1);"
        " x = x * new(nn.LazyConv2d(1, 3, padding=1))(s).sigmoid()",
        "x = x * (x.mean(3, keepdim=True) + x.mean(2, keepdim=True)).sigmoid()",
        "s = F.adaptive_avg_pool2d(x, 1).squeeze(-1).transpose(1, 2);"
        " x = x * new(nn.Conv1d(1, 1, 3, padding=1))(s).transpose(1, 2).unsqueeze(-1).sigmoid()",
        "a, b = x.chunk(2, dim=1); x = a * b.sigmoid()",
    )


def reduction(r: Random, c: int, h: int, w: int) -> str:
    over = some(r, "2", "3", "(2, 3)", "(-1, -2)") + ", keepdim=True"
    reduced = some(
        r,
        f"x.mean({over})",
        f"x.amax({over})",
        f"x.amin({over})",
        f"x.sum({over})",
        f"x.logsumexp({over})",
        f"x.var({over}, correction=0)",
        f"x.norm(2, {over})",
        "x.max(3, keepdim=True).values",
    )
    return some(r, f"x = x + 0.2 * {reduced}", f"x = x - {reduced}", f"x = x * {reduced}")


# Places


def move(r: Random, c: int, h: int, w: int) -> str:
    return some(
        r,
        "x = x.flip(3)",
        "x = torch.flip(x, (2, 3))",
        "x = x.flip(1)",
        f"x = x.roll({r.randint(-2, 2)}, 3)",
        "x = torch.roll(x, (1, -1), (2, 3))",
        "x = x.rot90(1, (2, 3))",
        "x = x.transpose(2, 3)",
        "x = x.mT",
    )


def crop(r: Random, c: int, h: int, w: int) -> str:
    return some(
        r,
        "x = x[..., 1:]",
        "x = x[:, :, :-1, 1:]",
        "x = x[..., ::2]",
        "x = x[:, :, 1::2, ::2]",
        f"x = x.narrow(2, 1, {h - 1})",
        "x = x[:, :, -3:]",
        "x = x[:, 1:]",
        "x = x[:, [1, 0]]",
        "x = x.split(2, 1)[0]",
        "x = x[:, :, 1:2]",
        f"x = x.unflatten(3, ({w // 2}, 2))[..., 0]",
        "n, c, h, w = x.shape; x = x.view(n, c, h // 2, 2, w)[:, :, :, 1]",
        "a, b = x.chunk(2, 3); x = a",
    )


def channels(r: Random, c: int, h: int, w: int) -> str:
    return some(
        r,
        "n, c, h, w = x.shape; x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)",
        "n, c, h, w = x.shape; x = x.reshape(n, 2, -1, h, w).transpose(1, 2).contiguous().view(n, -1, h, w)",
        "x = x.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)",
        "x = F.channel_shuffle(x, 2)",
        "a, b = x.chunk(2, dim=1); x = torch.cat([a, new(nn.LazyConv2d(2, 3, padding=1))(b)], 1)",
        f"a, b = x.split([1, {c - 1}], dim=1); x = torch.cat((b, a.tanh()), 1)",
        "a, b = torch.tensor_split(x, 2, 1); x = torch.cat([b, a], 1)",
        "x = torch.cat([p.relu() for p in x.split(1, dim=1)], 1)",
        "x = torch.stack(x.unbind(1), 1)",
        "x = x.repeat(1, 2, 1, 1)",
        "x = x.repeat_interleave(2, 1)",
        "a = x.unflatten(1, (2, -1)); s = a.sum(1).mean((2, 3), keepdim=True).unsqueeze(1);"
        " x = (a * torch.cat([s, -s], 1).softmax(1)).sum(1)",
    )


def blocks(r: Random, c: int, h: int, w: int) -> str:
    return some(
        r,
        "x = F.pixel_unshuffle(x, 2)",
        "x = F.pixel_shuffle(x, 2)",
        "n, c, h, w = x.shape; x = x.view(n, c, h // 2, 2, w // 2, 2).permute(0, 1, 3, 5, 2, 4);"
        " x = x.reshape(n, -1, h // 2, w // 2)",
        "n, c, h, w = x.shape; x = x.reshape(n, c // 4, 2, 2, h, w).permute(0, 1, 4, 2, 5, 3);"
        " x = x.reshape(n, -1, 2 * h, 2 * w)",
        "n, c, h, w = x.shape; x = x.view(n, c, h // 2, 2, w // 2, 2).mean((3, 5))",
        "n, c, h, w = x.shape; x = x.reshape(n, c, h // 2, 2, w // 2, 2).amax((3, 5))",
        "x = torch.cat([x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]], 1)",
        "x = x.repeat_interleave(2, 2).repeat_interleave(2, dim=3)",
    )


def channels_last(r: Random, c: int, h: int, w: int) -> str:
    inside = some(
        r,
        f"new(nn.LayerNorm({c}))(x)",
        f"new(nn.LazyLinear({c + 2}))(x)",
        f"new(nn.Sequential(nn.LayerNorm({c}), nn.LazyLinear(8), nn.GELU(), nn.LazyLinear({c})))(x)",
        f"x + new(nn.Sequential(nn.LazyLinear(8), nn.ReLU(inplace=True), nn.LazyLinear({c})))(x)",
        f"x * new(nn.Parameter(torch.ones({c})))",
        "x[:, :, 1:]",
        "x.mean((1, 2), keepdim=True) + x",
        "F.layer_norm(x, x.shape[1:])",
        "x.flip(2)",
        "x[:, ::2]",
    )
    return f"x = x.permute(0, 2, 3, 1); x = {inside}; x = x.permute(0, 3, 1, 2)"


def tokens(r: Random, c: int, h: int, w: int) -> str:
    inside = some(
        r,
        f"new(nn.LayerNorm({c}))(t)",
        f"new(nn.LazyLinear({c}))(t).relu()",
        f"t + new(nn.Sequential(nn.LayerNorm({c}), nn.LazyLinear({c}), nn.GELU()))(t)",
        "t - t.mean(1, keepdim=True)",
        "t * t.amax(1, keepdim=True)",
        "t / (t.norm(dim=1, keepdim=True) + 0.1)",
    )
    back = some(r, "reshape(n, c, h, w)", "unflatten(2, (h, w))", "contiguous().view(n, c, h, w)")
    return (
        f"n, c, h, w = x.shape; t = x.flatten(2).transpose(1, 2); t = {inside}; x = t.transpose(1, 2).{back}"
    )


def context(r: Random, c: int, h: int, w: int) -> str:
    weights = "new(nn.LazyConv2d(1, 1))(x).flatten(2).softmax(2)"
    return some(
        r,
        f"a = {weights}; x = x + (x.flatten(2) @ a.transpose(1, 2)).unsqueeze(3)",
        f"a = {weights}; x = x + (x.flatten(2) * a).sum(2)[:, :, None, None]",
        "n, c, h, w = x.shape; a = new(nn.LazyConv2d(1, 1))(x).view(n, 1, h * w).softmax(-1);"
        " x = x * torch.bmm(x.view(n, c, -1), a.permute(0, 2, 1)).view(n, c, 1, 1).sigmoid()",
    )


def inner_batch(r: Random, c: int, h: int, w: int) -> str:
    conv = f"new(nn.LazyConv2d({c}, 3, padding=1))"
    return some(
        r,
        f"v = {conv}(torch.cat([x, x.flip(3)])); a, b = v.chunk(2); x = (a + b.flip(3)) / 2",
        f"n = len(x); v = {conv}(torch.cat((x, x.flip(2)), dim=0)); x = v[:n] * 0.5 + v[n:].flip(2) * 0.5",
        f"f = {conv}; x = torch.cat([f(v) for v in x.split(1)])",
        f"f = {conv}; x = torch.stack([f(v[None])[0] for v in x])",
        f"f = {conv}; x = torch.cat([f(x[i][None]) for i in range(x.size(0))])",
        f"f = {conv}; x = torch.stack([f(x[i : i + 1]).squeeze(0) for i in range(len(x))], dim=0)",
        f"n, c, h, w = x.shape; v = {conv}(torch.stack([x, -x], 1).flatten(0, 1));"
        " x = v.view(n, 2, c, h, w).mean(1)",
    )


# Heads: from a map to the output


def head(r: Random, c: int, h: int, w: int) -> str:
    vector = some(
        r,
        "x.mean((2, 3))",
        "x.mean([-2, -1])",
        "x.amax((2, 3))",
        "x.mean(3).mean(2)",
        "x.flatten(2).mean(2)",
        "torch.flatten(F.adaptive_avg_pool2d(x, 1), 1)",
        "F.adaptive_avg_pool2d(x, (1, 1)).squeeze(3).squeeze(2)",
        "F.adaptive_avg_pool2d(x, (2, 2)).flatten(1)",
        "F.avg_pool2d(x, x.shape[-2:]).view(x.size(0), -1)",
        "x.flatten(1)",
        "x.view(x.size(0), -1)",
        "x.reshape(len(x), -1)",
        "x.logsumexp((2, 3))",
        "x.clamp(min=0.1).pow(3).mean((2, 3)).pow(1 / 3)",
        "torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)",
        "x.std((2, 3), correction=0)",
        "x.flatten(2).max(2).values",
    )
    logits = some(
        r,
        "new(nn.LazyLinear(5))",
        "new(nn.Sequential(nn.LazyLinear(6), nn.ReLU(inplace=True), nn.LazyLinear(4)))",
    )
    return some(
        r,
        f"x = {logits}({vector})",
        f"x = {logits}({vector})",
        f"x = {vector}",
        "x = new(nn.LazyConv2d(3, 1))(x)",
        "x = new(nn.LazyConv2d(5, 1))(x).mean((2, 3))",
    )


STRUCTURES: tuple[Family, ...] = (
    *[residual] * 2,
    *(strided_residual, concatenation, gate, reduction, move, crop, channels, blocks, channels_last, tokens),
    *(context, inner_batch),
)


# What the transcription knows


def transcribed(r: Random, c: int, h: int, w: int) -> str:
    activation = some(
        r, "nn.ReLU()", "nn.ReLU6(inplace=True)", "nn.SiLU()", "nn.Tanh()", "nn.LazyBatchNorm2d()"
    )
    sides = tuple(r.randint(0, 2) for _ in range(4))
    return some(
        r,
        convolution(r, c, h, w),
        convolution(r, c, h, w),
        max_pool(r, c, h, w),
        average_pool(r, c, h, w),
        f"x = new({activation})(x)",
        f"x = new({activation})(x)",
        f"x = new(nn.AdaptiveAvgPool2d(({r.randint(1, 4)}, {r.randint(1, 4)})))(x)",
        f"x = new(nn.ZeroPad2d({sides}))(x)",
        f"x = new(nn.ConstantPad2d({sides}, 0.5))(x)",
        f"x = x + {branch(r, c)}",
        f"x = torch.cat([x, {branch(r, c)}], 1)",
    )


def transcribed_head(r: Random, c: int, h: int, w: int) -> str:
    pool = some(r, "", "nn.AdaptiveAvgPool2d(1), ", "nn.AdaptiveAvgPool2d((2, 3)), ")
    return f"x = new(nn.Sequential({pool}nn.Flatten(), nn.LazyLinear(5)))(x)"
