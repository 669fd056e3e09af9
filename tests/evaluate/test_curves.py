"""Predictions while more and more segments are removed: units, orders, saliency, tables, and the command."""

import copy
import itertools
import json
import os
import re
import sys

import numpy as np
import pytest
import scipy.stats
import torch
from PIL import Image
from small_evaluation import CLASSES, class_folders, save_pictures, small_model
from support import small_classifier
from torch import nn

from captum_layermask import REMOVALS, InputError, UnknownNameError, make_forward
from captum_layermask.__main__ import main
from captum_layermask.cli import evaluate as cli
from captum_layermask.evaluate.curves.experiment import Curves
from captum_layermask.evaluate.curves.orders import ORDERS, removal_order, segment_sums
from captum_layermask.evaluate.data.dataset import find_images
from captum_layermask.evaluate.report import bootstrap
from captum_layermask.evaluate.report.report import markdown
from captum_layermask.evaluate.run import run
from captum_layermask.explain.segments import SEGMENTATIONS
from captum_layermask.metrics.wordnet import wu_palmer

FEW = {"n_segments": 16, "fractions": 5}


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
    answers = []
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
        answers.append((int(logits[0].argmax()), vanished is not None and bool(vanished[0])))
    return answers


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


def test_random_orders_are_what_they_were():
    drawn = removal_order("random", torch.zeros(8), seed=5)
    raw = np.random.PCG64(5).random_raw(8)
    assert drawn.tolist() == sorted(range(8), key=lambda place: raw[place])
    assert drawn.tolist() == [7, 4, 3, 5, 6, 2, 0, 1]


def test_random_orders_put_every_segment_anywhere():
    firsts = [int(removal_order("random", torch.zeros(4), seed)[0]) for seed in range(400)]
    assert scipy.stats.chisquare(np.bincount(firsts)).pvalue > 0.01


def test_segments_are_ordered_by_the_sum_of_their_saliency():
    segments = torch.tensor([[0, 0, 0], [1, 1, 2], [3, 3, 2]])[None, None]
    saliency = torch.tensor([[1.0, 1, 1], [4, 0, 1], [2, 2, 9]])[None, None]
    sums = segment_sums(segments, saliency)
    assert sums.tolist() == [3, 4, 10, 4]
    assert removal_order("most-salient", sums, 0).tolist() == [2, 1, 3, 0]
    assert removal_order("least-salient", sums, 0).tolist() == [0, 1, 3, 2]


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


def area(values):
    """Trapezoid by hand over fractions from 0 to 1."""
    return sum((a + b) / 2 for a, b in itertools.pairwise(values)) / (len(values) - 1)


def tables_of(report):
    """Title → row title → column → the number of the cell (before its interval)."""
    return {
        table.title: {
            row[0]: {
                column: float(cell.split()[0]) for column, cell in zip(table.header[1:], row[1:], strict=True)
            }
            for row in table.rows
        }
        for table in report.tables
        if table.header[0] in ("removal", "above")
    }


@pytest.fixture(scope="module")
def thousand(tmp_path_factory):
    """An experiment on ImageNet's classes, and its records with predictions and losses drawn at random."""
    folder = tmp_path_factory.mktemp("thousand")
    wnids = ["n02123045", "n01443537", "n02123159", "n03888257", "n02123045"]
    save_pictures(folder / "data", [f"{wnid}_{place}.png" for place, wnid in enumerate(wnids)])
    model = small_model([f"class {index}" for index in range(1000)])
    experiment = Curves(
        model,
        find_images(folder / "data", model.class_names),
        removals=["grey", "layer", "blur"],
        segmentations=["grid", "quickshift"],
        orders=["random", "least-salient"],
        **FEW,
    )
    records = run(experiment, folder / "out", show_progress=False).records
    rng = np.random.default_rng(0)
    rows = [
        row | {"predicted": int(rng.choice([1, 281, 282, 703])), "vanished": bool(rng.random() < 0.2)}
        for row in records.to_pylist()
    ]
    return experiment, type(records).from_pylist(rows, schema=records.schema)


