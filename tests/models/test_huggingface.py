"""Classifiers of transformers from a folder of ``save_pretrained``, offline."""

import json

import pytest
import torch
from own_models import CLASSES, save_transformers

from captum_layermask import LayerMaskedForward
from captum_layermask.errors import InputError
from captum_layermask.models.images import example_image
from captum_layermask.models.load import load_model
from captum_layermask.models.packages import ModelUnavailableError

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.usefixtures("folder")


@pytest.fixture
def fox(folder):
    save_transformers(folder)
    return folder / "fox"


def test_a_folder_predicts_as_transformers_does(fox):
    loaded = load_model("hf:fox")
    assert loaded.class_names == CLASSES
    processor = transformers.AutoImageProcessor.from_pretrained("fox")
    network = transformers.AutoModelForImageClassification.from_pretrained("fox").eval()
    whole = processor(example_image(), return_tensors="pt")
    pixels = loaded.preprocess(example_image())
    assert 0 <= pixels.min() < pixels.max() <= 1
    with torch.no_grad():
        torch.testing.assert_close(loaded.network(pixels), network(**whole).logits, atol=1e-4, rtol=1e-4)
        mask = torch.ones(64, 64, dtype=torch.bool)
        mask[20:40, 20:50] = False
        forward = LayerMaskedForward(loaded.network)
        masked = forward(pixels, mask=mask)
        assert torch.equal(masked, forward(torch.where(mask, pixels, torch.nan), mask=mask))
        assert not torch.equal(masked, loaded.network(pixels))


def changed(fox, file, **values):
    path = fox / file
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    "values",
    [
        {"rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [0.5, 0.6, 0.7]},
        {"do_normalize": False},
        {"do_rescale": False, "image_mean": [120.0] * 3, "image_std": [60.0] * 3},
    ],
)
def test_any_scale_of_pixels_is_undone(fox, values):
    changed(fox, "preprocessor_config.json", **values)
    loaded = load_model("hf:fox")
    whole = transformers.AutoImageProcessor.from_pretrained("fox")(example_image(), return_tensors="pt")
    pixels = loaded.preprocess(example_image())
    assert 0 <= pixels.min() < pixels.max() <= 1
    torch.testing.assert_close(loaded.normalize(pixels), whole["pixel_values"].float(), atol=1e-3, rtol=1e-3)


def test_a_processor_that_does_more_is_refused(fox):
    transformers.EfficientNetImageProcessor(
        size={"height": 64, "width": 64}, rescale_offset=True, rescale_factor=1 / 127.5
    ).save_pretrained("fox")
    with pytest.raises(InputError, match="does more than to resize, crop, scale and normalise"):
        load_model("hf:fox")


def test_without_an_image_processor_its_work_must_be_told(fox):
    (fox / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match=r"give --size \(or --preprocess\), --mean, --std"):
        load_model("hf:fox")
    assert load_model("hf:fox", size=64, mean=[0.5], std=[0.5]).class_names == CLASSES


def test_what_is_no_trained_classifier_is_one_sentence(fox, folder):
    (folder / "empty").mkdir()
    state = transformers.AutoModelForImageClassification.from_pretrained("fox").resnet
    state.save_pretrained("headless")
    bert = folder / "bert"
    transformers.BertConfig().save_pretrained(bert)
    cut = fox / "model.safetensors"
    for name, what in (
        ("hf:empty", "there is no config.json"),
        ("hf:headless", "lack 2 tensors, such as 'classifier.1.bias'"),
        ("hf:bert", "cannot load an image classifier of transformers from hf:bert"),
    ):
        with pytest.raises(InputError, match=what) as caught:
            load_model(name)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"holds its own weights; leave out 'fox\.pt'"):
        load_model("hf:fox", weights="fox.pt")
    cut.write_bytes(cut.read_bytes()[:500])
    with pytest.raises(
        InputError, match="cannot load an image classifier of transformers from hf:fox"
    ) as caught:
        load_model("hf:fox")
    assert "\n" not in str(caught.value)


def test_a_name_that_cannot_be_downloaded_is_one_sentence(monkeypatch):
    def offline(*_, **__):
        raise OSError("We couldn't connect\nto the hub. Check")

    monkeypatch.setattr(transformers.AutoModelForImageClassification, "from_pretrained", offline)
    with pytest.raises(ModelUnavailableError, match=r"cannot get the weights of hf:some/fox \(We couldn't"):
        load_model("hf:some/fox")
