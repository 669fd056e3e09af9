"""Four images of different classes become one, for the Grid Pointing Game."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_layermask.errors import LeftOutError

__all__ = ["Candidate", "choose_cells", "mosaic"]

_CELLS, _POOL = 4, 16


@dataclass(frozen=True)
class Candidate:
    """An image that may become a cell of a mosaic.

    Attributes:
        image: its id.
        pixels: float 1×3×H×W.
        label: its class.
        confidence: the probability that the network gives that class; 0 where another is likelier.

    Example:
        ```python
        Candidate("cat.png", pixels, label=281, confidence=0.9)
        ```
    """

    image: str
    pixels: Tensor
    label: int
    confidence: float


def choose_cells(candidates: Iterator[Candidate]) -> list[Candidate]:
    """Choose the cells of a mosaic: images of four classes that the network recognises.

    Of the next 16 candidates those four are taken that the network is most confident of, one of a class; if
    they do not suffice, 16 more are looked at. How confident a network is depends on its training, so there
    is no threshold.

    Args:
        candidates: in the order in which to look at them.

    Raises:
        LeftOutError: the candidates end before four classes are found.

    Example:
        ```python
        cells = choose_cells(iter(candidates))
        ```

    Source: the protocol of Böhle, Fritz and Schiele, CVPR 2021, whose mosaics hold images of different
    classes that are classified correctly and confidently.
    """
    best: dict[int, Candidate] = {}
    while len(best) < _CELLS:
        pool = list(islice(candidates, _POOL))
        if not pool:
            raise LeftOutError(
                f"a mosaic needs images of {_CELLS} classes that the network recognises, and there are only "
                f"{len(best)}; give more images, or no mosaics."
            )
        for candidate in pool:
            if candidate.confidence > getattr(best.get(candidate.label), "confidence", 0.0):
                best[candidate.label] = candidate
    chosen = sorted(best.values(), key=lambda candidate: -candidate.confidence)[:_CELLS]
    return [candidate for candidate in best.values() if candidate in chosen]


def mosaic(cells: Sequence[Tensor]) -> Tensor:
    """Put four images together in reading order, each at half its size, so that any network takes the result.

    Böhle et al. put whole images together, which takes a network that accepts larger images and costs four
    times as much; here the objects are smaller than the network was trained for, alike for every explanation.

    Args:
        cells: four images, float 1×3×H×W in [0, 1].

    Returns:
        Float 1×3×2⌊H/2⌋×2⌊W/2⌋ in [0, 1].

    Example:
        ```python
        pixels = mosaic([cell.pixels for cell in choose_cells(iter(candidates))])
        ```
    """
    height, width = (side // 2 for side in cells[0].shape[2:])
    small = [
        F.interpolate(cell, (height, width), mode="bilinear", antialias=True).clamp(0, 1) for cell in cells
    ]
    return torch.cat([torch.cat(small[:2], 3), torch.cat(small[2:], 3)], 2)
