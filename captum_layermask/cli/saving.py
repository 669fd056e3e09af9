"""``explain --save FILE``: what was evaluated is kept, and the same command goes on from there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from captum_layermask.errors import InputError
from captum_layermask.names import ESTIMATORS

if TYPE_CHECKING:
    from captum_layermask.cli.scene import Scene
    from captum_layermask.explain.explanation import Explanation

__all__ = ["Save", "check", "saves_to", "started"]

Save = Annotated[
    Path | None,
    typer.Option(
        help="File to keep all evaluations in; if it is there, the run goes on from it "
        f"({', '.join(ESTIMATORS)})."
    ),
]


def check(save: Path | None, method: str) -> None:
    """Check that a run by this method could be saved there.

    Raises:
        InputError: the method has nothing to go on from, something else is there, or it cannot be written.
    """
    if save is None:
        return
    if method not in ESTIMATORS:
        raise InputError(f"{method} cannot go on from a file; leave out --save, or take {ESTIMATORS[0]}.")
    if not save.parent.is_dir():
        raise InputError(f"there is no folder {str(save.parent)!r}; create it or save somewhere else.")
    from captum_layermask.explain.saved import check_save_path
    from captum_layermask.files import check_writable

    check_save_path(save)
    check_writable(save)


def saves_to(save: Path | None) -> Callable[[Explanation], object] | None:
    """What saves an explanation so far."""
    return None if save is None else lambda explanation: explanation.save(save)


def started(save: Path | None, scene: Scene, method: str, seed: int, batch_size: int) -> Explanation | None:
    """The explanation to go on from; None where none is there.

    Raises:
        InputError: it is of something else than what the command line says.
    """
    from captum_layermask.explain.explanation import Explanation
    from captum_layermask.explain.saved import check_save_path

    if save is None or not check_save_path(save):
        return None
    found = Explanation.load(save, device=scene.pixels.device)
    stream = found.stream
    same_image = found.pixels.equal(scene.pixels) and found.segments.equal(scene.segments)
    differing = {
        "image or other segments": not same_image,
        "--method": found.method != method,
        "--seed": stream is None or stream.seed != seed,
        "--batch-size": stream is None or stream.batch_size != batch_size,
        "--target": scene.targets is not None and scene.targets[0] != found.target,
    }
    wrong = [name for name, differs in differing.items() if differs]
    if wrong:
        raise InputError(f"{str(save)!r} was started with another {wrong[0]}; give that, or another file.")
    typer.echo(f"going on after {found.evaluations} evaluations", err=True)
    return found
