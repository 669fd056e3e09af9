"""Everything runs where the network and the image are; what comes to the CPU meanwhile is counted."""

import copy
from collections import Counter

import pytest
import torch
from second_device import DEVICE, MixedError, SecondDevice, moved, there
from support import small_classifier
from torch import nn
from torchvision.models import VisionTransformer

from captum_layermask.explain.coalitions import Coalitions
from captum_layermask.explain.comparison import compare
from captum_layermask.explain.explanation import explain
from captum_layermask.explain.segments import grid
from captum_layermask.names import METHODS, REMOVAL_NAMES
from captum_layermask.removals.colors import Colors
from captum_layermask.removals.registry import make_forward

IMAGE = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
SEGMENTS = grid(IMAGE, size=4)  # 16 squares
COLORS = Colors([0.5] * 3, [0.2] * 3, normalized=False)
VISIBLE = torch.rand(6, 16, generator=torch.Generator().manual_seed(2)) < 0.5
NAMES = ("ant", "bee", "cat", "dog")


def network_for(removal):
    if removal != "drop-tokens":
        return small_classifier(4)
    torch.manual_seed(0)
    return VisionTransformer(
        image_size=16, patch_size=4, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=8, num_classes=4
    ).eval()


def forward_of(removal, network, image, segments):
    return make_forward(removal, network, colors=COLORS, reference=image, segments=segments, seed=0)


@pytest.mark.parametrize("removal", REMOVAL_NAMES)
@torch.no_grad()
def test_every_removal_runs_where_the_image_is(removal):
    network = network_for(removal)
    masks = VISIBLE[:, SEGMENTS[0]].contiguous()
    expected = forward_of(removal, network, IMAGE, SEGMENTS)(IMAGE.expand(6, -1, -1, -1), mask=masks)
    with SecondDevice():
        forward = forward_of(removal, moved(copy.deepcopy(network)), there(IMAGE), there(SEGMENTS))
        found = forward(there(IMAGE).expand(6, -1, -1, -1), mask=there(masks))
    assert found.device == DEVICE
    torch.testing.assert_close(found.values, expected)


@pytest.mark.parametrize("method", METHODS)
def test_explanations_are_made_where_the_image_is(method):
    options = {"class_names": NAMES, "method": method, "perturbations_per_eval": 4}
    if METHODS[method][1] is not None:
        options["n_samples"] = 2 if method == "shapley-sampling" else 40
    network = small_classifier(4)
    expected = explain(forward_of("layer", network, IMAGE, SEGMENTS), IMAGE, SEGMENTS, **options)
    with SecondDevice():
        forward = forward_of("layer", moved(copy.deepcopy(network)), there(IMAGE), there(SEGMENTS))
        found = explain(forward, there(IMAGE), there(SEGMENTS), **options)
        attributions = found.attributions.cpu()
    torch.testing.assert_close(attributions, expected.attributions)
    assert (found.label, found.top5) == (expected.label, expected.top5)


def test_comparisons_are_made_where_the_image_is():
    options = {"class_names": NAMES, "colors": COLORS, "removals": ["layer", "grey"], "n_samples": 40}
    network = small_classifier(4)
    expected = compare(network, IMAGE, SEGMENTS, **options)
    with SecondDevice():
        found = compare(moved(copy.deepcopy(network)), there(IMAGE), there(SEGMENTS), **options)
    assert found.table() == expected.table()


def deep(blocks):
    torch.manual_seed(0)
    layers = [layer for _ in range(blocks) for layer in (nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4)]
    return nn.Sequential(nn.Conv2d(3, 4, 3), *layers, nn.MaxPool2d(2), *head).eval()


def brought_by(removal, network, visible):
    """What coalitions bring to the CPU, in batches of 2."""
    with SecondDevice() as second:
        forward = forward_of(removal, moved(network), there(IMAGE), there(SEGMENTS))
        coalitions = Coalitions(forward, there(IMAGE), there(SEGMENTS), target=1, batch_size=2)
        second.brought.clear()
        values = coalitions(visible)
        found = Counter(second.brought)
        assert values.device == DEVICE or visible.device == values.device
    return found


@pytest.mark.parametrize(
    ("removal", "each", "each_convolution"),
    [("layer", 5, 1), ("layer-zero", 3, 0), ("grey", 1, 0), ("blur", 1, 0)],
)
def test_a_batch_of_coalitions_brings_few_numbers_to_the_cpu(removal, each, each_convolution):
    """Layer masking counts once for each padded convolution how far values must be filled."""
    shallow = brought_by(removal, deep(1), VISIBLE[:2]).total()
    assert shallow <= each + each_convolution
    assert brought_by(removal, deep(5), VISIBLE[:2]).total() - shallow == 4 * each_convolution
    assert brought_by(removal, deep(1), VISIBLE).total() == 3 * shallow


def test_the_check_itself_fails_where_devices_mix():
    with SecondDevice() as second:
        with pytest.raises(MixedError, match="of both devices"):
            there(IMAGE) + IMAGE
        assert (there(IMAGE) + torch.tensor(1.0)).device == DEVICE
        assert torch.zeros(2, device=DEVICE).cpu().tolist() == [0, 0]
        with pytest.raises((RuntimeError, TypeError, NotImplementedError)):
            there(IMAGE).numpy()
    assert second.brought == ["aten::_to_copy"]
    with pytest.raises(MixedError, match="outside"):
        there(IMAGE) + 1