def test_the_tables_hold_what_the_records_say(thousand):
    experiment, records = thousand
    report = experiment.report(records)
    tables = tables_of(report)
    curves = {}
    for row in records.to_pylist():
        key = row["removal"], row["segmentation"], row["order"]
        curves.setdefault(key, {}).setdefault(row["fraction"], []).append(row)
    names = {"grid": "squares", "quickshift": "quickshift"}
    averages = {}
    for (removal, segmentation, order), curve in curves.items():
        intact = {row["image"]: row["predicted"] for row in curve[0]}
        metrics = {"Accuracy": [], "Class entropy": [], "WordNet similarity": [], "Unchanged predictions": []}
        for rows in curve.values():
            answers = [row["predicted"] for row in rows]
            assert len(rows) == 5
            metrics["Accuracy"].append(np.mean([row["predicted"] == row["label"] for row in rows]))
            metrics["Class entropy"].append(scipy.stats.entropy(np.bincount(answers)))
            metrics["WordNet similarity"].append(
                np.mean([wu_palmer(row["predicted"], row["label"]) for row in rows])
            )
            metrics["Unchanged predictions"].append(
                np.mean([row["predicted"] == intact[row["image"]] for row in rows])
            )
        title = REMOVALS[removal].title + (" (sees missing pixels)" if removal == "blur" else "")
        for name, values in metrics.items():
            cell = tables[f"{name}: area under the curve"][title][f"{names[segmentation]}, {ORDERS[order]}"]
            assert cell == pytest.approx(area(values), abs=6e-4), (name, removal)
            averages.setdefault((title, name), []).append(area(values))
    for (title, name), areas in averages.items():
        cell = tables["Areas under the curves, averaged"][title][name]
        assert cell == pytest.approx(np.mean(areas), abs=6e-4)
        assert len(areas) == 4
    lead = tables["Accuracy: lead of layer masking"]
    accuracy = tables["Accuracy: area under the curve"]
    for removal in ("grey", "blur (sees missing pixels)"):
        for column in ("squares, random", "quickshift, least salient first"):
            difference = accuracy["layer masking"][column] - accuracy[removal][column]
            assert lead[removal][column] == pytest.approx(difference, abs=1.5e-3)


def test_intervals_hold_their_values(thousand, monkeypatch):
    monkeypatch.setattr(bootstrap, "FEWEST", 1)
    experiment, records = thousand
    cells = [
        cell for table in experiment.report(records).tables[:6] for row in table.rows for cell in row[1:-1]
    ]
    assert len(cells) == 4 * 12 + 12 + 8
    for cell in cells:
        value, low, high = map(float, cell.replace("[", "").replace("]", "").replace(",", "").split())
        assert low <= value <= high


def test_the_interval_of_an_entropy_holds_it_where_every_image_has_its_own_prediction(thousand, monkeypatch):
    monkeypatch.setattr(bootstrap, "FEWEST", 1)
    experiment, records = thousand
    own = dict(zip(experiment.images, [1, 281, 282, 703, 999], strict=True))
    rows = [row | {"predicted": own[row["image"]]} for row in records.to_pylist()]
    table = experiment.report(type(records).from_pylist(rows, schema=records.schema)).tables[1]
    value, low, high = map(float, table.rows[0][1].replace("[", "").replace("]", "").replace(",", "").split())
    assert value == pytest.approx(np.log(5), abs=6e-4)
    assert low < value < high


def test_the_accuracies_of_each_fraction(thousand):
    experiment, records = thousand
    table = next(t for t in experiment.report(records).tables if t.title == "Accuracy at each fraction")
    assert table.header == ("segments", "order", "removal", "0", "0.25", "0.5", "0.75", "1", "vanished")
    assert len(table.rows) == 12
    for segments, order, missing, *cells, vanished in table.rows:
        rows = [
            row
            for row in records.to_pylist()
            if ({"grid": "squares"}.get(row["segmentation"], row["segmentation"]), ORDERS[row["order"]])
            == (segments, order)
            and missing.startswith(REMOVALS[row["removal"]].title)
            and (row["removal"] != "blur" or "hidden" in missing)
        ]
        assert len(rows) == 25
        for step, cell in enumerate(cells):
            right = [r["predicted"] == r["label"] for r in rows if r["fraction"] == step / 4]
            assert float(cell) == pytest.approx(np.mean(right), abs=6e-4)
        assert int(vanished) == sum(row["vanished"] for row in rows)


