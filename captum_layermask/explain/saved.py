"""An explanation in one file: arrays that NumPy reads, and no pickle."""

from __future__ import annotations

import io
import json
import zipfile
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from captum_layermask.errors import InputError
from captum_layermask.explain.estimators.estimate import Estimate
from captum_layermask.explain.prediction import check_image
from captum_layermask.explain.streams import Stream
from captum_layermask.files import write_whole

if TYPE_CHECKING:
    from captum_layermask.explain.explanation import Explanation

__all__ = ["arrays_of", "check_save_path", "read", "write"]

_FORMAT = "captum-layermask explanation 1"
_TENSORS = ("pixels", "segments", "attributions")
_PLAIN = ("target", "label", "probability", "method", "top5", "stability")
_ESTIMATED = ("freedom", "evaluations", "forecast", "vanished", "ended")
_SETTINGS = ("baselines", "activation", "batch_size")
_PACKAGES = ("captum-layermask", "numpy", "torch")


def check_save_path(path: Path) -> bool:
    """Whether a saved explanation is there, which another would replace; False where nothing is lost.

    Raises:
        InputError: there is something else.
    """
    try:
        if path.is_dir():
            raise InputError(f"{str(path)!r} is a folder; give the name of a file.")
        if not path.exists() or not path.stat().st_size:
            return False
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if "about.npy" in archive.namelist():
                    return True
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"cannot read {str(path)!r} ({error}); give another name.") from error
    raise InputError(f"{str(path)!r} is there and is no saved explanation; give another name.")


def write(path: Path, explanation: Explanation) -> None:
    """Write an explanation (arguments and errors: ``Explanation.save``)."""
    check_save_path(path)
    written = io.BytesIO()
    np.savez(written, **arrays_of(explanation))  # type: ignore[arg-type]
    write_whole(path, written.getvalue())


def arrays_of(explanation: Explanation) -> dict[str, np.ndarray]:
    """All of an explanation as arrays; what is no array stands as JSON in ``about``."""
    arrays = {name: getattr(explanation, name).cpu() for name in _TENSORS}
    about: dict[str, Any] = {"format": _FORMAT, "dtype": str(explanation.pixels.dtype).split(".")[1]}
    about |= {name: getattr(explanation, name) for name in _PLAIN}
    about["versions"] = {package: metadata.version(package) for package in _PACKAGES}
    content = {
        # NumPy knows no bfloat16; float32 holds it
        name: (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
        for name, tensor in arrays.items()
    }
    if explanation.estimate is not None:
        about["estimate"] = {name: getattr(explanation.estimate, name) for name in _ESTIMATED}
        content["values"] = explanation.estimate.values
        content["standard_errors"] = explanation.estimate.standard_errors
    if explanation.stream is not None:
        about["settings"] = {name: getattr(explanation.stream, name) for name in _SETTINGS}
        content |= {f"stream.{name}": array for name, array in explanation.stream.state.items()}
    return {"about": np.array(json.dumps(about)), **content}


def read(path: Path, device: str | torch.device) -> dict[str, Any]:
    """The fields of the explanation that a file holds (arguments and errors: ``Explanation.load``)."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        about = json.loads(arrays["about"].item())
        if about["format"] != _FORMAT:
            raise InputError(
                f"{str(path)!r} is a {about['format']}; read it with the version that wrote it, "
                f"{about['versions']['captum-layermask']}."
            )
        return _fields(arrays, about, device)
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"there is no file {str(path)!r}; give a saved explanation.") from None
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{str(path)!r} is no saved explanation, or damaged ({type(error).__name__}: {error}); give one "
            "that Explanation.save wrote."
        ) from error


def _fields(arrays: dict[str, np.ndarray], about: dict[str, Any], device: Any) -> dict[str, Any]:
    dtype = getattr(torch, about["dtype"])
    found: dict[str, Any] = {name: torch.from_numpy(arrays[name]).to(device) for name in _TENSORS}
    found |= {name: found[name].to(dtype) for name in ("pixels", "attributions")}
    check_image(found["pixels"], found["segments"])
    found |= {name: about[name] for name in _PLAIN}
    found["top5"] = tuple((name, probability) for name, probability in about["top5"])
    if "estimate" in about:
        found["estimate"] = Estimate(arrays["values"], arrays["standard_errors"], **about["estimate"])
    if "settings" in about:
        state = {
            name.removeprefix("stream."): array
            for name, array in arrays.items()
            if name.startswith("stream.")
        }
        found["stream"] = Stream(state, **about["settings"])
    return found
