"""A ``.npy`` file becomes an array of numbers; it is held against its header before memory is taken."""

from __future__ import annotations

import io
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from captum_layermask.errors import InputError

__all__ = ["read_array"]

#: A header of plain numbers takes 128 bytes; a nested one takes the parser's time.
_HEADER = 1000
_MOST = 100_000_000


def read_array(path: Path) -> NDArray[np.float32]:
    """Read an array of real numbers from a ``.npy`` file, of at most 100 million; nothing is unpickled.

    Raises:
        InputError: the file cannot be read, is no ``.npy`` file of real numbers, is cut off, or too large.

    Example:
        ```python
        read_array(Path("saliency/cat.npy")).shape
        ```
    """
    try:
        if path.exists() and not path.is_file():
            raise OSError("it is no regular file")  # a pipe would be waited for
        with path.open("rb") as file:
            start = io.BytesIO(file.read(_HEADER))
            shape, dtype = _header(start)
            count = math.prod(shape)
            if dtype.kind not in "biuf":
                raise ValueError(f"it holds {dtype}, not real numbers")
            if count > _MOST:
                raise ValueError(f"it is too large, {'×'.join(map(str, shape))}")
            if os.fstat(file.fileno()).st_size < start.tell() + count * dtype.itemsize:
                raise ValueError("it is cut off")
            file.seek(0)
            values = np.load(file, allow_pickle=False)
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(values, dtype=np.float32)
    except Exception as error:  # the header is parsed as Python: SyntaxError, RecursionError, …
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"cannot read {str(path)!r} as an array ({reason}); give an H×W .npy file."
        ) from error


def _header(file: io.BytesIO) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = npy.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version} of the format is not for plain numbers")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(file)
    if any(length < 0 for length in shape):
        raise ValueError("a length is negative")
    return shape, dtype
