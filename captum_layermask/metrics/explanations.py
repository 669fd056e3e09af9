"""How well an explanation points at what matters: §4.4.2 of the paper, and the Grid Pointing Game.

Explanations of N images come in the same way everywhere:

* ``importance``: float N×K, entry i of a row is the importance of segment i of that image; positive
  speaks for the class. Columns beyond the segments of an image are not read, so images with fewer
  segments are filled up with anything. One explanation may come as float K.
* ``segments``: LongTensor N×1×H×W, ids from 0 to K − 1 (``segments.py`` makes them).
* ``mask``: N×1×H×W, where the object is; bool, or float in [0, 1].
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_layermask.errors import InputError
from captum_layermask.metrics.checks import check_pair
from captum_layermask.metrics.mean import Mean

__all__ = [
    "AlignmentScore",
    "GridPointingGame",
    "TopKAblation",
    "TopKJaccard",
    "alignment_score",
    "grid_pointing_game",
    "top_k_jaccard",
    "top_k_region",
]


@torch.no_grad()
def top_k_region(importance: Tensor, segments: Tensor, k: int) -> Tensor:
    """Where the k most important segments lie.

    Most important is what has the largest value, signs included. Of equals the lower id comes first. An
    image with fewer than k segments is covered wholly.

    Args:
        importance: float N×K or K.
        segments: LongTensor N×1×H×W.
        k: how many segments, at least 1.

    Returns:
        bool N×1×H×W.

    Raises:
        InputError: shapes or types do not fit, an importance is not finite, or k is below 1.
    """
    _check_k(k)
    importance, sizes = _check_importance(importance, segments)
    ranked = importance.masked_fill(sizes == 0, -torch.inf).argsort(stable=True, dim=1, descending=True)
    chosen = torch.zeros_like(sizes, dtype=torch.bool).scatter(1, ranked[:, :k], True)
    return chosen.gather(1, segments.flatten(1)).view_as(segments)


@torch.no_grad()
def alignment_score(importance: Tensor, segments: Tensor, mask: Tensor) -> Tensor:
    """Cosine of the importance and of how much of the object each segment holds, in [−1, 1].

    The second vector is gᵢ = Σ (m[u, v] − mean of m) over the pixels of segment i. Where either vector is
    zero (an importance of zeros, a mask that is the same everywhere) the cosine is 0.

    Args:
        importance: float N×K or K.
        segments: LongTensor N×1×H×W.
        mask: bool or float in [0, 1], N×1×H×W.

    Returns:
        float64 N.

    Raises:
        InputError: shapes, types or ranges do not fit, or an importance is not finite.

    Source: §4.4.2 (b) of Balasubramanian & Feizi.
    """
    importance, sizes = _check_importance(importance, segments)
    pixels = _check_mask(mask, segments).flatten(1)
    mass = torch.zeros_like(importance).scatter_add(1, segments.flatten(1), pixels)
    centred = mass - sizes * pixels.mean(1, keepdim=True)
    even = pixels.amin(1, keepdim=True) == pixels.amax(1, keepdim=True)
    cosine = F.cosine_similarity(_scaled(importance), _scaled(centred.masked_fill(even, 0)), dim=1)
    return cosine.clamp(-1, 1)


@torch.no_grad()
def top_k_jaccard(importance: Tensor, segments: Tensor, mask: Tensor, k: int) -> Tensor:
    """Jaccard similarity of the k most important segments and the object, pixel by pixel, in [0, 1].

    Σ min(t, m) / Σ max(t, m) over the pixels, where t is 1 in ``top_k_region`` and 0 elsewhere: for a
    mask of zeros and ones, intersection over union.

    Args:
        importance: float N×K or K.
        segments: LongTensor N×1×H×W.
        mask: bool or float in [0, 1], N×1×H×W.
        k: how many segments, at least 1.

    Returns:
        float64 N.

    Raises:
        InputError: shapes, types or ranges do not fit, an importance is not finite, or k is below 1.

    Source: §4.4.2 (c) of Balasubramanian & Feizi, who do not say what is counted; here it is pixels.
    """
    region = top_k_region(importance, segments, k).flatten(1).double()
    pixels = _check_mask(mask, segments).flatten(1)
    return torch.minimum(region, pixels).sum(1) / torch.maximum(region, pixels).sum(1)


@torch.no_grad()
def grid_pointing_game(attributions: Tensor, cell: Tensor, side: int = 2) -> Tensor:
    """Share of the positive attribution that falls into the right cell of a mosaic, in [0, 1].

    A mosaic is made of side×side images of different classes; the attributions are those of the class of
    one of them. Where no attribution is positive the share is 0: nothing was found. Attribution that is the
    same everywhere gives 1 / side².

    Args:
        attributions: float N×C×H×W, of N mosaics; channels are added up, then what is negative is left out.
            H and W are multiples of ``side``.
        cell: LongTensor N, the cell that shows the explained class, 0 to side² − 1 in reading order.
        side: cells along each side of the mosaic.

    Returns:
        float64 N.

    Raises:
        InputError: shapes or types do not fit, there is no such cell, or an attribution is not finite.

    Source: Böhle, Fritz and Schiele, "Convolutional Dynamic Alignment Networks for Interpretable
    Classifications", CVPR 2021.
    """
    _check_mosaics(attributions, cell, side)
    count, _, height, width = attributions.shape
    positive = _scaled(attributions.double().sum(1).clamp(min=0).flatten(1))
    tiles = positive.view(count, side, height // side, side, width // side).sum((2, 4)).flatten(1)
    total = tiles.sum(1)
    share = tiles.gather(1, cell[:, None])[:, 0] / total
    return share.masked_fill(total == 0, 0)


class TopKAblation(Mean):
    """Accuracy once the k most important segments are removed, in [0, 1]; low for good explanations.

    How they are removed is the choice of the forward; the paper removes them by grey.

    Example:
        ```python
        ablation = TopKAblation(k=20)
        logits = forward(pixels, mask=ablation.visible(importance, segments))
        ablation.update(logits.argmax(1), labels)
        ```

    Args:
        k: how many segments are removed, at least 1.
        kwargs: of ``torchmetrics.Metric``.

    Source: §4.4.2 (a) of Balasubramanian & Feizi.
    """

    is_differentiable = False
    higher_is_better = False

    def __init__(self, k: int = 20, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        _check_k(k)
        self.k = k

    def visible(self, importance: Tensor, segments: Tensor) -> Tensor:
        """The mask to give to a forward: bool N×1×H×W, False in ``top_k_region``."""
        return ~top_k_region(importance, segments, self.k)

    def update(self, predictions: Tensor, labels: Tensor) -> None:
        """Compare predictions on what is left of the images with the true classes.

        Args:
            predictions: integers N, class indices.
            labels: integers N, those of the true classes.

        Raises:
            InputError: the two are not such indices, or of different lengths.
        """
        check_pair(("predictions", predictions), ("labels", labels))
        super().update((predictions == labels).double())


class AlignmentScore(Mean):
    """Mean of ``alignment_score`` over images, in [−1, 1].

    Source: §4.4.2 (b) of Balasubramanian & Feizi.
    """

    is_differentiable = False
    higher_is_better = True

    def update(self, importance: Tensor, segments: Tensor, mask: Tensor) -> None:
        """Add explanations; arguments and errors are those of ``alignment_score``."""
        super().update(alignment_score(importance, segments, mask))


class TopKJaccard(Mean):
    """Mean of ``top_k_jaccard`` over images, in [0, 1].

    Args:
        k: how many segments are compared with the object, at least 1.
        kwargs: of ``torchmetrics.Metric``.

    Source: §4.4.2 (c) of Balasubramanian & Feizi.
    """

    is_differentiable = False
    higher_is_better = True

    def __init__(self, k: int = 20, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        _check_k(k)
        self.k = k

    def update(self, importance: Tensor, segments: Tensor, mask: Tensor) -> None:
        """Add explanations; arguments and errors are those of ``top_k_jaccard``."""
        super().update(top_k_jaccard(importance, segments, mask, self.k))


class GridPointingGame(Mean):
    """Mean of ``grid_pointing_game`` over mosaics, in [0, 1].

    Args:
        side: cells along each side of a mosaic, at least 1.
        kwargs: of ``torchmetrics.Metric``.

    Source: Böhle, Fritz and Schiele, CVPR 2021.
    """

    is_differentiable = False
    higher_is_better = True

    def __init__(self, side: int = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        _check_side(side)
        self.side = side

    def update(self, attributions: Tensor, cell: Tensor) -> None:
        """Add explanations; arguments and errors are those of ``grid_pointing_game``."""
        super().update(grid_pointing_game(attributions, cell, self.side))


def _scaled(vectors: Tensor) -> Tensor:
    """Each row divided by its largest magnitude, so that no square or sum leaves the range of floats."""
    largest = vectors.abs().amax(1, keepdim=True)
    return vectors / largest.masked_fill(largest == 0, 1)


def _check_k(k: int) -> None:
    if k < 1:
        raise InputError(f"k is {k}; give at least 1 segment.")


def _check_side(side: int) -> None:
    if side < 1:
        raise InputError(f"side is {side}; give at least 1 cell.")


def _check_importance(importance: Tensor, segments: Tensor) -> tuple[Tensor, Tensor]:
    """Importance as float64 N×K, 0 where an image has no such segment, and the segments' sizes, long N×K."""
    if segments.dtype != torch.long or segments.dim() != 4 or segments.shape[1] != 1 or 0 in segments.shape:
        raise InputError(
            f"segments are {segments.dtype} of shape {tuple(segments.shape)}; give a LongTensor N×1×H×W, "
            "as the functions in segments.py return."
        )
    rows = importance[None] if importance.dim() == 1 else importance
    if not rows.is_floating_point() or rows.dim() != 2 or len(rows) != len(segments):
        raise InputError(
            f"importance is {importance.dtype} of shape {tuple(importance.shape)} for {len(segments)} "
            "image(s); give floats N×K, a value for each segment."
        )
    if not 0 <= segments.min() <= segments.max() < rows.shape[1]:
        raise InputError(
            f"segment ids go from {segments.min()} to {segments.max()}, but there are {rows.shape[1]} "
            "values of importance; give ids from 0 and a value for each."
        )
    ids = segments.flatten(1)
    sizes = torch.zeros_like(rows, dtype=torch.long).scatter_add(1, ids, torch.ones_like(ids))
    rows = rows.double().masked_fill(sizes == 0, 0)
    if not rows.isfinite().all():
        raise InputError("importance holds NaN or infinity; give a finite value for each segment.")
    return rows, sizes


