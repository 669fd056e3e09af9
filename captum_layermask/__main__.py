"""Start the command line."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from captum_layermask.errors import LayerMaskError


def main(args: Sequence[str] | None = None) -> None:
    """Run ``captum-layermask`` with ``args`` (None: those of the process).

    An error of this package is printed as one sentence and ends with exit code 2.
    """
    try:
        from captum_layermask.cli import app
    except ModuleNotFoundError as error:
        if error.name != "typer":
            raise
        _fail("the command line needs typer; run: pip install 'captum-layermask[demo]'")
    try:
        app(args=args, prog_name="captum-layermask")
    except LayerMaskError as error:
        _fail(str(error))


def _fail(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)


if __name__ == "__main__":
    main()
