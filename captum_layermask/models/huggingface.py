"""Image classifiers of transformers: a folder of ``save_pretrained``, or a name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from captum_layermask.errors import InputError
from captum_layermask.models.images import as_rgb
from captum_layermask.models.packages import ModelUnavailableError, downloaded, needed
from captum_layermask.models.parts import Parts
from captum_layermask.models.preprocessing import Normalize
from captum_layermask.removals.mode import Wrapper

__all__ = ["huggingface_model"]

_WHITE = 255


class _Logits(Wrapper):
    """The logits of a classifier that returns them with other things."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.model(pixel_values=pixel_values).logits


class _Processor:
    """What an image processor does, but for its normalisation."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor

    def __call__(self, picture: Image.Image) -> torch.Tensor:
        """RGB or any other picture of Pillow's → float 1×3×H×W in [0, 1]."""
        options = {"do_rescale": True, "rescale_factor": 1 / _WHITE, "do_normalize": False}
        return self.processor(as_rgb(picture), return_tensors="pt", **options)["pixel_values"]


def huggingface_model(name: str, source: str) -> Parts:
    """A classifier of transformers and its image processor.

    Args:
        name: what errors call it.
        source: a folder, which is read offline, or a name, whose files are downloaded on first use.

    Raises:
        InputError: the folder holds no image classifier, or not all of its weights, or an image processor
            that does more than to resize, crop, scale and normalise.
        ModelUnavailableError: transformers is not installed, or the files cannot be downloaded.
    """
    transformers = needed("transformers", "transformers")
    folder = Path(source)
    if folder.exists() and not (folder / "config.json").is_file():
        raise InputError(f"there is no config.json in {source!r}; give a folder from save_pretrained.")
    options = {"local_files_only": folder.exists(), "trust_remote_code": False}
    logging = transformers.utils.logging
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    network = _classifier(transformers, name, source, options)
    try:
        processor = transformers.AutoImageProcessor.from_pretrained(source, **options)
    except (OSError, ValueError):  # none was saved
        preprocess, normalize = None, None
    else:
        preprocess, normalize = _Processor(processor), _normalization(processor)
        _check_processor(name, processor, preprocess, normalize)
    names = network.config.id2label
    return Parts(
        name=name,
        model=_Logits(network).eval(),
        preprocess=preprocess,
        normalize=normalize,
        class_names=tuple(str(names[index]) for index in sorted(names)),
    )


def _classifier(transformers: Any, name: str, source: str, options: dict[str, Any]) -> Any:
    automatic = transformers.AutoModelForImageClassification

    def load() -> Any:
        return automatic.from_pretrained(source, output_loading_info=True, **options)

    try:
        network, loading = load() if options["local_files_only"] else downloaded(name, load)
    except ModelUnavailableError:
        raise
    except Exception as error:  # of another kind, with code of its own, damaged
        reason = " ".join(str(error).split()).partition(". ")[0]
        raise InputError(
            f"cannot load an image classifier of transformers from {name} ({reason:.160}); give one, or your "
            "module as FILE.py:NAME."
        ) from error
    lost = [*loading["missing_keys"], *loading.get("mismatched_keys", ())]
    if lost:
        raise InputError(
            f"the weights of {name} lack {len(lost)} tensors, such as {min(map(str, lost))!r}; give a "
            "classifier that was trained."
        )
    return network


def _normalization(processor: Any) -> Normalize:
    """Of colours in [0, 1], whatever the processor scales pixels to."""
    scale = _WHITE * processor.rescale_factor if processor.do_rescale else _WHITE
    if not processor.do_normalize:
        return Normalize([0.0] * 3, [1 / scale] * 3)
    return Normalize([m / scale for m in processor.image_mean], [s / scale for s in processor.image_std])


def _check_processor(name: str, processor: Any, preprocess: _Processor, normalize: Normalize) -> None:
    """Compare the two parts with the whole, on a colourful picture."""
    rows, columns = np.ogrid[:331, :457]
    colors = np.stack([rows * columns, rows * 3 + columns * 5, (rows ^ columns) * 7], -1).astype(np.uint8)
    picture = Image.fromarray(colors)
    whole = processor(picture, return_tensors="pt")["pixel_values"]
    parts = normalize(preprocess(picture))
    if parts.shape != whole.shape or not torch.allclose(parts, whole.float(), rtol=1e-3, atol=1e-3):
        raise InputError(
            f"the image processor of {name} does more than to resize, crop, scale and normalise; give "
            "--size, --mean and --std, or your own LoadedModel as FILE.py:NAME."
        )
