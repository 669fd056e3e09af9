"""A forward removes what is MISSING, and predicts."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from captum_layermask.errors import InputError, NothingMissingWarning, TrainingModeError
from captum_layermask.masking.compiling import untraced, untraced_itself
from captum_layermask.masking.mask import Mask
from captum_layermask.removals.arguments import Call, taken_apart
from captum_layermask.removals.captum_calls import note_samples, perturbing, refuse_mixing
from captum_layermask.removals.missing import visible_pixels
from captum_layermask.removals.mode import Wrapper

CALLS_BEFORE_WARNING = 16
WHOLE_IMAGES_BEFORE_WARNING = 8


class RemovalForward(Wrapper, ABC):
    """Base of the removals: each is a function of an image, some of whose pixels are missing.

    A subclass defines in ``predict`` what the model returns when those pixels are removed. All of them can be
    Captum's ``forward_func`` with ``baselines=MISSING``. Its training mode is that of the model. A subclass
    whose constructor has a parameter of a field's name of ``Setting`` is given it by ``make_forward``.

    Args:
        model: the network whose prediction is wanted.

    Attributes:
        leaks: whether what the model is given depends on the missing pixels, so that it still shows some of
            what was removed.

    Raises:
        InputError: the model is no ``nn.Module``.

    Example:
        ```python
        class ZeroFilledForward(RemovalForward):
            def predict(self, image, mask, call):
                return call(self.model, image)  # 0 in every missing pixel

        logits = ZeroFilledForward(model)(image, mask=visible)
        ```
    """

    leaks: ClassVar[bool] = False

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        if not isinstance(model, nn.Module):
            raise InputError(f"the model must be a torch.nn.Module, not {type(model).__name__}.")
        self.model = model
        self._calls_without_missing = self._whole_images = 0
        self._warned = False

    @abstractmethod
    def predict(self, image: Tensor, mask: Mask, call: Call) -> Any:
        """Predict with the missing pixels removed.

        Args:
            image: N×C×H×W, floating point, 0 in every missing pixel.
            mask: which pixels are there (``mask.visible``, bool, N×1×H×W; ``mask.full`` if all of them are).
            call: ``call(model, image)`` calls a model with an image and whatever else it was to be given.

        Returns:
            What the model returns.
        """

    @property
    def vanished(self) -> Tensor | None:
        """Which samples of the last call had visible pixels but lost them all inside the model.

        Bool, N. None before the first call, after one that failed, and for removals that do not tell, since
        they lose none.
        """
        return None

    @untraced_itself
    def forward(self, *args: Any, mask: Tensor | None = None, **kwargs: Any) -> Any:
        """Predict with the missing pixels removed.

        Args:
            *args: arguments of the model. The first with four dimensions, those without a name before those
                with one, are the images, N×C×H×W, floating point; pixels equal to ``MISSING`` in every
                channel are missing. The others are handed on untouched.
            mask: bool or 0/1 (1 = visible), N×1×H×W, N×H×W, 1×1×H×W or H×W; a pixel is missing if
                it is so in the mask or in the image. A ``mask`` of the model's own cannot be given by name.
            **kwargs: as ``args``.

        Returns:
            What the model returns.

        Raises:
            InputError: an integer image, a mask of another shape or with other values, a pixel that is
                MISSING in some channels only, an image that holds MISSING and requires gradients, another
                argument that holds MISSING, Captum's gradient methods or ``NoiseTunnel`` given MISSING.
            TrainingModeError: a normalisation layer would use or update batch statistics.
        """
        return self.predict(*self._split(args, kwargs, mask))

    @untraced
    def _split(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], mask: Tensor | None
    ) -> tuple[Tensor, Mask, Call]:
        """The image with 0 in missing pixels, its mask, and the call of the model that it is for."""
        self._check_mode()
        refuse_mixing()
        note_samples()
        x, call = taken_apart(args, kwargs)
        visible, everything, held_missing = visible_pixels(x, mask)
        self._note_missing(len(x), held_missing or mask is not None)
        return torch.where(visible, x, 0), Mask(visible, full=everything), call

    def _check_mode(self) -> None:
        for name, module in self.model.named_modules():
            if isinstance(module, nn.modules.batchnorm._NormBase) and module.training:
                raise TrainingModeError(
                    f"module {name!r} is in training mode and would mix missing cells into its batch "
                    "statistics; call model.eval() first."
                )

    def _note_missing(self, images: int, something_missing: bool) -> None:
        """Warn when MISSING should have arrived: it was forgotten, or lost before it arrived."""
        if something_missing:
            self._calls_without_missing, self._whole_images = -1, 0
            return
        method = perturbing()
        if method is not None:
            # The images that it explains arrive whole once; in each of the others something is missing.
            self._whole_images += images
            if self._whole_images < method.images + WHOLE_IMAGES_BEFORE_WARNING:
                return
            found = f"{self._whole_images} images for {method.name}"
            cause = "was baselines=MISSING left out, or MISSING lost"
        else:
            self._calls_without_missing += self._calls_without_missing >= 0
            if self._calls_without_missing < CALLS_BEFORE_WARNING:
                return
            found, cause = f"{self._calls_without_missing} calls", "was MISSING lost"
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"{found} and not one MISSING pixel: {cause} in a normalisation, a resize or a cast before "
                "this forward? Put the preprocessing inside: "
                f"{type(self).__name__}(nn.Sequential(normalize, model)).",
                NothingMissingWarning,
                stacklevel=4,
            )
