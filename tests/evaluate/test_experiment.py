"""The base of the experiments: what every experiment gets, and one of a user's own."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from coloured import CLASSES, draw, mean_colour_model
from small_evaluation import class_folders, small_model

from captum_layermask import REMOVALS, InputError, LayerMaskError, Removal, UnknownNameError
from captum_layermask.errors import LeftOutError
from captum_layermask.evaluate import Curves, Experiment, Lime, Results, Shape, Table, find_images, run
from captum_layermask.evaluate.report.figures import as_picture, plot_pictures
from captum_layermask.evaluate.report.results import Example
from captum_layermask.explain import Coalitions, grid
from captum_layermask.removals.fills import ColorFilledForward

OWN = {"removals": ["layer", "grey", "blur"], "segmentations": ["grid"]}


class Confidence(Experiment):
    """How probable is the label when every other square of a grid is removed?"""

    name, title = "confidence", "Probability of the label with half of the squares removed"
    columns = pa.schema({"probability": pa.float64(), "vanished": pa.bool_()})

    def units(self, image):
        return list(self.removals)

    def open(self, image):
        pixels = self.pixels(image)
        return pixels, grid(pixels, size=8), self.data.labels[image]

    def work(self, opened, unit):
        pixels, segments, label = opened
        forward = self.forward(unit, pixels, segments)
        half = torch.arange(int(segments.max()) + 1)[None] % 2 == 0
        value = Coalitions(forward, pixels, segments, target=label, activation="softmax", batch_size=1)
        with self.watched(forward) as watch:
            return [{"probability": float(value(half)), "vanished": bool(watch.last.any())}]

    def results(self, records):
        return Means(records)


class Means(Results):
    def tables(self):
        means = self.records.group_by("unit").aggregate([("probability", "mean")]).to_pylist()
        rows = tuple((row["unit"], f"{row['probability_mean']:.3f}") for row in means)
        return [Table("Confidence", "Mean probability of the label.", ("removal", "probability"), rows)]


@pytest.fixture
def data(tmp_path):
    draw(tmp_path, [(i % 4, (0, 0, 16, 16)) for i in range(4)])
    return find_images(tmp_path / "images", CLASSES)


def test_an_experiment_of_ones_own_is_run_and_reported(data, tmp_path):
    model = mean_colour_model()
    experiment = Confidence(model, data, **OWN)
    outcome = run(experiment, tmp_path / "out", show_progress=False)
    assert outcome.records.schema.names == ["image", "unit", "probability", "vanished"]
    assert outcome.records.num_rows == 4 * 3
    expected = []
    for image in data.images:
        pixels, segments, label = experiment.open(image)
        grey = torch.where(segments % 2 == 0, pixels, 0.5)
        with torch.no_grad():
            expected.append(float(model.network(grey).softmax(1)[0, label]))
    rows = outcome.records.to_pylist()
    recorded = [row["probability"] for row in rows if row["unit"] == "grey"]
    assert recorded == pytest.approx(expected, abs=1e-5)
    report = experiment.report(outcome.records)
    assert (report.title, report.summary, report.facts) == (Confidence.title, "", {"images": 4})
    (table,) = report.tables
    assert dict(table.rows)["grey"] == f"{np.mean(expected):.3f}"
    assert experiment.forward_seconds > 0


def test_settings_hold_all_options_and_decide_whose_folder_it_is(data, tmp_path):
    model = mean_colour_model()
    settings = Confidence(model, data, seed=3, options={"share": 0.5}, **OWN).settings
    assert {key: settings[key] for key in ("experiment", "removals", "segmentations", "share", "seed")} == {
        "experiment": "confidence",
        "removals": ["layer", "grey", "blur"],
        "segmentations": ["grid"],
        "share": 0.5,
        "seed": 3,
    }
    assert settings["data"] == {"images": 4, "digest": data.digest}
    assert "segmentations" not in Confidence(model, data, removals=["grey"]).settings
    run(Confidence(model, data, options={"share": 0.5}, **OWN), tmp_path / "out", show_progress=False)
    with pytest.raises(InputError, match=r"share = 0\.5, and this one has 0\.25"):
        run(Confidence(model, data, options={"share": 0.25}, **OWN), tmp_path / "out", show_progress=False)


@pytest.mark.parametrize("kind", [Confidence, Curves, Lime])
@pytest.mark.parametrize(
    ("options", "error", "what"),
    [
        ({"removals": ["gray"]}, UnknownNameError, "removal 'gray'; did you mean 'grey'"),
        ({"removals": []}, InputError, "there is no removal; give some of layer"),
        ({"segmentations": ["gird"]}, UnknownNameError, "segmentation 'gird'; did you mean 'grid'"),
        ({"seed": 2**64}, InputError, "the seed is"),
        ({"removals": ["drop-tokens"]}, InputError, "transformer"),
    ],
)
def test_options_that_make_no_sense_are_errors_of_every_experiment(data, kind, options, error, what):
    with pytest.raises(error, match=what):
        kind(mean_colour_model(), data, **options)


def test_a_removal_that_needs_segments_needs_segmentations(data):
    with pytest.raises(LayerMaskError, match="segments"):
        Confidence(mean_colour_model(), data, removals=["segment-mean"])
    Confidence(mean_colour_model(), data, removals=["segment-mean"], segmentations=["grid"])


def test_a_removal_has_one_forward_unless_it_leaks(data, monkeypatch):
    made = []

    class One(ColorFilledForward):
        def __init__(self, model, colors):
            super().__init__(model, None, colors)
            made.append(self)

    class Leaky(One):
        leaks = True

        def __init__(self, model, colors, reference):
            super().__init__(model, colors)

    monkeypatch.setitem(REMOVALS, "one", Removal("one", One))
    monkeypatch.setitem(REMOVALS, "leaky", Removal("leaky", Leaky))
    experiment = Confidence(mean_colour_model(), data, removals=["one", "leaky"], segmentations=["grid"])
    assert len(made) == 2
    forwards = [experiment.forward(name, torch.rand(1, 3, 8, 8)) for name in ("one", "one", "leaky", "leaky")]
    assert len(made) == 4
    assert forwards[0] is forwards[1]
    assert forwards[2] is not forwards[3]


def test_what_is_watched_leaves_no_hooks_and_counts_once(data):
    experiment = Confidence(mean_colour_model(), data, **OWN)
    forward = experiment.forward("grey")
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), experiment.watched(forward):
            raise ZeroDivisionError
        with experiment.watched(forward) as watch:
            forward(torch.rand(2, 3, 32, 32))
        assert watch.last.tolist() == [False, False]
    assert not forward._forward_hooks and not forward._forward_pre_hooks
    assert 0 < watch.seconds < experiment.forward_seconds


def test_the_first_image_that_can_be_drawn_is_the_example(data):
    experiment = Confidence(mean_colour_model(), data, **OWN)
    records = pa.Table.from_pylist([], schema=experiment.schema)
    first, *others = data.images

    def draw_others(opened):
        if opened[2] == data.labels[first]:
            raise LeftOutError("not this one.")
        return plot_pictures({"": [as_picture(opened[0])]}, [""], f"class {opened[2]}")

    experiment.examples = lambda results: iter([Example("example", data.images, draw_others)])
    figure = experiment.report(records).figures["example"]
    assert figure.get_label() == f"class {data.labels[others[0]]}"
    for image in others:
        (data.folder / image).unlink()
    report = experiment.report(records)
    assert not report.figures
    assert report.facts["examples"].startswith("none: of the images that were recorded none can be opened")


def test_the_face_is_lazy_and_holds_the_function_run(tmp_path):
    """``run`` is no module's name: importing that module would hide the function."""
    import captum_layermask.evaluate as face

    assert callable(face.run)
    assert {"Curves", "Shape", "Lime", "Experiment", "run", "find_images"} <= set(face.__all__)
    assert Shape.__mro__[1] is Lime.__mro__[1] is Curves.__mro__[1] is face.Experiment
    data = find_images(class_folders(tmp_path, 1), small_model().class_names)
    assert data.images == ("ant/00.png",)
