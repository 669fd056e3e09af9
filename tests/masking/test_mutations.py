"""The checks of S2b, S5 and the transcription fail when a rule forgets its mask or all fill with grey."""

import itertools

import pytest
import torch
import torchvision
import transcription
from support import SmallVGG, mask_families, redraw, relative, scramble, sees_nothing
from torch import nn

from captum_layermask import LayerMaskedForward
from captum_layermask.masking.activation import MaskedMap, MaskedVector
from captum_layermask.masking.mask import Mask
from captum_layermask.masking.propagation import PROPAGATIONS
from captum_layermask.masking.registry import RULES
from captum_layermask.masking.trees import instances, replaced

pytestmark = pytest.mark.filterwarnings("ignore::captum_layermask.VanishedWarning")

SIZE = 32
VISIBLE = torch.stack([mask_families(SIZE)["patches"], torch.zeros(SIZE, SIZE, dtype=torch.bool)])
VISIBLE[1, :8, :8] = True


class Branches(nn.Module):
    """Concatenation, a residual sum, a product and a global maximum."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 3, padding=1, stride=1)
        self.down, self.head = nn.Conv2d(8, 4, 1, stride=2), nn.Linear(8, 5)

    def forward(self, x):
        a, b = self.a(x), self.b(nn.functional.pad(x[..., 6:], (0, 6)))
        y = self.down(torch.cat([a, b], 1)) + nn.functional.avg_pool2d(a * b, 2)
        y = nn.functional.conv2d(y.relu(), self.b.weight[:, :1].repeat(1, 4, 1, 1), padding=1)
        return self.head(torch.cat([y.mean((2, 3)), y.amax((2, 3))], 1))


class Attention(nn.Module):
    """Patches, a class token, attention by a product and by the fused function, and a normalised sum."""

    def __init__(self):
        super().__init__()
        self.patches, self.token = nn.Conv2d(3, 8, 8, 8), nn.Parameter(torch.zeros(1, 1, 8))
        self.qkv, self.head = nn.ModuleList([nn.Linear(8, 24) for _ in range(2)]), nn.Linear(8, 5)

    def forward(self, x):
        t = self.patches(x).flatten(2).transpose(1, 2)
        t = torch.cat([self.token.expand(len(t), -1, -1), t], 1)
        q, k, v = self.qkv[0](t).chunk(3, -1)
        t = t + (q @ k.transpose(-2, -1)).softmax(-1) @ v
        t = t + nn.functional.scaled_dot_product_attention(*self.qkv[1](t).chunk(3, -1))
        return self.head(t[:, 0] + t[:, 1:].mean(1))


def attention_by_dropping(model, image, visible):
    """Its outputs for the visible patches alone, one image at a time."""
    rows = []
    for one, seen in zip(image, visible, strict=True):
        t = model.patches(one[None]).flatten(2).transpose(1, 2)
        t = torch.cat([model.token, t[:, seen[::8, ::8].flatten()]], 1)
        for qkv in model.qkv:
            t = t + nn.functional.scaled_dot_product_attention(
                *qkv(t).chunk(3, -1), scale=WHOLE[qkv is model.qkv[0]]
            )
        rows.append(model.head(t[:, 0] + t[:, 1:].mean(1)))
    return torch.cat(rows)


WHOLE = {True: 1.0, False: None}


def networks():
    return {
        "attention": redraw(Attention()).double(),
        "resnet18": redraw(torchvision.models.resnet18(num_classes=5)).double(),
        "vgg": redraw(SmallVGG()).double(),
        "flat": redraw(nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(1800, 5))).double(),
        "branches": redraw(Branches()).double(),
    }


def suite_fails():
    """Whether any network violates S2b, S5 on an empty image, or equality with the transcription."""
    torch.manual_seed(0)
    image = torch.randn(2, 3, SIZE, SIZE, dtype=torch.double)
    for (name, model), propagation in itertools.product(networks().items(), PROPAGATIONS):
        forward = LayerMaskedForward(model, propagation=propagation)
        with torch.no_grad():
            masked = forward(image, mask=VISIBLE)
            if not relative(forward._observed(image, (), VISIBLE, scramble), masked) <= 1e-9:
                return True
            try:
                forward._observed(image, (), torch.zeros(SIZE, SIZE), sees_nothing)
            except AssertionError:
                return True
            if name == "attention":
                if not relative(masked, attention_by_dropping(model, image, VISIBLE)) <= 1e-9:
                    return True
                continue
            if propagation != "paper" or name == "branches":
                continue
            if not relative(masked, transcription.run(model, image, VISIBLE)) <= 1e-9:
                return True
    return False


def forgotten(honest, raw):
    if isinstance(honest, MaskedVector):
        return MaskedVector(raw, honest.sources, honest.run)
    return honest.like(raw)


def forgetful(rule):
    """The same operation on the raw values, with the mask of the first operand or no map at all."""

    def run(function, args, kwargs):
        plain = replaced((args, kwargs), MaskedMap, lambda m: m.raw.clone())
        raw = function(*plain[0], **plain[1])
        honest = rule(function, args, kwargs)
        if isinstance(honest, tuple):
            return tuple(itertools.starmap(forgotten, zip(honest, raw, strict=True)))
        return forgotten(honest, raw)

    return run


def maskless(rule):
    """The honest values, with every cell called visible (as grey filling would have it)."""

    def run(function, args, kwargs):
        honest = rule(function, args, kwargs)
        for made in instances(honest, MaskedMap):
            made.mask = type(made.mask)(torch.ones_like(made.mask.visible), full=True)
        return honest

    return run


def test_the_suite_passes_as_it_is():
    assert not suite_fails()


READS_OTHER_CELLS = [
    "conv2d", "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "mean", "reduction", "regrouping",
    "softmax", "products", "scaled_dot_product_attention"
]  # fmt: skip


@pytest.mark.parametrize("name", READS_OTHER_CELLS)
def test_a_rule_that_reads_missing_cells_is_caught(name, monkeypatch):
    hit = [function for function, rule in RULES.items() if rule.__name__ == name]
    assert hit
    for function in hit:
        monkeypatch.setitem(RULES, function, forgetful(RULES[function]))
    assert suite_fails()


DROPS_MASKS = ["conv2d", "max_pool2d", "avg_pool2d", "pointwise", "cat", "getitem", "products"]


@pytest.mark.parametrize("name", DROPS_MASKS)
def test_a_rule_that_drops_its_mask_is_caught(name, monkeypatch):
    for function, rule in list(RULES.items()):
        if rule.__name__ == name:
            monkeypatch.setitem(RULES, function, maskless(rule))
    assert suite_fails()


def test_keys_whose_mask_is_forgotten_everywhere_are_caught(monkeypatch):
    monkeypatch.setattr(MaskedMap, "over_keys", lambda self, cells: torch.ones((), dtype=torch.bool))
    assert suite_fails()


def test_class_tokens_that_are_taken_for_places_of_the_image_are_caught(monkeypatch):
    joined = Mask.joined
    monkeypatch.setattr(
        Mask, "joined", lambda masks, dim: joined([mask_without_frame(m) for m in masks], dim)
    )
    assert suite_fails()


def mask_without_frame(mask):
    return Mask(mask.visible, mask.anchor, full=mask.full, images=mask.images, grid=mask.grid)


def test_grey_filling_is_caught(monkeypatch):
    for function, rule in list(RULES.items()):
        monkeypatch.setitem(RULES, function, maskless(forgetful(rule)))
    assert suite_fails()


def test_zero_padding_is_caught(monkeypatch):
    from captum_layermask.masking import boundary

    monkeypatch.setattr(
        boundary, "neighbor_pad", lambda cells, mask, rounds: torch.where(mask.visible, cells, 0)
    )
    assert suite_fails()
