"""Predictions while more and more segments are removed: units, orders, saliency and records."""

import copy

import numpy as np
import pytest
import torch
from small_evaluation import CLASSES, FEW, class_folders, small_model
from support import small_classifier
from torch import nn

from captum_layermask import InputError, UnknownNameError, make_forward
from captum_layermask.evaluate.curves.experiment import Curves
from captum_layermask.evaluate.curves.orders import ORDERS
from captum_layermask.evaluate.data.dataset import find_images
from captum_layermask.evaluate.running import run
from captum_layermask.explain.segments import SEGMENTATIONS


@pytest.fixture
def data(tmp_path):
    return find_images(class_folders(tmp_path / "data", 4), CLASSES)


def order_of(experiment, image, segmentation, order):
    """Ids of the segments as they are removed, read off the opened image."""
    opened = experiment.open(image)
    places = opened.places[segmentation, order].tolist()
    return [places.index(place) for place in range(len(places))]


def by_hand(model, pixels, segments, order, removal, fractions, seed):
    """Prediction and whether the sample vanished for each fraction, one image at a time."""
    predictions = []
    for step in range(fractions):
        count = int(len(order) * step / (fractions - 1) + 0.5)
        visible = torch.ones(pixels.shape[2:], dtype=torch.bool)
        for id_ in order[:count]:
            visible[segments[0, 0] == id_] = False
        setting = {"colors": model.colors, "reference": pixels, "segments": segments, "seed": seed}
        forward = make_forward(removal, model.network, **setting)
        with torch.no_grad():
            logits = forward(pixels, mask=visible)
        vanished = getattr(forward, "vanished", None)
        predictions.append((int(logits[0].argmax()), vanished is not None and bool(vanished[0])))
    return predictions


@pytest.mark.filterwarnings("ignore::captum_layermask.VanishedWarning")
@pytest.mark.parametrize("segmentation", SEGMENTATIONS)
def test_the_records_of_a_unit_equal_a_slow_loop(data, segmentation):
    removals = ["layer", "grey", "black", "uniform-noise", "neighbor", "blur", "segment-mean"]
    model = small_model()
    experiment = Curves(model, data, removals=removals, segmentations=[segmentation], seed=3, **FEW)
    image = data.images[1]
    opened = experiment.open(image)
    predictions = set()
    pixels = data.pixels(image, model.preprocess)
    segments = SEGMENTATIONS[segmentation](pixels, n_segments=16)
    for unit in experiment.units(image):
        name, order, removal = unit.split("/")
        places = order_of(experiment, image, segmentation, order)
        expected = by_hand(model, pixels, segments, places, removal, 5, seed=3)
        records = experiment.work(opened, unit)
        assert name == segmentation
        assert [(record["predicted"], record["vanished"]) for record in records] == expected, unit
        for step, record in enumerate(records):
            constant = {key: record[key] for key in ("segmentation", "order", "removal", "label", "segments")}
            assert constant == {
                "segmentation": segmentation,
                "order": order,
                "removal": removal,
                "label": 1,
                "segments": int(segments.max()) + 1,
            }
            assert record["fraction"] == step / 4
        predictions.update(record["predicted"] for record in records)
    assert len(predictions) > 1
    assert len(experiment.units(image)) == 3 * len(removals)