def _check_mask(mask: Tensor, segments: Tensor) -> Tensor:
    """The mask as float64."""
    if mask.shape != segments.shape or not (mask.is_floating_point() or mask.dtype == torch.bool):
        raise InputError(
            f"the mask is {mask.dtype} of shape {tuple(mask.shape)}; give bool or float of the "
            f"segments' shape {tuple(segments.shape)}."
        )
    pixels = mask.double()
    if not ((pixels >= 0) & (pixels <= 1)).all():
        raise InputError("the mask has values outside [0, 1]; give 1 where the object is and 0 elsewhere.")
    return pixels


def _check_mosaics(attributions: Tensor, cell: Tensor, side: int) -> None:
    _check_side(side)
    shape = attributions.shape
    fits = len(shape) == 4 and 0 not in shape and not any(length % side for length in shape[2:])
    if not attributions.is_floating_point() or not fits:
        raise InputError(
            f"attributions are {attributions.dtype} of shape {tuple(shape)}; give floats "
            f"N×C×H×W with H and W multiples of {side}."
        )
    if not attributions.isfinite().all():
        raise InputError("attributions hold NaN or infinity; give a finite value for each pixel.")
    if cell.dtype != torch.long or cell.shape != shape[:1] or not 0 <= cell.min() <= cell.max() < side**2:
        raise InputError(
            f"cell is {cell.dtype} of shape {tuple(cell.shape)}; give a LongTensor of the {shape[0]} cells "
            f"that show the explained classes, each from 0 to {side**2 - 1}."
        )
