"""Where `occupy` starts: choose the command, turn errors into one line."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO, TextIOWrapper
from shutil import get_terminal_size

_STOPPED = "stopped; unfinished files were removed"
_MODELS = (".cif", ".mmcif", ".pdb", ".ent")
_GENERAL = ("--help", "-h", "--version", "--install-completion", "--show-completion")
_OF_OLD = ("-i", "--input-map", "--emdb", "--emdb-id")


def _with_command(arguments: Sequence[str]) -> list[str]:
    """Put the command in front where the user left it out.

    ``occupy map.mrc`` means ``occupy estimate map.mrc``; the flags of OccuPy 0.1.13 (``-i``, ``--emdb``)
    mean a command line written for that program.
    """
    from occupy.cli.app import COMMANDS

    words = list(arguments)
    if not words or words[0] in _GENERAL or words[0] in COMMANDS:
        return words
    if any(word.split("=")[0] in _OF_OLD for word in words):
        return ["legacy", *words]
    return ["estimate", *words]


def _with_lists(words: Sequence[str]) -> list[str]:
    """Repeat ``--model`` and ``--masks`` before each file of a list, as a shell makes it of a pattern.

    ``--masks a.mrc b.mrc`` means ``--masks a.mrc --masks b.mrc`` where what the command works on was named
    before; behind ``--model``, files that look like models belong to it anywhere.
    """
    out: list[str] = []
    flag, named = "", False
    for word in words:
        if word.startswith("-"):
            flag = word
        elif flag and out[-1] != flag:
            model = flag == "--model" and word.lower().removesuffix(".gz").endswith(_MODELS)
            if model or (flag == "--masks" and named):
                out.append(flag)
            else:
                flag = ""
        named = named or (not flag and len(out) > 0)
        out.append(word)
    return out


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    # One BLAS thread: the products are small, and idle BLAS threads burn time spinning.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    for stream in (sys.stdout, sys.stderr):
        # A terminal that knows no Å gets a question mark, not a traceback.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    for name in ("SIGTERM", "SIGHUP"):
        # A job that a scheduler ends cleans up after itself, as after Ctrl-C (nohup still holds).
        if signal.getsignal(number := getattr(signal, name, signal.SIGTERM)) is signal.SIG_DFL:
            signal.signal(number, _ended)
    words = _with_lists(_with_command(sys.argv[1:] if arguments is None else arguments))
    sys.exit(run(words))


def _ended(number: int, _: object) -> None:
    raise SystemExit(128 + number)


def run(words: list[str]) -> int:
    """Run a complete command line; return the exit code."""
    from occupy.errors import OccupyError

    debug = "--debug" in words
    try:
        from occupy.cli.app import app_for
        from occupy.cli.console import hear_the_library

        hear_the_library(quiet="--quiet" in words)
        words = words or ["--help"]
        with _paged(words):
            code = app_for(words[0])(args=words, prog_name="occupy", standalone_mode=False)
        if sys.stdout is not None:  # closed before we began
            sys.stdout.flush()
        # Typer turns Ctrl-C into a code (older ones into Abort).
        return _say(_STOPPED, 130) if code == 130 else code if isinstance(code, int) else 0
    except KeyboardInterrupt:
        return _say(_STOPPED, 130)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    except OccupyError as error:
        if debug:
            raise
        return _say(f"error: {error}", 1)
    except BrokenPipeError:
        # The reader of our output (head, less) has gone.
        _give_up_output()
        return 1
    except Exception as error:
        return _unexpected(error, debug)


@contextmanager
def _paged(words: list[str]) -> Iterator[None]:
    """Show a help that is longer than the terminal page by page, as manuals are."""
    if not {"-h", "--help"} & set(words) or sys.stdout is None or not sys.stdout.isatty():
        yield
        return
    text = StringIO()
    try:
        with redirect_stdout(text):
            yield
    finally:
        if text.getvalue().count("\n") < get_terminal_size().lines:
            sys.stdout.write(text.getvalue())
        else:
            import pydoc

            # What was read stays on the screen, and nobody is asked where all is seen.
            os.environ.setdefault("LESS", "FRX")
            pydoc.pager(text.getvalue())


def _unexpected(error: Exception, debug: bool) -> int:
    import typer

    if isinstance(error, typer.Abort):
        return _say(_STOPPED, 130)
    if isinstance(error, typer.Exit):
        return error.exit_code
    # Usage errors come from click, or from the copy of it inside newer Typers: known by what they can do.
    describe = getattr(error, "format_message", None)
    if describe is not None:
        return _say(f"error: {describe().rstrip('.').replace('Value error, ', '')} (see --help)", 2)
    if debug:
        raise error
    if isinstance(error, OSError):
        # A disk that is full, a file server that went away: nothing of ours.
        _give_up_output()
        what = "" if error.filename is None else f"{error.filename}: "
        return _say(f"error: {what}{error.strerror or error} (reading or writing failed)", 1)
    if isinstance(error, MemoryError):
        return _say("error: not enough memory; try --max-box 256, or fewer modifications in one run", 1)
    return _say(f"error: {type(error).__name__}: {error} (this is our mistake; --debug shows where)", 1)


def _give_up_output() -> None:
    """Drop what the standard output still holds, if it can't be written."""
    from occupy.cli.console import give_up

    try:
        sys.stdout.flush()
    except OSError:
        give_up(sys.stdout)


def _say(message: str, code: int) -> int:
    from occupy.cli.console import tell

    tell(f"occupy: {' '.join(message.split())}")
    return code
