"""Removal by filling: something takes the place of missing pixels, and the network runs on that picture."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from captum_layermask.masking.mask import Mask
from captum_layermask.removals.arguments import Call
from captum_layermask.removals.base import RemovalForward


class FilledForward(RemovalForward):
    """Base of the removals that put something in the place of missing pixels; a subclass defines what.

    Args:
        model: the network.

    Raises:
        InputError: the model is no ``nn.Module``.

    Example:
        ```python
        class VisibleMeanForward(FilledForward):
            def fill(self, image, mask):
                count = mask.visible.sum((2, 3), keepdim=True).clamp(min=1)
                return image.sum((2, 3), keepdim=True) / count
        ```
    """

    @abstractmethod
    def fill(self, image: Tensor, mask: Mask) -> Tensor:
        """The values of missing pixels.

        Args:
            image: N×C×H×W, floating point, 0 in every missing pixel.
            mask: which pixels are there (``mask.visible``, bool, N×1×H×W).

        Returns:
            Something that broadcasts to N×C×H×W; only its values in missing pixels are used.
        """

    def predict(self, image: Tensor, mask: Mask, call: Call) -> Any:
        """Predict for the picture with its missing pixels filled (see ``RemovalForward.predict``)."""
        return call(self.model, self.filled(image, mask))

    def filled(self, image: Tensor, mask: Mask) -> Tensor:
        """The picture that the network sees, N×C×H×W."""
        return image if mask.full else torch.where(mask.visible, image, self.fill(image, mask))
