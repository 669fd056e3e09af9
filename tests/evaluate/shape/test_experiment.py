"""The experiment on mask shapes: every prediction against hand computation."""

import dataclasses
import shutil

import numpy as np
import pytest
import torch
from coloured import CLASSES, SIZE, draw, mean_colour_model, predicted
from coloured_experiments import REDDISH, finished, shape
from PIL import Image
from torch import nn

from captum_layermask.errors import InputError
from captum_layermask.evaluate.running import run
from captum_layermask.evaluate.shape.experiment import broken


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
            missing = mask(pictures, row["image"])
            assert row["missing"] == missing.sum()
            visible = ~(missing if row["mask"] == "object" else np.roll(missing, (16, 16), (0, 1)))
        fill = REDDISH if row["unit"] == "grey" else None
        assert row["prediction"] == predicted(pixels, visible, fill), row
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


def test_an_image_with_several_objects_is_missing_several_times(tmp_path):
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


def test_vanished_samples_are_recorded_and_counted(tmp_path):
    """A 1×1 convolution of stride 2 never reads the one pixel that is left."""
    draw(tmp_path, [(0, (0, 0, 32, 32)), (1, (0, 0, 32, 32))])
    path = tmp_path / "masks" / "00.red.png"
    missing = np.ones((SIZE, SIZE), bool)
    missing[5, 7] = False
    Image.fromarray(missing).save(path)
    missing[5, 7], missing[4, 6] = True, False
    Image.fromarray(missing).save(tmp_path / "masks" / "01.green.png")
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
    """A blur of the missing red square is red; were it another image's, green would be seen."""
    draw(tmp_path, [(0, (8, 8, 16, 16)), (1, (8, 8, 16, 16))])
    _, rows = finished(shape(tmp_path, removals=("blur",), pairs=1), tmp_path / "out")
    masked = [row for row in rows if row["unit"] == "blur"]
    assert len(masked) == 2 * 3
    assert all(CLASSES[row["prediction"]] == row["seen"].split("/")[0] for row in masked)
