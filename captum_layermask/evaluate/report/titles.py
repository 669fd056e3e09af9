"""What removals and segmentations are called in tables and figures."""

from __future__ import annotations

from collections.abc import Sequence

from captum_layermask.explain.comparison import marked
from captum_layermask.removals.registry import REMOVALS

__all__ = ["in_paper_order", "removal_title", "segmentation_title"]

_SEGMENTATIONS = {"quickshift": "quickshift", "grid": "squares", "slic": "SLIC"}


def removal_title(removal: str) -> str:
    """The title of a key of ``REMOVALS``, with a mark where it leaks.

    Example:
        ```python
        removal_title("telea")  # "Telea inpainting"
        ```
    """
    return marked(REMOVALS[removal].title, REMOVALS[removal].leaks)


def segmentation_title(segmentation: str) -> str:
    """The title of a key of ``SEGMENTATIONS``.

    Example:
        ```python
        segmentation_title("grid")  # "squares"
        ```
    """
    return _SEGMENTATIONS.get(segmentation, segmentation)


def in_paper_order(segmentations: Sequence[str]) -> list[str]:
    """Keys of ``SEGMENTATIONS`` in the order of the paper's Tables 1 and 2, others after them.

    Example:
        ```python
        in_paper_order(["slic", "grid"])  # ["grid", "slic"]
        ```
    """
    return sorted(segmentations, key=[*_SEGMENTATIONS, *segmentations].index)
