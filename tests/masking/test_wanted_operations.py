"""Operations of detectors, decoders and people's own layers keep S1, S2, S5 and S10, in every spelling."""

import pytest
import torch
import torch.nn.functional as F
from small_models import VISIBLE, Net, X, assert_holds, conv, drawn, matrix, run, wide
from support import relative
from torch import nn

from captum_layermask import InputError, LayerMaskedForward, NoRuleError

pytestmark = pytest.mark.filterwarnings("ignore::captum_layermask.VanishedWarning")

KERNEL = torch.randn(12, 1, 3, 3, dtype=torch.double, generator=torch.Generator().manual_seed(3))
PER_IMAGE = torch.randn(5 * 6, 4, 3, 3, dtype=torch.double, generator=torch.Generator().manual_seed(4))
ONE = torch.tensor([1])
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


def phases(window):
    """A window over every second row and column of their own: space to batch, and back."""

    def forward(x):
        blocks = conv(x).view(len(x), 4, 6, 2, 8, 2).permute(0, 3, 5, 1, 2, 4)
        y = window(blocks.reshape(-1, 4, 6, 8)).view(len(x), 2, 2, 4, 6, 8)
        return y.permute(0, 3, 4, 1, 5, 2).reshape(x.shape)

    return forward


def patches_of_rows(x):
    """Per-pixel weights on patches that a reshape by rows has made, as in MobileViT."""
    n, c, h, w = x.shape
    y = x.reshape(n * c * h // 2, 2, w // 2, 2).transpose(1, 2).reshape(n, c, h * w // 4, 4)
    y = F.linear(y.transpose(1, 3).reshape(n * 4, h * w // 4, c), matrix).view(n, 4, h * w // 4, c)
    return y.transpose(1, 3).reshape(n * c * h // 2, w // 2, 2, 2).transpose(1, 2).reshape(n, c, h, w)


def of_one_channel(join):
    return lambda x: join([F.avg_pool2d(image[:, None], 2) for image in conv(x)[:, :1]])


def unpooled_later(x):
    """As in a decoder: other values at the places of the maxima, some of which are fills."""
    y, where = F.max_pool2d(conv(conv(x)), 3, 2, 1, return_indices=True)
    y, where = F.max_pool2d(y[..., :6, :8], 2, return_indices=True)
    return F.max_unpool2d(conv(y), where, 2)


WANTED = {
    "unpooling of other values": unpooled_later,
    "phases": phases(conv),
    "pools of phases": phases(lambda y: F.max_pool2d(y, 3, 1, 1)),
    "patches of rows": patches_of_rows,
    "one channel as a batch": of_one_channel(lambda maps: torch.cat([m[:, 0][None] for m in maps])),
    "one channel as a batch, stacked": of_one_channel(lambda maps: torch.stack([m[:, 0] for m in maps])),
    "images as batches of one": lambda x: torch.stack([conv(image[None]) for image in x]).squeeze(1),
    "split at the middle": lambda x: torch.cat([part * 2 for part in conv(x).hsplit(2)], 1),
    "rows split": lambda x: torch.cat([part * 2 for part in conv(x).dsplit(2)], 2),
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
    "phases": (
        phases(lambda y: F.conv2d(y, conv.weight, conv.bias, padding=1)),
        lambda x: F.conv2d(conv(x), conv.weight, conv.bias, padding=2, dilation=2),
    ),
    "channels flattened image by image": (
        lambda x: F.avg_pool2d(x.view(-1, 1, 12, 16), 2).view(5, -1).softmax(1),
        lambda x: F.avg_pool2d(x, 2).flatten(1).softmax(1),
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


@pytest.mark.parametrize("name", ["patches of rows", "one channel as a batch", "phases"])
def test_an_image_alone_is_what_it_is_in_a_batch(name):
    whole = run(WANTED[name])
    for i in range(5):
        assert relative(run(WANTED[name], X[i : i + 1], VISIBLE[i : i + 1]), whole[i : i + 1]) <= 1e-12


def rows_in_another_order(x):
    shuffled = x.view(5, 4, 2, 6, 16).transpose(2, 3).flatten(2, 3)
    return torch.cat([shuffled, x], 3)


REFUSED = {
    "an empty map, flattened": lambda x: x[:, :, 12:, 16:].flatten(1),
    "rows in another order beside rows": rows_in_another_order,
    "interpolation along the last of three": lambda x: F.interpolate(x[:, 0], scale_factor=2),
    "blocks less their minimum": lambda x: (y := x.view(5, 4, 3, 4, 4, 4)) - y.amin((3, 5), keepdim=True),
    "windows over classes": lambda x: F.max_pool2d(x.argmax(1), 2),
    "samples of channels as a batch": lambda x: F.grid_sample(
        x.view(-1, 1, 12, 16), F.affine_grid(THETA[:1].expand(20, -1, -1), (20, 1, 12, 16), False)
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_followed_is_refused(name):
    with pytest.raises((NoRuleError, InputError)):
        run(REFUSED[name])


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x[5:],
        lambda x: x[5:].relu().flatten(1),
        lambda x: x.index_fill(1, ONE, 2)[5:],
    ],
)
def test_no_images_are_a_part_of_some(function):
    assert run(function).shape == function(X).shape


def test_nothing_may_be_written():
    def function(x):
        y = conv(x)
        y[5:] = x[5:]
        return y

    assert torch.equal(run(function), run(conv))


@pytest.mark.parametrize(
    "quotient",
    [
        lambda x, scale: x.flip(3) / (x.abs() + 1),
        lambda x, scale: scale / (x.abs() + 1),
        lambda x, scale: x.mean((2, 3), keepdim=True) / (x.abs() + 1) * scale,
        lambda x, scale: (x.flip(2).abs() + 1) ** x,
    ],
)
def test_what_stands_beside_missing_cells_has_a_gradient(quotient):
    scale = torch.ones(1, 4, 1, 1, dtype=torch.double, requires_grad=True)
    x = torch.where(VISIBLE, X, torch.nan).requires_grad_()
    run_with_gradients = LayerMaskedForward(Net(quotient))(x, scale, mask=VISIBLE)
    run_with_gradients.sum().backward()
    assert x.grad.isfinite().all() and (x.grad.abs() * VISIBLE).sum() > 0
    assert scale.grad is None or scale.grad.isfinite().all()