def test_columns_follow_the_paper_and_rows_the_user(thousand):
    experiment, records = thousand
    table = experiment.report(records).tables[0]
    assert table.header == (
        "removal",
        "quickshift, random",
        "quickshift, least salient first",
        "squares, random",
        "squares, least salient first",
        "vanished",
    )
    assert [row[0] for row in table.rows] == ["grey", "layer masking", "blur (sees missing pixels)"]


def test_every_table_tells_what_vanished(thousand):
    experiment, records = thousand
    rows = records.to_pylist()
    marked = [row | {"vanished": row["removal"] == "layer" and row["fraction"] == 0.75} for row in rows]
    report = experiment.report(type(records).from_pylist(marked, schema=records.schema))
    for table in report.tables[:-1]:
        assert table.header[-1] == "vanished"
    assert [row[-1] for row in report.tables[0].rows] == ["0", "20", "0"]
    assert report.tables[-1].rows[1] == ("layer masking", "5", "5", "5", "5")
    assert report.facts["vanished"] == {"grey": 0, "layer": 20, "blur": 0}


def test_the_report_says_where_layer_masking_does_not_lead(thousand):
    experiment, records = thousand
    rows = records.to_pylist()
    for row in rows:
        ahead = row["removal"] == "layer" and (row["segmentation"], row["order"]) != ("grid", "random")
        row["predicted"] = row["label"] if ahead else 3
    summary = experiment.report(type(records).from_pylist(rows, schema=records.schema)).summary
    assert "leads the other ways in 6 of 8 cases; it does not lead grey (squares, random, +0.000" in summary
    assert "the absolute gradient of the true class's logit" in summary
    assert "5 images" in summary


def test_equal_records_give_equal_reports(thousand):
    experiment, records = thousand
    first, second = experiment.report(records), experiment.report(records)
    assert first.tables == second.tables
    assert (first.summary, first.facts) == (second.summary, second.facts)
    assert set(first.figures) == {
        "examples",
        *(
            f"curves-{segmentation}-{order}"
            for segmentation in ("grid", "quickshift")
            for order in ("random", "least-salient")
        ),
    }
    assert first.facts["images"] == 5
    assert first.facts["samples"] == 5 * 5 * 12


def test_the_examples_show_what_is_left(thousand):
    experiment, records = thousand
    figure = experiment.report(records).figures["examples"]
    rows = [axes for axes in figure.axes if axes.get_ylabel()]
    titles = [" ".join(axes.get_ylabel().split()) for axes in rows]
    assert titles[:2] == ["squares, random: grey", "squares, random: layer masking"]
    assert titles[3:] == [
        "squares, least salient first: grey",
        "quickshift, random: grey",
        "quickshift, least salient first: grey",
    ]
    assert [axes.get_title() for axes in figure.axes[:3]] == ["0.25 removed", "0.5 removed", "0.75 removed"]
    opened = experiment.open(experiment.images[0])
    picture = figure.axes[1].images[0].get_array()
    removed = opened.places["grid", "random"][opened.segments["grid"][0, 0]] < 8
    mean = torch.tensor(experiment.model.colors.mean)
    assert torch.allclose(torch.tensor(picture)[removed].float(), mean, atol=1e-6)
    assert torch.allclose(
        torch.tensor(picture)[~removed].float(), opened.pixels[0].permute(1, 2, 0)[~removed], atol=1e-6
    )


def test_wordnet_similarity_is_for_imagenets_classes(data, tmp_path):
    experiment = Curves(small_model(), data, removals=["grey"], orders=["random"], fractions=2)
    report = experiment.report(run(experiment, tmp_path / "out", show_progress=False).records)
    absent = {table.title: table.caption for table in report.tables if not table.header}
    assert absent == {
        "WordNet similarity: area under the curve": (
            "Not here: WordNet knows ImageNet's classes, and the model has 6."
        ),
        "Accuracy: lead of layer masking": "Not here: it takes layer masking and another way.",
    }


