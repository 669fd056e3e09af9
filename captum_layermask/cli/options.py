"""What commands share: their options are checked before anything heavy is imported."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from captum_layermask.errors import InputError, StoppedError, require_known, require_seed
from captum_layermask.names import METHODS, ORDERS, REMOVAL_NAMES, SEGMENTATION_NAMES
from captum_layermask.plots.files import check_figure_path, check_replacing

__all__ = [
    "MOST_THREADS",
    "BatchSize",
    "Commands",
    "Image",
    "Method",
    "Model",
    "Output",
    "SampleCount",
    "Seed",
    "SegmentCount",
    "Segmentation",
    "at_least",
    "check_file",
    "check_folder",
    "check_numbers",
    "check_out",
    "check_threads",
    "how_made",
    "knows",
    "knows_all",
    "numbers",
    "orders",
    "removals",
    "segmentations",
    "split",
]

#: More make some systems run out of threads, which ends the process.
MOST_THREADS = 1024


class Commands(TyperGroup):
    """Commands whose context keeps the line that was given, and that Ctrl-C ends with an error of ours."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse; the line that a shell would understand becomes ``ctx.obj``."""
        ctx.obj = shlex.join([str(ctx.info_name), *args])
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            raise StoppedError("nothing was written; give the same command again to start anew.") from stop


def at_least(least: int) -> Callable[[typer.CallbackParam, int | None], int | None]:
    """Check a number; None is none."""

    def check(param: typer.CallbackParam, value: int | None) -> int | None:
        if value is not None and value < least:
            raise InputError(f"{param.opts[0]} is {value}; give at least {least}.")
        return value

    return check


def check_threads(value: int | None) -> int | None:
    """Check a number of threads."""
    if value is not None and not 1 <= value <= MOST_THREADS:
        raise InputError(f"the number of threads is {value}; give one from 1 to {MOST_THREADS}.")
    return value


def knows(kind: str, known: Collection[str]) -> Callable[[str], str]:
    """Check a name."""

    def check(value: str) -> str:
        require_known(kind, [value], known)
        return value

    return check


def knows_all(kind: str, known: Collection[str], registry: str = "") -> Callable[[str], str]:
    """Check names with commas between them.

    Args:
        kind: what they name.
        known: the names of this package.
        registry: ``module:attribute`` that may hold more, which users added. They did not where the module
            has not been imported.
    """

    def check(value: str) -> str:
        module, _, attribute = registry.partition(":")
        require_known(kind, split(value), getattr(sys.modules.get(module), attribute, known))
        return value

    return check


removals = knows_all("removal", REMOVAL_NAMES, "captum_layermask.removals.registry:REMOVALS")
segmentations = knows_all(
    "segmentation", SEGMENTATION_NAMES, "captum_layermask.explain.segments:SEGMENTATIONS"
)
orders = knows_all("order", ORDERS)


def split(text: str) -> list[str]:
    """The names that an option lists, each once."""
    return list(dict.fromkeys(name.strip() for name in text.split(",")))


def numbers(text: str) -> list[int]:
    """The numbers that an option lists.

    Raises:
        InputError: there is something else.
    """
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise InputError(f"{text!r} is no list of numbers; give some such as 10,20,30.") from None


def check_numbers(text: str) -> str:
    """Check a list of numbers."""
    numbers(text)
    return text


def check_file(path: Path | None) -> Path | None:
    """Check that there is a picture's file; ``-`` is standard input."""
    if path is not None and re.match(r"\w{2,}:/", str(path)):
        raise InputError(
            f"{str(path)!r} is a URL; download the picture, and give its path or pipe it into -."
        )
    if path is None or str(path) == "-":
        return path
    if path.is_dir():
        raise InputError(f"{str(path)!r} is a folder; give the path of a picture.")
    if not path.exists():
        raise InputError(f"there is no file {str(path)!r}; give the path of a picture.")
    return path


def check_folder(path: Path | None) -> Path | None:
    """Check that there is a folder."""
    if path is not None and not path.is_dir():
        raise InputError(f"there is no folder {str(path)!r}; give the path of one.")
    return path


def check_out(path: Path) -> Path:
    """Check that a folder is there or could be made, without making it."""
    there = next(place for place in [path, *path.absolute().parents] if place.exists())
    if not there.is_dir():
        raise InputError(f"{str(there)!r} is no folder; give another folder to write to.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"cannot write to {str(there)!r}; give another folder to write to.")
    return path


def _check_seed(seed: int) -> int:
    require_seed(seed)
    return seed


Model = Annotated[
    str, typer.Option(help="efficientnet-lite0, -lite1, -lite2, torchvision:NAME or timm:NAME.")
]
BatchSize = Annotated[int, typer.Option(help="Perturbed images per call of the model.", callback=at_least(1))]
Seed = Annotated[int, typer.Option(help="Seed of all that is random.", callback=_check_seed)]
Image = Annotated[
    Path | None,
    typer.Argument(
        metavar="IMAGE",
        help="Picture to explain; - is standard input.",
        show_default="scikit-image's cat 'chelsea'",
        callback=check_file,
    ),
]
Method = Annotated[
    str,
    typer.Option(help=f"One of {', '.join(METHODS)}.", callback=knows("method", METHODS)),
]
Segmentation = Annotated[
    str, typer.Option(help=f"One of {', '.join(SEGMENTATION_NAMES)}.", callback=segmentations)
]
SegmentCount = Annotated[
    int | None,
    typer.Option(
        help="About how many segments to make.",
        show_default="196 for grid, else 64",
        callback=at_least(1),
    ),
]
SampleCount = Annotated[
    int | None,
    typer.Option(
        help="Perturbed images (lime, kernel-shap) or random orders (shapley-sampling).",
        show_default="500, or 10 orders",
        callback=at_least(1),
    ),
]
Output = Annotated[
    Path,
    typer.Option(
        "--output", "-o", help="Figure to write: PNG, JPEG, TIFF, WebP, PDF or SVG. An older one is replaced."
    ),
]


def how_made(
    context: typer.Context, image: Path | None, method: str, n_samples: int | None, output: Path
) -> dict[str, str]:
    """Check what concerns several options, and tell how the figure is made."""
    default = METHODS[method][1]
    if n_samples is not None and default is None:
        raise InputError(f"{method} draws no samples; leave out --n-samples.")
    check_figure_path(output)
    check_replacing(output, image)
    samples = default if n_samples is None else n_samples
    return {"Command": str(context.obj), "Samples": "none" if samples is None else str(samples)}
