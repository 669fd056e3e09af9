"""A model of one's own: what its source tells, what is added, and where it runs."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.transforms import v2

from captum_layermask import LayerMaskedForward
from captum_layermask.errors import InputError
from captum_layermask.models.devices import find_device
from captum_layermask.models.images import example_image
from captum_layermask.models.load import load_model
from captum_layermask.models.loaded import LoadedModel
from captum_layermask.models.preprocessing import Normalize, Square

MODULE = """
import torch
from torch import nn

def head(n):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, n))

def three(): return head(3)
class Nested:
    @staticmethod
    def build(): return head(2)
class Pair(nn.Module):
    def forward(self, x): return x.mean((2, 3)), x
class Map(nn.Module):
    def forward(self, x): return x
class Fixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3 * 8 * 8, 3)
    def forward(self, x): return self.layer(x.flatten(1))
def wrong(picture): return "pixels"
def empty(): return None
"""
TOLD = {"size": 8, "mean": [0.5], "std": [0.25]}


@pytest.fixture
def module(folder):
    (folder / "my_net.py").write_text(MODULE)
    yield
    sys.modules.pop("my_net", None)


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize(
    ("name", "classes"),
    [("my_net.py:three", 3), ("./my_net.py:three", 3), ("my_net:three", 3), ("my_net.py:Nested.build", 2)],
)
def test_a_module_of_ones_own_is_found(name, classes):
    before = list(sys.path)
    loaded = load_model(name, **TOLD)
    assert loaded.class_names == tuple(f"class {i}" for i in range(classes))
    assert not loaded.model.training
    assert loaded.preprocess(example_image()).shape == (1, 3, 8, 8)
    assert loaded.normalize.mean.flatten().tolist() == [0.5] * 3
    assert sys.path == before


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize(
    ("name", "options", "what"),
    [
        ("my_net.py:Pair", TOLD, "returns tuple where logits 1×classes are needed"),
        ("my_net.py:Map", TOLD, r"returns \(1, 3, 8, 8\) where logits"),
        ("my_net.py:Fixed", {**TOLD, "size": 9}, "does not take an image of 9×9 pixels .*give another size"),
        ("my_net.py:empty", TOLD, "is of type NoneType; give an nn.Module"),
        ("my_net.py:three", {}, r"give --size \(or --preprocess\), --mean, --std"),
        ("my_net.py:three", {"size": 8, "std": [1]}, "give --mean, or"),
        ("my_net.py:three", {**TOLD, "class_names": ["a", "b"]}, "2 class names for a network of 3"),
        ("my_net.py:three", {**TOLD, "class_names": []}, "0 class names for a network of 3"),
        ("my_net.py:three", {**TOLD, "size": 9000}, "the size is 9000"),
        ("my_net.py:three", {**TOLD, "size": None, "preprocess": "my_net.py:wrong"}, "returned str"),
        ("my_net.py:three", {**TOLD, "size": None, "preprocess": 3}, "of type int; give a callable"),
    ],
)
def test_what_does_not_fit_is_one_sentence(name, options, what):
    with pytest.raises(InputError, match=what) as caught:
        load_model(name, **options)
    assert "\n" not in str(caught.value)


def test_a_package_that_does_not_import_is_one_sentence_with_the_line(folder, monkeypatch):
    (folder / "sick_package").mkdir()
    (folder / "sick_package" / "net.py").touch()
    for text, what in (("x = (", "SyntaxError"), ("import os\n1/0", r"ZeroDivisionError: .*line 2")):
        (folder / "sick_package" / "__init__.py").write_text(text)
        with pytest.raises(InputError, match=f"sick_package.net:net raised {what}"):
            load_model("sick_package.net:net")


def of_transform(transform, **options):
    return load_model("my_net.py:three", preprocess=transform, **options)


GEOMETRY = [v2.Resize(10), v2.CenterCrop(8)]


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize(
    "steps",
    [
        [*GEOMETRY, v2.PILToTensor()],
        [*GEOMETRY, v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)],
        [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), *GEOMETRY],
        GEOMETRY,
    ],
)
def test_a_normalisation_at_the_end_of_a_transform_goes_inside_the_network(steps):
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]
    whole = v2.Compose([*steps, *([v2.Normalize(mean, std)] if len(steps) == 4 else [])])
    loaded = of_transform(whole, **({} if len(steps) == 4 else {"mean": mean, "std": std}))
    pixels = loaded.preprocess(example_image())
    assert pixels.shape == (1, 3, 8, 8)
    assert pixels.dtype == torch.float32
    assert 0 <= pixels.min() < pixels.max() <= 1
    if len(steps) == 4:
        torch.testing.assert_close(loaded.normalize(pixels)[0], torch.as_tensor(whole(example_image())))


@pytest.mark.usefixtures("module")
def test_a_normalisation_that_cannot_be_split_off_is_one_sentence():
    def hidden(picture):
        return (v2.functional.pil_to_tensor(picture.resize((8, 8))) / 255 - 0.5) / 0.1

    with pytest.raises(InputError, match=r"returned numbers from .* give mean and std"):
        of_transform(hidden, mean=[0.5], std=[0.1])


def test_sizes_crops_and_interpolations_change_what_the_source_tells():
    loaded = load_model(size=96, crop=0.75, interpolation="nearest", mean=[0.1, 0.2, 0.3])
    assert loaded.preprocess == Square(96, 0.75, "nearest")
    assert loaded.preprocess.resized == 128
    rows = np.arange(300)[:, None, None] * np.ones((1, 400, 3)) * 0.8
    pixels = loaded.preprocess(Image.fromarray(rows.astype(np.uint8)))
    assert pixels.shape == (1, 3, 96, 96)
    assert pixels[0, 0, 0, 0] * 255 == pytest.approx(0.8 * 300 / 8, abs=2)
    assert loaded.colors.mean == pytest.approx([0.1, 0.2, 0.3])
    assert loaded.colors.std == [0.5] * 3
    assert load_model(size=96).preprocess == Square(96, 224 / 256, "bicubic")


def test_the_summary_tells_what_was_decided():
    lines = load_model().summary().splitlines()
    assert lines == [
        "model    efficientnet-lite0",
        "images   224×224: shorter side resized to 256 (bicubic), middle cut out",
        "colours  mean 0.5 0.5 0.5, standard deviation 0.5 0.5 0.5",
        "classes  1000: tench, goldfish, great white shark, tiger shark, hammerhead, …",
        "device   cpu, float32",
    ]
    assert max(map(len, lines)) <= 80


def small():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = nn.Sequential(*model, nn.Linear(4, 3)).eval()
    return LoadedModel("small", model, Square(16), Normalize([0.5] * 3, [0.2] * 3), ("a", "b", "c"))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_network_of_half_precision_takes_and_gives_float32(dtype):
    loaded = small()
    pixels = torch.rand(2, 3, 16, 16)
    mask = torch.ones(16, 16, dtype=torch.bool)
    mask[4:9, 3:12] = False
    with torch.no_grad():
        expected = LayerMaskedForward(loaded.network)(pixels, mask=mask)
        half = loaded.to(dtype=dtype)
        found = LayerMaskedForward(half.network)(pixels, mask=mask)
        changed = LayerMaskedForward(half.network)(torch.where(mask, pixels, torch.inf), mask=mask)
    assert half.dtype == dtype
    assert found.dtype == torch.float32
    assert not torch.equal(found, expected)
    torch.testing.assert_close(found, expected, atol=0.03, rtol=0.03)
    assert torch.equal(found, changed)
    assert not half.network.training
    again = half.to(dtype=torch.float32)
    assert again.dtype == torch.float32
    assert again.model is loaded.model


def test_a_model_is_moved_with_its_normalisation():
    loaded = small().to("meta")
    assert loaded.device.type == loaded.normalize.mean.device.type == "meta"
    assert loaded.network(torch.zeros(2, 3, 16, 16, device="meta")).shape == (2, 3)
    with pytest.raises(InputError, match=r"give torch\.float32, torch\.bfloat16 or"):
        small().to(dtype=torch.float64)


@pytest.mark.parametrize(("cuda", "mps", "best"), [(1, 1, "cuda"), (0, 1, "mps"), (0, 0, "cpu")])
def test_auto_is_the_best_device_that_is_there(monkeypatch, cuda, mps, best):
    monkeypatch.setattr("torch.cuda.is_available", lambda: bool(cuda))
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: bool(mps))
    assert find_device().type == best
    assert find_device("cpu").type == "cpu"


def test_a_device_that_is_there_is_found(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert find_device("cuda:1") == torch.device("cuda", 1)
    for name, what in (("cuda:2", "no cuda:2"), ("cuda:", "unknown device"), ("xpu", "unknown device")):
        with pytest.raises(InputError, match=what):
            find_device(name)
