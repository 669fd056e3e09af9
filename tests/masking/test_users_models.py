"""Small models in the styles that people write keep S1, S2, S5 and S10."""

import dataclasses
from collections import namedtuple

import pytest
import torch
import torch.nn.functional as F
import torchvision
from small_models import (
    COLUMNS,
    ROWS,
    Net,
    assert_holds,
    conv,
    drawn,
    images,
    matrix,
    norm,
    pixels,
    run,
    wide,
)
from styles import (
    NewSwish,
    Swish,
    attend_to_squeezed,
    channel_attention,
    depth_to_space,
    global_context,
    response_norm,
    space_to_depth,
    whole,
)
from torch import nn
from versions import infinite_norms

from captum_layermask import LayerMaskedForward

pytestmark = pytest.mark.filterwarnings("ignore::captum_layermask.VanishedWarning")


Pair = namedtuple("Pair", "logits map")


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


def flipped_batch(x):
    both = conv(torch.cat([x, x.flip(3)], 0))
    a, b = both.chunk(2)
    return a + b.flip([3])


def spatial_attention(x):
    seen = torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True)[0]], 1)
    return x * torch.sigmoid(F.conv2d(seen, torch.ones(1, 2, 7, 7, dtype=torch.double) / 50, padding=3))


def context_branch(x):
    pooled = F.interpolate(F.adaptive_avg_pool2d(x, 1), size=x.shape[2:], mode="bilinear")
    return torch.cat([x, pooled], 1)


def upsampled(transposed_conv):
    layer = drawn(transposed_conv)
    return lambda x: layer(x)


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
