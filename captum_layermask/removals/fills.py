"""Fills that depend on the mask and the visible pixels alone: a colour, noise, what is near."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from captum_layermask.errors import InputError, require_known
from captum_layermask.masking.mask import Mask
from captum_layermask.masking.neighbor_padding import neighbor_pad
from captum_layermask.removals.blurring import gaussian_blur
from captum_layermask.removals.colors import Colors
from captum_layermask.removals.filled import FilledForward

NOISES = ("uniform", "gaussian")


def _need_colors(colors: Colors | None) -> Colors:
    if colors is None:
        raise InputError(
            "a colour means nothing without the scale of the images; pass colors=Colors(mean, std) of the "
            "model's preprocessing (and normalized=False where it happens inside the model)."
        )
    return colors


class ColorFilledForward(FilledForward):
    """Missing pixels get one colour.

    Args:
        model: the network.
        color: one number in [0, 1] for each channel, or one for all of them; None takes the mean colour of
            the model's preprocessing (grey), which is 0 after normalisation.
        colors: the scale of the images.

    Raises:
        InputError: a colour with another number of channels or outside [0, 1], or no ``colors``.

    Example:
        ```python
        pink = ColorFilledForward(model, (1, 0.4, 0.7), Colors(mean, std))
        logits = pink(image, mask=visible)
        ```

    Source: the baselines grey-out (``None``) and black-out of Balasubramanian & Feizi, §4.
    """

    values: Tensor

    def __init__(
        self, model: nn.Module, color: float | Sequence[float] | None, colors: Colors | None
    ) -> None:
        super().__init__(model)
        colors = _need_colors(colors)
        if isinstance(color, (int, float)):
            color = [color] * len(colors.mean)
        self.register_buffer("values", colors.values(colors.mean if color is None else color))

    def fill(self, image: Tensor, mask: Mask) -> Tensor:
        """The colour (see ``FilledForward.fill``)."""
        if image.shape[1] != len(self.values):
            raise InputError(
                f"the colour has {len(self.values)} channels and the image {image.shape[1]}; give Colors and "
                "colour with one number for every channel."
            )
        return self.values.to(image)


class NoiseFilledForward(FilledForward):
    """Missing pixels get noise, the same in every call, so that one mask gives one prediction.

    Args:
        model: the network.
        noise: ``"uniform"``: colours drawn evenly from [0, 1]; ``"gaussian"``: colours drawn with the mean
            and standard deviation of the model's preprocessing (not cut off at 0 and 1).
        colors: the scale of the images.
        seed: of the noise.

    Raises:
        UnknownNameError: there is no such noise.
        InputError: no ``colors``.

    Example:
        ```python
        forward = NoiseFilledForward(model, "uniform", Colors(mean, std), seed=1)
        logits = forward(image, mask=visible)
        ```
    """

    def __init__(self, model: nn.Module, noise: str, colors: Colors | None, seed: int = 0) -> None:
        super().__init__(model)
        require_known("noise", noise, NOISES)
        self.noise = noise
        self.colors = _need_colors(colors)
        self.seed = seed

    def fill(self, image: Tensor, mask: Mask) -> Tensor:
        """One field of noise for every sample (see ``FilledForward.fill``)."""
        generator = torch.Generator().manual_seed(self.seed)
        if self.noise == "uniform":
            drawn = torch.rand(image.shape[1:], generator=generator)
        else:
            mean, std = (torch.tensor(s).view(-1, 1, 1) for s in (self.colors.mean, self.colors.std))
            drawn = torch.randn(image.shape[1:], generator=generator) * std + mean
        return self.colors.scaled(drawn).to(image)


class NeighborFilledForward(FilledForward):
    """Missing pixels are filled from their neighbours, ring by ring until none is missing.

    This is layer masking's padding (Algorithm 1) of the picture alone; the network then runs as usual.
    A wholly missing image is 0.

    Args:
        model: the network.

    Example:
        ```python
        logits = NeighborFilledForward(model)(image, mask=visible)
        ```
    """

    def fill(self, image: Tensor, mask: Mask) -> Tensor:
        """The picture, padded as far as its longer side (see ``FilledForward.fill``)."""
        return neighbor_pad(image, mask, max(mask.size))


class VisibleBlurredForward(FilledForward):
    """Missing pixels get a Gaussian blur of the visible pixels alone, which leaks nothing.

    Normalised convolution (Knutsson & Westin, 1993): the blurred visible pixels over the blurred mask.
    Pixels out of the blur's reach get the mean of the visible pixels; a wholly missing image is 0.

    Args:
        model: the network.
        sigma: standard deviation in pixels.

    Raises:
        InputError: ``sigma`` is not positive.

    Example:
        ```python
        logits = VisibleBlurredForward(model, sigma=5.0)(image, mask=visible)
        ```
    """

    def __init__(self, model: nn.Module, sigma: float = 10.0) -> None:
        super().__init__(model)
        if not sigma > 0:
            raise InputError(f"sigma is {sigma}; give a positive number of pixels.")
        self.sigma = sigma

    def fill(self, image: Tensor, mask: Mask) -> Tensor:
        """The blur (see ``FilledForward.fill``)."""
        visible = mask.visible.to(image.dtype)
        mean = image.sum((2, 3), keepdim=True) / visible.sum((2, 3), keepdim=True).clamp(min=1)
        weight = gaussian_blur(visible, self.sigma)
        return torch.where(weight > 0, gaussian_blur(image, self.sigma) / weight, mean)
