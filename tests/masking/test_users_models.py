"""Small models in the styles that people write keep S1, S2, S5 and S10; equal spellings stay equal (S7)."""

import dataclasses
from collections import namedtuple

import pytest
import torch
import torch.nn.functional as F
import torchvision
from small_models import (
    COLUMNS,
    ROWS,
    VISIBLE,
    Net,
    X,
    assert_holds,
    conv,
    drawn,
    excite,
    images,
    matrix,
    norm,
    pixels,
    point,
    run,
    squeeze,
    wide,
)
from support import relative
from torch import nn
from versions import infinite_norms

from captum_layermask import InputError, LayerMaskedForward, MaskLostError, NoRuleError

pytestmark = pytest.mark.filterwarnings("ignore::captum_layermask.VanishedWarning")


class Swish(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return gradient * s * (1 + x * (1 - s))


class NewSwish(torch.autograd.Function):
    @staticmethod
    def forward(x):
        return x * torch.sigmoid(x)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)


class Preprocessed(nn.Module):
    """Preprocessing with buffers, inside the model."""

    def __init__(self, channels):
        super().__init__()
        self.register_buffer("mean", torch.zeros(1, channels, 1, 1))
        self.register_buffer("std", torch.zeros(1, channels, 1, 1))
        self.body = nn.Sequential(nn.Conv2d(channels, 6, 3, 2), nn.BatchNorm2d(6), nn.ReLU(inplace=True))
        self.head = nn.Linear(6, 5)

    def forward(self, x):
        return self.head(self.body((x - self.mean) / self.std).mean((2, 3)))


def channel_shuffle(x):
    n, c, h, w = x.shape
    return conv(x).view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


def space_to_depth(x, r=2):
    n, c, h, w = x.shape
    return x.view(n, c, h // r, r, w // r, r).permute(0, 1, 3, 5, 2, 4).reshape(n, c * r * r, h // r, w // r)


def depth_to_space(x, r=2):
    n, c, h, w = x.shape
    x = x.view(n, c // r**2, r, r, h, w).permute(0, 1, 4, 2, 5, 3)
    return x.reshape(n, c // r**2, h * r, w * r)


def tokens(x):
    t = F.gelu(F.linear(norm(conv(x).flatten(2).transpose(1, 2)), matrix))
    return conv(t.transpose(1, 2).view(x.shape))


def tokens_unflattened(x):
    return F.linear(x.flatten(2).permute(0, 2, 1), matrix).transpose(1, 2).unflatten(2, x.shape[2:])


def channels_last(x):
    y = F.gelu(F.linear(norm(conv(x).permute(0, 2, 3, 1)), matrix))
    return conv(x + y.permute(0, 3, 1, 2))


def transposed(x):
    return conv(conv(x.transpose(2, 3)).relu().mT) + x


def coordinate_attention(x):
    h, w = x.shape[2:]
    rows, columns = x.mean(3, keepdim=True), x.mean(2, keepdim=True).transpose(2, 3)
    both = F.conv2d(torch.cat([rows, columns], 2), matrix[:, :, None, None])
    rows, columns = both.split([h, w], dim=2)
    return x * rows.sigmoid() * columns.transpose(2, 3).sigmoid()


def assigned_channels(x):
    x = conv(x)
    x[:, 0] = x[:, 1] * 2
    x[:, 2] = 0.5
    x[x < 0] = 0
    return conv(x)


def in_place(x):
    x = conv(x).add_(1).mul_(2)
    x += conv(x)
    F.relu(x, inplace=True)
    return conv(x).clamp_(-1, 1)


def involution(x):
    n, c, h, w = x.shape
    patches = F.unfold(conv(x), 3, padding=1).view(n, c, 9, h, w)
    return (patches * wide(x)[:, :1].unsqueeze(2)).sum(2)


def global_context(x):
    n, c, h, w = x.shape
    weights = point(x).view(n, 1, h * w).softmax(-1).unsqueeze(-1)
    return x + (x.view(n, c, h * w).unsqueeze(1) @ weights).view(n, c, 1, 1)


def response_norm(x):
    x = x.permute(0, 2, 3, 1)
    size = torch.norm(x, p=2, dim=(1, 2), keepdim=True)
    return (x * (size / (size.mean(-1, keepdim=True) + 1e-6)) + x).permute(0, 3, 1, 2)


def flipped_batch(x):
    both = conv(torch.cat([x, x.flip(3)], 0))
    a, b = both.chunk(2)
    return a + b.flip([3])


def attend_to_squeezed(x):
    gate = torch.sigmoid(excite(F.relu(squeeze(F.adaptive_avg_pool2d(x, 1).flatten(1)))))
    return x * gate[:, :, None, None].expand_as(x)


def channel_attention(x):
    gate = F.conv1d(x.mean((2, 3))[:, None], torch.ones(1, 1, 3, dtype=torch.double), padding=1)
    return x * gate.sigmoid().transpose(1, 2).unsqueeze(-1)


def spatial_attention(x):
    seen = torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True)[0]], 1)
    return x * torch.sigmoid(F.conv2d(seen, torch.ones(1, 2, 7, 7, dtype=torch.double) / 50, padding=3))


