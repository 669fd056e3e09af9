"""An attribution method of Captum, run over a forward, explains one prediction."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from captum._utils.models.linear_model import SkLearnRidge
from captum.attr import FeatureAblation, KernelShap, Lime, Occlusion, ShapleyValueSampling
from tqdm.auto import tqdm

from captum_layermask.errors import InputError, require_known, require_positive, require_seed
from captum_layermask.explain.sampling import averaged, fitted
from captum_layermask.explain.segments import region_means, require_numbered
from captum_layermask.explain.targets import class_index
from captum_layermask.names import METHODS
from captum_layermask.removals.captum_calls import note_samples
from captum_layermask.removals.missing import MISSING

__all__ = ["ACTIVATIONS", "METHODS", "Explanation", "explain", "predict"]

_Forward = Callable[[torch.Tensor], torch.Tensor]

ACTIVATIONS: dict[str, _Forward] = {"softmax": partial(torch.softmax, dim=1), "sigmoid": torch.sigmoid}
"""What makes probabilities of logits."""


@dataclass(frozen=True)
class Explanation:
    """What each region of an image adds to the probability of one class.

    Attributes:
        pixels: float 1×3×H×W in [0, 1], the image as the network sees it before normalisation.
        segments: LongTensor 1×1×H×W, contiguous ids from 0.
        attributions: float 1×1×H×W, in units of probability; positive speaks for the class.
            The same in all pixels of a segment, except for occlusion.
        target: index of the class that is explained.
        label: name of that class.
        probability: what the network gives that class on the original image, in [0, 1].
        method: a key of ``METHODS``.
        top5: names and probabilities of the five likeliest classes, best first.
        stability: rank correlation, from −1 to 1, of the attributions by one half of the samples and by the
            other; that by all of them is steadier than this. Near 0, the map is one of the samples, not of
            the image. None for methods that draw none, for a single sample, and where nothing is ranked.

    Example:
        ```python
        strongest = explanation.segment_attributions().topk(10).indices  # ids of segments
        ```
    """

    pixels: torch.Tensor
    segments: torch.Tensor
    attributions: torch.Tensor
    target: int
    label: str
    probability: float
    method: str
    top5: tuple[tuple[str, float], ...]
    stability: float | None = None

    def segment_attributions(self) -> torch.Tensor:
        """Average the attributions over each segment: float K, entry i for segment i."""
        return region_means(self.attributions, self.segments)

    @property
    def region_name(self) -> str:
        """What the regions are called, in the plural."""
        return "squares" if self.method == "occlusion" else "segments"

    def regions(self) -> torch.Tensor:
        """What the attributions are of: LongTensor 1×1×H×W, ids from 0.

        They are the segments, but for occlusion the squares by which its window moves.
        """
        if self.method != "occlusion":
            return self.segments
        _, stride = _occlusion_window(self.segments)
        height, width = self.segments.shape[2:]
        rows = torch.arange(height, device=self.segments.device) // stride
        columns = torch.arange(width, device=self.segments.device) // stride
        return (rows[:, None] * math.ceil(width / stride) + columns)[None, None]

    def region_attributions(self) -> torch.Tensor:
        """Average the attributions over each region: float K, entry i for region i."""
        return region_means(self.attributions, self.regions())


@torch.no_grad()
def predict(forward: _Forward, pixels: torch.Tensor, activation: str = "softmax") -> torch.Tensor:
    """Probabilities of the classes: softmax of the logits that ``forward`` returns, or their sigmoid.

    Args:
        forward: N×3×H×W → logits N×classes.
        pixels: float N×3×H×W.
        activation: a key of ``ACTIVATIONS``: ``"softmax"`` where one class of several is right, ``"sigmoid"``
            where each class is right or not by itself (several labels, or the single logit of yes or no).
            The shape of several logits does not tell which.

    Returns:
        Float N×classes; with softmax each row adds up to 1.

    Raises:
        UnknownNameError: there is no such activation.
        InputError: ``forward`` returns anything else than one row of logits per image, a single number for
            softmax, whose softmax is always 1, or probabilities, whose softmax is not theirs.

    Example:
        ```python
        probability, index = predict(LayerMaskedForward(model), pixels)[0].max(0)
        ```
    """
    require_activation(activation)
    return activated(forward(pixels), activation)


def activated(logits: Any, activation: str) -> torch.Tensor:
    """Probabilities of logits N×classes (arguments and errors: ``predict``)."""
    if not isinstance(logits, torch.Tensor) or logits.dim() != 2:
        shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise InputError(
            f"the network returned {shape} where N×classes logits are needed; give a classifier."
        )
    if activation == "softmax":
        _check_for_softmax(logits)
    return ACTIVATIONS[activation](logits)


def require_activation(activation: str) -> None:
    """Raise ``UnknownNameError`` for what is no key of ``ACTIVATIONS``."""
    require_known("activation", activation, ACTIVATIONS)


def _check_for_softmax(logits: torch.Tensor) -> None:
    if logits.shape[1] == 1:
        raise InputError(
            "the network returned a single number for an image, whose softmax is always 1; if it is the "
            "logit of yes or no give activation='sigmoid', and explain a regression with Captum's own "
            "classes, FeatureAblation(forward).attribute(image, baselines=MISSING)."
        )
    sums = logits.double().sum(dim=1)
    if len(logits) and bool((logits >= 0).all() & ((sums - 1).abs() < 1e-3).all()):
        raise InputError(
            "the network returned probabilities where logits are needed, and their softmax would flatten "
            "them; leave out its softmax, or give lambda x: forward(x).log()."
        )


@torch.no_grad()
def explain(
    forward: _Forward,
    pixels: torch.Tensor,
    segments: torch.Tensor,
    *,
    class_names: Sequence[str],
    method: str = "lime",
    target: int | str | None = None,
    baselines: float = MISSING,
    activation: str = "softmax",
    n_samples: int | None = None,
    perturbations_per_eval: int = 16,
    seed: int = 0,
    show_progress: bool = False,
) -> Explanation:
    """Attribute the probability of a class to the segments of an image.

    The probability is explained, not the logit, as LIME does. Lime is fitted with ridge
    regression (penalty 1, as in the ``lime`` package), since Captum's default, a lasso made for
    logits, sets most coefficients of a probability to zero. Occlusion slides a square of a
    segment's average area by half its side, so each square of that stride has a value of its own.

    Args:
        forward: N×3×H×W → logits N×classes, for example a ``LayerMaskedForward``.
        pixels: float 1×3×H×W, the image.
        segments: LongTensor 1×1×H×W, ids from 0 (see ``segments.py``).
        class_names: one name per class.
        method: a key of ``METHODS``.
        target: index or name of the class to explain; None takes the likeliest.
        baselines: value that ``forward`` understands as a removed pixel.
        activation: what makes probabilities of the logits, as for ``predict``.
        n_samples: perturbed images for ``lime`` and ``kernel-shap``, random orders of the
            segments (each costs one call per segment) for ``shapley-sampling``; None takes the
            default of ``METHODS``.
        perturbations_per_eval: images per call of ``forward``.
        seed: of the samples; the global random state is left as it was.
        show_progress: show a progress bar on stderr.

    Returns:
        The attributions, in units of probability, with what they explain.

    Raises:
        UnknownNameError: there is no such method, activation or class.
        InputError: shapes do not fit, segment ids have gaps (``segments.renumbered``), ``target`` is not one
            class, a count is below 1, ``seed`` is beyond 64 bits, or ``n_samples`` is given to a method that
            draws none; or what ``predict`` refuses.

    Example:
        ```python
        forward = LayerMaskedForward(model)
        explanation = explain(forward, pixels, segments, class_names=names, method="occlusion")
        plot_explanation(explanation, removal="layer masking")
        ```

    Source: Captum's ``Lime``, ``KernelShap``, ``FeatureAblation``, ``Occlusion`` and
    ``ShapleyValueSampling``, whose classes are called.
    """
    samples = _check_sampling(method, n_samples, perturbations_per_eval)
    require_seed(seed)
    check_image(pixels, segments)
    if method == "kernel-shap" and not segments.any():
        raise InputError("kernel SHAP needs at least 2 segments, and the image is a single one.")
    probabilities = predict(forward, pixels, activation)[0]
    if len(class_names) != len(probabilities):
        raise InputError(
            f"the network has {len(probabilities)} classes but {len(class_names)} names were "
            "given; give one name per class."
        )
    index = int(probabilities.argmax()) if target is None else class_index(target, class_names)
    options: dict[str, Any] = {
        "baselines": baselines,
        "target": index,
        "perturbations_per_eval": perturbations_per_eval,
    }
    if samples is not None:
        options["n_samples"] = samples
    if method == "occlusion":
        options |= _occlusion_windows(pixels, segments)
    else:
        options["feature_mask"] = segments

    images = _image_count(method, pixels, options)
    progress = tqdm(
        total=images,
        desc=f"{METHODS[method][0].capitalize()} attribution",
        unit="image",
        disable=not show_progress or images is None,
    )
    options["show_progress"] = show_progress and images is None

    def probability(x: torch.Tensor) -> torch.Tensor:
        note_samples()
        probabilities_of_classes = predict(forward, x, activation)
        progress.update(len(x))
        return probabilities_of_classes

    with progress, torch.random.fork_rng():
        torch.manual_seed(seed)
        attributions, stability = _attributed(method, probability, pixels, options)
    best = probabilities.topk(min(5, len(probabilities)))
    return Explanation(
        pixels=pixels,
        segments=segments,
        attributions=attributions[:, :1],
        target=index,
        label=class_names[index],
        probability=float(probabilities[index]),
        method=method,
        top5=tuple((class_names[int(i)], float(p)) for p, i in zip(best.values, best.indices, strict=True)),
        stability=stability,
    )


def _attributed(
    method: str, forward: _Forward, pixels: torch.Tensor, options: Mapping[str, Any]
) -> tuple[torch.Tensor, float | None]:
    """The attributions, 1×C×H×W, and how far two halves of the samples agree."""
    if method == "lime":
        return fitted(Lime(forward, interpretable_model=SkLearnRidge(alpha=1.0)), pixels, **options)
    if method == "kernel-shap":
        return fitted(KernelShap(forward), pixels, **options)
    if method == "shapley-sampling":
        return averaged(ShapleyValueSampling(forward), pixels, **options)
    classes = {"feature-ablation": FeatureAblation, "occlusion": Occlusion}
    return classes[method](forward).attribute(pixels, **options), None


def _occlusion_window(segments: torch.Tensor) -> tuple[int, int]:
    """Side and stride of a square of about a segment's average area.

    The side is twice the stride, so that windows overlap in squares of the stride and in nothing smaller.
    """
    height, width = segments.shape[2:]
    side = math.sqrt(height * width / (int(segments.max()) + 1))
    stride = max(1, round(side / 2))
    return min(2 * stride, height, width), stride


def _occlusion_windows(pixels: torch.Tensor, segments: torch.Tensor) -> dict[str, Any]:
    channels = pixels.shape[1]
    size, stride = _occlusion_window(segments)
    return {
        "sliding_window_shapes": (channels, size, size),
        "strides": (channels, stride, stride),
    }


def _image_count(method: str, pixels: torch.Tensor, options: Mapping[str, Any]) -> int | None:
    """How many images the forward is given where Captum's own progress bar would be wrong, else None."""
    if method == "occlusion":  # Captum counts a window for each pixel and channel; the truth is far fewer
        sizes = zip(pixels.shape[1:], options["sliding_window_shapes"], options["strides"], strict=True)
        return 1 + math.prod(1 + math.ceil((side - size) / stride) for side, size, stride in sizes)
    if method == "shapley-sampling":  # two calls of Captum's, each of which begins with the empty image
        samples = options["n_samples"]
        return min(2, samples) + samples * (int(options["feature_mask"].max()) + 1)
    return None


