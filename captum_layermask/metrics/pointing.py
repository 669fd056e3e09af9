"""Does attribution fall into the right cell of a mosaic?"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from captum_layermask.errors import InputError
from captum_layermask.metrics.checks import scaled
from captum_layermask.metrics.mean import Mean

__all__ = ["GridPointingGame", "grid_pointing_game"]


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

    Example:
        ```python
        attributions = torch.tensor([[[[3.0, -1.0], [1.0, 0.0]]]])  # one mosaic, a pixel in each cell
        grid_pointing_game(attributions, cell=torch.tensor([0]))  # 0.75
        ```

    Source: Böhle, Fritz and Schiele, "Convolutional Dynamic Alignment Networks for Interpretable
    Classifications", CVPR 2021.
    """
    _check_mosaics(attributions, cell, side)
    count, _, height, width = attributions.shape
    positive = scaled(attributions.double().sum(1).clamp(min=0).flatten(1))
    tiles = positive.view(count, side, height // side, side, width // side).sum((2, 4)).flatten(1)
    total = tiles.sum(1)
    share = tiles.gather(1, cell[:, None])[:, 0] / total
    return share.masked_fill(total == 0, 0)


class GridPointingGame(Mean):
    """Mean of ``grid_pointing_game`` over mosaics, in [0, 1].

    Args:
        side: cells along each side of a mosaic, at least 1.
        kwargs: of ``torchmetrics.Metric``.

    Example:
        ```python
        game = GridPointingGame()
        attributions = torch.tensor([[[[3.0, -1.0], [1.0, 0.0]]]])  # one mosaic, a pixel in each cell
        game.update(attributions, cell=torch.tensor([0]))
        game.compute()  # 0.75
        ```

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


def _check_side(side: int) -> None:
    if side < 1:
        raise InputError(f"side is {side}; give at least 1 cell.")


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