def context_branch(x):
    pooled = F.interpolate(F.adaptive_avg_pool2d(x, 1), size=x.shape[2:], mode="bilinear")
    return torch.cat([x, pooled], 1)


def upsampled(transposed_conv):
    layer = drawn(transposed_conv)
    return lambda x: layer(x)


def whole(x):
    return tuple(x.shape[2:])


MODELS = {
    "functional": lambda x: F.conv2d(F.max_pool2d(F.relu(conv(x)), 2), conv.weight, padding=1).mean((2, 3)),
    "in place": in_place,
    "assigned channels": assigned_channels,
    "stack": lambda x: torch.stack([conv(x), x], 1).sum(1),
    "stack at the end": lambda x: torch.stack([conv(x), x], -1).amax(-1),
    "chunk": lambda x: torch.cat(wide(x).chunk(chunks=4, dim=1)[::-1], 1),
    "chunk of rows": lambda x: conv(torch.cat(conv(x).chunk(3, 2)[::-1], 2)),
    "split": lambda x: [conv(torch.cat([p, p * 2], 1)[:, :4]) for p in wide(x).split([3, 5], dim=1)],
    "split in two": lambda x: sum(torch.split(wide(x), 4, 1)),
    "unbind": lambda x: conv(torch.stack(conv(x).unbind(1)[::-1], 1)),
    "narrow": lambda x: conv(x).narrow(1, 1, 2).narrow(dim=2, start=1, length=8),
    "focus": lambda x: torch.cat([x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)], 1),
    "channel order": lambda x: conv(x[:, [2, 1, 0, 3]]).index_select(1, torch.tensor([3, 0])),
    "flips": flipped_batch,
    "roll": lambda x: conv(torch.roll(x, 2, 3)),
    "rot90": lambda x: conv(torch.rot90(x, 1, (2, 3))),
    "channel shuffle": channel_shuffle,
    "F.channel_shuffle": lambda x: conv(F.channel_shuffle(conv(x), 2)),
    "space to depth": lambda x: space_to_depth(conv(x)),
    "depth to space": lambda x: depth_to_space(conv(x)),
    "there and back": lambda x: conv(depth_to_space(space_to_depth(x))),
    "tokens": tokens,
    "tokens, unflattened": tokens_unflattened,
    "kernel-1 conv1d over tokens": lambda x: F.conv1d(x.flatten(2), matrix[..., None]).view(x.shape),
    "patches as tokens": lambda x: x.view(5, 4, 6, 2, 8, 2).permute(0, 2, 4, 3, 5, 1).reshape(5, 48, 16),
    "channels last": channels_last,
    "transposed": transposed,
    "unfold": involution,
    "autograd function": lambda x: conv(Swish.apply(conv(x))),
    "autograd function with a context": lambda x: conv(NewSwish.apply(conv(x))),
    "torchvision's normalize": lambda x: conv(
        torchvision.transforms.functional.normalize(x, [0.4] * 4, [0.5] * 4)
    ),
    "where": lambda x: conv(torch.where(x > 0, x, 0.1 * x)),
    "masked_fill": lambda x: conv(x.masked_fill(x < 0, 0) * (x > -1)),
    "maxout": lambda x: conv(wide(x).view(5, 4, 2, *whole(x)).max(2)[0]),
    "reflect padding": lambda x: F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), conv.weight, stride=2),
    "unit length": lambda x: x / torch.linalg.vector_norm(conv(x), dim=1, keepdim=True).clamp(min=0.1),
    "squeeze and excite": attend_to_squeezed,
    "channel attention": channel_attention,
    "spatial attention": spatial_attention,
    "coordinate attention": coordinate_attention,
    "global context": global_context,
    "global response norm": response_norm,
    "context branch": context_branch,
    "group norm": lambda x: conv(drawn(nn.GroupNorm(2, 4))(conv(x))),
    "instance norm": lambda x: conv(drawn(nn.InstanceNorm2d(4, affine=True))(conv(x))),
    "layer norm": lambda x: conv(drawn(nn.LayerNorm((4, ROWS, COLUMNS)))(conv(x))),
    "gram matrix": lambda x: torch.bmm(conv(x).flatten(2), x.flatten(2).transpose(1, 2)),
    "lp windows": lambda x: F.lp_pool2d(conv(x), 2.0, 3, stride=2, ceil_mode=True),
    "lp infinity": lambda x: F.lp_pool2d(conv(x), float("inf"), 2),
    "gem": lambda x: F.avg_pool2d(conv(x).clamp(min=1e-6).pow(3), whole(x)).pow(1 / 3),
    "spatial pyramid": lambda x: torch.cat([F.adaptive_max_pool2d(x, k).flatten(1) for k in (1, 2, 5)], 1),
    "bins": lambda x: F.adaptive_avg_pool2d(conv(x), (5, 7)),
    "nearest": lambda x: conv(F.interpolate(F.max_pool2d(x, 2), size=(17, 9))),
    "bilinear": lambda x: conv(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)),
    "bilinear, aligned, down": lambda x: F.interpolate(x, (7, 9), mode="bilinear", align_corners=True),
    "bicubic": lambda x: conv(F.interpolate(x, scale_factor=1.5, mode="bicubic")),
    "antialias": lambda x: F.interpolate(x, size=(5, 6), mode="bilinear", antialias=True),
    "convtranspose": upsampled(nn.ConvTranspose2d(4, 3, 3, padding=1)),
    "convtranspose stride 2": upsampled(nn.ConvTranspose2d(4, 3, 3, 2, 1, output_padding=1)),
    "convtranspose blocks": upsampled(nn.ConvTranspose2d(4, 3, 2, 2)),
    "pixel_shuffle": lambda x: F.conv2d(F.pixel_shuffle(wide(x)[:, :4], 2), conv.weight[:, :1], padding=1),
    "pixel_unshuffle": lambda x: F.pixel_unshuffle(conv(x), 2),
    "dict": lambda x: {"map": conv(x), "more": {"pooled": x.mean((2, 3))}},
    "dataclass": lambda x: Output(x.mean((2, 3)), [conv(x), None]),
    "namedtuple": lambda x: Pair(x.mean((2, 3)), conv(x)),
}
Pair = namedtuple("Pair", "logits map")


