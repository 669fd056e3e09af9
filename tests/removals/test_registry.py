"""Every removal by its name."""

import pytest
import torch
import torchvision
from support import SmallVGG, redraw

from captum_layermask import MISSING, InputError, LayerMaskedForward, UnknownNameError
from captum_layermask.removals.colors import Colors
from captum_layermask.removals.filled import FilledForward
from captum_layermask.removals.fills import ColorFilledForward
from captum_layermask.removals.registry import REMOVALS, Removal, make_forward

SIZE = 32
IMAGES = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(3))
SEGMENTS = (torch.arange(SIZE * SIZE) // 128).view(1, 1, SIZE, SIZE)
VISIBLE = SEGMENTS % 2 == 0
SETTING = {
    "colors": Colors((0.5,) * 3, (0.25,) * 3, normalized=False),
    "reference": IMAGES[:1],
    "segments": SEGMENTS,
}


def network(name):
    if name == "drop-tokens":
        return redraw(
            torchvision.models.VisionTransformer(
                image_size=SIZE,
                patch_size=4,
                num_layers=1,
                num_heads=2,
                hidden_dim=8,
                mlp_dim=8,
                num_classes=5,
            )
        )
    return redraw(SmallVGG())


@pytest.mark.parametrize("name", REMOVALS)
def test_each_name_makes_a_forward(name):
    model = network(name)
    forward = make_forward(name, model, **SETTING)
    assert torch.allclose(forward(IMAGES), model(IMAGES), rtol=1e-5, atol=1e-6)
    masked = forward(IMAGES, mask=VISIBLE)
    assert not torch.allclose(masked, model(IMAGES))
    assert torch.equal(forward(torch.where(VISIBLE, IMAGES, MISSING)), masked)
    assert torch.equal(forward(IMAGES, mask=VISIBLE), masked)


@pytest.mark.parametrize("name", REMOVALS)
def test_a_removal_leaks_exactly_where_it_is_marked(name):
    model = network(name)
    other = torch.where(VISIBLE, IMAGES, 1 - IMAGES)
    outputs = [
        make_forward(name, model, **SETTING | {"reference": images[:1]})(images, mask=VISIBLE)
        for images in (IMAGES, other)
    ]
    assert torch.equal(*outputs) != REMOVALS[name].leaks


NEEDS = {
    "grey": {"colors"},
    "black": {"colors"},
    "white": {"colors"},
    "uniform-noise": {"colors", "seed"},
    "gaussian-noise": {"colors", "seed"},
    "blur": {"reference"},
    "segment-mean": {"reference", "segments"},
    "road": {"seed"},
}


@pytest.mark.parametrize("name", REMOVALS)
def test_a_removal_tells_what_its_forward_depends_on(name):
    """Without one of its needs there is an error that names it, or another output."""
    model, setting = network(name), SETTING | {"seed": 3}
    needed = {key: setting[key] for key in REMOVALS[name].needs}
    assert needed.keys() == NEEDS.get(name, set())
    expected = make_forward(name, model, **needed)(IMAGES, mask=VISIBLE)
    for key in needed:
        try:
            other = make_forward(name, model, **{k: v for k, v in needed.items() if k != key})
            assert not torch.equal(other(IMAGES, mask=VISIBLE), expected), key
        except InputError as error:
            assert f"{key}=" in str(error)


def test_a_forward_of_a_users_own_is_given_what_its_constructor_names(monkeypatch):
    class Mirrored(FilledForward):
        leaks = True

        def __init__(self, model, reference, seed, strength=1.0):
            super().__init__(model)
            self.given = reference, seed, strength

        def fill(self, image, mask):
            return self.given[0].flip(3)

    monkeypatch.setitem(REMOVALS, "mirror", Removal("mirror", Mirrored, {"strength": 2.0}))
    assert REMOVALS["mirror"].leaks and REMOVALS["mirror"].needs == {"reference", "seed"}
    forward = make_forward("mirror", network("mirror"), **SETTING, seed=7)
    assert forward.given == (SETTING["reference"], 7, 2.0)
    forward(IMAGES, mask=VISIBLE)
    assert forward.vanished is None


def test_a_user_adds_a_removal_in_one_line(monkeypatch):
    monkeypatch.setitem(REMOVALS, "pink", Removal("pink", ColorFilledForward, {"color": (1, 0.4, 0.7)}))
    model = network("pink")
    expected = ColorFilledForward(model, (1, 0.4, 0.7), SETTING["colors"])(IMAGES, mask=VISIBLE)
    assert torch.equal(make_forward("pink", model, **SETTING)(IMAGES, mask=VISIBLE), expected)


def test_an_unknown_name_offers_near_ones():
    with pytest.raises(UnknownNameError, match="unknown removal 'gray'; did you mean 'grey'"):
        make_forward("gray", network("grey"))


@pytest.mark.parametrize(
    ("name", "gap", "sentence"),
    [
        ("black", "colors", "pass colors="),
        ("uniform-noise", "colors", "pass colors="),
        ("blur", "reference", "reference="),
        ("segment-mean", "segments", "pass segments="),
    ],
)
def test_what_a_removal_needs_is_named(name, gap, sentence):
    with pytest.raises(InputError, match=sentence):
        make_forward(name, network(name), **SETTING | {gap: None})


def test_networks_and_removals_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="LayerMaskedForward"):
        make_forward("drop-tokens", network("layer"))


def test_where_masks_follow_patches_layer_masking_drops_tokens():
    model = network("drop-tokens")
    patches = torch.ones_like(VISIBLE)
    patches[..., :8, :8] = 0
    dropped = make_forward("drop-tokens", model)(IMAGES, mask=patches)
    torch.testing.assert_close(make_forward("layer", model)(IMAGES, mask=patches), dropped)


def test_layer_masking_is_layer_masking():
    model = network("layer")
    expected = LayerMaskedForward(model)(IMAGES, mask=VISIBLE)
    assert torch.equal(make_forward("layer", model)(IMAGES, mask=VISIBLE), expected)
