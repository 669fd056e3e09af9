"""Operations of detectors, decoders and people's own layers keep S1, S2, S5 and S10, in every spelling."""

import pytest
import torch
import torch.nn.functional as F
from support import relative
from test_users_models import VISIBLE, X, assert_holds, conv, drawn, run, wide
from torch import nn

pytestmark = pytest.mark.filterwarnings("ignore::captum_layermask.VanishedWarning")

KERNEL = torch.randn(12, 1, 3, 3, dtype=torch.double, generator=torch.Generator().manual_seed(3))
PER_IMAGE = torch.randn(5 * 6, 4, 3, 3, dtype=torch.double, generator=torch.Generator().manual_seed(4))
THETA = torch.tensor([[0.8, 0.2, 0.1], [-0.1, 0.9, 0.0]], dtype=torch.double).expand(5, -1, -1)
LEVELS = [drawn(nn.Conv2d(4, 6, 3, padding=1, stride=stride)) for stride in (1, 2, 4)]


def unpooled(x):
    y, where = F.max_pool2d(conv(x), 2, return_indices=True)
    return conv(F.max_unpool2d(y * 2, where, 2, output_size=x.shape[2:]))


def anchors(x):
    """A detector's head: every level's cells times three anchors in one list."""
    maps = [level(x) for level in LEVELS]
    return torch.cat([m.permute(0, 2, 3, 1).reshape(len(m), -1, 2) for m in maps], 1).sigmoid()


def per_image_kernels(x):
    n, c, h, w = x.shape
    y = F.conv2d(x.reshape(1, n * c, h, w), PER_IMAGE[: 6 * n], padding=1, groups=n)
    return y.view(n, 6, *y.shape[2:])


def over_transposed(x):
    return F.conv2d(x.transpose(1, 2), KERNEL, padding=1, groups=12).transpose(1, 2)


def shifted(x):
    """A temporal shift: channels of two maps, written into one that was made empty."""
    out = torch.zeros_like(x)
    out[:, :2] = conv(x)[:, :2]
    out[:, 2:] = x[:, 2:] * 2
    return conv(out)


def pasted(x):
    """A map in the middle of a larger one."""
    out = x.new_zeros(len(x), 4, 15, 20)
    out[:, :, 1:13, 3:19] = conv(x)
    return conv(out)


def image_by_image(x):
    out = x.new_empty(x.shape)
    for i, image in enumerate(x):
        out[i] = conv(image[None])[0]
    return conv(out)


def without_border(x):
    y = conv(x)
    y[:, :, 0] = y[..., -1] = 0
    return conv(y)


def one_by_one(join):
    """Every channel of every image blurred by itself, image by image."""
    return lambda x: join([F.conv2d(image[:, None], KERNEL[:1], padding=1) for image in conv(x)])


def triplet_attention(x):
    """Attention over channels and columns: the maximum and the mean of the rows, and a window over both."""
    y = conv(x).permute(0, 2, 1, 3)
    pooled = torch.cat([y.amax(1, keepdim=True), y.mean(1, keepdim=True)], 1)
    return (y * F.conv2d(pooled, KERNEL[:2].view(1, 2, 3, 3), padding=1).sigmoid()).permute(0, 2, 1, 3)


def _zeroed(y):
    y[:, :2].zero_()
    return y


def scaled_in_place(x):
    y = conv(x)
    y[0] = y[0] * 2
    for i in range(1, len(y)):
        y[i] *= 3
    y[:, 1:3].mul_(2)
    return conv(y)