@dataclasses.dataclass
class Output:
    logits: torch.Tensor
    more: object = None


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=infinite_norms) if n == "lp infinity" else n for n in MODELS]
)
def test_models(name):
    assert_holds(MODELS[name])


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [(8, 24), (17, 9)])
def test_any_channels_and_aspect_with_preprocessing_inside(channels, size):
    assert_holds(drawn(Preprocessed(channels)), images(channels, *size))


def test_only_the_image_is_masked_when_there_are_more_inputs():
    generator = torch.Generator().manual_seed(3)
    plane, vector = torch.randn(5, 1, ROWS, COLUMNS).double(), torch.randn(5, 3, generator=generator).double()

    def model(x, plane, vector, scale):
        features = wide(torch.cat([x[:, :3], plane], 1)) + plane
        return torch.cat([features.mean((2, 3)) * scale, vector], 1)

    assert_holds(model, extra=(plane, vector, 2))


def test_outputs_keep_their_types_and_hold_plain_tensors():
    assert type(run(MODELS["dataclass"])) is Output
    assert type(run(MODELS["namedtuple"])) is Pair
    assert list(run(MODELS["dict"])) == ["map", "more"]


# S7: calls that are equal on plain tensors are equal masked


def einops_reduce(pattern, how, **sizes):
    def pool(x):
        return pytest.importorskip("einops").reduce(x, pattern, how, **sizes)

    return pool


