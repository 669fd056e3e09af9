"""Pictures that explain: what they show is what happens, and the model stays as it was."""

import numpy as np
import pytest
import torch
from figures import assert_readable
from matplotlib import rc_context
from torch import nn

from captum_layermask import Colors, InputError, LayerMaskedForward, UnknownNameError, make_forward
from captum_layermask.masking.mask import Mask
from captum_layermask.masking.neighbor_padding import neighbor_pad
from captum_layermask.plots.inside import plot_activations, plot_neighbor_padding

COLORS = Colors((0.5,) * 3, (0.5,) * 3, normalized=False)
IMAGE = torch.rand(1, 3, 32, 40, generator=torch.Generator().manual_seed(5))
MASK = torch.ones(32, 40, dtype=torch.bool)
MASK[8:24, 10:30] = False


@pytest.fixture
def model():
    torch.manual_seed(3)
    block = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True))
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), block, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)
    ).eval()


def array(axes):
    return np.ma.getdata(axes.images[0].get_array())


def columns(figure, lines):
    """The panels, one list for each row."""
    each = len(figure.axes) // lines
    return [figure.axes[start : start + each] for start in range(0, len(figure.axes), each)]


def test_neighbor_padding_grows_into_the_missing_region():
    figure = plot_neighbor_padding(IMAGE, MASK, rounds=(0, 1, 3, 16))
    assert [axes.get_title() for axes in figure.axes] == ["0 rounds", "1 round", "3 rounds", "16 rounds"]
    for axes, rounds in zip(figure.axes, (0, 1, 3, 16), strict=True):
        shown = array(axes)
        reached = torch.ones(32, 40, dtype=torch.bool)
        reached[8 + rounds : 24 - rounds, 10 + rounds : 30 - rounds] = False
        assert np.array_equal(shown[..., 3] == 1, reached)
        assert not shown[~reached].any()
        missing = torch.where(MASK, IMAGE, torch.nan)
        expected = neighbor_pad(missing, Mask(MASK[None, None]), rounds)[0].permute(1, 2, 0)
        assert np.allclose(shown[reached][:, :3], expected[reached])
        assert axes.patch.get_hatch()


def test_neighbor_padding_draws_the_edge_of_the_hole_and_leaves_the_image_alone():
    image = IMAGE.clone()
    figure = plot_neighbor_padding(image, MASK, rounds=(4,))
    (lines,) = figure.axes[0].collections
    drawn = {tuple(map(tuple, segment)) for segment in lines.get_segments()}
    assert len(drawn) == 2 * (16 + 20)
    assert {((14.5, 7.5), (15.5, 7.5)), ((14.5, 23.5), (15.5, 23.5))} <= drawn
    assert {((9.5, 14.5), (9.5, 15.5)), ((29.5, 14.5), (29.5, 15.5))} <= drawn
    assert figure.axes[0].get_xlim() == (-0.5, 39.5)
    assert torch.equal(image, IMAGE)


def test_a_row_for_each_channel_and_a_column_for_each_removal(model):
    figure = plot_activations(model, IMAGE, MASK, "1", colors=COLORS, channels=(4, 1))
    lines = columns(figure, 2)
    assert [axes.get_title() for axes in lines[0]] == [
        "image",
        "original image",
        "grey",
        "layer masking",
        "layer masking, zero\npadding",
    ]
    assert [line[0].get_ylabel() for line in lines] == ["channel 4", "channel 1"]
    for line in lines:
        assert len({id(axes.images[0].norm) for axes in line[1:]}) == 1
    assert lines[0][1].images[0].norm is not lines[1][1].images[0].norm


@pytest.mark.parametrize("layer", ["0", "1", "1.1"])
def test_what_is_shown_is_what_the_layer_answers(model, layer):
    steps = {"0": 1, "1.1": 3, "1": 4}[layer]
    plain = nn.Sequential(*(model[0], *model[1])[:steps])
    figure = plot_activations(model, IMAGE, MASK, layer, colors=COLORS, channels=range(6))
    with torch.no_grad():
        original = plain(IMAGE)
        grey = plain(torch.where(MASK, IMAGE, 0.5))
        layered, zero = (
            make_forward(removal, plain)(IMAGE, mask=MASK) for removal in ("layer", "layer-zero")
        )
    for channel, line in enumerate(columns(figure, 6)):
        for axes, expected in zip(line[1:3], (original, grey), strict=True):
            assert np.allclose(array(axes), expected[0, channel], atol=1e-6)
        for axes, expected in zip(line[3:], (layered, zero), strict=True):
            shown = array(axes)
            there = np.isfinite(shown)
            assert not there.all()
            assert np.allclose(shown[there], expected[0, channel][there], atol=1e-6)
            assert not expected[0, channel][~there].any()
    assert not np.allclose(layered, zero)


