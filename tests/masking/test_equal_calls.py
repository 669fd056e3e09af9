"""Calls that are equal on plain tensors are equal masked (S7)."""

import pytest
import torch
import torch.nn.functional as F
from small_models import COLUMNS, ROWS, X, assert_holds, conv, matrix, run
from styles import depth_to_space, einops_reduce, space_to_depth, whole
from support import relative
from torch import nn

pytestmark = pytest.mark.filterwarnings("ignore::captum_layermask.VanishedWarning")


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
