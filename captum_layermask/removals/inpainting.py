"""Missing pixels filled by interpolation: OpenCV's inpainting, and the noisy linear imputation of ROAD."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from captum_layermask.errors import InputError, MissingPackageError, require_known
from captum_layermask.masking.mask import Mask
from captum_layermask.removals.filled import FilledForward

Array = NDArray[Any]

OPENCV_FLAGS = {"telea": "INPAINT_TELEA", "navier-stokes": "INPAINT_NS"}
LARGEST_RADIUS = 100


class InterpolatedForward(FilledForward):
    """Base of the fills that are computed image by image on the CPU, in double precision.

    No gradient flows through the fill: it is a constant, also where it is computed from visible pixels.
    An image without a visible pixel is filled with 0.
    """

    @abstractmethod
    def interpolated(self, picture: Array, visible: Array) -> Array:
        """Fill the missing pixels of one image.

        Args:
            picture: C×H×W, float64, 0 in every missing pixel.
            visible: bool, H×W; some pixels are visible and some are missing.

        Returns:
            C×H×W, float64; only its values in missing pixels are used.
        """

    def fill(self, image: Tensor, mask: Mask) -> Tensor:
        """The interpolation, in the type and on the device of the image (see ``FilledForward.fill``)."""
        pictures = image.detach().double().cpu().numpy()
        fills = np.zeros_like(pictures)
        for fill, picture, visible in zip(fills, pictures, mask.visible[:, 0].cpu().numpy(), strict=True):
            if visible.any() and not visible.all():
                fill[:] = self.interpolated(picture, visible)
        return torch.from_numpy(fills).to(image)


class InpaintedForward(InterpolatedForward):
    """Missing pixels are filled by OpenCV's inpainting, as shap's image masker does with 0…255 images.

    OpenCV's float inpainting depends on the units (Telea's adds up to √2 to every pixel, whatever the range),
    so it is run on 8 bits: in each channel the range of the visible pixels is scaled to 0…255, rounded,
    inpainted and scaled back. The fill is thus one of 256 levels between the least and the greatest visible
    value, and the same ones whatever the units or the normalisation. OpenCV also reads some of the pixels
    that it is to replace; here they hold the mean of the visible ones, so no missing pixel leaks (with shap's
    masker some do). An image without a visible pixel is 0 (shap: the mean of the original image).

    No gradient flows through the fill.

    Args:
        model: the network whose prediction is wanted.
        method: "telea" (A. Telea, 2004, "An Image Inpainting Technique Based on the Fast Marching Method") or
            "navier-stokes" (after M. Bertalmio et al., 2001, "Navier-Stokes, Fluid Dynamics, and Image and
            Video Inpainting").
        radius: in pixels, 1 to 100: how far from a missing pixel OpenCV looks.

    Raises:
        MissingPackageError: OpenCV is not installed.
        UnknownNameError: another method.
        InputError: a radius out of range; when called, also an image of a single row or column (there
            OpenCV reads beyond its memory), and the errors of ``RemovalForward.forward``.

    Example:
        ```python
        logits = InpaintedForward(model, "navier-stokes", radius=5)(image, mask=visible)
        ```
    """

    def __init__(self, model: nn.Module, method: str = "telea", radius: float = 3) -> None:
        super().__init__(model)
        _opencv()
        require_known("inpainting method", method, OPENCV_FLAGS)
        if not 1 <= radius <= LARGEST_RADIUS:
            raise InputError(f"the radius must be 1 to {LARGEST_RADIUS} pixels, not {radius}.")
        self.method = method
        self.radius = radius

    def interpolated(self, picture: Array, visible: Array) -> Array:
        """Inpaint one image, channel by channel (see ``InterpolatedForward.interpolated``)."""
        if min(visible.shape) < 2:
            raise InputError("OpenCV cannot inpaint an image of a single row or column.")
        return np.stack([self._inpainted(channel, visible) for channel in picture])

    def _inpainted(self, channel: Array, visible: Array) -> Array:
        cv2 = _opencv()
        colors = channel[visible]
        low, span = colors.min(), np.ptp(colors) or 1.0
        unit = (np.where(visible, channel, colors.mean()) - low) / span
        levels = np.rint(255 * unit).astype(np.uint8)
        flag = getattr(cv2, OPENCV_FLAGS[self.method])
        inpainted = cv2.inpaint(levels, (~visible).astype(np.uint8), self.radius, flag)
        return low + span * (inpainted / 255)


def _opencv() -> ModuleType:
    try:
        import cv2
    except ImportError as error:
        raise MissingPackageError(
            "inpainting needs OpenCV, which is not installed: pip install 'captum-layermask[inpainting]'."
        ) from error
    return cv2


class ImputedForward(InterpolatedForward):
    """Missing pixels are filled by the noisy linear imputation of ROAD.

    Every missing pixel is the weighted mean of its eight neighbours, 1/6 for the four direct and 1/12 for the
    four diagonal ones, visible or missing; beyond the image's border there is no neighbour, and the weights
    of the others add up to 1. That is one linear system, which is solved exactly; then Gaussian noise is
    added to the missing pixels. From: Y. Rong, T. Leemann, V. Borisov, G. Kasneci, E. Kasneci, 2022, "A
    Consistent and Efficient Evaluation Strategy for Attribution Methods" (noisy linear imputation); without
    noise it agrees with its authors' ``NoisyLinearImputer``, which pytorch-grad-cam ships too.

    The noise is one field for each shape of image, drawn anew from the seed in every call: what a sample is
    filled with depends neither on its batch nor on earlier calls. An image without a visible pixel, for which
    the system has no unique solution, is 0 without noise.

    No gradient flows through the fill.

    Args:
        model: the network whose prediction is wanted.
        noise: standard deviation of the noise, in the units of the images that the forward is given; the
            default is that of the authors' code.
        seed: of the noise.

    Raises:
        InputError: a noise that is negative or not finite; when called, the errors of
            ``RemovalForward.forward``.

    Example:
        ```python
        logits = ImputedForward(model, noise=0.0)(image, mask=visible)
        ```
    """

    def __init__(self, model: nn.Module, noise: float = 0.01, seed: int = 0) -> None:
        super().__init__(model)
        if not (math.isfinite(noise) and noise >= 0):
            raise InputError(f"the noise must be a standard deviation, 0 or more, not {noise}.")
        self.noise = noise
        self.seed = seed

    def interpolated(self, picture: Array, visible: Array) -> Array:
        """Impute one image, all channels at once (see ``InterpolatedForward.interpolated``)."""
        impute = _imputation(visible.tobytes(), *visible.shape)
        generator = torch.Generator().manual_seed(self.seed)
        fill = self.noise * torch.randn(picture.shape, generator=generator, dtype=torch.double).numpy()
        fill[:, ~visible] += impute(picture[:, visible].T).T
        return fill


@lru_cache(maxsize=1)
def _imputation(visible: bytes, rows: int, columns: int) -> Callable[[Array], Array]:
    """The linear map from visible to missing pixels (each pixels × channels, in the order of rows)."""
    from scipy.sparse.linalg import splu  # slow to import, as is all of SciPy

    seen = np.frombuffer(visible, dtype=bool)
    equations = _laplacian(rows, columns)[~seen]
    factors = splu(
        equations[:, ~seen].tocsc(),
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0,
        options={"SymmetricMode": True},
    )
    from_seen = -equations[:, seen]
    return lambda colors: factors.solve(from_seen @ colors)


def _laplacian(rows: int, columns: int) -> Any:
    """The weights to a pixel's neighbours, off the diagonal and negative; on it, what makes rows sum to 0."""
    from scipy import sparse

    rows_and_columns = [
        sparse.diags_array([1.0, 2, 1], offsets=[-1, 0, 1], shape=(n, n)) for n in (rows, columns)
    ]
    weights = sparse.kron(*rows_and_columns) / 12
    return (sparse.diags_array(weights.sum(1)) - weights).tocsr()