def test_few_images_have_no_intervals(thousand):
    experiment, records = thousand
    text = "".join(map(markdown, experiment.report(records).tables))
    assert " [–]" in text
    assert not re.search(r"\[[-+\d]", text)


def test_an_image_that_was_damaged_since_leaves_a_report_with_another_example(data, tmp_path):
    experiment = Curves(small_model(), data, removals=["grey"], orders=["random"], segmentations=["grid"])
    records = run(experiment, tmp_path / "out", show_progress=False).records
    first, second, *others = data.images
    (data.folder / first).write_bytes(b"damaged")
    report = experiment.report(records)
    assert report.figures["examples"].get_label().startswith(f"What is left of {second} as")
    assert "examples" not in report.facts
    for image in (second, *others):
        (data.folder / image).unlink()
    report = experiment.report(records)
    assert "examples" not in report.figures
    assert report.facts["examples"].startswith("none: of the images that were recorded none can be opened")


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


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(cli, "load_model", lambda name: small_model())


def command(*options):
    few = ["--segmentations", "grid", "--n-segments", "16", "--fractions", "3", "--orders", "random"]
    with pytest.raises(SystemExit) as caught:
        main(["evaluate", "curves", *few, *map(str, options)])
    return caught.value.code or 0


def test_the_command_writes_a_folder_and_prints_the_tables(small, data, tmp_path, capsys):
    out = tmp_path / "out"
    assert command("--data", data.folder, "--out", out, "--removals", "layer,grey", "--limit", 3) == 0
    assert {path.name for path in out.iterdir()} == {
        "figures",
        "records",
        "report.html",
        "report.json",
        "settings.json",
        "tables.md",
        "left_out.parquet",
        ".lock",
    }
    printed = capsys.readouterr()
    for line in (out / "tables.md").read_text().splitlines():
        assert line in printed.out
    assert "6/6" in printed.err
    assert str(out / "report.html") in printed.out
    about = json.loads((out / "report.json").read_text())
    units = re.search(
        r"\n1000 images × 2 segmentations, orders and ways × 3 fractions .* (\d+) s of", printed.out
    )
    assert int(units[1]) == round(1000 * about["facts"]["this start"]["loop_seconds"] / 3)
    assert about["facts"]["images"] == 3
    spent = about["facts"]["this start"]
    assert 0 < spent["forward_seconds"] < spent["loop_seconds"]
    assert spent["units"] == 6
    assert command("--data", data.folder, "--out", out, "--removals", "layer,grey", "--limit", 3) == 0
    assert "all was recorded before" in capsys.readouterr().out


def test_the_options_reach_the_experiment(small, data, tmp_path, monkeypatch):
    seen = {}

    def spy(model, data, **options):
        seen.update(options, images=data.images, labels=data.labels, maps=set(data.saliency_maps))
        raise InputError("enough")

    monkeypatch.setattr("captum_layermask.evaluate.curves.experiment.Curves", spy)
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: seen.update(threads=threads))
    maps = save_pictures(tmp_path / "maps", ["00.png"])
    options = [
        "--data",
        data.folder,
        "--out",
        "o",
        "--removals",
        "blur, layer,blur",
        "--segmentations",
        "slic",
    ]
    options += ["--orders", "least-salient,random", "--fractions", 6, "--seed", 9, "--n-segments", 30]
    (tmp_path / "labels.txt").write_text(f"{data.images[0]} fox")
    options += ["--labels", tmp_path / "labels.txt"]
    assert command(*options, "--threads", 2, "--limit", 1, "--saliency", maps) == 2
    assert seen == {
        "removals": ["blur", "layer"],
        "segmentations": ["slic"],
        "orders": ["least-salient", "random"],
        "fractions": 6,
        "n_segments": 30,
        "seed": 9,
        "threads": 2,
        "images": data.images[:1],
        "labels": {data.images[0]: CLASSES.index("fox")},
        "maps": {data.images[0]},
    }


