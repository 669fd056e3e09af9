"""The experiment on explanations: every measure against a slow transcription."""

import dataclasses
import itertools
import math
import warnings

import numpy as np
import pytest
import torch
from coloured import CLASSES, COLORS, SIZE, draw, mean_colour_model, predicted
from coloured_experiments import GREENISH, PINK, finished, lime
from PIL import Image
from torch import nn

from captum_layermask import REMOVALS, InputError, Removal, UnknownNameError, VanishedWarning
from captum_layermask.evaluate.lime.report import WHOLE
from captum_layermask.evaluate.report.report import write_report
from captum_layermask.explain.segments import SEGMENTATIONS
from captum_layermask.removals.fills import ColorFilledForward


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Objects that fill four of the 16 squares of a grid."""
    folder = tmp_path_factory.mktemp("pictures")
    draw(folder, [(i % 4, (8 * (i // 4), 16 - 8 * (i // 4), 16, 16)) for i in range(8)], ground=GREENISH)
    return folder


def pixels_of(folder, image):
    return np.asarray(Image.open(folder / "images" / image)) / 255


def mask_of(folder, image):
    (path,) = (folder / "masks").glob(f"{image.split('/')[-1][:2]}.*.png")
    return np.asarray(Image.open(path))


def segments_of(pixels, name, count=16):
    image = torch.tensor(pixels, dtype=torch.float32).permute(2, 0, 1)[None]
    return SEGMENTATIONS[name](image, n_segments=count)[0, 0].numpy()


@pytest.fixture
def spies(monkeypatch):
    """Two removals that fill with grey and keep the masks that they get."""
    seen = {}
    for name in ("spy", "spy-too"):
        seen[name] = []

        class Spy(ColorFilledForward):
            masks = seen[name]

            def fill(self, image, mask):
                self.masks.append(mask.visible.clone())
                return super().fill(image, mask)

        monkeypatch.setitem(REMOVALS, name, Removal(name, Spy, {"color": None}))
    return seen


def test_the_measures_are_those_of_the_recorded_importance(pictures, tmp_path):
    options = {"segmentations": ("grid", "slic"), "n_samples": 60, "mosaics": 2}
    _, rows = finished(lime(pictures, **options), tmp_path)
    assert len(rows) == (8 + 2 * 4) * 2 * 2
    by_grey_or_by_layer_masking = set()
    for row in (row for row in rows if row["cell"] == WHOLE):
        pixels, mask = pixels_of(pictures, row["image"]), mask_of(pictures, row["image"])
        segments = segments_of(pixels, row["segmentation"])
        importance = np.array(row["importance"])
        assert len(importance) == segments.max() + 1
        mass = np.array([(mask - mask.mean())[segments == i].sum() for i in range(len(importance))])
        cosine = mass @ importance / np.linalg.norm(mass) / np.linalg.norm(importance)
        assert row["alignment"] == pytest.approx(cosine, abs=1e-5)
        for k in (2, 4):
            region = np.isin(segments, np.argsort(-importance, kind="stable")[:k])
            assert row[f"jaccard_{k}"] == pytest.approx((region & mask).sum() / (region | mask).sum(), 1e-5)
            assert row[f"ablated_{k}"] == predicted(pixels, ~region, PINK)
            by_grey_or_by_layer_masking.add(predicted(pixels, ~region, PINK) == predicted(pixels, ~region))
        assert row["target"] == CLASSES.index(row["image"].split("/")[0])
        assert row["prediction"] == predicted(pixels, np.ones((SIZE, SIZE), bool))
        assert math.isnan(row["pointing"])
    assert by_grey_or_by_layer_masking == {True, False}
    for row in (row for row in rows if row["cell"] != WHOLE):
        assert row["image"].startswith("mosaic-")
        assert row["ablated_2"] is None
        assert math.isnan(row["alignment"])


def test_the_object_is_found(pictures, tmp_path):
    _, rows = finished(lime(pictures, removals=("layer",)), tmp_path)
    assert np.mean([row["alignment"] for row in rows]) > 0.9
    assert np.mean([row["jaccard_4"] for row in rows]) > 0.8


def test_cells_of_mosaics_are_explained_and_pointed_at(pictures, tmp_path):
    experiment = lime(pictures, removals=("layer",), mosaics=3)
    report, rows = finished(experiment, tmp_path)
    cells = [row for row in rows if row["cell"] != WHOLE]
    assert [(row["image"], row["cell"]) for row in cells] == [
        (f"mosaic-{number:04}", cell) for number in range(3) for cell in range(4)
    ]
    for row in cells:
        pixels = experiment.open(row["image"]).pixels[0].permute(1, 2, 0).numpy()
        top, left = 16 * (row["cell"] // 2), 16 * (row["cell"] % 2)
        quarter = pixels[top : top + 16, left : left + 16].reshape(-1, 3)
        assert (np.linalg.norm(quarter - COLORS[row["target"]], axis=1) < 0.02).sum() >= 36
        segments = segments_of(pixels, "grid")
        positive = np.clip(np.array(row["importance"])[segments], 0, None)
        share = positive[top : top + 16, left : left + 16].sum() / positive.sum()
        assert row["pointing"] == pytest.approx(share, abs=1e-5)
    assert np.mean([row["pointing"] for row in cells]) > 0.5
    assert report.tables[-1].title == "Grid Pointing Game"
    of_mosaics = [np.mean([row["pointing"] for row in cells[i : i + 4]]) for i in (0, 4, 8)]
    assert report.tables[-1].rows[0][1].startswith(f"{np.mean(of_mosaics):.3f} [")


def test_all_removals_and_all_cells_see_the_same_perturbations(pictures, tmp_path, spies):
    experiment = lime(pictures, removals=("spy", "spy-too"), n_samples=20, mosaics=1, batch_size=8)
    opened = {image: experiment.open(image) for image in ("mosaic-0000", "red/00.png", "red/04.png")}
    seen = {}
    for image in opened:
        for removal in spies:
            spies[removal].clear()
            experiment.work(opened[image], f"grid/{removal}")
            seen[image, removal] = torch.cat(spies[removal])
    for image in opened:
        assert torch.equal(seen[image, "spy"], seen[image, "spy-too"])
        assert len(seen[image, "spy"]) == 20  # also for the four cells of a mosaic
    assert not torch.equal(seen["red/00.png", "spy"], seen["red/04.png", "spy"])


def test_the_seed_decides(pictures, tmp_path):
    def importance(seed, name):
        experiment = lime(pictures, removals=("layer",), n_samples=20, mosaics=1, seed=seed)
        return [row["importance"] for row in finished(experiment, tmp_path / name)[1]]

    assert importance(0, "a") == importance(0, "b")
    assert importance(0, "a") != importance(1, "c")


def test_mosaics_are_drawn_from_the_seed_each_by_itself(tmp_path):
    draw(tmp_path, [(i % 4, (0, 0, 12 + i % 5, 12 + i // 5)) for i in range(40)], ground=GREENISH)
    first, other = (lime(tmp_path, masks=False, mosaics=2, seed=seed) for seed in (0, 1))
    pixels = [run.open(name).pixels for run in (first, other) for name in ("mosaic-0000", "mosaic-0001")]
    for i, j in itertools.combinations(range(4), 2):
        assert not torch.equal(pixels[i], pixels[j])
    assert torch.equal(first.open("mosaic-0000").pixels, pixels[0])


def test_vanished_samples_are_counted(pictures, spies):
    """A 1×1 convolution of stride 16 reads one pixel in each of four squares; any of the others are lost."""
    model = mean_colour_model(PINK)
    subsample = nn.Conv2d(3, 3, 1, stride=16, bias=False)
    subsample.weight.data = torch.eye(3).view(3, 3, 1, 1)
    model = dataclasses.replace(model, model=nn.Sequential(subsample, model.model).eval())
    experiment = lime(pictures, model, removals=("layer-paper", "spy"), mosaics=1)
    for image in ("red/00.png", "mosaic-0000"):
        opened = experiment.open(image)
        spies["spy"].clear()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", VanishedWarning)
            lost = [row["vanished"] for row in experiment.work(opened, "grid/layer-paper")]
        assert {row["vanished"] for row in experiment.work(opened, "grid/spy")} == {0}
        visible = torch.cat(spies["spy"])
        left = visible[..., ::16, ::16].flatten(1).any(1)
        expected = int((visible.flatten(1).any(1) & ~left).sum())
        assert expected > 0
        assert lost == [expected] if len(lost) == 1 else lost == [expected, 0, 0, 0]


def test_a_class_that_the_network_hardly_sees_is_not_explained(tmp_path, spies):
    """A yellow picture among the blue ones: blue is the last of its four classes."""
    draw(tmp_path, [(3, (0, 0, 16, 16)), (0, (0, 0, 16, 16))])
    (tmp_path / "images" / "yellow").rename(tmp_path / "images" / "blue")
    experiment = lime(tmp_path, masks=False, removals=("spy",), n_samples=10)
    experiment.work(experiment.open("blue/00.png"), "grid/spy")
    assert not spies["spy"]
    report, rows = finished(experiment, tmp_path / "out")
    ranks = {row["image"]: (row["rank"], row["n_samples"], len(row["importance"])) for row in rows}
    assert ranks == {"blue/00.png": (3, 0, 0), "red/01.png": (0, 10, 16)}
    assert report.facts["images"] == report.facts["images left out"] == 1


def test_without_labels_the_likeliest_class_is_explained(tmp_path):
    """A mask says where the explained object is only if it is of an object of that class."""
    draw(tmp_path, [(0, (0, 0, 16, 16)), (2, (0, 0, 16, 16))], labelled=False)
    (tmp_path / "masks" / "01.blue.png").rename(tmp_path / "masks" / "01.green.png")
    report, rows = finished(lime(tmp_path, removals=("layer",)), tmp_path / "out")
    assert [(row["target"], row["rank"]) for row in rows] == [(0, 0), (2, 0)]
    assert rows[0]["alignment"] > 0.8
    assert math.isnan(rows[1]["alignment"])
    assert "no labels" in report.summary


def test_the_report_is_written(pictures, tmp_path):
    experiment = lime(pictures, segmentations=tuple(SEGMENTATIONS), n_samples=20, mosaics=1)
    report, _ = finished(experiment, tmp_path)
    assert set(report.figures) == {"ablation", "explanations", "mosaic"}
    assert report.facts["explanations"] == (8 + 4) * 3 * 2
    write_report(report, tmp_path, experiment.settings)
    text = (tmp_path / "tables.md").read_text()
    assert "alignment score ↑, quickshift" in text
    assert "seconds" not in text


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"n_samples": 0}, "number of samples"),
        ({"n_segments": 0}, "number of segments"),
        ({"top": ()}, "most important segments"),
        ({"top": (5, 0)}, "most important segments"),
        ({"batch_size": 0}, "images per call"),
        ({"mosaics": -1}, "number of mosaics"),
    ],
)
def test_a_count_that_is_out_of_range_is_an_error(pictures, options, what):
    with pytest.raises(InputError, match=what):
        lime(pictures, **options)


def test_unknown_names_are_errors(pictures):
    with pytest.raises(UnknownNameError, match="segmentation 'gird'"):
        lime(pictures, segmentations=("gird",))
    with pytest.raises(UnknownNameError, match="removal 'gray'"):
        lime(pictures, removals=("gray",))
