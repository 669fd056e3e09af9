"""The tables and figures on mask shapes, against hand computation."""

from coloured import draw, mean_colour_model
from coloured_experiments import GREENISH, finished, shape
from PIL import Image

from captum_layermask import REMOVALS
from captum_layermask.evaluate.report.report import write_report
from captum_layermask.evaluate.running import run


def first_numbers(rows):
    """Without intervals, and with names of removals for their titles."""
    titles = {REMOVALS[removal].title: removal for removal in REMOVALS}
    return [tuple(titles.get(cell, cell.split(" [")[0]) for cell in row) for row in rows]


def test_the_tables_count_by_hand(tmp_path):
    """Three images of a red object on greenish ground, two of a smaller green one; ``grey`` fills with red.

    Layer masking: without the red object green ground is left, and red with the broken mask; green stays
    green. No mask makes another image red. Red fill: a missing red object is as red as ever, and its mask
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


def test_accuracy_counts_objects_that_are_recognised_in_the_original(tmp_path):
    """A green object of 16 pixels on red ground is not seen; without any mask, it is called red."""
    draw(tmp_path, [(1, (4, 4, 4, 4)), (0, (0, 0, 16, 16))], ground=(0.7, 0.3, 0.3))
    report, _ = finished(shape(tmp_path, pairs=1), tmp_path / "out")
    assert first_numbers(report.tables[1].rows) == [
        ("green", "layer", "0", "–", "–", "–", "1", "0.000", "0.000", "0"),
        ("green", "grey", "0", "–", "–", "–", "1", "0.000", "0.000", "0"),
        ("red", "layer", "1", "1.000", "1.000", "+0.000", "1", "1.000", "1.000", "0"),
        ("red", "grey", "1", "1.000", "1.000", "+0.000", "1", "1.000", "1.000", "0"),
    ]
    assert report.facts["masks recognised in the original"] == 1


def test_an_interval_is_of_the_images_whose_object_is_recognised(tmp_path):
    """Of twelve images two are recognised; masks are laid on others in all twelve."""
    objects = [(1, (4, 4, 4, 4))] * 10 + [(0, (0, 0, 16, 16))] * 2
    draw(tmp_path, objects, ground=(0.7, 0.3, 0.3))
    report, _ = finished(shape(tmp_path, removals=("layer",), pairs=1), tmp_path / "out")
    _, _, of_object, of_broken, difference, pairs, on_others, without, _ = report.tables[0].rows[0]
    assert all(cell.endswith(" [–]") for cell in (of_object, of_broken, difference))
    assert pairs == "12"
    assert not any(cell.endswith(" [–]") for cell in (on_others, without))


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


def test_an_example_that_was_damaged_since_makes_room_for_another(tmp_path):
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
