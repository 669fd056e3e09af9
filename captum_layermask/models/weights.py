"""A file of weights becomes a state dict, and a state dict fits a network or not."""

from __future__ import annotations

import difflib
import pickle
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from captum_layermask.errors import InputError
from captum_layermask.models.packages import needed

__all__ = ["SUFFIXES", "count_classes", "load_weights", "read_weights"]

SUFFIXES = (".safetensors", ".pt", ".pth")
"""Of the files that are read."""

_WRAPPINGS = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.")
_LISTED = 4


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict; no code in the file is run.

    A checkpoint that holds it as ``state_dict``, ``model`` or ``model_state_dict`` is opened, and ``module.``
    (of ``DataParallel``) and ``_orig_mod.`` (of ``torch.compile``) are taken from its names.

    Args:
        path: a ``.safetensors`` file, or a ``.pt`` or ``.pth`` file of ``torch.save``.

    Returns:
        Tensors by name, on the CPU.

    Raises:
        InputError: the file cannot be read, holds anything else, or needs code to be run.
        ModelUnavailableError: safetensors is not installed.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"cannot read weights from {str(path)!r}; give a file {', '.join(SUFFIXES)}.")
    if path.is_dir():
        raise InputError(f"{str(path)!r} is a folder; give a file of weights.")
    if not path.exists():
        raise InputError(f"there is no file {str(path)!r}; give a file of weights.")
    try:
        path.open("rb").close()
    except OSError as error:
        raise InputError(f"cannot read {str(path)!r} ({error.strerror}); give a file of weights.") from error
    content = _safetensors(path) if path.suffix.lower() == ".safetensors" else _torch_file(path)
    return _unwrapped(path, content)


def count_classes(state: Mapping[str, Tensor], network: nn.Module, classes: int) -> int:
    """The number of classes of the network that a state dict is of.

    Args:
        state: tensors by name.
        network: of the same architecture, with any number of classes; it may lie on ``meta``.
        classes: that number.

    Returns:
        How many outputs the head in ``state`` has: the network's parameters with a row for each class have as
        many rows there. ``classes`` where no such parameter, or several of different heights, are found.
    """
    counts = {
        len(state[name])
        for name, tensor in network.state_dict().items()
        if name in state
        and tensor.dim()
        and len(tensor) == classes
        and state[name].shape[1:] == tensor.shape[1:]
    }
    return counts.pop() if len(counts) == 1 else classes


def load_weights(network: nn.Module, state: Mapping[str, Tensor], file: str | Path, name: str) -> None:
    """Load a state dict into a network, all of it.

    Args:
        network: where to; it is left as it was where the state dict does not fit.
        state: tensors by name.
        file: where they are from, for the error.
        name: what the error calls the network.

    Raises:
        InputError: names are missing (but for counters of batches) or unexpected, or shapes differ. They are
            listed, those first that resemble each other.
    """
    own = network.state_dict()
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in own]
    shapes = [key for key in own if key in state and own[key].shape != state[key].shape]
    faults = [
        _listed("missing", _near_first(missing, unexpected)),
        _listed("unexpected", [key.partition(" (")[0] for key in _near_first(unexpected, missing)]),
        _listed("of another shape", [f"{k!r} ({_by(state[k])}, not {_by(own[k])})" for k in shapes]),
    ]
    if any(faults):
        raise InputError(
            f"the weights in {str(file)!r} are not those of {name}: {'; '.join(filter(None, faults))}. "
            "Give the weights of this network, or the network itself as --model FILE.py:NAME."
        )
    network.load_state_dict(state, strict=False)


def _torch_file(path: Path) -> Any:
    try:
        with warnings.catch_warnings(action="ignore"):  # of a scripted model, which is an error below
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported" not in str(error):  # global, class, operand: else its bytes are no pickle
            raise _damaged(path) from error
        raise InputError(
            f"{str(path)!r} holds a whole pickled model or other objects, and reading it could run any code; "
            "save the weights alone, torch.save(model.state_dict(), FILE)."
        ) from error
    except Exception as error:  # a damaged archive raises what it likes
        if "TorchScript" in str(error):
            raise InputError(
                f"{str(path)!r} holds a scripted model, whose operations cannot carry masks; save the "
                "weights of its Python model, torch.save(model.state_dict(), FILE)."
            ) from error
        raise _damaged(path) from error


def _safetensors(path: Path) -> Any:
    library = needed("safetensors.torch", "safetensors")
    try:
        return library.load_file(path)
    except Exception as error:
        raise _damaged(path) from error


def _damaged(path: Path) -> InputError:
    return InputError(f"{str(path)!r} holds no weights, or not all of them; give a complete file.")


def _unwrapped(path: Path, content: Any) -> dict[str, Tensor]:
    for key in _WRAPPINGS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content or not _are_tensors(content):
        raise InputError(
            f"{str(path)!r} holds no tensors by name; save some, torch.save(model.state_dict(), FILE)."
        )
    state = dict(content)
    while prefix := next((p for p in _PREFIXES if all(name.startswith(p) for name in state)), None):
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def _are_tensors(content: Mapping[Any, Any]) -> bool:
    return all(isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items())


def _near_first(names: Collection[str], others: Collection[str]) -> list[str]:
    """Names, those first that resemble one of others, which is told too."""
    near = {name: difflib.get_close_matches(name, others, n=1, cutoff=0.85) for name in list(names)[:200]}
    alike = [f"{name!r} (near {match[0]!r})" for name, match in near.items() if match]
    return [*alike, *(repr(name) for name in names if not near.get(name))]


def _listed(what: str, names: Collection[str]) -> str:
    shown = list(names)[:_LISTED]
    more = len(names) - len(shown)
    return f"{what} {', '.join(shown)}" + (f" and {more} more" if more else "") if shown else ""


def _by(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "a number"
