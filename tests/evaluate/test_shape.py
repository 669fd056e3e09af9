"""The experiment on mask shapes: every prediction and every number, against hand computation."""

import dataclasses
import shutil

import numpy as np
import pytest
import torch
from coloured import CLASSES, SIZE, answer, draw, mean_colour_model
from PIL import Image
from torch import nn
from typer.testing import CliRunner

from captum_layermask import REMOVALS
from captum_layermask.cli import evaluate as cli
from captum_layermask.errors import InputError
from captum_layermask.evaluate.data.dataset import find_images
from captum_layermask.evaluate.data.objects import object_classes, objects_with_classes
from captum_layermask.evaluate.report.report import write_report
from captum_layermask.evaluate.run import run
from captum_layermask.evaluate.shape.experiment import Shape, broken
from captum_layermask.models.class_names import imagenet_class_names

CORNERS = [(0, 0, 14, 14), (2, 18, 12, 14), (18, 2, 14, 10), (16, 16, 16, 16)]
GREENISH = (0.4, 0.55, 0.4)
REDDISH = (0.7, 0.2, 0.2)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    draw(folder, [(i % 4, CORNERS[i // 4]) for i in range(12)], ground=GREENISH)
    return folder


def shape(folder, model=None, *, removals=("layer", "grey"), **options):
    data = find_images(folder / "images", CLASSES, masks=folder / "masks", labelled=False)
    return Shape(model or mean_colour_model(REDDISH), data, removals=removals, **options)


def finished(experiment, out):
    outcome = run(experiment, out, show_progress=False)
    return experiment.report(outcome.records), outcome.records.to_pylist()


def first_numbers(rows):
    """Without intervals, and with names of ways for their titles."""
    titles = {REMOVALS[removal].title: removal for removal in REMOVALS}
    return [tuple(titles.get(cell, cell.split(" [")[0]) for cell in row) for row in rows]


def picture(folder, image):
    return np.asarray(Image.open(folder / "images" / image)) / 255


def mask(folder, image):
    (path,) = (folder / "masks").glob(f"{image.split('/')[1][:2]}.*.png")
    return np.asarray(Image.open(path))


def test_the_broken_mask_swaps_opposite_quarters():
    numbers = torch.arange(16).view(1, 4, 4)
    assert broken(numbers).tolist() == [[[10, 11, 8, 9], [14, 15, 12, 13], [2, 3, 0, 1], [6, 7, 4, 5]]]
    odd = torch.rand(2, 1, 7, 5, generator=torch.Generator().manual_seed(0)) > 0.5
    assert broken(odd).shape == odd.shape
    assert torch.equal(broken(odd).sum((2, 3)), odd.sum((2, 3)))


def test_every_prediction_is_what_the_visible_pixels_say(pictures, tmp_path):
    _, rows = finished(shape(pictures, pairs=3), tmp_path)
    assert len(rows) == 12 * (1 + 2 * (2 + 3))
    for row in rows:
        pixels = picture(pictures, row["seen"])
        visible = np.ones((SIZE, SIZE), bool)
        if row["mask"] != "none":
            hidden = mask(pictures, row["image"])
            assert row["hidden"] == hidden.sum()
            visible = ~(hidden if row["mask"] == "object" else np.roll(hidden, (16, 16), (0, 1)))
        paint = REDDISH if row["unit"] == "grey" else None
        assert row["prediction"] == answer(pixels, visible, paint), row
        assert not row["vanished"]


def test_masks_are_laid_on_images_of_other_classes_drawn_from_the_seed(pictures, tmp_path):
    def pairs(seed, name):
        _, rows = finished(shape(pictures, pairs=4, seed=seed), tmp_path / name)
        return [(r["unit"], r["image"], r["seen"]) for r in rows if r["seen"] != r["image"]]

    first = pairs(0, "first")
    assert first == pairs(0, "again")
    assert first != pairs(1, "other")
    assert all(image.split("/")[0] != seen.split("/")[0] for _, image, seen in first)
    assert {(i, s) for removal, i, s in first if removal == "grey"} == {
        (i, s) for removal, i, s in first if removal == "layer"
    }
    assert len(set(first)) == len(first) == 12 * 2 * 4


def test_the_tables_count_by_hand(tmp_path):
    """Three images of a red object on greenish ground, two of a smaller green one; ``grey`` paints red.

    Layer masking: without the red object green ground is left, and red with the broken mask; green stays
    green. No mask makes another image red. Red paint: a hidden red object is as red as ever, and its mask
    makes the green images red, which is right for 6 of the 10 pairs.
    """
    draw(tmp_path, [(0, (0, 0, 16, 16))] * 3 + [(1, (0, 0, 8, 8))] * 2, ground=GREENISH)
    report, _ = finished(shape(tmp_path, mean_colour_model((1, 0, 0)), pairs=2), tmp_path / "out")
    average, by_class = report.tables
    assert average.header == (
        "removal",
        "masks",
        "object mask",
        "broken mask",
        "difference",
        "pairs",
        "mask's class on other images",
        "without the mask",
        "vanished",
    )
    assert first_numbers(average.rows) == [
        ("layer", "5", "0.400", "1.000", "+0.600", "10", "0.000", "0.000", "0"),
        ("grey", "5", "1.000", "1.000", "+0.000", "10", "0.600", "0.000", "0"),
    ]
    assert first_numbers(by_class.rows) == [
        ("green", "layer", "2", "1.000", "1.000", "+0.000", "4", "0.000", "0.000", "0"),
        ("green", "grey", "2", "1.000", "1.000", "+0.000", "4", "0.000", "0.000", "0"),
        ("red", "layer", "3", "0.000", "1.000", "+1.000", "6", "0.000", "0.000", "0"),
        ("red", "grey", "3", "1.000", "1.000", "+0.000", "6", "1.000", "0.000", "0"),
    ]
    assert average.rows[0][2] == "0.400 [–]"


def test_accuracy_counts_objects_that_are_recognised_intact(tmp_path):
    """A green object of 16 pixels on red ground is not seen; without any mask, it is called red."""
    draw(tmp_path, [(1, (4, 4, 4, 4)), (0, (0, 0, 16, 16))], ground=(0.7, 0.3, 0.3))
    report, _ = finished(shape(tmp_path, pairs=1), tmp_path / "out")
    assert first_numbers(report.tables[1].rows) == [
        ("green", "layer", "0", "–", "–", "–", "1", "0.000", "0.000", "0"),
        ("green", "grey", "0", "–", "–", "–", "1", "0.000", "0.000", "0"),
        ("red", "layer", "1", "1.000", "1.000", "+0.000", "1", "1.000", "1.000", "0"),
        ("red", "grey", "1", "1.000", "1.000", "+0.000", "1", "1.000", "1.000", "0"),
    ]
    assert report.facts["masks recognised intact"] == 1


def test_an_interval_is_of_the_images_whose_object_is_recognised(tmp_path):
    """Of twelve images two are recognised; masks are laid on others in all twelve."""
    objects = [(1, (4, 4, 4, 4))] * 10 + [(0, (0, 0, 16, 16))] * 2
    draw(tmp_path, objects, ground=(0.7, 0.3, 0.3))
    report, _ = finished(shape(tmp_path, removals=("layer",), pairs=1), tmp_path / "out")
    _, _, of_object, of_broken, difference, pairs, on_others, without, _ = report.tables[0].rows[0]
    assert all(cell.endswith(" [–]") for cell in (of_object, of_broken, difference))
    assert pairs == "12"
    assert not any(cell.endswith(" [–]") for cell in (on_others, without))


def test_without_labels_a_mask_has_the_classes_of_its_category(tmp_path):
    objects = [(0, (0, 0, 16, 16)), (2, (0, 0, 16, 16)), (3, (0, 16, 16, 16))]
    draw(tmp_path, objects, labelled=False)
    (tmp_path / "masks" / "02.yellow.png").rename(tmp_path / "masks" / "02.ochre.png")
    experiment = shape(tmp_path, removals=("layer",), pairs=5)
    assert list(experiment.images) == ["00.png", "01.png"]
    report, rows = finished(experiment, tmp_path / "out")
    assert [row[0] for row in report.tables[1].rows] == ["blue", "red"]
    assert {(row["image"], row["seen"]) for row in rows if row["seen"] != row["image"]} == {
        ("00.png", "01.png"),
        ("01.png", "00.png"),
    }


def test_an_image_with_several_objects_is_hidden_several_times(tmp_path):
    """The second picture shows red too, so no mask of red is laid on it; the blue mask goes everywhere."""
    draw(tmp_path, [(0, (0, 0, 16, 16)), (2, (0, 0, 16, 16)), (3, (0, 16, 16, 16))], labelled=False)
    shutil.copy(tmp_path / "masks" / "00.red.png", tmp_path / "masks" / "01.red.png")
    _, rows = finished(shape(tmp_path, removals=("layer",), pairs=5), tmp_path / "out")
    laid = {(r["image"], r["category"], r["seen"]) for r in rows if r["seen"] != r["image"]}
    assert laid == {
        ("00.png", "red", "02.png"),
        ("01.png", "blue", "00.png"),
        ("01.png", "blue", "02.png"),
        ("01.png", "red", "02.png"),
        ("02.png", "yellow", "00.png"),
        ("02.png", "yellow", "01.png"),
    }
    own = [(r["image"], r["category"], r["mask"]) for r in rows if r["seen"] == r["image"]]
    assert len(own) == len(set(own)) == 3 + 4 * 2


def test_class_names_are_classes_or_for_imagenet_what_lies_above_them():
    assert object_classes("Dark_Green", ("red", "dark green", "dark green")) == (1, 2)
    assert object_classes("animal", ("red", "cat")) == ()
    imagenet = imagenet_class_names()
    names = {imagenet[i] for i in object_classes("cat", imagenet)}
    assert {"tabby", "Persian cat"} <= names
    assert "golden retriever" not in names
    assert object_classes("traffic_light", imagenet) == (imagenet.index("traffic light"),)


def test_masks_of_other_things_than_the_label_are_left_out():
    class_names = ("red", "green", "blue")
    masks = ["red", "green", "object"]
    assert objects_with_classes(masks, 1, class_names) == {"green": (1,), "object": (1,)}
    assert objects_with_classes(masks, None, class_names) == {"red": (0,), "green": (1,)}


def test_an_unreadable_partner_is_passed_over(tmp_path):
    draw(tmp_path, [(i, (0, 0, 16, 16)) for i in range(4)])
    (tmp_path / "images" / "green" / "01.png").write_bytes(b"not a picture")
    out = tmp_path / "out"
    outcome = run(shape(tmp_path, removals=("layer",), pairs=2), out, show_progress=False)
    assert outcome.left_out["image"].to_pylist() == ["green/01.png"]
    rows = outcome.records.to_pylist()
    assert {row["image"] for row in rows} == {"blue/02.png", "red/00.png", "yellow/03.png"}
    seen = [(row["image"], row["seen"]) for row in rows if row["unit"] == "layer"]
    assert len(seen) == 3 * 4
    assert "green/01.png" not in {other for _, other in seen}


def test_an_object_outside_the_crop_is_counted_and_left_out(tmp_path):
    draw(tmp_path, [(0, (0, 0, 16, 16)), (1, (0, 0, 16, 16))])
    for path in (tmp_path / "images" / "green" / "01.png", tmp_path / "masks" / "01.green.png"):
        with Image.open(path) as narrow:
            wide = Image.new(narrow.mode, (96, 32))
            wide.paste(narrow)
        wide.save(path)
    report, _ = finished(shape(tmp_path, removals=("layer",), pairs=1), tmp_path / "out")
    assert report.facts["masks wholly outside the crop"] == 1
    assert report.facts["masks"] == 1
    assert [row[0] for row in report.tables[1].rows] == ["red"]


def test_vanished_samples_are_recorded_and_counted(tmp_path):
    """A 1×1 convolution of stride 2 never reads the one pixel that is left."""
    draw(tmp_path, [(0, (0, 0, 32, 32)), (1, (0, 0, 32, 32))])
    path = tmp_path / "masks" / "00.red.png"
    hidden = np.ones((SIZE, SIZE), bool)
    hidden[5, 7] = False
    Image.fromarray(hidden).save(path)
    hidden[5, 7], hidden[4, 6] = True, False
    Image.fromarray(hidden).save(tmp_path / "masks" / "01.green.png")
    model = mean_colour_model()
    subsample = nn.Conv2d(3, 3, 1, stride=2, bias=False)
    subsample.weight.data = torch.eye(3).view(3, 3, 1, 1)
    model = dataclasses.replace(model, model=nn.Sequential(subsample, model.model).eval())
    report, rows = finished(
        shape(tmp_path, model, removals=("layer-paper", "grey"), pairs=1), tmp_path / "out"
    )
    lost = {(row["image"], row["unit"]): row["vanished"] for row in rows if row["mask"] == "object"}
    assert lost == {
        ("red/00.png", "layer-paper"): True,
        ("red/00.png", "grey"): False,
        ("green/01.png", "layer-paper"): False,
        ("green/01.png", "grey"): False,
    }
    assert [row[-1] for row in report.tables[0].rows] == ["3", "0"]
    assert report.facts["vanished"] == {"layer masking, paper's masks": 3, "grey": 0}


def test_what_cannot_be_measured_is_known_beforehand(tmp_path):
    draw(tmp_path, [(0, (0, 0, 8, 8))], labelled=False)
    with pytest.raises(InputError, match="segments"):
        shape(tmp_path, removals=("layer", "segment-mean"))
    with pytest.raises(InputError, match="number of pairs"):
        shape(tmp_path, pairs=-1)
    (tmp_path / "masks" / "00.red.png").rename(tmp_path / "masks" / "00.ochre.png")
    with pytest.raises(InputError, match="no image has a mask"):
        shape(tmp_path)


def test_a_removal_that_leaks_is_given_each_image_that_it_hides(tmp_path):
    """A blur of the hidden red square is red; were it another image's, green would be seen."""
    draw(tmp_path, [(0, (8, 8, 16, 16)), (1, (8, 8, 16, 16))])
    _, rows = finished(shape(tmp_path, removals=("blur",), pairs=1), tmp_path / "out")
    masked = [row for row in rows if row["unit"] == "blur"]
    assert len(masked) == 2 * 3
    assert all(CLASSES[row["prediction"]] == row["seen"].split("/")[0] for row in masked)


def test_tables_and_figures_that_cannot_be_made_say_why(tmp_path):
    draw(tmp_path, [(0, (0, 0, 16, 16))])
    for path in (tmp_path / "images" / "red" / "00.png", tmp_path / "masks" / "00.red.png"):
        with Image.open(path) as narrow:
            wide = Image.new(narrow.mode, (96, 32))
            wide.paste(narrow)
        wide.save(path)
    report, _ = finished(shape(tmp_path, removals=("layer",), pairs=1), tmp_path / "out")
    assert [table.header for table in report.tables] == [(), ()]
    assert all("every mask lies outside the crop" in table.caption for table in report.tables)
    assert not report.figures
    assert "There are no figures, since no object is recognised." in report.summary


def test_an_example_that_was_damaged_since_gives_removal_to_another(tmp_path):
    draw(tmp_path, [(i, (0, 0, 16, 16)) for i in range(3)])
    experiment = shape(tmp_path, removals=("layer",), pairs=0)
    records = run(experiment, tmp_path / "out", show_progress=False).records
    seen = []
    for _ in experiment.images:
        label = experiment.report(records).figures["examples"].get_label()
        seen.append(label.removeprefix("What is left of ").partition(" under")[0])
        (tmp_path / "images" / seen[-1]).write_bytes(b"damaged")
    assert sorted(seen) == sorted(experiment.images)
    report = experiment.report(records)
    assert set(report.figures) == {"shape"}
    assert report.facts["examples"].startswith("none: of the images that were recorded")


def test_the_report_is_written(pictures, tmp_path):
    report, _ = finished(shape(pictures, pairs=2), tmp_path)
    write_report(report, tmp_path, {})
    assert set(report.figures) == {"shape", "examples"}
    assert report.facts["masks"] == 12
    assert "blue" in (tmp_path / "tables.md").read_text()


def test_the_command_runs_reports_and_goes_on(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(cli, "load_model", lambda name: mean_colour_model(REDDISH))
    arguments = [
        *("shape", "--data", str(pictures / "images"), "--masks", str(pictures / "masks")),
        *("--out", str(tmp_path), "--removals", "layer,grey", "--pairs", "2", "--seed", "3"),
    ]
    runner = CliRunner()
    first = runner.invoke(cli.app, arguments, catch_exceptions=False)
    assert first.exit_code == 0
    assert "Accuracy with object mask and broken mask" in first.stdout
    tables = (tmp_path / "tables.md").read_bytes()
    again = runner.invoke(cli.app, arguments, catch_exceptions=False)
    assert "all was recorded before" in again.stdout
    assert (tmp_path / "tables.md").read_bytes() == tables
    with pytest.raises(InputError, match="seed"):
        runner.invoke(cli.app, [*arguments[:-1], "4"], catch_exceptions=False)
