"""The whole masked network equals a slow, independent transcription of the semantics (S3–S9)."""

import pytest
import torch
import torchvision
import transcription
from support import SmallVGG, mask_families, redraw, relative
from torch import nn

from captum_layermask import LayerMaskedForward

SIZE = 40
FAMILIES = mask_families(SIZE)
MODELS = {
    "resnet18": lambda: torchvision.models.resnet18(num_classes=10),
    "small vgg": SmallVGG,
}


class Framed(nn.Module):
    """Frames that meet in sums: TensorFlow-style padding on both branches of a residual block."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.ZeroPad2d((1, 2, 0, 1)), nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6))
        self.branch = nn.Sequential(nn.ZeroPad2d((0, 2, 2, 0)), nn.Conv2d(6, 6, 3), nn.ReLU())
        self.head = nn.Linear(6, 10)

    def forward(self, x):
        x = self.stem(x)
        x = nn.functional.pad(x + self.branch(x), (3, 3, 3, 3))
        return self.head(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


def framed_by_hand(model, image, visible):
    x = transcription.sequential(model.stem, transcription.enter(image, visible))
    x = transcription.add(x, transcription.sequential(model.branch, x))
    x = transcription.global_avg_pool(transcription.pad(x, 3))
    return transcription.linear(transcription.flatten(x), model.head)


@pytest.mark.filterwarnings("ignore::captum_layermask.VanishedWarning")
@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_network_equals_transcription(name):
    model = redraw(MODELS[name]()).double()
    visible = torch.stack(list(FAMILIES.values()))
    image = torch.randn(len(visible), 3, SIZE, SIZE, dtype=torch.double)
    forward = LayerMaskedForward(model, propagation="paper")
    ours, theirs = forward(image, mask=visible), transcription.run(model, image, visible)
    for row, family in enumerate(FAMILIES):
        assert relative(ours[row], theirs[row]) <= 1e-9, family


@torch.no_grad()
def test_frames_equal_transcription():
    model = redraw(Framed()).double()
    visible = torch.stack(list(FAMILIES.values()))
    image = torch.randn(len(visible), 3, SIZE, SIZE, dtype=torch.double)
    ours = LayerMaskedForward(model, propagation="paper")(image, mask=visible)
    theirs = framed_by_hand(model, image, visible)
    assert relative(ours, theirs) <= 1e-9


@torch.no_grad()
def test_families_hold_sets_that_survive_and_sets_that_vanish():
    forward = LayerMaskedForward(redraw(torchvision.models.resnet18(num_classes=10)), propagation="paper")
    visible = torch.stack(list(FAMILIES.values()))
    with pytest.warns(match="none reached the head"):
        forward(torch.randn(len(visible), 3, SIZE, SIZE), mask=visible)
    vanished = dict(zip(FAMILIES, forward.vanished.tolist(), strict=True))
    assert vanished["one pixel that subsampling drops"]
    assert not vanished["patches"] and not vanished["one pixel"]
    assert not vanished["none"], "an image that was empty from the start did not vanish inside the network"
