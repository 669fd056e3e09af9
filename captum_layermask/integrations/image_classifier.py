"""A forward is also a function of NumPy images, as lime and shap want it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from captum_layermask.errors import InputError
from captum_layermask.explain.explanation import predict
from captum_layermask.removals.missing import MISSING, visible_pixels

__all__ = ["ImageClassifier", "require_floats"]


class ImageClassifier:
    """A forward as the function of NumPy images that lime (0.2) and shap want.

    Args:
        forward: N×C×H×W → logits N×classes: a ``LayerMaskedForward``, or any module or function that
            understands MISSING pixels. Images go to a module in the number type and on the
            device of its parameters, to a function as float32 on the CPU.
        preprocess: N×C×H×W → N×C'×H×W, pixel by pixel (scaling, mean and standard deviation). Missing
            pixels stay missing, whatever it makes of them.
        activation: what makes probabilities of the logits: ``"softmax"``, or ``"sigmoid"`` where an image may
            have several labels, or the network returns the single logit of yes or no.

    Example:
        ```python
        classifier = ImageClassifier(LayerMaskedForward(model), Normalize(mean, std))
        LimeImageExplainer().explain_instance(image, classifier, hide_color=MISSING)
        ```
    """

    def __init__(
        self,
        forward: Callable[..., Any],
        preprocess: Callable[[Tensor], Tensor] | None = None,
        *,
        activation: str = "softmax",
    ) -> None:
        self.forward = forward
        self.preprocess = preprocess
        self.activation = activation

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Probabilities of the classes; all images go through the forward as one batch.

        Args:
            images: floating point, N×H×W×C, MISSING in every channel of a removed pixel.

        Returns:
            float64, N×classes, in [0, 1].

        Raises:
            InputError: integer images, another shape, a pixel that is MISSING in some channels only, a
                preprocessing that changes height or width, a forward that does not return N×classes
                logits, or only one for softmax.
            UnknownNameError: there is no such activation.
        """
        return predict(self.forward, self.tensor(images), self.activation).double().cpu().numpy()

    def tensor(self, images: np.ndarray) -> Tensor:
        """Preprocess images for the forward: N×H×W×C, floating point → N×C'×H×W (errors: ``__call__``)."""
        require_floats(images)
        if images.ndim != 4:
            raise InputError(f"the images have shape {images.shape}; give N×H×W×C.")
        pixels = torch.from_numpy(np.array(images, order="C")).movedim(-1, 1)
        x = pixels.to(_floating_tensor_of(self.forward)).contiguous()
        visible, _, _ = visible_pixels(x, None)
        if self.preprocess is None:
            return x
        ready = self.preprocess(x)
        if ready.dim() != 4 or len(ready) != len(x) or ready.shape[2:] != x.shape[2:]:
            raise InputError(
                f"the preprocessing turned {tuple(x.shape)} into {tuple(ready.shape)}, which moves pixels "
                "away from their segments; resize and crop the image before it is explained."
            )
        return torch.where(visible, ready.to(x), MISSING)


def require_floats(images: np.ndarray) -> None:
    """Refuse images that cannot hold MISSING.

    Args:
        images: of any shape.

    Raises:
        InputError: the images are no array, or not floating point.
    """
    if not isinstance(images, np.ndarray):
        raise InputError(
            f"the images must be a NumPy array, N×H×W×C, not {type(images).__name__}; a tensor, N×C×H×W, "
            "goes to the forward itself."
        )
    if not np.issubdtype(images.dtype, np.floating):
        raise InputError(
            f"the image must be floating point, not {images.dtype}, which would turn MISSING into 0; "
            "give image / 255.0."
        )


def _floating_tensor_of(forward: Callable[..., Any]) -> Tensor:
    held = [*forward.parameters(), *forward.buffers()] if isinstance(forward, nn.Module) else []
    return next((tensor for tensor in held if tensor.is_floating_point()), torch.zeros(()))
