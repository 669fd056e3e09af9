"""The experiment on explanations: every measure against a slow transcription, every table by hand."""

import dataclasses
import itertools
import json
import math
import warnings

import numpy as np
import pyarrow as pa
import pytest
import torch
from coloured import CLASSES, COLORS, SIZE, answer, draw, mean_colour_model
from PIL import Image
from torch import nn
from typer.testing import CliRunner

from captum_layermask import REMOVALS, InputError, Removal, UnknownNameError, VanishedWarning
from captum_layermask.cli import evaluate as cli
from captum_layermask.errors import LeftOutError
from captum_layermask.evaluate.data.dataset import find_images
from captum_layermask.evaluate.lime.experiment import Lime
from captum_layermask.evaluate.lime.mosaics import Candidate, choose_cells, mosaic
from captum_layermask.evaluate.lime.report import WHOLE, Results
from captum_layermask.evaluate.report.figures import removal_color
from captum_layermask.evaluate.report.report import write_report
from captum_layermask.evaluate.run import run
from captum_layermask.explain.segments import SEGMENTATIONS
from captum_layermask.removals.fills import ColorFilledForward

PAINT = (0.7, 0.3, 0.4)
GREENISH = (0.4, 0.55, 0.4)
DEFAULT_REMOVALS = ("layer", "grey")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Objects that fill four of the 16 squares of a grid."""
    folder = tmp_path_factory.mktemp("pictures")
    draw(folder, [(i % 4, (8 * (i // 4), 16 - 8 * (i // 4), 16, 16)) for i in range(8)], ground=GREENISH)
    return folder


def lime(folder, model=None, *, masks=True, removals=DEFAULT_REMOVALS, **options):
    masks_folder = folder / "masks" if masks else None
    data = find_images(folder / "images", CLASSES, masks=masks_folder, labelled=False)
    small = {"segmentations": ("grid",), "n_segments": 16, "n_samples": 150, "top": (2, 4), "mosaics": 0}
    return Lime(model or mean_colour_model(PAINT), data, removals=removals, **{**small, **options})


def finished(experiment, out):
    outcome = run(experiment, out, show_progress=False)
    assert not outcome.left_out.num_rows
    return experiment.report(outcome.records), outcome.records.to_pylist()


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
    """Two ways that paint grey and keep the masks that they are asked for."""
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
            assert row[f"ablated_{k}"] == answer(pixels, ~region, PAINT)
            by_grey_or_by_layer_masking.add(answer(pixels, ~region, PAINT) == answer(pixels, ~region))
        assert row["target"] == CLASSES.index(row["image"].split("/")[0])
        assert row["prediction"] == answer(pixels, np.ones((SIZE, SIZE), bool))
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
    asked = {}
    for image in opened:
        for removal in spies:
            spies[removal].clear()
            experiment.work(opened[image], f"grid/{removal}")
            asked[image, removal] = torch.cat(spies[removal])
    for image in opened:
        assert torch.equal(asked[image, "spy"], asked[image, "spy-too"])
        assert len(asked[image, "spy"]) == 20  # also for the four cells of a mosaic
    assert not torch.equal(asked["red/00.png", "spy"], asked["red/04.png", "spy"])


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
    model = mean_colour_model(PAINT)
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
    """A mask says where the answer is only if it is of an object of that class."""
    draw(tmp_path, [(0, (0, 0, 16, 16)), (2, (0, 0, 16, 16))], labelled=False)
    (tmp_path / "masks" / "01.blue.png").rename(tmp_path / "masks" / "01.green.png")
    report, rows = finished(lime(tmp_path, removals=("layer",)), tmp_path / "out")
    assert [(row["target"], row["rank"]) for row in rows] == [(0, 0), (2, 0)]
    assert rows[0]["alignment"] > 0.8
    assert math.isnan(rows[1]["alignment"])
    assert "no labels" in report.summary


def record(image, removal, cell=WHOLE, **columns):
    row = {
        "image": image,
        "unit": f"grid/{removal}",
        "segmentation": "grid",
        "removal": removal,
        "cell": cell,
        "target": 5,
        "rank": 0,
        "prediction": 5,
        "ablated_10": 5,
        "ablated_20": 5,
        "alignment": math.nan,
        "jaccard_10": math.nan,
        "jaccard_20": math.nan,
        "pointing": math.nan,
        "importance": [1.0],
        "n_samples": 100,
        "vanished": 0,
        "seconds": 2.0,
    }
    return {**row, **columns}


def results(rows):
    return Results(pa.Table.from_pylist(rows), DEFAULT_REMOVALS, ("grid",), (10, 20))


def test_the_tables_by_hand():
    found = results(
        [
            record("a", "layer", ablated_20=1, alignment=0.5, jaccard_10=0.125, jaccard_20=0.25, vanished=2),
            record("b", "layer", ablated_20=1, ablated_10=2, prediction=4),
            record("c", "layer", alignment=0.25, jaccard_10=0.25, jaccard_20=0.75),
            record("left out", "layer", n_samples=0, rank=7, importance=[]),
            record("a", "grey", ablated_20=1, alignment=-0.5, jaccard_10=0, jaccard_20=0),
            record("b", "grey", prediction=4),
            record("c", "grey", alignment=0.25, jaccard_10=0, jaccard_20=0),
            record("left out", "grey", n_samples=0, rank=7, importance=[]),
            *(record("mosaic-0000", "layer", cell, pointing=p) for cell, p in enumerate((0, 1, 1, 1))),
            *(
                record("mosaic-0000", "grey", cell, pointing=p, vanished=1)
                for cell, p in enumerate([0.25] * 4)
            ),
        ]
    )
    assert (found.images, found.mosaics, found.left_out) == (["a", "b", "c"], ["mosaic-0000"], 1)
    assert (found.explanations, found.seconds) == (14, 28.0)
    assert (found.vanished("layer"), found.vanished("grey")) == (2, 4)
    table_2, every_k, pointing = found.tables()

    def numbers(table):
        return [[cell.split(" [")[0] for cell in row] for row in table.rows]

    assert table_2.header == (
        "removal",
        "top-20 ablation accuracy ↓, squares",
        "alignment score ↑, squares",
        "top-20 Jaccard similarity ↑, squares",
        "vanished",
    )
    assert numbers(table_2) == [
        ["layer masking", "0.333", "0.375", "0.500", "2"],
        ["grey", "0.667", "-0.125", "0.000", "4"],
    ]
    assert "images is 0.667 [–]. In" in table_2.caption  # accuracy of the intact images
    assert numbers(every_k) == [
        ["squares", "layer masking", "0.667", "0.333", "0.188", "0.500", "2"],
        ["squares", "grey", "1.000", "0.667", "0.000", "0.000", "4"],
    ]
    assert numbers(pointing) == [["layer masking", "0.750", "2"], ["grey", "0.250", "4"]]
    (panel,) = [axes for axes in found.figure().axes if axes.get_visible()]
    drawn = {line.get_color(): line for line in panel.lines if len(line.get_ydata())}
    assert drawn[removal_color("layer")].get_xdata().tolist() == [0, 10, 20]
    assert drawn[removal_color("layer")].get_ydata() == pytest.approx([2 / 3, 2 / 3, 1 / 3])


def test_an_interval_is_of_the_images_that_have_a_value():
    """Of twelve images two have a mask of the object."""
    names = "abcdefghijkl"
    of_two = [
        record(name, removal, alignment=0.5, jaccard_20=0.5)
        for name in names[:2]
        for removal in DEFAULT_REMOVALS
    ]
    table_2, _, _ = results(
        [*of_two, *(record(name, removal) for name in names[2:] for removal in DEFAULT_REMOVALS)]
    ).tables()
    for _, ablation, alignment, jaccard, _ in table_2.rows:
        assert not ablation.endswith(" [–]")
        assert alignment == jaccard == "0.500 [–]"


def test_a_mosaic_that_would_have_other_cells_is_not_drawn_with_the_old_explanations(tmp_path):
    draw(tmp_path, [(i % 4, (0, 0, 16, 16)) for i in range(8)], ground=GREENISH)
    experiment = lime(tmp_path, n_samples=20, mosaics=1, removals=("grey",))
    records = run(experiment, tmp_path / "out", show_progress=False).records
    targets = experiment.open("mosaic-0000").targets
    for path in sorted((tmp_path / "images").rglob("*.png")):
        content = path.read_bytes()
        path.write_bytes(b"damaged")
        if experiment.open("mosaic-0000").targets != targets:
            break
        path.write_bytes(content)
    else:
        pytest.fail("every image could be spared")
    report = experiment.report(records)
    assert set(report.figures) == {"ablation", "explanations"}
    assert set(report.facts) >= {"example of a mosaic"}


def test_what_was_not_measured_is_said_in_the_place_of_the_tables():
    (table_2, every_k, pointing) = results([record("a", removal) for removal in DEFAULT_REMOVALS]).tables()
    assert (pointing.header, pointing.caption) == ((), "Not here: there are no mosaics.")
    for table in (table_2, every_k):
        assert "no image has a mask of the explained object" in table.caption
    assert table_2.header == ("removal", "top-20 ablation accuracy ↓, squares", "vanished")
    assert every_k.header == ("segments", "removal", "top-10 ablation ↓", "top-20 ablation ↓", "vanished")
    mosaics = results(
        [
            record("mosaic-0000", removal, cell, pointing=0.5)
            for removal in DEFAULT_REMOVALS
            for cell in range(4)
        ]
    )
    none = results([record("a", "layer", n_samples=0)])
    titles = [
        table.title for table in results([record("a", removal) for removal in DEFAULT_REMOVALS]).tables()
    ]
    assert [t.title for t in mosaics.tables()] == [t.title for t in none.tables()] == titles
    assert [bool(table.header) for table in mosaics.tables()] == [False, False, True]
    assert [bool(table.header) for table in none.tables()] == [False, False, False]
    assert "of no image is the explained class among" in none.tables()[0].caption


def test_pictures_of_what_was_damaged_since_give_removal_to_others(tmp_path):
    draw(tmp_path, [(i % 4, (0, 0, 16, 16)) for i in range(5)], ground=GREENISH)
    experiment = lime(tmp_path, n_samples=20, mosaics=1)
    records = run(experiment, tmp_path / "out", show_progress=False).records
    images = [image for image in experiment.images if not image.startswith("mosaic")]
    assert set(experiment.report(records).figures) == {"ablation", "explanations", "mosaic"}
    (tmp_path / "images" / images[0]).write_bytes(b"damaged")
    label = experiment.report(records).figures["explanations"].get_label()
    assert label.startswith(f"{images[1]} and explanations")
    for image in images[1:]:
        (tmp_path / "images" / image).write_bytes(b"damaged")
    report = experiment.report(records)
    assert set(report.figures) == {"ablation"}
    assert {"examples", "example of a mosaic"} <= set(report.facts)


def test_the_report_is_written(pictures, tmp_path):
    experiment = lime(pictures, segmentations=tuple(SEGMENTATIONS), n_samples=20, mosaics=1)
    report, _ = finished(experiment, tmp_path)
    assert set(report.figures) == {"ablation", "explanations", "mosaic"}
    assert report.facts["explanations"] == (8 + 4) * 3 * 2
    write_report(report, tmp_path, experiment.settings)
    text = (tmp_path / "tables.md").read_text()
    assert "alignment score ↑, quickshift" in text
    assert "seconds" not in text


def candidate(image, label, confidence):
    return Candidate(image, torch.zeros(1, 3, 4, 4), label, confidence)


def test_the_surest_images_of_four_classes_make_a_mosaic():
    """Class 0 twice, then 2, 3 and 9; sixteen candidates are looked at, and no more."""
    sure = [
        candidate(f"{i}", i % 5, confidence) for i, confidence in enumerate([0.9, 0.2, 0.8, 0.7, 0.6, 0.95])
    ]
    stream = iter([*sure, *[candidate("late", 9, 0.99)] * 20])
    assert [cell.image for cell in choose_cells(stream)] == ["5", "2", "3", "late"]
    assert len([*stream]) == 10


def test_more_images_are_looked_at_where_sixteen_do_not_suffice():
    wrong = [candidate("wrong", i, 0.0) for i in range(14)]
    right = [candidate(f"{i}", i, 0.5) for i in range(9)]
    assert [cell.image for cell in choose_cells(iter([*wrong, *right]))] == ["0", "1", "2", "3"]
    with pytest.raises(LeftOutError, match="only 3"):
        choose_cells(iter([*wrong, *right[:3]]))


def test_a_mosaic_holds_its_images_at_half_their_size():
    colours = [torch.tensor(c, dtype=torch.float32).view(1, 3, 1, 1).expand(1, 3, 9, 6) for c in COLORS]
    joined = mosaic(colours)
    assert joined.shape == (1, 3, 8, 6)
    for cell, (top, left) in enumerate([(0, 0), (0, 3), (4, 0), (4, 3)]):
        assert torch.allclose(joined[..., top : top + 4, left : left + 3], colours[cell][..., :4, :3])


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
    with pytest.raises(UnknownNameError, match="unknown removal 'gray'"):
        lime(pictures, removals=("gray",))


def test_the_command_has_the_options(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(cli, "load_model", lambda name: mean_colour_model(PAINT))
    arguments = [
        *("lime", "--data", str(pictures / "images"), "--masks", str(pictures / "masks")),
        *("--out", str(tmp_path), "--removals", "layer", "--segmentations", "grid", "--n-segments", "16"),
        *("--n-samples", "20", "--top", "2,4", "--mosaics", "1", "--batch-size", "8", "--limit", "4"),
    ]
    result = CliRunner().invoke(cli.app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert "top-4 Jaccard similarity ↑, squares" in result.stdout
    about = json.loads((tmp_path / "report.json").read_text())
    assert (about["facts"]["images"], about["facts"]["mosaics"]) == (4, 1)
    with pytest.raises(InputError, match="no list of numbers"):
        CliRunner().invoke(cli.app, [*arguments, "--top", "2;4"], catch_exceptions=False)
