"""What ``explain`` and ``compare`` load and write when their options have been checked."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import typer
from matplotlib.figure import Figure
from torch import nn

from captum_layermask.cli.model import ModelOptions
from captum_layermask.explain.segments import SEGMENTATIONS
from captum_layermask.explain.targets import find_class
from captum_layermask.models.images import example_image, read_image
from captum_layermask.plots.files import check_replacing, save_figure
from captum_layermask.removals.colors import Colors
from captum_layermask.text import printable

__all__ = ["Scene", "load_scene", "warnings_in_one_line", "write"]


@dataclass(frozen=True)
class Scene:
    """A network that takes pixels in [0, 1], and a picture cut into segments.

    Attributes:
        network: N×3×H×W in [0, 1] → logits N×classes.
        colors: the scale of its images.
        class_names: one name per class.
        targets: classes that were asked for; None leaves the choice to the network.
        pixels: float 1×3×H×W in [0, 1].
        segments: LongTensor 1×1×H×W, ids from 0.
    """

    network: nn.Module
    colors: Colors
    class_names: tuple[str, ...]
    targets: tuple[int, ...] | None
    pixels: torch.Tensor
    segments: torch.Tensor


def load_scene(
    image: Path | None,
    model: ModelOptions,
    segmentation: str,
    n_segments: int | None,
    *,
    target: str | None = None,
    targets: str | None = None,
) -> Scene:
    """Read the picture, load the network, find one class or several, and cut the picture into segments."""
    with warnings_in_one_line():
        picture = example_image() if image is None else read_image(image)
    loaded = model.load()
    chosen = None if targets is None else _find_classes(loaded.class_names, targets)
    if target is not None:
        chosen = (find_class(loaded.class_names, target),)
    pixels = loaded.preprocess(picture)
    count = {} if n_segments is None else {"n_segments": n_segments}
    segments = SEGMENTATIONS[segmentation](pixels, **count)
    return Scene(
        network=loaded.network,
        colors=loaded.colors,
        class_names=loaded.class_names,
        targets=chosen,
        pixels=pixels.to(loaded.device),
        segments=segments.to(loaded.device),
    )


def write(figure: Figure, output: Path, image: Path | None, about: Mapping[str, str]) -> None:
    """Write a figure and tell it; what lies there since the options were checked is not lost either."""
    replaced = check_replacing(output, image)
    with warnings_in_one_line():
        save_figure(figure, output, about)
    typer.echo(f"{'replaced' if replaced else 'wrote'} {printable(str(output))}")


@contextmanager
def warnings_in_one_line() -> Iterator[None]:
    """Print warnings to stderr without their place in the code."""

    def show(message: Warning | str, *_: object, **__: object) -> None:
        typer.echo(f"warning: {message}", err=True)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def _find_classes(class_names: Sequence[str], text: str) -> tuple[int, ...]:
    """Classes with commas between them; a name may itself have some."""
    names = [text] if text.lower() in map(str.lower, class_names) else text.split(",")
    return tuple(find_class(class_names, name.strip()) for name in names)
