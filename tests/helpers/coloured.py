"""Pictures of one coloured rectangle with its exact mask, and a network whose predictions are known."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torchvision.transforms import v2

from captum_layermask.models.loaded import LoadedModel
from captum_layermask.models.preprocessing import Normalize, Preprocess

SIZE = 32
CLASSES = ("red", "green", "blue", "yellow")
COLORS = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
#: Of the mean colour of what is visible; grey ones of any brightness get 0 for every class.
WEIGHTS = np.array([[2, -1, -1], [-1, 2, -1], [-1, -1, 2], [1, 1, -2]]) / 2


def mean_colour_model(fill=(0.5, 0.5, 0.5), weights=WEIGHTS, class_names=CLASSES):
    """A classifier by the mean colour of the visible pixels; the removal ``grey`` fills with ``fill``."""
    head = nn.Linear(3, len(weights), bias=False)
    head.weight.data = 12 * torch.tensor(weights, dtype=torch.float32)
    return LoadedModel(
        name="mean-colour",
        model=nn.Sequential(_Undo(fill), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head).eval(),
        preprocess=Preprocess(v2.Resize(SIZE), v2.CenterCrop(SIZE)),
        normalize=Normalize(fill, [1.0] * 3),
        class_names=tuple(class_names),
    )


class _Undo(nn.Module):
    """Undoes the normalisation, so that the network sees colours."""

    def __init__(self, mean):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))

    def forward(self, x):
        return x + self.mean


def draw(folder: Path, objects, ground=(0.5, 0.5, 0.5), seed=0, labelled=True):
    """Write ``images/<class>/<number>.png`` (without labels: ``images/<number>.png``) and masks.

    ``objects`` are pairs of a class index and a rectangle (top, left, height, width).
    """
    rng = np.random.default_rng(seed)
    (folder / "masks").mkdir(parents=True)
    for number, (label, (top, left, height, width)) in enumerate(objects):
        mask = np.zeros((SIZE, SIZE), bool)
        mask[top : top + height, left : left + width] = True
        image = np.clip(np.array(ground) + 0.05 * rng.standard_normal((SIZE, SIZE, 1)), 0, 1)
        image = np.where(mask[..., None], COLORS[label], image)
        place = folder / "images" / (CLASSES[label] if labelled else "") / f"{number:02}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 255).round().astype(np.uint8)).save(place)
        Image.fromarray(mask).save(folder / "masks" / f"{number:02}.{CLASSES[label]}.png")


def predicted(pixels: np.ndarray, visible: np.ndarray, fill=None, weights=WEIGHTS) -> int:
    """What ``mean_colour_model`` predicts: H×W×3 in [0, 1], bool H×W; by layer masking, or with a fill."""
    seen = pixels[visible] if fill is None else np.where(visible[..., None], pixels, fill).reshape(-1, 3)
    return int((weights @ seen.mean(0)).argmax())