def _check_sampling(method: str, n_samples: int | None, perturbations_per_eval: int) -> int | None:
    require_known("method", method, METHODS)
    default = METHODS[method][1]
    if n_samples is not None and default is None:
        raise InputError(f"{method} draws no samples; leave out the number of samples.")
    require_positive("the number of samples", n_samples)
    require_positive("the number of perturbations per evaluation", perturbations_per_eval)
    return default if n_samples is None else n_samples


def check_image(pixels: Any, segments: Any) -> None:
    """Refuse what is no image, 1×C×H×W, or are no segments of it."""
    if not isinstance(pixels, torch.Tensor) or pixels.dim() != 4 or pixels.shape[0] != 1:
        raise InputError(f"the pixels are {described(pixels)}; give one image, a tensor 1×3×H×W.")
    shape = (1, 1, *pixels.shape[2:])
    if not isinstance(segments, torch.Tensor) or segments.shape != shape or segments.dtype != torch.long:
        raise InputError(
            f"the segments are {described(segments)}; give a LongTensor of shape {shape}, as the functions "
            "in segments.py return."
        )
    require_numbered(segments)


def described(value: Any) -> str:
    """The type and, if it has one, the shape of what was given, in words."""
    name = getattr(value, "dtype", type(value).__name__)
    return f"{name} of shape {tuple(value.shape)}" if hasattr(value, "shape") else str(name)
