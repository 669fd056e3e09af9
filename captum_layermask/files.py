"""A file is written whole or not at all."""

from __future__ import annotations

import os
import uuid
from contextlib import suppress
from pathlib import Path

from captum_layermask.errors import InputError

__all__ = ["cannot_write", "check_writable", "write_whole"]


def write_whole(path: Path, content: bytes) -> None:
    """Write a temporary file beside ``path``, which takes its place when it is on the disk.

    A process that is killed at any moment leaves the old file or the new one. Folders are made if need be.

    Raises:
        InputError: the file cannot be written; nothing is left behind.

    Example:
        ```python
        write_whole(Path("report.json"), b"{}")
        ```
    """
    temporary = _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def check_writable(path: Path) -> None:
    """Check that ``write_whole`` could write to ``path``, by a file beside it.

    Raises:
        InputError: it could not.

    Example:
        ```python
        check_writable(Path("figure.png"))
        ```
    """
    temporary = _beside(path)
    try:
        temporary.touch()
        temporary.unlink()
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError) -> InputError:
    """What to tell the user of an error of the system.

    Example:
        ```python
        try:
            path.touch()
        except OSError as error:
            raise cannot_write(path, error) from error
        ```
    """
    reason = error.strerror or type(error).__name__
    return InputError(f"cannot write {str(path)!r} ({reason}); choose another place.")


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
