"""Where `occupy` starts: choose the command, turn errors into one line."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

COMMANDS = ("estimate", "modify", "mask", "fetch", "demo", "legacy")
_GENERAL = ("--help", "-h", "--version", "--install-completion", "--show-completion")
_OF_OLD = ("-i", "--input-map", "--emdb", "--emdb-id")


def with_command(arguments: Sequence[str]) -> list[str]:
    """Put the command in front where the user left it out.

    ``occupy map.mrc`` means ``occupy estimate map.mrc``; the flags of OccuPy 0.1.13 (``-i``, ``--emdb``)
    mean a command line written for that program.
    """
    words = list(arguments)
    if not words or words[0] in _GENERAL or words[0] in COMMANDS:
        return words
    if any(word.split("=")[0] in _OF_OLD for word in words):
        return ["legacy", *words]
    return ["estimate", *words]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    # One BLAS thread: the products are small, and idle BLAS threads burn time spinning.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    words = with_command(sys.argv[1:] if arguments is None else arguments)
    sys.exit(run(words))


def run(words: list[str]) -> int:
    """Run a complete command line; return the exit code."""
    from occupy.cli.app import app
    from occupy.errors import OccupyError

    debug = "--debug" in words
    try:
        code = app(args=words or ["--help"], prog_name="occupy", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    except KeyboardInterrupt:
        return _say("stopped; unfinished files were removed", 130)
    except OccupyError as error:
        if debug:
            raise
        return _say(f"error: {error}", 1)
    except BrokenPipeError:
        # The reader of our output (head, less) has gone; there is nobody left to tell.
        sys.stderr.close()
        return 1
    except Exception as error:
        return _unexpected(error, debug)


def _unexpected(error: Exception, debug: bool) -> int:
    import typer

    if isinstance(error, typer.Abort):
        return _say("stopped", 130)
    if isinstance(error, typer.Exit):
        return error.exit_code
    # Usage errors come from click, or from the copy of it inside newer Typers: known by what they can do.
    describe = getattr(error, "format_message", None)
    if describe is not None:
        return _say(f"error: {describe().rstrip('.')} (see --help)", 2)
    if debug:
        raise error
    if isinstance(error, MemoryError):
        return _say("error: not enough memory; try --max-box 256, or fewer modifications in one run", 1)
    return _say(f"error: {type(error).__name__}: {error} (this is our mistake; --debug shows where)", 1)


def _say(message: str, code: int) -> int:
    print(f"occupy: {' '.join(message.split())}", file=sys.stderr)  # noqa: T201
    return code
