"""The tables and figures of the curves, against the records."""

import itertools
import re

import numpy as np
import pytest
import scipy.stats
import torch
from small_evaluation import CLASSES, FEW, class_folders, save_pictures, small_model

from captum_layermask.evaluate.curves.experiment import Curves
from captum_layermask.evaluate.curves.orders import ORDERS
from captum_layermask.evaluate.data.dataset import find_images
from captum_layermask.evaluate.report import bootstrap
from captum_layermask.evaluate.report.report import markdown
from captum_layermask.evaluate.report.titles import removal_title
from captum_layermask.evaluate.running import run
from captum_layermask.metrics.wordnet import wu_palmer


@pytest.fixture
def data(tmp_path):
    return find_images(class_folders(tmp_path / "data", 4), CLASSES)


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
        original = {row["image"]: row["predicted"] for row in curve[0]}
        metrics = {"Accuracy": [], "Class entropy": [], "WordNet similarity": [], "Unchanged predictions": []}
        for rows in curve.values():
            predictions = [row["predicted"] for row in rows]
            assert len(rows) == 5
            metrics["Accuracy"].append(np.mean([row["predicted"] == row["label"] for row in rows]))
            metrics["Class entropy"].append(scipy.stats.entropy(np.bincount(predictions)))
            metrics["WordNet similarity"].append(
                np.mean([wu_palmer(row["predicted"], row["label"]) for row in rows])
            )
            metrics["Unchanged predictions"].append(
                np.mean([row["predicted"] == original[row["image"]] for row in rows])
            )
        title = removal_title(removal)
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
    for removal in ("grey", removal_title("blur")):
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
    assert table.header == ("segmentation", "order", "removal", "0", "0.25", "0.5", "0.75", "1", "vanished")
    assert len(table.rows) == 12
    for segments, order, title, *cells, vanished in table.rows:
        rows = [
            row
            for row in records.to_pylist()
            if ({"grid": "squares"}.get(row["segmentation"], row["segmentation"]), ORDERS[row["order"]])
            == (segments, order)
            and title == removal_title(row["removal"])
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
    assert [row[0] for row in table.rows] == ["grey", "layer masking", removal_title("blur")]


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
    assert (
        "leads the other removals in 6 of 8 cases; it does not lead grey (squares, random, +0.000" in summary
    )
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
        "Accuracy: lead of layer masking": "Not here: it takes layer masking and another removal.",
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