def test_corrupt_images_do_not_end_the_run(small, data, tmp_path, capsys):
    for image in data.images[:2]:
        whole = (data.folder / image).read_bytes()
        (data.folder / image).write_bytes(whole[: len(whole) // 2])
    Image.new("RGB", (1, 1)).save(data.folder / data.images[2])
    options = ["--data", data.folder, "--out", tmp_path / "out", "--removals", "grey"]
    assert command(*options) == 0
    printed = capsys.readouterr()
    assert f"left out 2 of 4, which left_out.parquet lists, first {data.images[0]}" in printed.err
    facts = json.loads((tmp_path / "out" / "report.json").read_text())["facts"]
    assert (facts["images"], facts["left out"]) == (2, 2)


def test_a_run_does_not_write_among_its_images(small, data, tmp_path, capsys):
    maps = save_pictures(tmp_path / "maps", ["00.png", "01.png", "02.png", "03.png"])
    for out in (data.folder, data.folder / "out", maps / "out"):
        assert command("--data", data.folder, "--saliency", maps, "--out", out) == 2
        assert "give a folder outside it" in capsys.readouterr().err
        assert not (out / "settings.json").exists()


def test_names_that_are_no_text_do_not_end_the_run(small, data, tmp_path, capsys):
    odd = os.fsdecode(b"\xe9")
    (data.folder / data.images[0]).rename(data.folder / "ant" / f"{odd}.png")
    (data.folder / data.images[1]).rename(data.folder / "bee" / f"{odd}.png")
    (data.folder / "bee" / f"{odd}.png").write_bytes(b"broken")
    out = tmp_path / odd
    assert command("--data", data.folder, "--out", out, "--removals", "grey") == 0
    printed = capsys.readouterr()
    assert "3 images; " in printed.out
    assert "first bee/\\xe9.png: cannot read" in printed.err
    assert (out / "report.html").read_text().count("ant/\\xe9.png")


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--removals", "gray"], "did you mean 'grey'"),
        (["--removals", "grey,"], "unknown way of removing ''"),
        (["--segmentations", "squares"], "unknown segmentation 'squares'"),
        (["--orders", "randon"], "did you mean 'random'"),
        (["--fractions", "1"], "fractions is 1"),
        (["--limit", "0"], "limit is 0"),
        (["--threads", "0"], "threads is 0"),
        (["--data", "nowhere"], "there is no folder 'nowhere'"),
        (["--saliency", "nowhere"], "there is no folder 'nowhere'"),
        (["--labels", "nowhere"], "cannot read the labels 'nowhere'"),
    ],
)
def test_what_makes_no_sense_is_one_sentence_and_nothing_is_written(
    small, data, tmp_path, capsys, options, what
):
    out = tmp_path / "out"
    assert command("--data", data.folder, "--out", out, *options) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert what in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_a_folder_of_other_settings_and_one_without_a_readable_image(small, data, tmp_path, capsys):
    options = ["--data", data.folder, "--out", tmp_path / "out", "--removals"]
    assert command(*options, "grey") == 0
    assert command(*options, "black") == 2
    assert 'removals = ["grey"], and this one has ["black"]' in capsys.readouterr().err
    for image in data.images:
        (data.folder / image).write_bytes(b"")
    options[3] = tmp_path / "none"
    assert command(*options, "grey") == 2
    assert (
        f"not one image was left to evaluate; {data.images[0]}, the first: cannot read"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("package", ["jinja2", "pyarrow", "torchmetrics"])
def test_without_its_packages_the_command_says_what_to_install(small, data, monkeypatch, capsys, package):
    monkeypatch.setitem(sys.modules, package, None)
    assert command("--data", data.folder, "--out", "out") == 2
    assert f"needs {package}" in capsys.readouterr().err


def test_help_shows_the_options(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        main(["evaluate", "curves", "--help"])
    text = capsys.readouterr().out
    for option in (
        "--data",
        "--out",
        "--removals",
        "--segmentations",
        "--orders",
        "--saliency",
        "--limit",
        "--seed",
    ):
        assert option in text