GLOBAL_MEANS = {
    "avg_pool2d": lambda x: F.avg_pool2d(x, x.shape[2:]).flatten(1),
    "mean((2, 3))": lambda x: x.mean((2, 3)),
    "mean(3).mean(2)": lambda x: x.mean(3).mean(2),
    "mean(2).mean(2)": lambda x: x.mean(2).mean(2),
    "mean of negative dims": lambda x: x.mean([-1, -2]),
    "adaptive": lambda x: F.adaptive_avg_pool2d(x, (1, 1))[:, :, 0, 0],
    "flatten": lambda x: x.flatten(2).mean(-1),
    "view": lambda x: x.view(x.size(0), x.size(1), -1).mean(-1),
    "tokens": lambda x: x.flatten(2).transpose(1, 2).mean(1),
    "channels last": lambda x: x.permute(0, 2, 3, 1).mean((1, 2)),
    "transposed": lambda x: x.transpose(2, 3).flatten(2).mean(-1),
    "adaptive 1d": lambda x: F.adaptive_avg_pool1d(x.flatten(2), 1)[..., 0],
    "blocks": lambda x: x.view(5, 4, 6, 2, 8, 2).mean((2, 3, 4, 5)),
    "einops": einops_reduce("b c h w -> b c", "mean"),
    "einops 1 1": lambda x: einops_reduce("b c h w -> b c 1 1", "mean")(x).flatten(1),
}


@pytest.mark.parametrize("name", GLOBAL_MEANS)
def test_global_means_are_equal_however_they_are_spelled(name):
    assert_holds(GLOBAL_MEANS[name])
    there = VISIBLE.sum((2, 3)).clamp(min=1)
    assert relative(run(GLOBAL_MEANS[name]), torch.where(VISIBLE, X, 0).sum((2, 3)) / there) <= 1e-12


GLOBAL_MAXIMA = {
    "amax": lambda x: x.amax((-2, -1)),
    "flatten": lambda x: x.flatten(2).max(-1)[0],
    "max of max": lambda x: x.max(3).values.max(dim=2).values,
    "max_pool2d": lambda x: F.max_pool2d(x, x.shape[2:]).flatten(1),
    "adaptive": lambda x: F.adaptive_max_pool2d(x, 1).flatten(1),
    "adaptive 1d": lambda x: F.adaptive_max_pool1d(x.flatten(2), 1)[..., 0],
    "transposed": lambda x: x.transpose(2, 3).flatten(2).amax(2),
    "einops": einops_reduce("b c h w -> b c", "max"),
}


@pytest.mark.parametrize("name", GLOBAL_MAXIMA)
def test_global_maxima_are_equal_however_they_are_spelled(name):
    negative = X - 10
    assert_holds(GLOBAL_MAXIMA[name], negative)
    there = torch.where(VISIBLE, negative, -torch.inf).amax((2, 3))
    assert torch.equal(run(GLOBAL_MAXIMA[name], negative), there)


def test_concat_pooling_is_both():
    got = run(lambda x: torch.cat([F.adaptive_avg_pool2d(x, 1), F.adaptive_max_pool2d(x, 1)], 1).flatten(1))
    both = torch.cat([run(GLOBAL_MEANS["adaptive"]), run(GLOBAL_MAXIMA["amax"])], 1)
    assert torch.equal(got, both)


