"""Files by which RELION learns how an External job ended.

RELION's pipeliner waits for one of them for ever, so one is written whatever happens: a file kept in reserve
is renamed, which works on a full disk too; and a second process, which does nothing but wait, writes it where
this one is killed.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Ending = Literal["SUCCESS", "FAILURE", "ABORTED"]
ENDINGS: tuple[Ending, ...] = ("SUCCESS", "FAILURE", "ABORTED")
ABORT_NOW = "RELION_JOB_ABORT_NOW"
OUTPUT_NODES = "RELION_OUTPUT_NODES.star"
_RESERVE = ".occupy_exit_in_reserve"


def exit_file(folder: Path, ending: Ending) -> Path:
    """Return the path of an exit file."""
    return folder / f"RELION_JOB_EXIT_{ending}"


def clear(folder: Path) -> None:
    """Remove what an earlier run of the same job left, which RELION would take for this run's end."""
    stale = [exit_file(folder, ending) for ending in ENDINGS]
    for path in [*stale, folder / ABORT_NOW, folder / OUTPUT_NODES]:
        path.unlink(missing_ok=True)


def abort_wanted(folder: Path) -> bool:
    """Tell whether RELION asks the job to stop."""
    return (folder / ABORT_NOW).exists()


def reserve(folder: Path) -> None:
    """Make the file that `write_ending` renames."""
    (folder / _RESERVE).touch()


def write_ending(folder: Path, ending: Ending) -> None:
    """Write one exit file, and no other."""
    target = exit_file(folder, ending)
    if any(exit_file(folder, other).exists() for other in ENDINGS):
        with suppress(OSError):
            (folder / _RESERVE).unlink(missing_ok=True)
        return
    try:
        (folder / _RESERVE).replace(target)
    except OSError:
        target.touch()
    with suppress(OSError):
        (folder / ABORT_NOW).unlink(missing_ok=True)


def end_group(process: int, number: int) -> None:
    """Send a signal to a process and its children."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process, number)


@dataclass(frozen=True)
class Guard:
    """The process that waits; it ends with this one.

    Attributes
    ----------
    pipe : int
        File descriptor: what this process tells it.
    process : int
        Its number.
    """

    pipe: int
    process: int

    def tell(self, worker: int) -> None:
        """Say which worker would have to be ended; 0 for none."""
        os.write(self.pipe, f"{worker}\n".encode())

    def dismiss(self) -> None:
        """Say that all ended well, and wait for it to go."""
        os.write(self.pipe, b"done\n")
        os.close(self.pipe)
        with suppress(ChildProcessError):
            os.waitpid(self.process, 0)


def start_guard(folder: Path) -> Guard:
    """Start the process that writes FAILURE and ends the worker where this process dies first."""
    reading, writing = os.pipe()
    process = os.fork()
    if process:
        os.close(reading)
        return Guard(writing, process)
    code = 1
    try:
        os.close(writing)
        _keep_watch(reading, folder)
        code = 0
    finally:
        # Not sys.exit: nothing of the process it was copied from may run here.
        os._exit(code)


def _keep_watch(reading: int, folder: Path) -> None:
    # A signal to the job's whole group must not end the one process that can still report it.
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    told = b""
    while piece := os.read(reading, 4096):
        told += piece
    words = told.split()
    if words and words[-1] == b"done":
        return
    if words and int(words[-1]):
        end_group(int(words[-1]), signal.SIGKILL)
    write_ending(folder, "FAILURE")
