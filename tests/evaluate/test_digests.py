"""A digest changes with all that decides a network's predictions, and with nothing else."""

import copy
import dataclasses

import pytest
import torch
from small_evaluation import CLASSES, SIZE, small_model
from torch import nn
from torchvision.transforms import v2

from captum_layermask.evaluate.digests import digest_of_files, digest_of_network, settings_of_model
from captum_layermask.models.preprocessing import Normalize, Preprocess


def network():
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    layers.register_buffer("unsaved", torch.zeros(3), persistent=False)
    return layers.eval()


def of_a_changed(change):
    changed = network()
    change(changed)
    return digest_of_network(changed)


def flip_last_bit(tensor):
    flat = tensor.data.view(-1).view(torch.uint8)
    flat[-4] ^= 1


def replace(place, module):
    return lambda net: net.__setitem__(place, module)


@pytest.mark.parametrize(
    "change",
    [
        *(lambda net, n=n: flip_last_bit(dict(net.named_parameters())[n]) for n in ("0.weight", "4.bias")),
        lambda net: flip_last_bit(net[1].running_var),
        lambda net: flip_last_bit(net.unsaved),
        lambda net: net.double(),
        lambda net: setattr(net[0], "weight", nn.Parameter(net[0].weight.permute(0, 1, 3, 2))),
        replace(2, nn.GELU()),
        lambda net: setattr(net[1], "eps", 1e-3),
        lambda net: setattr(net[0], "stride", (2, 2)),
    ],
)
def test_every_bit_of_a_network_and_its_structure_count(change):
    assert of_a_changed(change) != digest_of_network(network())


class Scaled(nn.Module):
    """A module that prints a function, hence its address."""

    def __init__(self, number):
        super().__init__()
        self.scale = lambda x: x * number
        self.register_buffer("scalar", torch.tensor(3))
        self.register_buffer("empty", torch.zeros(0, 2))
        self.register_buffer("brief", torch.ones(2, dtype=torch.bfloat16))

    def extra_repr(self):
        return repr(self.scale)


def test_the_same_network_has_the_same_digest_wherever_it_lies_in_memory():
    assert len(digest_of_network(network())) == 64
    assert digest_of_network(network()) == digest_of_network(network())
    strided = network().to(memory_format=torch.channels_last)
    assert digest_of_network(strided) == digest_of_network(network())
    odd, other = Scaled(2), Scaled(2)
    assert str(odd) != str(other)
    assert digest_of_network(odd) == digest_of_network(other)


def test_the_settings_of_a_model_tell_models_of_one_name_apart():
    def settings(**changes):
        return settings_of_model(dataclasses.replace(small_model(), **changes))

    usual = settings()
    assert usual == settings()
    assert (usual["model"], usual["device"]) == ("small", "cpu")
    other_crop = Preprocess(v2.Resize(SIZE + 7, antialias=True), v2.CenterCrop(SIZE))
    other_weights = copy.deepcopy(small_model().model)
    flip_last_bit(next(other_weights.parameters()))
    for key, changes in {
        "network": {"model": other_weights},
        "preprocess": {"preprocess": other_crop},
        "classes": {"class_names": CLASSES[::-1]},
    }.items():
        assert {k for k, v in settings(**changes).items() if v != usual[k]} == {key}
    normalized = settings(normalize=Normalize([0.4, 0.5, 0.6], [0.2, 0.25, 0.31]))
    assert {k for k, v in normalized.items() if v != usual[k]} == {"network"}


def test_a_file_that_cannot_be_read_counts_as_such(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    there = digest_of_files([("a", tmp_path / "a"), ("b", tmp_path / "b")])
    (tmp_path / "b").write_bytes(b"")
    assert digest_of_files([("a", tmp_path / "a"), ("b", tmp_path / "b")]) != there
    assert digest_of_files([("a", tmp_path / "b"), ("b", tmp_path / "a")]) != there
