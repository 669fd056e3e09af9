"""Digests of a network and of files: what decides the records of a run, in 64 hexadecimal digits.

SHA-256 because processors have instructions for it: 2 GB/s on an x86 core where BLAKE2 does 1.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from captum_layermask.models.loaded import LoadedModel

__all__ = ["digest_of_files", "digest_of_network", "settings_of_model"]

_BLOCK = 1 << 20


def settings_of_model(model: LoadedModel) -> dict[str, Any]:
    """What of a model decides its predictions, JSON.

    ``model`` is its name, ``network`` a digest of its structure and weights, ``preprocess`` one of what it
    makes of a test picture, ``classes`` one of their names, and ``device`` where it runs.

    Example:
        ```python
        settings_of_model(load_model())["network"]
        ```
    """
    network = model.network
    tensors = [*network.parameters(), *network.buffers()]
    return {
        "model": model.name,
        "network": digest_of_network(network),
        "preprocess": _digest_of_preprocess(model),
        "classes": hashlib.sha256(repr(model.class_names).encode()).hexdigest(),
        "device": tensors[0].device.type if tensors else "cpu",
    }


def digest_of_network(network: nn.Module) -> str:
    """A digest of a network: its modules as they print, and its tensors' names, types, shapes and bytes.

    Buffers that are not saved count too. What a module computes in code of its own does not.

    Example:
        ```python
        digest_of_network(model.network)
        ```
    """
    digest = hashlib.sha256(re.sub(r" at 0x[0-9a-fA-F]+", "", str(network)).encode())
    for kind in (network.named_parameters, network.named_buffers):
        for name, tensor in kind(remove_duplicate=False):
            digest.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
            digest.update(_bytes_of(tensor))
    return digest.hexdigest()


def digest_of_files(files: Iterable[tuple[str, Path]]) -> str:
    """A digest of names and of the bytes in the files, several of which are read at once.

    A file that cannot be read counts as such; it is for the run to say so.

    Example:
        ```python
        digest_of_files([("a.png", Path("val/a.png"))])
        ```
    """
    digest = hashlib.sha256()
    with ThreadPoolExecutor() as threads:
        named = list(files)
        for (name, _), content in zip(
            named, threads.map(_digest_of_file, (p for _, p in named)), strict=True
        ):
            digest.update(repr((name, content)).encode())
    return digest.hexdigest()


def _digest_of_file(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except OSError:
        return "unreadable"
    return digest.hexdigest()


def _digest_of_preprocess(model: LoadedModel) -> str:
    """Of its output in 8 bits, so that the last bits of another processor do not count."""
    rows, columns = np.ogrid[:331, :457]
    colors = np.stack([rows * columns, rows * 3 + columns * 5, (rows ^ columns) * 7], -1).astype(np.uint8)
    pixels = model.preprocess(Image.fromarray(colors))
    bright = (pixels.clamp(0, 1) * 255).round().to(torch.uint8)
    return hashlib.sha256(repr(tuple(pixels.shape)).encode() + _bytes_of(bright)).hexdigest()


def _bytes_of(tensor: Tensor) -> memoryview:
    flat = tensor.detach().cpu().contiguous().view(-1)
    return flat.view(torch.uint8).numpy().data
