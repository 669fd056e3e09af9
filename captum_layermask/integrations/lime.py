"""The lime package explains images by removing segments: its own explainer, sampling faster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from lime.lime_image import LimeImageExplainer
from tqdm.auto import tqdm

from captum_layermask.errors import InputError
from captum_layermask.explain.coalitions import Coalitions
from captum_layermask.explain.segments import require_numbered
from captum_layermask.integrations.image_classifier import ImageClassifier
from captum_layermask.removals.captum_calls import warn_if_few

__all__ = ["FastLimeImageExplainer"]


class FastLimeImageExplainer(LimeImageExplainer):  # type: ignore[misc]
    """lime's ``LimeImageExplainer`` (0.2), without a NumPy copy of the image for every sample.

    It is made with lime's arguments. Only the sampling differs: the image and the masks go to the forward
    directly. The same ``random_state`` and segments give the explanation that lime's own class gives.
    ``explain_instance`` and the ``ImageExplanation`` that it returns are lime's; the function of images that
    it is given must be an ``ImageClassifier``. With ``hide_color=MISSING`` pixels are removed, with another
    colour, or None (the mean of the segment), they are filled with it, as lime does.

    Example:
        ```python
        explainer = FastLimeImageExplainer(random_state=0)
        classifier = ImageClassifier(LayerMaskedForward(model), Normalize(mean, std))
        explanation = explainer.explain_instance(image, classifier, hide_color=MISSING)
        ```
    """

    def __init__(
        self,
        kernel_width: float = 0.25,
        kernel: Callable[[np.ndarray, float], np.ndarray] | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        # lime's default is the same function, but a local one, which cannot be pickled
        super().__init__(kernel_width, kernel or _exponential, *args, **kwargs)

    def data_labels(
        self,
        image: np.ndarray,
        fudged_image: np.ndarray,
        segments: np.ndarray,
        classifier_fn: ImageClassifier,
        num_samples: int,
        batch_size: int = 10,
        progress_bar: bool = True,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw which segments are visible, and compute the probabilities (called by ``explain_instance``).

        Args:
            image: floating point, H×W×C.
            fudged_image: H×W×C, the pixels of the other segments; MISSING to remove them.
            segments: integers, H×W, ids 0, 1, 2 … without gaps.
            classifier_fn: an ``ImageClassifier``.
            num_samples: how many images to draw; the first is the whole image.
            batch_size: images per call of the forward.
            progress_bar: show tqdm's bar, counting samples. lime 0.2 never passes it on; for
                ``explain_instance`` the environment variable ``TQDM_DISABLE=1``, set before tqdm is
                imported, turns the bars of both explainers off (but for tqdm's widgets in notebooks).

        Returns:
            0/1 (1 = visible), num_samples × segments, and the probabilities, num_samples × classes.

        Raises:
            InputError: another classifier, ids with gaps, or what ``ImageClassifier`` refuses.
        """
        if not isinstance(classifier_fn, ImageClassifier):
            raise InputError("give an ImageClassifier(forward) as classifier_fn; masks go to its forward.")
        require_numbered(segments)
        n_features = int(segments.max()) + 1
        warn_if_few(num_samples, n_features)
        x, baselines = (classifier_fn.tensor(pixels[None]) for pixels in (image, fudged_image))
        data = self.random_state.randint(0, 2, num_samples * n_features).reshape(num_samples, n_features)
        data[0] = 1
        silent = {} if progress_bar else {"disable": True}  # {}: the environment's TQDM_DISABLE decides
        with tqdm(total=num_samples, **silent) as bar:
            coalitions = Coalitions(
                classifier_fn.forward,
                x,
                torch.from_numpy(np.array(segments, dtype=np.int64))[None, None],
                baselines=baselines,
                activation=classifier_fn.activation,
                batch_size=batch_size,
                progress=bar.update,
            )
            return data, coalitions(data.astype(bool)).reshape(num_samples, -1)


def _exponential(distance: np.ndarray, kernel_width: float) -> np.ndarray:
    """What a sample at this distance from the whole image weighs; rounded as in lime, to the bit."""
    weight: np.ndarray = np.sqrt(np.exp(-(distance**2) / kernel_width**2))
    return weight