SPELLINGS = {
    "windows' mean": (
        lambda x: F.avg_pool2d(x, 2),
        lambda x: x.view(5, 4, 6, 2, 8, 2).mean((3, 5)),
        lambda x: x.view(5, 4, 6, 2, 8, 2).mean(5).mean(3),
        lambda x: x.view(5, 4, 6, 2, 8, 2).sum((3, 5)) / 4,
        lambda x: x.unflatten(3, (8, 2)).unflatten(2, (6, 2)).mean((3, 5)),
        lambda x: F.adaptive_avg_pool2d(x, (6, 8)),
        lambda x: F.interpolate(x, scale_factor=0.5, mode="bilinear"),
        einops_reduce("b c (h i) (w j) -> b c h w", "mean", i=2, j=2),
    ),
    "windows' maximum": (
        lambda x: F.max_pool2d(x, 2),
        lambda x: x.view(5, 4, 6, 2, 8, 2).amax((3, 5)),
        lambda x: x.view(5, 4, 6, 2, 8, 2).max(5)[0].max(3)[0],
        lambda x: F.pixel_unshuffle(x, 2).view(5, 4, 4, 6, 8).amax(2),
        einops_reduce("b c (h i) (w j) -> b c h w", "max", i=2, j=2),
    ),
    "space to depth": (
        lambda x: F.pixel_unshuffle(x, 2),
        space_to_depth,
        lambda x: F.unfold(x, 2, stride=2).view(5, 16, 6, 8),
        lambda x: F.conv2d(x, torch.eye(16).double().view(16, 4, 2, 2), stride=2),
    ),
    "depth to space": (
        lambda x: F.pixel_shuffle(x, 2),
        depth_to_space,
        lambda x: F.conv_transpose2d(x, torch.eye(4).double().view(4, 1, 2, 2), stride=2),
    ),
    "1×1 convolution": (
        lambda x: F.conv2d(x, matrix[:, :, None, None]),
        lambda x: F.linear(x.permute(0, 2, 3, 1), matrix).permute(0, 3, 1, 2),
        lambda x: (x.movedim(1, -1) @ matrix.T).movedim(-1, 1),
        lambda x: F.linear(x.flatten(2).mT, matrix).mT.view(x.shape),
        lambda x: F.conv1d(x.flatten(2), matrix[..., None]).view(x.shape),
        lambda x: (matrix @ x.flatten(2)).view(x.shape),
    ),
    "3×3 convolution": (
        lambda x: conv(x),
        lambda x: F.conv2d(x.mT, conv.weight.mT, conv.bias, padding=1).transpose(2, 3),
        lambda x: F.conv2d(x.flip(3), conv.weight.flip(3), conv.bias, padding=1).flip(3),
        lambda x: conv(torch.roll(x, (2, 3), (2, 3)).roll((-2, -3), (2, 3))),
        lambda x: (
            (conv.weight.flatten(1) @ F.unfold(x, 3, padding=1)).view(x.shape) + conv.bias[:, None, None]
        ),
        lambda x: torch.cat([conv(part) for part in x.split(2)]),
    ),
    "channel shuffle": (
        lambda x: F.channel_shuffle(x, 2),
        lambda x: x.view(5, 2, 2, *whole(x)).transpose(1, 2).reshape(x.shape),
        lambda x: x[:, [0, 2, 1, 3]],
        lambda x: torch.stack(x.chunk(2, 1), 2).flatten(1, 2),
        lambda x: torch.stack([x.unbind(1)[i] for i in (0, 2, 1, 3)], 1),
    ),
    "a constant where another map is negative": (
        lambda x: x.masked_fill(shifted(x) < 0, 0.5),
        lambda x: torch.where(shifted(x) < 0, 0.5, x),
        lambda x: written(x, shifted(x) < 0, 0.5),
    ),
    "a channel of another map": (
        lambda x: torch.cat([shifted(x)[:, :1], x[:, 1:]], 1),
        lambda x: written(x, (slice(None), 0), shifted(x)[:, 0]),
    ),
    "nearest": (
        lambda x: F.interpolate(x, scale_factor=2),
        lambda x: x.repeat_interleave(2, 2).repeat_interleave(2, 3),
        lambda x: F.interpolate(x, size=(24, 32)),
        lambda x: x[:, :, :, None, :, None].expand(-1, -1, -1, 2, -1, 2).reshape(5, 4, 24, 32),
    ),
    "power pooling of windows": (
        lambda x: F.lp_pool2d(x, 2, 2),
        lambda x: (F.avg_pool2d(x**2, 2) * 4).sqrt(),
        lambda x: nn.LPPool2d(2, 2, stride=2)(x),
    ),
    "power pooling of the map": (
        lambda x: F.lp_pool2d(x, 2, whole(x)).flatten(1),
        lambda x: (x.square().mean((2, 3)) * ROWS * COLUMNS).sqrt(),
    ),
    "generalised mean": (
        lambda x: F.avg_pool2d(x.clamp(min=1e-6).pow(3), whole(x)).pow(1 / 3).flatten(1),
        lambda x: x.clamp(min=1e-6).pow(3).mean((-2, -1)).pow(1 / 3),
        lambda x: F.adaptive_avg_pool2d(x.clamp(min=1e-6) ** 3, 1)[..., 0, 0] ** (1 / 3),
    ),
    "group norm": (
        lambda x: F.group_norm(x, 2, eps=1e-5),
        lambda x: by_hand(x.view(5, 2, 2, *whole(x)), (2, 3, 4)).view(x.shape),
    ),
    "instance norm": (
        lambda x: F.instance_norm(x, eps=1e-5),
        lambda x: F.group_norm(x, 4, eps=1e-5),
        lambda x: by_hand(x, (2, 3)),
        lambda x: by_hand(x.flatten(2), 2).view(x.shape),
    ),
    "layer norm": (
        lambda x: F.layer_norm(x, x.shape[1:], eps=1e-5),
        lambda x: F.group_norm(x, 1, eps=1e-5),
        lambda x: by_hand(x, (1, 2, 3)),
    ),
    "statistics": (
        lambda x: x.std((2, 3)),
        lambda x: torch.std_mean(x, (2, 3))[0],
        lambda x: x.flatten(2).var(2).sqrt(),
    ),
    "euclidean norm": (
        lambda x: x.norm(2, (2, 3)),
        lambda x: torch.linalg.vector_norm(x, dim=(2, 3)),
        lambda x: x.square().sum((2, 3)).sqrt(),
    ),
}


