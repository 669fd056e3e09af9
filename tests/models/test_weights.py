"""A file of weights: read without running code, fitted whole, or one sentence."""

import argparse

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from captum_layermask.errors import InputError
from captum_layermask.models.load import load_model
from captum_layermask.models.weights import count_classes, load_weights, read_weights

pytestmark = pytest.mark.usefixtures("folder")


def network(classes=3):
    torch.manual_seed(classes)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, classes)).eval()


def prefixed(state, prefix):
    return {prefix + name: tensor for name, tensor in state.items()}


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".PT", ".safetensors"])
def test_each_kind_of_file_is_read(suffix):
    state = network().state_dict()
    (save_file if suffix == ".safetensors" else torch.save)(state, f"net{suffix}")
    found = read_weights(f"net{suffix}")
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], state[name]) for name in state)


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda state: {"state_dict": state, "epoch": 3, "optimizer": {"lr": 0.1}},
        lambda state: {"model": state},
        lambda state: {"model_state_dict": state, "loss": 0.5},
        lambda state: {"state_dict": {"model": state}},
        lambda state: prefixed(state, "module."),
        lambda state: prefixed(state, "_orig_mod."),
        lambda state: {"model": prefixed(state, "module._orig_mod.")},
        lambda state: prefixed(state, "_orig_mod.module."),
    ],
)
def test_wrappings_are_taken_off(wrapped):
    state = network().state_dict()
    torch.save(wrapped(state), "net.pt")
    assert read_weights("net.pt").keys() == state.keys()


def test_a_prefix_that_only_some_names_have_stays():
    state = {"module.weight": torch.zeros(2), "other": torch.zeros(2)}
    torch.save(state, "net.pt")
    assert read_weights("net.pt").keys() == state.keys()


class Ran:
    def __reduce__(self):
        return open, ("ran", "w")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (network(), r"whole pickled model or other objects.*torch\.save\(model\.state_dict\(\), FILE\)"),
        ({"state_dict": network().state_dict(), "args": argparse.Namespace(a=1)}, "or other objects"),
        (Ran(), "could run any code"),
        ({"a": 1}, "holds no tensors by name"),
        ({}, "holds no tensors by name"),
        ([torch.zeros(2)], "holds no tensors by name"),
        ({0: torch.zeros(2)}, "holds no tensors by name"),
        (torch.zeros(2), "holds no tensors by name"),
    ],
)
def test_what_is_no_state_dict_is_one_sentence(folder, content, what):
    torch.save(content, "net.pt")
    with pytest.raises(InputError, match=what) as caught:
        read_weights("net.pt")
    assert "\n" not in str(caught.value)
    assert [path.name for path in folder.iterdir()] == ["net.pt"]


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning")
def test_a_scripted_model_is_refused_without_a_warning(recwarn):
    torch.jit.trace(network(), torch.zeros(1, 3, 3, 3)).save("net.pt")
    recwarn.clear()
    with pytest.raises(InputError, match="scripted model, whose operations cannot carry masks"):
        read_weights("net.pt")
    assert not recwarn


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x02}", "cut"])
def test_a_damaged_file_is_one_sentence(folder, suffix, content):
    path = folder / f"net{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(network().state_dict(), path)
    path.write_bytes(path.read_bytes()[:900] if content == "cut" else content)
    with pytest.raises(InputError, match=r"holds no (weights, or not all of them|tensors by name)") as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)


def test_what_is_no_file_is_one_sentence(folder):
    (folder / "net.pt").mkdir()
    for name, what in (
        ("net.pt", "is a folder"),
        ("absent.pt", "no file"),
        ("net.bin", "give a file .safet"),
    ):
        with pytest.raises(InputError, match=what):
            read_weights(name)


@pytest.mark.parametrize("classes", [1, 2, 1000, 1001])
def test_the_head_tells_the_number_of_classes(classes):
    assert count_classes(network(classes).state_dict(), network(1000), 1000) == classes
    assert count_classes(network(classes).state_dict(), network(1000).to("meta"), 1000) == classes


def test_another_network_tells_no_number_of_classes():
    assert count_classes({"3.weight": torch.zeros(3, 9)}, network(1000), 1000) == 1000


def fault(state, target=None):
    target = target or network()
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    with pytest.raises(InputError, match=r"^the weights in 'net\.pt' are not those of mine: ") as caught:
        load_weights(target, state, "net.pt", "mine")
    assert all(torch.equal(before[name], tensor) for name, tensor in target.state_dict().items())
    return str(caught.value)


def test_weights_that_do_not_fit_are_listed_near_matches_first():
    state = network().state_dict()
    state["head.3.weight"] = state.pop("3.weight")
    text = fault({name: t for name, t in state.items() if name != "0.bias"} | {"0.bia": torch.zeros(4)})
    assert "missing '0.bias' (near '0.bia'), '3.weight'; unexpected '0.bia', 'head.3.weight'." in text


def test_shapes_that_differ_are_told():
    text = fault({**network().state_dict(), "0.weight": torch.zeros(4, 3, 5, 5), "0.bias": torch.tensor(1.0)})
    assert "of another shape '0.weight' (4×3×5×5, not 4×3×3×3), '0.bias' (a number, not 4)." in text


def test_long_lists_end():
    text = fault({f"name {i}": torch.zeros(1) for i in range(3000)})
    assert "and 2996 more" in text
    assert len(text) < 500


def test_weights_that_fit_are_loaded_and_counters_of_batches_may_miss():
    target, state = network(), network(3).state_dict()
    state = {name: tensor + 1 for name, tensor in state.items() if "num_batches" not in name}
    load_weights(target, state, "net.pt", "mine")
    assert all(torch.equal(target.state_dict()[name], state[name]) for name in state)


@pytest.mark.parametrize("name", ["torchvision:resnet18", "torchvision:squeezenet1_1", "timm:test_vit"])
def test_the_predictions_are_those_of_the_network_that_was_saved(name):
    source, _, architecture = name.partition(":")
    if source == "timm":
        saved = pytest.importorskip("timm").create_model(architecture, num_classes=5)
    else:
        saved = pytest.importorskip("torchvision").models.get_model(architecture, num_classes=5)
    torch.save(saved.eval().state_dict(), "net.pt")
    loaded = load_model(name, weights="net.pt")
    pixels = torch.rand(1, 3, *loaded.preprocess(_picture()).shape[2:])
    with torch.no_grad():
        assert torch.equal(loaded.network(pixels), saved(loaded.normalize(pixels)))
    assert loaded.class_names == tuple(f"class {i}" for i in range(5))


def _picture():
    from captum_layermask.models.images import example_image

    return example_image()
