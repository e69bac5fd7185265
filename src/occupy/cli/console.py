"""What the command line says while it works: progress on a terminal, one line per notice, a summary."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from occupy.errors import Notice, OutputError

Report = Callable[[str, int, int], None]


def say(text: str, quiet: bool = False) -> None:
    """Print a line for the user; OutputError where it can't be written."""
    if quiet:
        return
    try:
        print(text, flush=True)  # noqa: T201
    except BrokenPipeError:
        raise
    except OSError as error:
        give_up(sys.stdout)
        raise OutputError(f"cannot write to the standard output: {error.strerror or error}") from error


def warn(text: str, quiet: bool = False) -> None:
    """Print a warning on the error stream."""
    if not quiet:
        tell(f"occupy: warning: {text}")


def warn_of(notices: Sequence[Notice], quiet: bool) -> None:
    """Print notices as warnings, but what is only worth knowing as a plain line."""
    for notice in notices:
        (warn if notice.doubtful else say)(notice.text, quiet)


def say_files(files: Mapping[str, str], folder: Path, quiet: bool) -> None:
    """Print which file is where."""
    for what, name in files.items():
        say(f"  {what:<13} {folder / name}", quiet)


def fail(text: str) -> None:
    """Print an error on the error stream."""
    tell(f"occupy: error: {' '.join(text.split())}")


def tell(text: str) -> None:
    """Print a line on the error stream. Where it can't be written, the work goes on without."""
    try:
        print(text, file=sys.stderr, flush=True)  # noqa: T201
    except OSError:
        give_up(sys.stderr)


def give_up(stream: TextIO) -> None:
    """Let what a stream that can't be written still holds go nowhere: Python would complain at its end."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


class _Warnings(logging.Handler):
    """Show what the library warns of, except notices: those come with the summary."""

    quiet = False

    def emit(self, record: logging.LogRecord) -> None:
        if record.name != "occupy.pipeline":
            warn(record.getMessage(), self.quiet)


_warnings = _Warnings(logging.WARNING)


def hear_the_library(quiet: bool) -> None:
    """Turn the library's log into warnings for the user."""
    _warnings.quiet = quiet
    logging.getLogger("occupy").addHandler(_warnings)


def _on_terminal(quiet: bool) -> bool:
    """Tell whether progress should be drawn."""
    return not quiet and sys.stderr is not None and sys.stderr.isatty()


def _rate_text(done: int, seconds: float, unit: str) -> str:
    """Return a rate for people: ``12 planes/s``, or ``3.4 MB/s`` for bytes; empty before it is known."""
    if done <= 0 or seconds < 0.2:
        return ""
    rate = done / seconds
    return f"{rate / 1e6:.1f} MB/s" if unit == "B" else f"{rate:.3g} {unit}/s"


@contextmanager
def progress(title: str, quiet: bool, unit: str = "planes") -> Iterator[Report]:
    """Yield ``report(stage, done, total)``, drawn as a bar on a terminal and silent elsewhere.

    The bar shows the stage, the rate in ``unit`` per second, time taken and time left.
    """
    if not _on_terminal(quiet):
        yield lambda *_: None
        return
    from time import monotonic

    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns: list[Any] = [
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[stage]}"),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    ]
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None, stage="", rate="")
        last, begun = "", monotonic()

        def report(stage: str, done: int, total: int) -> None:
            nonlocal last, begun
            # With maps as the unit the stage is the map's name; otherwise a new stage counts anew.
            if stage != last and unit != "maps":
                begun = monotonic()
            last = stage
            rate = _rate_text(done, monotonic() - begun, unit) if total > 4 or unit == "maps" else ""
            bar.update(task, completed=done, total=total or None, stage=stage, rate=rate)

        yield report