def shifted(x):
    return F.pad(x[..., 4:], (0, 4))


def written(x, index, value):
    x[index] = value
    return x


def by_hand(x, dims):
    variance, mean = torch.var_mean(x, dims, unbiased=False, keepdim=True)
    return (x - mean) / (variance + 1e-5).sqrt()


@pytest.mark.parametrize("name", SPELLINGS)
def test_equal_calls_are_equal_masked(name):
    (first, *others), x = SPELLINGS[name], conv(X).detach()
    assert_holds(first, x)
    expected = run(first, x)
    for number, spelling in enumerate(others, 1):
        assert_holds(spelling, x)
        assert relative(run(spelling, x), expected) <= 1e-12, number


def test_einops_patterns():
    einops = pytest.importorskip("einops")

    def tokens_by_name(x):
        t = F.linear(einops.rearrange(conv(x), "b c h w -> b (h w) c"), matrix)
        return conv(einops.rearrange(t, "b (h w) c -> b c h w", h=ROWS))

    patterns = {
        "b (g c) h w -> b (c g) h w": {"g": 2},
        "b c h w -> b h w c": {},
        "b c (h i) (w j) -> b (c i j) h w": {"i": 2, "j": 2},
        "b (c i j) h w -> b c (h i) (w j)": {"i": 2, "j": 2},
        "b c (h i) (w j) -> b (h w) (i j c)": {"i": 2, "j": 2},
    }
    for pattern, sizes in patterns.items():
        assert_holds(lambda x, p=pattern, s=sizes: einops.rearrange(conv(x), p, **s))
    assert_holds(lambda x: conv(einops.repeat(x, "b c h w -> b c (h 2) (w 2)")))
    assert_holds(lambda x: conv(einops.repeat(x[:, :2], "b c h w -> b (r c) h w", r=2)))
    assert_holds(tokens_by_name)
    assert (
        relative(run(tokens_by_name), run(lambda x: conv(SPELLINGS["1×1 convolution"][0](conv(x))))) <= 1e-12
    )


# S8: missing cells get no weight. For each image, the plain operation on its visible cells alone.


def over_what_is_there(operation):
    """For every image with its visible cells in one row, what the operation makes of them, put back."""
    out = torch.zeros_like(X)
    for image, mask, result in zip(X, VISIBLE[:, 0], out, strict=True):
        result[:, mask] = operation(image[:, mask][None])[0]
    return out


WEIGHTLESS = {
    "group norm": (lambda x: F.group_norm(x, 2), lambda cells: F.group_norm(cells, 2)),
    "instance norm": (F.instance_norm, F.instance_norm),
    "layer norm": (
        lambda x: F.layer_norm(x, x.shape[1:]),
        lambda cells: F.layer_norm(cells, cells.shape[1:]),
    ),
    "global response norm": (
        response_norm,
        lambda cells: response_norm(cells[..., None])[..., 0],
    ),
    "squeeze and excite": (attend_to_squeezed, lambda cells: attend_to_squeezed(cells[..., None])[..., 0]),
    "channel attention": (channel_attention, lambda cells: channel_attention(cells[..., None])[..., 0]),
    "softmax context": (global_context, lambda cells: global_context(cells[..., None])[..., 0]),
    "softmax context by sum": (
        lambda x: x + (x.flatten(2) * point(x).flatten(2).softmax(2)).sum(2)[..., None, None],
        lambda cells: global_context(cells[..., None])[..., 0],
    ),
}


@pytest.mark.parametrize("name", WEIGHTLESS)
@torch.no_grad()
def test_missing_cells_have_no_weight_in_statistics(name):
    masked, plain = WEIGHTLESS[name]
    assert relative(run(masked), over_what_is_there(plain)) <= 1e-10


def test_a_sum_counts_missing_cells_as_nothing():
    """A sum is a total of the evidence, so it shrinks; only a mean knows how many cells there are."""
    for total in (lambda x: x.sum((2, 3)), lambda x: x.sum(3).sum(2), lambda x: x.flatten(2).sum(-1)):
        assert relative(run(total), torch.where(VISIBLE, X, 0).sum((2, 3))) <= 1e-12


