"""Example pictures of explanations."""

import pytest
from coloured import draw
from coloured_experiments import GREENISH, lime

from captum_layermask.evaluate.running import run


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


def test_pictures_of_what_was_damaged_since_make_room_for_others(tmp_path):
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
