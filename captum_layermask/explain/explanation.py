"""One prediction is explained, by a method of Captum or by an estimator that knows its error."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import torch
from tqdm.auto import tqdm

from captum_layermask.errors import InputError, require_positive, require_seed
from captum_layermask.explain.captum_methods import (
    attributed,
    image_count,
    occlusion_window,
    occlusion_windows,
)
from captum_layermask.explain.estimators.base import Estimator
from captum_layermask.explain.estimators.driver import run
from captum_layermask.explain.estimators.estimate import Ended, Estimate
from captum_layermask.explain.method_options import check_method_options
from captum_layermask.explain.prediction import ACTIVATIONS, Forward, check_image, predict
from captum_layermask.explain.saved import read, write
from captum_layermask.explain.segments import region_means
from captum_layermask.explain.streams import Stream, in_segments, require_same_game
from captum_layermask.explain.targets import class_index
from captum_layermask.names import ESTIMATORS, METHODS
from captum_layermask.removals.captum_calls import note_samples
from captum_layermask.removals.missing import MISSING

__all__ = ["ACTIVATIONS", "METHODS", "Explanation", "explain", "predict", "unexplained"]


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
        estimate: what the estimator knows, for methods of ``ESTIMATORS``: values and standard errors of the
            segments, float64 K, and what ended it. None for others.
        stream: what it takes to go on from there; None for others.

    Example:
        ```python
        strongest = explanation.segment_attributions().topk(10).indices  # ids of segments
        low, high = explanation.estimate.interval()  # 95 %, if it is by a method of ESTIMATORS
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
    estimate: Estimate | None = None
    stream: Stream | None = field(default=None, repr=False)

    @property
    def standard_errors(self) -> torch.Tensor | None:
        """Of the values of the segments, float64 K on the CPU; None for methods that know none.

        For ``rise`` they are the means over each segment of the errors of its pixels, which is an upper
        bound.
        """
        return None if self.estimate is None else torch.from_numpy(self.estimate.standard_errors)

    @property
    def evaluations(self) -> int | None:
        """How many coalitions of segments, or masks, were evaluated; None for methods that know no errors."""
        return None if self.estimate is None else self.estimate.evaluations

    @property
    def ended(self) -> Ended | None:
        """What ended it (see ``Estimate``); None for methods that know no errors."""
        return None if self.estimate is None else self.estimate.ended

    def undecided(self) -> torch.Tensor:
        """Which regions may as well speak for as against the class: bool K on the CPU.

        Their 95 % interval contains 0 and more. None of them does for methods that know no errors.
        """
        if self.estimate is None:
            return torch.zeros(len(self.region_attributions()), dtype=torch.bool)
        low, high = self.estimate.interval()
        return torch.from_numpy((low < 0) & (high > 0))

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
        _, stride = occlusion_window(self.segments)
        height, width = self.segments.shape[2:]
        rows = torch.arange(height, device=self.segments.device) // stride
        columns = torch.arange(width, device=self.segments.device) // stride
        return (rows[:, None] * math.ceil(width / stride) + columns)[None, None]

    def region_attributions(self) -> torch.Tensor:
        """Average the attributions over each region: float K, entry i for region i."""
        return region_means(self.attributions, self.regions())

    def refine(
        self,
        forward: Forward,
        *,
        budget: int | None = None,
        tolerance: float | None = None,
        top_k: int | None = None,
        show_progress: bool = False,
        on_update: Callable[[Explanation], object] | None = None,
    ) -> Explanation:
        """Go on with the same stream of coalitions; this explanation stays as it is.

        Args:
            forward: the one that was explained.
            budget: evaluations in all, those so far included.
            tolerance: as for ``explain``.
            top_k: likewise.
            show_progress: likewise.
            on_update: likewise.

        Returns:
            What one run to the same goal would have returned, to the bit where the forward gives an image the
            same prediction whatever else is in its batch.

        Raises:
            InputError: the method is none of ``ESTIMATORS``, the forward is another one, a goal cannot be
                reached, or the stream is drawn otherwise by this version of NumPy.

        Example:
            ```python
            rough = explain(forward, pixels, segments, class_names=names, method="shapley", budget=256)
            rough.save("cat.npz")
            fine = Explanation.load("cat.npz").refine(forward, tolerance=0.02)
            ```
        """
        check_method_options(self.method, budget=budget, tolerance=tolerance, top_k=top_k)
        if self.stream is None:
            raise InputError(
                f"an explanation by {self.method} cannot be refined; explain by {' or '.join(ESTIMATORS)}."
            )
        estimator = self.stream.estimator(self.method)
        game = self.stream.game(forward, self.method, self.pixels, self.segments, self.target)
        require_same_game(estimator, game)

        def updated(estimator: Estimator) -> None:
            if on_update is not None:
                on_update(self._by(estimator, estimator.estimate()))

        goals: dict[str, Any] = {"budget": budget, "tolerance": tolerance, "top_k": top_k}
        estimate = run(estimator, game, **goals, show_progress=show_progress, on_update=updated)
        return self._by(estimator, estimate)

    def _by(self, estimator: Estimator, estimate: Estimate) -> Explanation:
        """This explanation, but for what is estimated."""
        assert self.stream is not None
        stream = replace(self.stream, state=estimator.state())
        return self.estimated(estimate, stream)

    def estimated(self, estimate: Estimate, stream: Stream) -> Explanation:
        """The same prediction explained by an estimate of all that ``stream`` holds: S values."""
        of_segments, attributions = in_segments(estimate, stream, self.segments)
        return replace(self, attributions=attributions.to(self.pixels), estimate=of_segments, stream=stream)

    def save(self, path: str | Path) -> None:
        """Write all of it into one file, which ``load`` reads: arrays of NumPy, no pickle.

        Args:
            path: a file; an older explanation is replaced, whole, and nothing else.

        Raises:
            InputError: another file is there, or it cannot be written.
        """
        write(Path(path), self)

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "cpu") -> Self:
        """Read what ``save`` wrote.

        Args:
            path: the file.
            device: where the tensors are wanted.

        Raises:
            InputError: there is no such file, or it holds something else.
        """
        return cls(**read(Path(path), device))


@torch.no_grad()
def explain(
    forward: Forward,
    pixels: torch.Tensor,
    segments: torch.Tensor,
    *,
    class_names: Sequence[str],
    method: str = "lime",
    target: int | str | None = None,
    baselines: float = MISSING,
    activation: str = "softmax",
    n_samples: int | None = None,
    budget: int | None = None,
    tolerance: float | None = None,
    top_k: int | None = None,
    perturbations_per_eval: int = 16,
    seed: int = 0,
    show_progress: bool = False,
    on_update: Callable[[Explanation], object] | None = None,
) -> Explanation:
    """Attribute the probability of a class to the segments of an image.

    The probability is explained, not the logit, as LIME does. Captum's methods:

    * ``lime`` is fitted with ridge regression (penalty 1, as in the ``lime`` package), since Captum's
      default, a lasso made for logits, sets most coefficients of a probability to zero.
    * ``kernel-shap`` and ``shapley-sampling`` estimate Shapley values.
    * ``feature-ablation`` is what the whole image loses without a segment.
    * ``occlusion`` slides a square of a segment's average area by half its side, so each square of that
      stride has a value of its own.

    The methods of ``ESTIMATORS`` know their errors, and stop when the answer is settled:

    * ``shapley`` estimates Shapley values by regression on pairs of complements, with fewer evaluations.
    * ``banzhaf``: what a segment adds on average over all coalitions of the others.
    * ``rise``: the mean probability while a pixel is visible, less that of all masks.

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
        budget: for methods of ``ESTIMATORS``: evaluations in all.
        tolerance: likewise: end when the largest standard error is at most this share of the range of the
            values (for ``rise``, of the pixels). 0.05 if no goal is given.
        top_k: for ``shapley`` and ``banzhaf``: end when the k segments whose values are largest in size are
            told apart from the others at 95 %.
        perturbations_per_eval: images per call of ``forward``.
        seed: of the samples; the global random state is left as it was.
        show_progress: show a progress bar on stderr, towards the end that is forecast.
        on_update: called with the explanation so far after every 32 evaluations, to save it, for example;
            methods of Captum call it once, with what is returned.

    Returns:
        The attributions, in units of probability, with what they explain. After Ctrl-C, methods of
        ``ESTIMATORS`` return what is there, ``ended`` being ``"interrupted"``.

    Raises:
        UnknownNameError: there is no such method, activation or class.
        InputError: shapes do not fit, segment ids have gaps (``segments.renumbered``), ``target`` is not one
            class, a count is below 1, ``seed`` is beyond 64 bits (or negative, for ``ESTIMATORS``),
            ``n_samples`` or a goal is given to a method that has no such thing, or a goal cannot be reached;
            or what ``predict`` refuses.

    Example:
        ```python
        forward = LayerMaskedForward(model)
        explanation = explain(forward, pixels, segments, class_names=names, method="shapley", budget=512)
        plot_explanation(explanation, removal="layer masking")
        ```

    Source: Captum's ``Lime``, ``KernelShap``, ``FeatureAblation``, ``Occlusion`` and
    ``ShapleyValueSampling``, whose classes are called; ``shapley_values``, ``banzhaf_values`` and ``rise`` of
    this package.
    """
    check_method_options(method, n_samples=n_samples, budget=budget, tolerance=tolerance, top_k=top_k)
    require_positive("the number of perturbations per evaluation", perturbations_per_eval)
    require_seed(seed)
    check_image(pixels, segments)
    if method == "kernel-shap" and not segments.any():
        raise InputError("kernel SHAP needs at least 2 segments, and the image is a single one.")
    probabilities = predict(forward, pixels, activation)[0]
    known = unexplained(probabilities, pixels, segments, class_names, target, method)
    if method in ESTIMATORS:
        stream = Stream.started(
            method,
            segments,
            seed,
            baselines=baselines,
            activation=activation,
            batch_size=perturbations_per_eval,
        )
        return replace(known, stream=stream).refine(
            forward,
            budget=budget,
            tolerance=tolerance,
            top_k=top_k,
            show_progress=show_progress,
            on_update=on_update,
        )
    options: dict[str, Any] = {
        "baselines": baselines,
        "target": known.target,
        "perturbations_per_eval": perturbations_per_eval,
    }
    if METHODS[method][1] is not None:
        options["n_samples"] = METHODS[method][1] if n_samples is None else n_samples
    if method == "occlusion":
        options |= occlusion_windows(pixels, segments)
    else:
        options["feature_mask"] = segments

    images = image_count(method, pixels, options)
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
        attributions, stability = attributed(method, probability, pixels, options)
    explanation = replace(known, attributions=attributions[:, :1], stability=stability)
    if on_update is not None:
        on_update(explanation)
    return explanation


def unexplained(
    probabilities: torch.Tensor,
    pixels: torch.Tensor,
    segments: torch.Tensor,
    class_names: Sequence[str],
    target: int | str | None,
    method: str,
) -> Explanation:
    """What is known of an explanation before any attribution is."""
    if len(class_names) != len(probabilities):
        raise InputError(
            f"the network has {len(probabilities)} classes but {len(class_names)} names were "
            "given; give one name per class."
        )
    index = int(probabilities.argmax()) if target is None else class_index(target, class_names)
    best = probabilities.topk(min(5, len(probabilities)))
    return Explanation(
        pixels=pixels,
        segments=segments,
        attributions=torch.zeros_like(pixels[:, :1]),
        target=index,
        label=class_names[index],
        probability=float(probabilities[index]),
        method=method,
        top5=tuple((class_names[int(i)], float(p)) for p, i in zip(best.values, best.indices, strict=True)),
    )