def test_an_upsampled_cell_is_visible_where_a_visible_cell_is_read():
    mask = torch.zeros(4, 4)
    mask[1, 1] = 1
    ones = torch.ones(1, 1, 4, 4, dtype=torch.double)
    grown = {
        "nearest": lambda x: F.interpolate(x, scale_factor=2),
        "transposed": lambda x: F.conv_transpose2d(x, torch.ones(1, 1, 2, 2, dtype=torch.double), stride=2),
        "bilinear": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    }
    expected = torch.zeros(3, 8, 8, dtype=torch.double)
    expected[:2, 2:4, 2:4] = 1
    expected[2, 1:5, 1:5] = 1
    got = torch.stack([run(function, ones, mask)[0, 0] for function in grown.values()])
    assert relative(got, expected) <= 1e-12


# S11: what has no masked meaning is refused


KNOWN_POSITIONS = {
    "rows into channels": lambda x: x.flatten(1, 2).relu(),
    "rows and channels in another grid": lambda x: x.reshape(5, ROWS, 4, COLUMNS),
    "groups of channels with their positions": lambda x: x.view(5, 2, -1).mean(-1),
    "channels as images": lambda x: x.view(20, 1, ROWS, COLUMNS),
    "positions by a list": lambda x: x[:, :, [0, 1]],
    "the k largest positions": lambda x: x.flatten(2).topk(3, -1)[0],
    "rows as a sequence": lambda x: F.conv1d(x.mean(2), torch.ones(4, 4, 3, dtype=torch.double)),
    "per-pixel einsum": lambda x: torch.einsum("bchw,dc->bdhw", x, matrix),
    "positions by an index": lambda x: x.flatten(2).argmax(-1),
}


@pytest.mark.parametrize("name", KNOWN_POSITIONS)
def test_operations_that_keep_track_of_positions(name):
    assert_holds(lambda x: KNOWN_POSITIONS[name](conv(x)))


UNKNOWN_POSITIONS = {
    "rows in three": lambda x: x.view(5, 4, 2, 3, 2, COLUMNS).mean((2, 3)),
    "positions in another grid": lambda x: x.flatten(2).view(5, 4, COLUMNS, ROWS),
    "positions in three": lambda x: x.flatten(2).view(5, 4, 8, 8, 3).mean(2),
    "mean over images": lambda x: x.mean(0),
    "offsets without their blocks": lambda x: x.view(5, 4, 6, 2, 8, 2).mean((2, 5)),
    "different axes side by side": lambda x: torch.cat(
        [x[..., :4, :4], x[..., :4, :4].permute(0, 2, 3, 1)], 2
    ),
    "positions by a condition": lambda x: x[x > 0],
    "lists side by side": lambda x: x[:, [0, 1], :, 0],
}


@pytest.mark.parametrize("name", UNKNOWN_POSITIONS)
def test_operations_that_lose_track_of_positions_are_refused(name):
    with pytest.raises((NoRuleError, InputError)):
        run(UNKNOWN_POSITIONS[name])


def test_writing_into_a_plain_tensor_is_refused():
    def write(x):
        out = torch.zeros(x.shape, dtype=x.dtype)
        out[:, :2] = x[:, :2]
        return out

    with pytest.raises(MaskLostError, match="plain tensor"):
        run(write)


class Tokens(nn.Module):
    """A patch embedding, then a block on tokens."""

    def __init__(self, block):
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.blocks = nn.Sequential(block)

    def forward(self, x):
        return self.blocks(self.patches(x).flatten(2).transpose(1, 2))


