"""Start the command line."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from captum_layermask.errors import LayerMaskError, StoppedError


def main(args: Sequence[str] | None = None) -> None:
    """Run ``captum-layermask`` with ``args`` (None: those of the process).

    An error of this package is printed as one sentence and ends with exit code 2. Ctrl-C says what is kept
    and ends with exit code 130.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        from captum_layermask.cli.app import app

        app(args=args, prog_name="captum-layermask")
    except ModuleNotFoundError as error:
        if error.name != "typer":
            raise
        _end("error: the command line needs typer; run: pip install 'captum-layermask[demo]'", 2)
    except KeyboardInterrupt:
        _end("\nstopped before anything was done.", 130)
    except StoppedError as stop:
        _end(f"\nstopped: {stop}", 130)
    except LayerMaskError as error:
        _end(f"error: {error}", 2)


def _end(message: str, code: int) -> None:
    print(message, file=sys.stderr)
    raise SystemExit(code)


if __name__ == "__main__":
    main()
