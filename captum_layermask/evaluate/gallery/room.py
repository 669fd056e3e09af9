"""The folder that a gallery is written to holds galleries and nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from captum_layermask.errors import InputError
from captum_layermask.evaluate.peers import place_among_processes
from captum_layermask.evaluate.records import locked
from captum_layermask.files import cannot_write

__all__ = ["make_room"]

#: What a run writes. The settings tell that it is one, so they go last.
_WRITTEN = ("records", "pictures", "numbers", "index.html", "index.json", "left_out.parquet", "settings.json")
_GALLERIES = ("explanations", "comparisons")


def make_room(out: Path, *, overwrite: bool) -> None:
    """Check that a folder is new, empty, or holds a run of a gallery, and empty it on request.

    Args:
        out: the folder.
        overwrite: delete what a run has written there.

    Raises:
        InputError: the folder holds something else, another run writes to it, or it cannot be emptied.

    Example:
        ```python
        make_room(Path("explanations"), overwrite=False)
        ```
    """
    if place_among_processes()[0] or not out.exists():
        return
    others = sorted(path.name for path in out.iterdir() if not path.name.startswith("."))
    if others and not _is_gallery(out):
        raise InputError(
            f"{str(out)!r} holds other things, such as {others[0]!r}; give a new folder, or an empty one."
        )
    if others and overwrite:
        with locked(out):
            for name in _WRITTEN:
                _delete(out / name)


def _is_gallery(out: Path) -> bool:
    try:
        return json.loads((out / "settings.json").read_text(encoding="utf-8"))["experiment"] in _GALLERIES
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return False


def _delete(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error
