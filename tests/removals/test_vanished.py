"""``vanished`` is about the last call, and about none that failed."""

import threading
import warnings

import pytest
import torch
from torch import nn

from captum_layermask import (
    MISSING,
    InputError,
    LayerMaskedForward,
    MaskLostError,
    NoRuleError,
    TrainingModeError,
    VanishedWarning,
)

IMAGES = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)) + 0.1


class Fickle(nn.Module):
    """Loses the last image's only visible pixel, and has a head to choose."""

    def __init__(self):
        super().__init__()
        self.subsampling = nn.Conv2d(3, 4, 1, stride=2)
        self.head = means
        self.normalization = nn.BatchNorm2d(4).eval()

    def forward(self, x):
        return self.head(self.normalization(self.subsampling(x)))


def means(x):
    return x.mean((2, 3))


@pytest.fixture(params=[None, 2], ids=["whole", "in parts"])
def forward(request):
    return LayerMaskedForward(Fickle(), propagation="paper", max_batch=request.param)


def vanishing():
    mask = torch.ones(3, 1, 8, 8)
    mask[2] = 0
    mask[2, 0, 1, 1] = 1
    return mask


def called(forward):
    with pytest.warns(VanishedWarning):
        forward(IMAGES, mask=vanishing())
    assert forward.vanished.tolist() == [False, False, True]
    return forward


def in_half(forward):
    forward(torch.where(torch.arange(3)[:, None, None] == 1, MISSING, IMAGES))


def training(forward):
    forward.model.normalization.train()
    forward(IMAGES)


def with_head(head, call=LayerMaskedForward.__call__):
    def fails(forward):
        forward.model.head = head
        call(forward, IMAGES)

    return fails


def wrong(x):
    raise RuntimeError("the model failed")


def only_the_first_part(x):
    return means(x) if len(x) == 2 else wrong(x)


FAILURES = {
    "an argument": (InputError, lambda forward: forward(IMAGES.int())),
    "no argument": (InputError, lambda forward: forward()),
    "the mask": (InputError, lambda forward: forward(IMAGES, mask=torch.ones(2, 2))),
    "half a pixel": (InputError, in_half),
    "training mode": (TrainingModeError, training),
    "an operation": (NoRuleError, with_head(torch.linalg.pinv)),
    "a lost mask": (MaskLostError, with_head(lambda x: torch.zeros(3, 4))),
    "the model": (RuntimeError, with_head(wrong)),
    "the last part": (RuntimeError, with_head(only_the_first_part)),
    "a trace": (
        RuntimeError,
        with_head(wrong, LayerMaskedForward.trace),
    ),
}


@pytest.mark.parametrize(("error", "fails"), FAILURES.values(), ids=FAILURES)
def test_a_failed_call_leaves_nothing_of_the_one_before(forward, error, fails):
    called(forward)
    with pytest.raises(error):
        fails(forward)
    assert forward.vanished is None


def test_nor_does_one_whose_parts_cannot_be_joined():
    forward = called(LayerMaskedForward(Fickle(), propagation="paper", max_batch=2))
    forward.model.head = torch.mean
    with pytest.raises(InputError, match="leave out max_batch"):
        forward(IMAGES)
    assert forward.vanished is None


def test_nor_one_that_is_ended_by_its_own_warning(forward):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(VanishedWarning):
            forward(IMAGES, mask=vanishing())
    assert forward.vanished is None


def test_the_next_call_tells_again(forward):
    called(forward)
    with pytest.raises(InputError):
        forward(IMAGES.int())
    forward(IMAGES[:1])
    assert forward.vanished.tolist() == [False]


def test_threads_tell_of_their_own_calls(forward):
    called(forward)
    seen = []
    thread = threading.Thread(target=lambda: seen.append(forward.vanished))
    thread.start()
    thread.join()
    assert seen == [None] and forward.vanished.any()