def test_a_layer_is_not_taken_for_one_whose_name_goes_on():
    torch.manual_seed(3)
    model = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(11))).eval()
    figure = plot_activations(model, IMAGE, MASK, "1", colors=COLORS, removals=("layer",), channels=(0,))
    with torch.no_grad():
        expected = LayerMaskedForward(model[:2])(IMAGE, mask=MASK)[0, 0]
    shown = array(figure.axes[2])
    assert np.allclose(shown[np.isfinite(shown)], expected[np.isfinite(shown)], atol=1e-6)


def test_with_nothing_missing_every_removal_answers_as_the_plain_network(model):
    figure = plot_activations(model, IMAGE, torch.ones_like(MASK), "1", colors=COLORS)
    for line in columns(figure, 4):
        for axes in line[2:]:
            assert np.allclose(array(axes), array(line[1]), atol=1e-6)


def test_the_channels_that_vary_most_are_shown(model):
    figure = plot_activations(model, IMAGE, MASK, "0", colors=COLORS, channels=2)
    with torch.no_grad():
        order = model[0](IMAGE)[0].flatten(1).var(1).argsort(descending=True)
    assert [line[0].get_ylabel() for line in columns(figure, 2)] == [f"channel {i}" for i in order[:2]]


def hooks(model):
    return [len(module._forward_hooks) for module in model.modules()]


def test_the_model_is_left_as_it_was(model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    plot_activations(model, IMAGE, MASK, "1", colors=COLORS)
    assert not any(hooks(model))
    assert not model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_model_that_fails_keeps_no_hook(model):
    broken = nn.Sequential(model[0], nn.Linear(7, 1)).eval()
    with pytest.raises(RuntimeError):
        plot_activations(broken, IMAGE, MASK, "0", colors=COLORS)
    assert not any(hooks(broken))


def test_an_unknown_layer_offers_near_ones(model):
    named = nn.Sequential()
    named.add_module("layer1", model[0])
    with pytest.raises(UnknownNameError, match="did you mean 'layer1'"):
        plot_activations(named, IMAGE, MASK, "layer2", colors=COLORS)
    with pytest.raises(UnknownNameError, match="did you mean 'layer'"):
        plot_activations(model, IMAGE, MASK, "0", colors=COLORS, removals=("layerr",))


class Forgetful(nn.Module):
    """Has a module that it never calls, and one that does nothing."""

    def __init__(self):
        super().__init__()
        self.conv, self.unused, self.idle = nn.Conv2d(3, 2, 1), nn.Conv2d(2, 2, 1), nn.Identity()

    def forward(self, x):
        return self.idle(self.conv(x)).mean((2, 3))


@pytest.mark.parametrize("layer", ["unused", "idle"])
def test_a_module_that_computes_nothing_is_an_error(layer):
    with pytest.raises(InputError, match=f"module '{layer}' returns no map"):
        plot_activations(Forgetful().eval(), IMAGE, MASK, layer, colors=COLORS)


@pytest.mark.parametrize("removals", [("grey",), ("layer",)])
def test_a_layer_after_the_pooling_is_an_error(model, removals):
    with pytest.raises(InputError, match="module '4' returns no map"):
        plot_activations(model, IMAGE, MASK, "4", colors=COLORS, removals=removals)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"channels": 0}, "this layer has 6"),
        ({"channels": 7}, "this layer has 6"),
        ({"channels": (2, 6)}, "from 0 to 5"),
        ({"channels": (-1,)}, "from 0 to 5"),
        ({"colors": None}, "pass colors="),
        ({"image": IMAGE * 2}, "pixels in \\[0, 1\\]"),
        ({"image": IMAGE.repeat(2, 1, 1, 1)}, "one RGB image"),
        ({"mask": MASK[:-1]}, "the mask must be"),
    ],
)
def test_what_makes_no_sense_is_an_error(model, options, what):
    given = {"image": IMAGE, "mask": MASK, "layer": "0", "colors": COLORS} | options
    with pytest.raises(InputError, match=what):
        plot_activations(model, **given)


@pytest.mark.parametrize("rounds", [(), (-1, 2)])
def test_rounds_that_make_no_sense_are_an_error(rounds):
    with pytest.raises(InputError, match="rounds are"):
        plot_neighbor_padding(IMAGE, MASK, rounds=rounds)


def test_no_text_is_cut_off_or_written_over_another(model):
    assert_readable(plot_neighbor_padding(IMAGE, MASK))
    removals = ("grey", "layer-first", "layer-zero", "layer-paper")
    for size in (10, 14):
        with rc_context({"font.size": size}):
            assert_readable(plot_activations(model, IMAGE, MASK, "1", colors=COLORS, removals=removals))


def test_layer_masking_is_traced_not_hooked(model, monkeypatch):
    traced = []
    original = LayerMaskedForward.trace

    def spy(self, *args, **options):
        traced.append(self.padding)
        return original(self, *args, **options)

    monkeypatch.setattr(LayerMaskedForward, "trace", spy)
    plot_activations(model, IMAGE, MASK, "1", colors=COLORS)
    assert traced == ["neighbor", "zero"]