class Attention(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.qkv = nn.Linear(8, 24)
        self.own = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, t):
        n, s, c = t.shape
        q, k, v = self.qkv(t).chunk(3, -1)
        if self.kind == "heads":
            q, k, v = self.qkv(t).reshape(n, s, 3, 2, c // 2).permute(2, 0, 3, 1, 4).unbind(0)
        if self.kind == "module":
            return self.own(t, t, t, need_weights=False)[0]
        if self.kind == "function":
            return F.scaled_dot_product_attention(q, k, v)
        if self.kind == "einsum":
            return torch.einsum("bic,bjc->bij", q, k).softmax(-1)
        return (q @ k.transpose(-2, -1)).softmax(-1) @ v


class Mixer(nn.Module):
    def __init__(self, convolution):
        super().__init__()
        self.mix = nn.Conv1d(36, 36, 1) if convolution else nn.Linear(36, 36)
        self.convolution = convolution

    def forward(self, t):
        return self.mix(t) if self.convolution else self.mix(t.transpose(1, 2))


TOKEN_BLOCKS = {
    "nn.MultiheadAttention": (lambda: Attention("module"), "multi_head_attention", "blocks.0.own|blocks.0"),
    "F.scaled_dot_product_attention": (lambda: Attention("function"), "scaled_dot_product", "blocks.0"),
    "q @ k": (lambda: Attention("product"), "matmul", "blocks.0"),
    "heads": (lambda: Attention("heads"), "matmul", "blocks.0"),
    "einsum": (lambda: Attention("einsum"), "einsum", "blocks.0"),
    "linear over tokens": (lambda: Mixer(False), "linear", "blocks.0.mix"),
    "conv1d over tokens": (lambda: Mixer(True), "conv1d", "blocks.0.mix"),
    "encoder layer": (
        lambda: nn.TransformerEncoderLayer(8, 2, batch_first=True, dim_feedforward=8),
        "multi_head_attention",
        "blocks.0.self_attn",
    ),
}


@pytest.mark.parametrize("name", TOKEN_BLOCKS)
def test_attention_and_mixers_are_refused_by_name(name):
    make, operation, path = TOKEN_BLOCKS[name]
    forward = LayerMaskedForward(Tokens(make()).eval())
    with (
        torch.no_grad(),
        pytest.raises(NoRuleError, match=f"{operation}.*module '({path})'.*tokens.*rule_for"),
    ):
        forward(torch.randn(2, 3, 24, 24), mask=torch.ones(24, 24))


def test_a_vision_transformer_is_refused():
    vit = torchvision.models.VisionTransformer(24, 4, 1, 2, 8, 16, num_classes=5).eval()
    with torch.no_grad(), pytest.raises(NoRuleError, match=r"multi_head_attention.*tokens.*rule_for"):
        LayerMaskedForward(vit)(torch.randn(2, 3, 24, 24))


# transformers

SMALL = {"num_labels": 5}
TRANSFORMERS = {
    "ResNet": {"embedding_size": 8, "hidden_sizes": [8, 12], "depths": [1, 2]},
    "RegNet": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "groups_width": 4},
    "ConvNext": {"patch_size": 2, "num_stages": 2, "hidden_sizes": [8, 12], "depths": [1, 2]},
    "ConvNextV2": {"patch_size": 2, "num_stages": 2, "hidden_sizes": [8, 12], "depths": [1, 2]},
    "MobileNetV2": {"depth_multiplier": 0.25, "min_depth": 4},
}


@pytest.mark.parametrize("family", TRANSFORMERS)
def test_transformers_convolutional_networks(family):
    transformers = pytest.importorskip("transformers")
    config = getattr(transformers, f"{family}Config")(**TRANSFORMERS[family], **SMALL)
    model = drawn(getattr(transformers, f"{family}ForImageClassification")(config))
    x = images(3, 24, 16)
    assert_holds(model, x)
    with torch.no_grad():
        output = LayerMaskedForward(model)(x, mask=pixels(24, 16))
        with_states = LayerMaskedForward(Net(lambda x: model(x, output_hidden_states=True)))(x)
    assert type(output) is type(model(x)) and type(output.logits) is torch.Tensor
    assert torch.equal(output["logits"], output.logits) and output.logits.shape == (5, 5)
    assert all(type(state) is torch.Tensor for state in with_states.hidden_states)


class CustomActivation(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.conv, self.function = nn.Conv2d(3, 4, 3), function

    def forward(self, x):
        return self.function.apply(self.conv(x)).mean((2, 3))


@pytest.mark.parametrize("function", [Swish, NewSwish])
def test_gradients_through_a_custom_function_are_refused_and_not_lost(function):
    forward = LayerMaskedForward(CustomActivation(function))
    mask = torch.ones(12, 12)
    mask[:5] = 0
    x = torch.randn(2, 3, 12, 12)
    output = forward(x, mask=mask)
    with torch.no_grad():
        assert torch.equal(forward(x, mask=mask), output)
    with pytest.raises(NoRuleError, match="rule_for"):
        output.sum().backward()


def test_a_model_may_cut_gradients_itself():
    class Cuts(nn.Module):
        def forward(self, x):
            with torch.no_grad():
                gate = x.sigmoid()
            return (gate * x).mean((2, 3))

    x = torch.randn(1, 3, 6, 6, requires_grad=True)
    LayerMaskedForward(Cuts())(x, mask=torch.ones(6, 6)).sum().backward()
    assert torch.allclose(x.grad, x.detach().sigmoid() / 36)
