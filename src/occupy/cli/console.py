"""What the command line says while it works: progress on a terminal, one line per notice, a summary."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Report = Callable[[str, int, int], None]


def say(text: str, quiet: bool = False) -> None:
    """Print a line for the user."""
    if not quiet:
        print(text, flush=True)  # noqa: T201


def warn(text: str, quiet: bool = False) -> None:
    """Print a warning on the error stream."""
    if not quiet:
        print(f"occupy: warning: {text}", file=sys.stderr, flush=True)  # noqa: T201


def fail(text: str) -> None:
    """Print an error on the error stream."""
    print(f"occupy: error: {' '.join(text.split())}", file=sys.stderr, flush=True)  # noqa: T201


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


def on_terminal(quiet: bool) -> bool:
    """Tell whether progress should be drawn."""
    return not quiet and sys.stderr.isatty()


@contextmanager
def progress(title: str, quiet: bool) -> Iterator[Report]:
    """Yield ``report(stage, done, total)``, drawn as a bar on a terminal and silent elsewhere."""
    if not on_terminal(quiet):
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns: list[Any] = [
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[stage]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    ]
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None, stage="")

        def report(stage: str, done: int, total: int) -> None:
            bar.update(task, completed=done, total=total or None, stage=stage)

        yield report
