"""The command line: ``captum-layermask explain [IMAGE]``."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import nn

from captum_layermask.errors import UnknownNameError
from captum_layermask.explain import METHODS, predict
from captum_layermask.explain import explain as explain_prediction
from captum_layermask.images import example_image, read_image
from captum_layermask.layer_masking import LayerMaskedForward
from captum_layermask.models import find_class, load_model
from captum_layermask.plots import check_figure_path, plot_explanation, save_figure
from captum_layermask.segments import SEGMENTERS

__all__ = ["app"]

_DEFAULT_OUTPUT = Path("explanation.png")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Explain what a CNN sees by removing regions of an image without painting them."""


@app.command()
def explain(
    image: Annotated[
        Path | None,
        typer.Argument(
            metavar="IMAGE",
            help="Picture to explain.",
            show_default="scikit-image's cat 'chelsea'",
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(help="efficientnet-lite0, -lite1, -lite2, torchvision:NAME or timm:NAME."),
    ] = "efficientnet-lite0",
    method: Annotated[str, typer.Option(help=f"One of {', '.join(METHODS)}.")] = "lime",
    segments: Annotated[str, typer.Option(help=f"One of {', '.join(SEGMENTERS)}.")] = "slic",
    n_segments: Annotated[
        int | None,
        typer.Option(help="About how many segments to make.", show_default="196 for grid, else 64"),
    ] = None,
    n_samples: Annotated[
        int | None,
        typer.Option(
            help="Perturbed images (lime, kernel-shap) or random orders (shapley-sampling).",
            show_default="500, or 10 orders",
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Perturbed images per call of the model.")] = 16,
    target: Annotated[
        str | None,
        typer.Option(help="Class to explain, by name or index.", show_default="the likeliest"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the random samples.")] = 0,
    output: Annotated[Path, typer.Option("--output", "-o", help="Picture file to write.")] = _DEFAULT_OUTPUT,
) -> None:
    """Draw which regions of IMAGE speak for and against a prediction, with layer masking."""
    _require_known("method", method, METHODS)
    _require_known("segmentation", segments, SEGMENTERS)
    check_figure_path(output)
    picture = example_image() if image is None else read_image(image)
    loaded = load_model(model)
    index = None if target is None else find_class(loaded.categories, target)
    pixels = loaded.preprocess(picture)
    count = {} if n_segments is None else {"n_segments": n_segments}
    feature_mask = SEGMENTERS[segments](pixels, **count)
    forward = LayerMaskedForward(nn.Sequential(loaded.normalize, loaded.model))
    with _warnings_in_one_line():
        _print_predictions(predict(forward, pixels)[0], loaded.categories)
        explanation = explain_prediction(
            forward,
            pixels,
            feature_mask,
            categories=loaded.categories,
            method=method,
            target=index,
            n_samples=n_samples,
            perturbations_per_eval=batch_size,
            seed=seed,
            show_progress=True,
        )
    save_figure(plot_explanation(explanation), output)
    typer.echo(f"explained {explanation.label!r}; wrote {output}")


def _require_known(kind: str, name: str, known: dict[str, Any]) -> None:
    if name not in known:
        raise UnknownNameError(kind, name, known, hint=f"Give {', '.join(known)}.")


def _print_predictions(probabilities: torch.Tensor, categories: tuple[str, ...]) -> None:
    best = probabilities.topk(min(5, len(categories)))
    names = [categories[int(i)] for i in best.indices]
    width = max(len("prediction"), *map(len, names))
    typer.echo(f"{'prediction':<{width}}  index  probability")
    for name, index, value in zip(names, best.indices, best.values, strict=True):
        typer.echo(f"{name:<{width}}  {int(index):>5}  {float(value):>11.3f}")


@contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    def show(message: Warning | str, *_: object, **__: object) -> None:
        typer.echo(f"warning: {message}", err=True)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
