"""Example pictures of LIME's explanations, of an image and of a mosaic."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from matplotlib.figure import Figure

from captum_layermask.errors import LeftOutError
from captum_layermask.evaluate.lime.report import WHOLE, LimeResults
from captum_layermask.evaluate.report.figures import as_picture, attribution_picture, plot_pictures
from captum_layermask.evaluate.report.results import Example
from captum_layermask.evaluate.report.titles import removal_title, segmentation_title

__all__ = ["examples_of"]

_COLORS = "Orange speaks for the class, blue against it."

#: Title, segmentation and cell.
_Column = tuple[str, str, int]


def examples_of(
    results: LimeResults, segmentations: Sequence[str], removals: Sequence[str], class_names: Sequence[str]
) -> Iterator[Example]:
    """An image with every segmentation, and a mosaic with the first, where such were explained.

    Args:
        results: what was recorded.
        segmentations: in the order of the columns.
        removals: in the order of the rows.
        class_names: of the network.

    Example:
        ```python
        for example in examples_of(results, ["grid"], ["layer", "grey"], model.class_names):
            example.draw(experiment.open(results.images[0]))
        ```
    """

    def of_image(opened: Any) -> Figure:
        columns = [(segmentation_title(name), name, WHOLE) for name in segmentations]
        label = class_names[opened.targets[0]]
        caption = f"{opened.image} and explanations of “{label}”. {_COLORS}"
        return _pictures(results, opened, removals, columns, caption)

    def of_mosaic(opened: Any) -> Figure:
        name = segmentations[0]
        columns = [(class_names[target], name, cell) for cell, target in enumerate(opened.targets)]
        caption = (
            "A mosaic and explanations of its four classes in reading order "
            f"({segmentation_title(name)}). {_COLORS}"
        )
        return _pictures(results, opened, removals, columns, caption)

    if results.images:
        yield Example("explanations", results.images, of_image)
    if results.mosaics:
        yield Example("mosaic", results.mosaics, of_mosaic, fact="example of a mosaic")


def _pictures(
    results: LimeResults, opened: Any, removals: Sequence[str], columns: Sequence[_Column], caption: str
) -> Figure:
    """The image, and for each removal its explanations.

    Raises:
        LeftOutError: other classes were explained: the mosaic would be made of other images now.
    """
    if opened.targets != tuple(results.targets(opened.image)):
        raise LeftOutError(f"{opened.image} would be made of other images than those that were explained.")
    rows = {
        removal_title(removal): [
            as_picture(opened.pixels),
            *(
                attribution_picture(
                    results.importance(opened.image, name, removal, cell), opened.segments[name]
                )
                for _, name, cell in columns
            ),
        ]
        for removal in removals
    }
    return plot_pictures(rows, ["image", *(title for title, _, _ in columns)], caption)