WANTED = {
    "channels of an image as a batch": one_by_one(lambda maps: torch.stack([m[:, 0] for m in maps])),
    "the same, squeezed": one_by_one(lambda maps: torch.cat([m.squeeze(1)[None] for m in maps])),
    "the same, transposed": one_by_one(lambda maps: torch.cat([m.transpose(0, 1) for m in maps])),
    "pools of the channels of an image": lambda x: torch.stack(
        [F.max_pool2d(image[:, None], 2)[:, 0] for image in conv(x)]
    ),
    "shares of the channels of an image": lambda x: torch.stack(
        [F.adaptive_avg_pool2d(image[:, None], 1)[:, 0, 0, 0] for image in conv(x)]
    ),
    "channels of an image one after another": lambda x: torch.stack(
        [torch.stack([F.avg_pool2d(c[None, None], 3, 1, 1)[0, 0] for c in image]) for image in conv(x)]
    ),
    "channels of an image enlarged": lambda x: torch.stack(
        [F.interpolate(image[:, None], scale_factor=2, mode="bilinear")[:, 0] for image in conv(x)]
    ),
    "triplet attention": triplet_attention,
    "written image by image": scaled_in_place,
    "filled": lambda x: conv(torch.cat([conv(x)[:, :2].fill_(3.0), conv(x)[:, 2:]], 1)),
    "channels filled": lambda x: conv(conv(x).index_fill(1, torch.tensor([0, 2]), 1.5)),
    "channels set to 0": lambda x: conv(_zeroed(conv(x))),
    "channels added": lambda x: conv(x).index_add(1, torch.tensor([2, 0]), x[:, :2]),
    "channels copied": lambda x: conv(x).index_copy(1, torch.tensor([2, 0]), x[:, :2]),
    "channels written": shifted,
    "a map pasted": pasted,
    "images written": image_by_image,
    "a border written": without_border,
    "copied": lambda x: conv(torch.empty_like(x).copy_(conv(x))),
    "unpooling": unpooled,
    "anchors of several levels": anchors,
    "one image's kernels each": per_image_kernels,
    "windows over a transposed map": over_transposed,
    "windows over the other transposed map": lambda x: F.conv2d(
        x.transpose(1, 3), torch.ones(16, 1, 3, 3, dtype=torch.double), padding=1, groups=16
    ).transpose(1, 3),
    "unfolded twice": lambda x: conv(x).unfold(2, 3, 3).unfold(3, 2, 2).mean((4, 5)),
    "folded": lambda x: F.fold(F.unfold(conv(x), 3, padding=1), x.shape[2:], 3, padding=1),
    "sampled": lambda x: conv(
        F.grid_sample(conv(x), F.affine_grid(THETA, x.shape, True), align_corners=True)
    ),
    "class of each pixel": lambda x: wide(x).argmax(1, keepdim=True) * conv(x),
    "blurred channel by channel": lambda x: F.conv2d(x.reshape(20, 1, 12, 16), KERNEL[:1]).view(5, 4, 10, 14),
    "rows as a sequence": lambda x: F.max_pool1d(conv(x).mean(3), 2),
    "channels in volume": lambda x: F.conv3d(
        conv(x)[:, None], torch.ones(1, 1, 3, 1, 1, dtype=torch.double), padding=(1, 0, 0)
    ).squeeze(1),
    "x.data": lambda x: conv(x).data * 2,
    "the best of all positions": lambda x: conv(x).flatten(2).topk(3).values,
    "picked positions": lambda x: conv(x).flatten(2).gather(2, torch.tensor([[[3], [7], [9], [100]]] * 5)),
}


@pytest.mark.parametrize("name", WANTED)
def test_wanted_operations(name):
    assert_holds(WANTED[name])


EQUAL = {
    "channels as a batch": (
        one_by_one(lambda maps: torch.stack([m[:, 0] for m in maps])),
        lambda x: F.conv2d(conv(x), KERNEL[:1].expand(4, -1, -1, -1), padding=1, groups=4),
    ),
    "channels as a batch, transposed": (
        one_by_one(lambda maps: torch.cat([m.transpose(0, 1) for m in maps])),
        lambda x: F.conv2d(conv(x), KERNEL[:1].expand(4, -1, -1, -1), padding=1, groups=4),
    ),
    "triplet attention": (
        triplet_attention,
        lambda x: (
            (y := conv(x))
            * F.conv2d(
                torch.stack([y.amax(2), y.mean(2)], 1), KERNEL[:2].view(1, 2, 3, 3), padding=1
            ).sigmoid()[:, 0, :, None]
        ),
    ),
    "pasted": (pasted, lambda x: conv(F.pad(conv(x), (3, 1, 1, 2)))),
    "written": (image_by_image, lambda x: conv(conv(x))),
    "border": (
        lambda x: conv(without_border(x)),
        lambda x: conv(conv(F.pad(conv(x)[..., 1:, :-1], (0, 1, 1, 0)))),
    ),
    "pool with indices": (
        lambda x: F.max_pool2d(x, 3, 2, 1, return_indices=True)[0],
        lambda x: F.max_pool2d(x, 3, 2, 1),
    ),
    "max of unfolded": (
        lambda x: x.unfold(2, 2, 2).unfold(3, 2, 2).amax((4, 5)),
        lambda x: F.max_pool2d(x, 2),
    ),
    "kernels per image": (
        per_image_kernels,
        lambda x: torch.cat(
            [F.conv2d(x[i : i + 1], PER_IMAGE[6 * i : 6 * i + 6], padding=1) for i in range(5)]
        ),
    ),
    "nothing sampled elsewhere": (
        lambda x: F.grid_sample(x, F.affine_grid(torch.eye(2, 3).double().expand(5, -1, -1), x.shape, False)),
        lambda x: x * 1,
    ),
    "one level's anchors": (
        lambda x: LEVELS[0](x).permute(0, 2, 3, 1).reshape(5, -1, 2)[..., 0].reshape(5, 12, 16, 3),
        lambda x: LEVELS[0](x).permute(0, 2, 3, 1)[..., ::2],
    ),
    "a list of pixels as an image": (lambda x: torch.stack([conv(v[None])[0] for v in x]), lambda x: conv(x)),
}


@pytest.mark.parametrize("name", EQUAL)
def test_equal_spellings_of_wanted_operations(name):
    one, other = EQUAL[name]
    with torch.no_grad():
        assert relative(one(X), other(X)) <= 1e-12
    assert relative(run(one), run(other)) <= 1e-12
    assert relative(run(lambda x: one(x) * 0 + 1), run(lambda x: other(x) * 0 + 1)) <= 1e-12


def test_an_anchor_is_0_where_its_cell_is_missing_and_a_sigmoid_is_not_asked_then():
    missing = ~VISIBLE.flatten(2).repeat_interleave(3, 2)[:, 0]
    heads = run(lambda x: (x * 0 + 5)[:, :3].permute(0, 2, 3, 1).reshape(5, -1, 1).sigmoid())[..., 0]
    assert torch.equal(heads == 0, missing)