@pytest.mark.filterwarnings("ignore::captum_layermask.VanishedWarning")
def test_vanished_samples_are_recorded(data):
    network = nn.Sequential(nn.Conv2d(3, 6, 1, stride=24), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = small_model(network=network.eval())
    experiment = Curves(
        model, data, removals=["layer-paper", "grey"], segmentations=["grid"], n_segments=256, fractions=9
    )
    image = data.images[0]
    opened = experiment.open(image)
    segments, order = opened.segments["grid"], order_of(experiment, image, "grid", "random")
    vanished = {
        removal: [record["vanished"] for record in experiment.work(opened, f"grid/random/{removal}")]
        for removal in ("layer-paper", "grey")
    }
    expected = by_hand(model, opened.pixels, segments, order, "layer-paper", 9, seed=0)
    assert vanished["layer-paper"] == [gone for _, gone in expected]
    assert any(vanished["layer-paper"])
    assert not any(vanished["grey"])
    assert not vanished["layer-paper"][0]
    assert not vanished["layer-paper"][-1]  # nothing was visible, so nothing vanished
    removed = [order[: int(len(order) * step / 8 + 0.5)] for step in range(9)]
    seen = set(segments[0, 0, ::24, ::24].flatten().tolist())
    assert vanished["layer-paper"][1:-1] == [seen <= set(gone) for gone in removed[1:-1]]


def test_segments_and_orders_depend_on_the_seed_alone(data):
    image = data.images[2]
    orders = {}
    for state, seed in [(0, 7), (1, 7), (0, 8)]:
        torch.manual_seed(state)
        np.random.seed(state)
        experiment = Curves(small_model(), data, removals=["grey"], seed=seed, **FEW)
        for other in data.images[: state * 2]:
            experiment.open(other)
        for segmentation in SEGMENTATIONS:
            for order in ORDERS:
                found = order_of(experiment, image, segmentation, order)
                orders[state, seed, segmentation, order] = found
                assert sorted(found) == list(range(len(found)))
    for segmentation in SEGMENTATIONS:
        for order in ORDERS:
            first, again, other = (orders[key] for key in orders if key[2:] == (segmentation, order))
            assert first == again
            assert (first == other) == (order != "random")
    assert orders[0, 7, "grid", "random"] != order_of(
        Curves(small_model(), data, removals=["grey"], seed=7, **FEW), data.images[0], "grid", "random"
    )


def test_maps_of_a_folder_decide_the_order(data, tmp_path):
    (tmp_path / "maps").mkdir()
    rng = np.random.default_rng(0)
    values = {image: rng.random((48, 48)).astype(np.float32) for image in data.images}
    for image, saliency in values.items():
        np.save(tmp_path / "maps" / f"{image.split('/')[1][:-4]}.npy", saliency)
    with_maps = find_images(data.folder, CLASSES, saliency=tmp_path / "maps")
    experiment = Curves(small_model(), with_maps, removals=["grey"], segmentations=["grid"], **FEW)
    assert experiment.settings["saliency"] == "maps"
    image = data.images[3]
    squares = values[image].reshape(4, 12, 4, 12).sum((1, 3), dtype=np.float64).flatten()
    found = order_of(experiment, image, "grid", "most-salient")
    assert found == np.argsort(-squares).tolist()
    assert order_of(experiment, image, "grid", "least-salient") == found[::-1]


def test_without_maps_the_gradient_of_the_true_class_decides(data):
    model = small_model()
    experiment = Curves(model, data, removals=["grey"], segmentations=["grid"], **FEW)
    assert experiment.settings["saliency"] == "gradient"
    image = data.images[1]
    pixels = data.pixels(image, model.preprocess).requires_grad_()
    model.network(pixels)[0, 1].backward()
    saliency = pixels.grad.abs().amax(1).reshape(4, 12, 4, 12).double().sum((1, 3)).flatten()
    expected = saliency.argsort(descending=True).tolist()
    assert order_of(experiment, image, "grid", "most-salient") == expected
    assert all(parameter.grad is not None for parameter in model.model.parameters())
    fresh = small_model()
    Curves(fresh, data, removals=["grey"], segmentations=["grid"], **FEW).open(image)
    assert all(parameter.grad is None for parameter in fresh.model.parameters())


def test_no_saliency_is_computed_that_no_order_asks_for(data, monkeypatch):
    experiment = Curves(small_model(), data, removals=["grey"], orders=["random"], **FEW)
    monkeypatch.setattr("captum.attr.Saliency.attribute", None)
    experiment.open(data.images[0])
    assert experiment.settings["saliency"] == "none"


def test_each_unit_is_one_batch_of_one_shape(data):
    shapes = []
    network = small_classifier(len(CLASSES))
    network[0].register_forward_hook(lambda module, inputs, output: shapes.append(tuple(inputs[0].shape)))
    experiment = Curves(
        small_model(network=network), data, removals=["grey", "black"], orders=["random"], **FEW
    )
    opened = experiment.open(data.images[0])
    for unit in experiment.units(data.images[0]):
        experiment.work(opened, unit)
    assert shapes == [(5, 3, 48, 48)] * 6


@pytest.mark.parametrize(
    ("options", "error", "what"),
    [
        ({"removals": ["gray"]}, UnknownNameError, "did you mean 'grey'"),
        ({"segmentations": ["grit"]}, UnknownNameError, "did you mean 'grid'"),
        ({"orders": ["most-saliant"]}, UnknownNameError, "did you mean 'most-salient'"),
        ({"fractions": 1}, InputError, "fractions is 1"),
        ({"n_segments": 0}, InputError, "segments is 0"),
        ({"removals": ["drop-tokens"]}, InputError, "transformer"),
    ],
)
def test_experiments_that_make_no_sense(data, options, error, what):
    with pytest.raises(error, match=what):
        Curves(small_model(), data, **options)


def test_a_network_with_other_classes_than_names_is_refused(data):
    model = small_model(network=small_classifier(9))
    experiment = Curves(model, data, removals=["grey"], orders=["random"], **FEW)
    with pytest.raises(InputError, match=r"returned \(5, 9\) for 5 images and 6 class names"):
        experiment.work(experiment.open(data.images[0]), "grid/random/grey")


@pytest.mark.parametrize("change", ["weights", "image"])
def test_old_tables_are_not_those_of_other_weights_or_inputs(data, tmp_path, change):
    """The name of the model stays, and so do name and size of every file."""

    def experiment():
        images = find_images(data.folder, CLASSES)
        return Curves(
            model, images, removals=["grey"], orders=["random"], segmentations=["grid"], fractions=2
        )

    model = small_model()
    run(experiment(), tmp_path / "out", show_progress=False)
    assert run(experiment(), tmp_path / "out", show_progress=False).facts["units"] == 0
    if change == "weights":
        model = small_model(network=copy.deepcopy(model.model))
        next(model.model.parameters()).data.view(-1)[0] += 1
        what = "network = "
    else:
        path = data.folder / data.images[0]
        content = bytearray(path.read_bytes())
        content[-20] ^= 1
        path.write_bytes(content)
        what = r"data\.digest = "
    with pytest.raises(InputError, match=what):
        run(experiment(), tmp_path / "out", show_progress=False)
