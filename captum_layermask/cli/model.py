"""Which network a command runs, and where: options that all commands share."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from captum_layermask.errors import InputError, require_known
from captum_layermask.names import DEVICES, DTYPES, INTERPOLATIONS

if TYPE_CHECKING:
    from captum_layermask.models.loaded import LoadedModel

__all__ = ["ModelOptions", "takes_model"]


def _check_there(param: typer.CallbackParam, path: Path | None) -> Path | None:
    if path is not None and not path.is_file():
        raise InputError(f"{param.opts[0]}: there is no file {str(path)!r}; give the path of one.")
    return path


def _check_colors(param: typer.CallbackParam, text: str | None) -> str | None:
    if text is not None:
        _numbers(param.opts[0], text)
    return text


def _check_interpolation(name: str | None) -> str | None:
    if name is not None:
        require_known("interpolation", [name], INTERPOLATIONS)
    return name


def _check_device(name: str) -> str:
    if not re.fullmatch(DEVICES, name):
        raise InputError(f"unknown device {name!r}; give auto, cpu, cuda, cuda:N or mps.")
    return name


def _check_dtype(name: str) -> str:
    require_known("type", [name], DTYPES)
    return name


_option = functools.partial(typer.Option, rich_help_panel="Network")
_TOLD = "as the model tells"


@dataclass(frozen=True)
class ModelOptions:
    """What ``load_model`` takes, and where the network runs."""

    model: Annotated[
        str,
        _option(
            help="efficientnet-lite0, -lite1, -lite2, torchvision:NAME, timm:NAME, hf:FOLDER, or your own "
            "FILE.py:NAME or package.module:NAME."
        ),
    ] = "efficientnet-lite0"
    weights: Annotated[
        Path | None,
        _option(
            help="State dict to load: .safetensors, .pt or .pth.",
            show_default=_TOLD,
            callback=_check_there,
        ),
    ] = None
    class_names: Annotated[
        Path | None,
        _option(
            help="File of class names: one in each line, or JSON.",
            show_default=_TOLD,
            callback=_check_there,
        ),
    ] = None
    size: Annotated[
        int | None,
        _option(help="Side of the square that the network takes.", show_default=_TOLD),
    ] = None
    crop: Annotated[
        float | None,
        _option(
            help="Which part of the picture's shorter side that is, such as 0.875.",
            show_default=f"{_TOLD}, or 1",
        ),
    ] = None
    mean: Annotated[
        str | None,
        _option(
            help="Mean of each channel in [0, 1], such as 0.485,0.456,0.406.",
            show_default=_TOLD,
            callback=_check_colors,
        ),
    ] = None
    std: Annotated[
        str | None,
        _option(
            help="Standard deviation of each channel, such as 0.229,0.224,0.225.",
            show_default=_TOLD,
            callback=_check_colors,
        ),
    ] = None
    interpolation: Annotated[
        str | None,
        _option(
            help=f"How pictures are resized: {', '.join(INTERPOLATIONS)}.",
            show_default=f"{_TOLD}, or bilinear",
            callback=_check_interpolation,
        ),
    ] = None
    preprocess: Annotated[
        str | None,
        _option(
            metavar="FILE.py:NAME",
            help="Transform of your own: RGB picture to 3×H×W in [0, 1].",
            show_default=_TOLD,
        ),
    ] = None
    device: Annotated[
        str, _option(help="auto (the best there is), cpu, cuda, cuda:N or mps.", callback=_check_device)
    ] = "auto"
    dtype: Annotated[
        str,
        _option(help=f"What the network computes in: {', '.join(DTYPES)}.", callback=_check_dtype),
    ] = "float32"

    def load(self) -> LoadedModel:
        """Load the network, put it where it runs, and print what was decided to stderr."""
        import torch

        from captum_layermask.models import load
        from captum_layermask.models.devices import find_device

        device = find_device(self.device)
        given: dict[str, Any] = {
            "weights": self.weights,
            "class_names": self.class_names,
            "size": self.size,
            "crop": self.crop,
            "mean": None if self.mean is None else _numbers("--mean", self.mean),
            "std": None if self.std is None else _numbers("--std", self.std),
            "interpolation": self.interpolation,
            "preprocess": self.preprocess,
        }
        loaded = load.load_model(
            self.model, **{name: value for name, value in given.items() if value is not None}
        ).to(device, getattr(torch, self.dtype))
        typer.echo(loaded.summary(), err=True)
        return loaded


def takes_model(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of ``ModelOptions`` in the place of its parameter of this type."""
    signature = inspect.signature(command, eval_str=True)
    types = get_type_hints(ModelOptions, include_extras=True)
    ours = {
        field.name: inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=types[field.name]
        )
        for field in fields(ModelOptions)
    }
    (own,) = (
        name for name, parameter in signature.parameters.items() if parameter.annotation is ModelOptions
    )
    parameters: list[inspect.Parameter] = []
    for name, parameter in signature.parameters.items():
        parameters += (
            ours.values() if name == own else [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)]
        )

    @functools.wraps(command)
    def with_options(**given: Any) -> None:
        chosen = ModelOptions(**{name: given.pop(name) for name in ours})
        command(**given, **{own: chosen})

    with_options.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return with_options


def _numbers(option: str, text: str) -> list[float]:
    try:
        return [float(number) for number in text.split(",")]
    except ValueError:
        raise InputError(f"{option} is {text!r}; give numbers such as 0.485,0.456,0.406.") from None
