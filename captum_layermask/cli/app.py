"""The command line: ``captum-layermask explain [IMAGE]``, ``compare [IMAGE]`` and ``evaluate …``.

Nothing heavy is imported before a command's options are known to be good.
"""

from __future__ import annotations

from importlib import metadata
from typing import Annotated

import typer

from captum_layermask.cli.compare import compare
from captum_layermask.cli.evaluate import app as evaluate
from captum_layermask.cli.explain import explain
from captum_layermask.cli.options import Commands

__all__ = ["app"]

app = typer.Typer(cls=Commands, add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)
app.command()(explain)
app.command()(compare)
app.add_typer(evaluate, name="evaluate")


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"captum-layermask {metadata.version('captum-layermask')}")
        raise typer.Exit


@app.callback()
def _group(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Explain what a CNN sees by removing regions of an image without filling them."""
