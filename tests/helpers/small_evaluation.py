"""Small pictures and a small network for the evaluation; as a script, the command line with that network.

As a script it may kill itself: with ``KILL_AT=n`` at the n-th file that it is about to rename. It waits so
many seconds for a silent process as ``PATIENCE`` says.
"""

import os
import signal
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from support import small_classifier
from torchvision.transforms import v2

from captum_layermask.models.loaded import LoadedModel
from captum_layermask.models.preprocessing import Normalize, Preprocess

SIZE = 48
#: Options that make an experiment small.
FEW = {"n_segments": 16, "fractions": 5}
CLASSES = ("ant", "bee", "cat", "dog", "emu", "fox")


def small_model(class_names=CLASSES, network=None):
    """A classifier of 48×48 pixels with the geometry of real ones: resize, then crop."""
    return LoadedModel(
        name="small",
        model=network or small_classifier(len(class_names)),
        preprocess=Preprocess(v2.Resize(SIZE + 6, antialias=True), v2.CenterCrop(SIZE)),
        normalize=Normalize([0.4, 0.5, 0.6], [0.2, 0.25, 0.3]),
        class_names=tuple(class_names),
    )


def picture(seed, size=(64, 56)):
    """Coarse colours and some noise, so that all segmentations find something."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize(size, Image.BICUBIC)
    noisy = np.asarray(coarse) + rng.normal(0, 8, (size[1], size[0], 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def save_pictures(folder, names):
    """Write a picture to each path below the folder."""
    for seed, name in enumerate(names):
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(seed).save(path)
    return Path(folder)


def class_folders(folder, count=6):
    """Pictures in folders named after the classes."""
    return save_pictures(folder, [f"{CLASSES[i % len(CLASSES)]}/{i:02}.png" for i in range(count)])


def _main():
    from captum_layermask.__main__ import main
    from captum_layermask.evaluate import peers, records
    from captum_layermask.models import load

    load.load_model = lambda name: small_model()
    if kill_at := os.environ.get("KILL_AT"):
        renames = iter(range(int(kill_at) - 1, -1, -1))

        def replace(source, target):
            if next(renames) == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            os.rename(source, target)

        records.SECONDS_BETWEEN_WRITES = 0
        os.replace = replace
    peers.PATIENCE = float(os.environ.get("PATIENCE", peers.PATIENCE))
    main(sys.argv[1:])


if __name__ == "__main__":
    _main()
