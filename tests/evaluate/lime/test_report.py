"""The tables of the explanations, by hand."""

import math

import pyarrow as pa
import pytest

from captum_layermask.evaluate.lime.report import WHOLE, LimeResults
from captum_layermask.evaluate.report.figures import removal_color

DEFAULT_REMOVALS = ("layer", "grey")


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
    settings = {"removals": ["layer", "grey"], "segmentations": ["grid"], "top": [10, 20], "n_samples": 100}
    return LimeResults(pa.Table.from_pylist(rows), settings, labelled=True)


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
    assert "images is 0.667 [–]. In" in table_2.caption  # accuracy of the original images
    assert numbers(every_k) == [
        ["squares", "layer masking", "0.667", "0.333", "0.188", "0.500", "2"],
        ["squares", "grey", "1.000", "0.667", "0.000", "0.000", "4"],
    ]
    assert numbers(pointing) == [["layer masking", "0.750", "2"], ["grey", "0.250", "4"]]
    (panel,) = [axes for axes in found.figures()["ablation"].axes if axes.get_visible()]
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


def test_what_was_not_measured_is_said_in_the_place_of_the_tables():
    (table_2, every_k, pointing) = results([record("a", removal) for removal in DEFAULT_REMOVALS]).tables()
    assert (pointing.header, pointing.caption) == ((), "Not here: there are no mosaics.")
    for table in (table_2, every_k):
        assert "no image has a mask of the explained object" in table.caption
    assert table_2.header == ("removal", "top-20 ablation accuracy ↓, squares", "vanished")
    assert every_k.header == ("segmentation", "removal", "top-10 ablation ↓", "top-20 ablation ↓", "vanished")
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
