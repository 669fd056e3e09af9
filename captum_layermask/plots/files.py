"""A figure is written to a file that tells how it was made, and takes the place of nothing else."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captum_layermask.errors import InputError
from captum_layermask.files import cannot_write, check_writable, write_whole
from captum_layermask.text import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["check_figure_path", "check_replacing", "figure_metadata", "save_figure"]

_MARK = "made by captum-layermask"
_LARGEST_FIGURE = 100_000_000
_EXIF_DESCRIPTION, _EXIF_SOFTWARE = 0x010E, 0x0131


def check_figure_path(path: str | Path) -> None:
    """Check that a figure could be written to ``path``, before the work that it will show.

    Raises:
        InputError: the suffix names no format that figures are written in, ``path`` is a folder or no
            ordinary file, or its folder does not exist or cannot be written to.
    """
    path = Path(path)
    if _format(path) not in _FORMATS:
        raise InputError(
            f"cannot write a figure to {str(path)!r}; end the name in "
            f"{', '.join(f'.{known}' for known in _FORMATS)}."
        )
    try:
        if path.is_dir():
            raise InputError(f"{str(path)!r} is a folder; give the name of a file.")
        if path.exists() and not path.is_file():
            raise InputError(f"{str(path)!r} is no ordinary file; give another name.")
        if not path.parent.is_dir():
            raise InputError(f"there is no folder {str(path.parent)!r}; create it or write somewhere else.")
        check_writable(path)
    except OSError as error:
        raise cannot_write(path, error) from error


def check_replacing(path: str | Path, picture: str | Path | None = None) -> bool:
    """Whether a figure in ``path`` would take the place of an older figure, and of nothing else.

    Args:
        path: as for ``check_figure_path``, which it has passed.
        picture: the file that the figure is about, if there is one.

    Returns:
        True where there is a figure that ``save_figure`` wrote, False where there is nothing to lose.

    Raises:
        InputError: ``path`` is the picture itself, or a file that ``save_figure`` did not write.
    """
    path = Path(path)
    try:
        if not path.exists() or not path.stat().st_size:
            return False
        if picture is not None and Path(picture).exists() and path.samefile(picture):
            raise InputError(f"{str(path)!r} is the picture to explain; give another name for the figure.")
        if path.stat().st_size <= _LARGEST_FIGURE and _MARK.encode() in path.read_bytes():
            return True
    except OSError as error:
        raise cannot_write(path, error) from error
    raise InputError(
        f"{str(path)!r} is there and was not written by this version of captum-layermask; "
        "give another name for the figure, or remove that file."
    )


def save_figure(figure: Figure, path: str | Path, about: Mapping[str, str] | None = None) -> None:
    """Write a figure to ``path``, whole or not at all; its suffix names the format.

    Args:
        figure: what to write, at 120 dots per inch.
        path: a file in a folder that is there; an older file is replaced.
        about: how the figure was made, name → value; it is written into the file's metadata.

    Raises:
        InputError: the file cannot be written.

    Example:
        ```python
        save_figure(figure, "explanation.png", {"Model": "resnet50", "Seed": "0"})
        ```
    """
    check_figure_path(path)
    path = Path(path)
    options = _FORMATS[_format(path)](_printable(about or {}))
    content = io.BytesIO()
    try:
        figure.savefig(content, format=_format(path), dpi=120, **options)
    except OSError as error:  # Pillow's, where an encoder fails
        raise cannot_write(path, error) from error
    write_whole(path, content.getvalue())


def figure_metadata(about: Mapping[str, str]) -> dict[str, str]:
    """The metadata of a PNG file, text by keyword: ``Software``, and the content of ``about``."""
    return {"Software": _software(), **_printable(about)}


def _printable(about: Mapping[str, str]) -> dict[str, str]:
    return {name: printable(value) for name, value in about.items()}


def _software() -> str:
    return f"{_MARK} {metadata.version('captum-layermask')}"


def _in_words(about: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {value}" for name, value in about.items())


def _png(about: Mapping[str, str]) -> dict[str, Any]:
    return {"metadata": figure_metadata(about)}


def _pdf(about: Mapping[str, str]) -> dict[str, Any]:
    return {"metadata": {"Creator": _software(), "Subject": _in_words(about)}}


def _svg(about: Mapping[str, str]) -> dict[str, Any]:
    return {"metadata": {"Creator": _software(), "Description": _in_words(about)}}


def _exif(about: Mapping[str, str]) -> dict[str, Any]:
    from PIL import Image

    exif = Image.Exif()
    exif[_EXIF_SOFTWARE] = _software()
    exif[_EXIF_DESCRIPTION] = _in_words(about)
    return {"pil_kwargs": {"exif": exif}}


#: Suffix → options of ``savefig`` that write metadata. Formats that matplotlib writes but that need other
#: programs (pgf), that nothing opens (raw, rgba) or that have no place for metadata are not among them.
_FORMATS: dict[str, Callable[[Mapping[str, str]], dict[str, Any]]] = {
    "png": _png,
    "pdf": _pdf,
    "svg": _svg,
    "jpg": _exif,
    "jpeg": _exif,
    "tif": _exif,
    "tiff": _exif,
    "webp": _exif,
}


def _format(path: Path) -> str:
    return path.suffix.lower().lstrip(".")
