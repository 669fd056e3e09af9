"""The files of a folder, those behind links too, under names that can be written down."""

from __future__ import annotations

import os
from pathlib import Path

from captum_layermask.errors import InputError

__all__ = ["existing_folder", "files_of", "require_outside"]


def existing_folder(path: str | Path) -> Path:
    """The path of a folder that is there.

    Raises:
        InputError: it is not.

    Example:
        ```python
        folder = existing_folder("val")
        ```
    """
    folder = Path(path)
    if not folder.is_dir():
        raise InputError(f"there is no folder {str(path)!r}; give the path of one.")
    return folder


def files_of(folder: Path, *suffixes: str) -> dict[str, Path]:
    """The files of a folder and its subfolders, without hidden ones: name → path, sorted by name.

    A name is the path relative to the folder, with ``/``. On most systems file names are bytes; one that is
    no UTF-8 gets a name with an escape (``caf\\xe9.png``), since records and tables are UTF-8. Links are
    followed. One that leads nowhere counts as a file if it has one of the suffixes, so that whoever opens it
    raises.

    Args:
        folder: where to look.
        suffixes: in lower case, such as ``.png``; files with others are left out.

    Raises:
        InputError: a folder cannot be listed, a link without a suffix leads nowhere (it may have been a
            folder), or two files get the same name.

    Example:
        ```python
        files_of(Path("val"), ".png", ".jpg")
        ```
    """
    found: dict[str, Path] = {}
    for here, folders, files in os.walk(folder, onerror=_cannot_list, followlinks=True):
        folders[:] = [
            name for name in folders if name[0] != "." and not _leads_back(Path(here, name), folder)
        ]
        for file in files:
            path = Path(here, file)
            dangling = path.is_symlink() and not path.exists()
            if file[0] == "." or not (path.is_file() or dangling):
                continue
            if dangling and not path.suffix:
                raise InputError(f"the link {str(path)!r} leads nowhere; mend or delete it.")
            if path.suffix.lower() not in suffixes:
                continue
            name = os.fsencode(path.relative_to(folder).as_posix()).decode("utf-8", "backslashreplace")
            if name in found:
                raise InputError(f"two files are called {name!r} in {str(folder)!r}; rename one of them.")
            found[name] = path
    return dict(sorted(found.items()))


def require_outside(out: Path, *inputs: Path | None) -> None:
    """Check that a run does not write where it reads: its figures would be images at the next start.

    Raises:
        InputError: ``out`` is one of the folders, or lies in one.

    Example:
        ```python
        require_outside(Path("curves"), Path("val"), None)
        ```
    """
    for folder in inputs:
        if folder is not None and out.resolve().is_relative_to(folder.resolve()):
            raise InputError(
                f"{str(out)!r} lies in {str(folder)!r}, which is read; give a folder outside it."
            )


def _cannot_list(error: OSError) -> None:
    raise InputError(
        f"cannot list the folder {str(error.filename)!r} ({error.strerror}); make it readable or move it."
    ) from error


def _leads_back(path: Path, top: Path) -> bool:
    """Whether a link leads to a folder that lies above it, up to the top."""
    passed = (above for above in path.parents if above.is_relative_to(top))
    return path.is_symlink() and path.resolve() in {above.resolve() for above in passed}
