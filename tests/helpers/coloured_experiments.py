"""The experiments on pictures of one coloured rectangle, small enough for a test."""

import pytest
from coloured import CLASSES, mean_colour_model

from captum_layermask.evaluate import Lime, Shape, find_images, run

#: Grounds of the pictures, and colours that the removal ``grey`` fills with.
GREENISH = (0.4, 0.55, 0.4)
REDDISH = (0.7, 0.2, 0.2)
PINK = (0.7, 0.3, 0.4)


def shape(folder, model=None, *, removals=("layer", "grey"), **options):
    data = find_images(folder / "images", CLASSES, masks=folder / "masks", labelled=False)
    return Shape(model or mean_colour_model(REDDISH), data, removals=removals, **options)


def lime(folder, model=None, *, masks=True, removals=("layer", "grey"), **options):
    masks_folder = folder / "masks" if masks else None
    data = find_images(folder / "images", CLASSES, masks=masks_folder, labelled=False)
    small = {"segmentations": ("grid",), "n_segments": 16, "n_samples": 150, "top": (2, 4), "mosaics": 0}
    return Lime(model or mean_colour_model(PINK), data, removals=removals, **{**small, **options})


def finished(experiment, out):
    """The report of an experiment, and its records."""
    outcome = run(experiment, out, show_progress=False)
    if outcome.left_out.num_rows:
        pytest.fail(f"left out: {outcome.left_out.to_pylist()}")
    return experiment.report(outcome.records), outcome.records.to_pylist()
