"""`occupy-relion-job`: the executable of a RELION External job.

It starts `occupy` as a process of its own, waits for it and for RELION's wish to abort, lists the results as
output nodes, and tells RELION how it ended, whatever happens.
"""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from occupy._version import __version__
from occupy.errors import OccupyError
from occupy.relion.arguments import USAGE, Request, folders, parse
from occupy.relion.exit_files import (
    Ending,
    Guard,
    abort_wanted,
    clear,
    end_group,
    reserve,
    start_guard,
    write_ending,
)

POLL = 0.5  # seconds
GRACE = 10.0  # seconds between asking a worker to stop and ending it
# -P: RELION starts us in the project's folder, whose files must not be taken for Python modules.
PYTHON = (sys.executable, "-P", "-u", "-m")


class _EndedError(Exception):
    """A signal asks the job to end."""


class _AbortedError(Exception):
    """RELION asks the job to end."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the job and exit with 0 where it succeeded."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("--help", "-h"):
        _say(USAGE)
        sys.exit(0)
    if words[0] == "--version":
        _say(f"occupy-relion-job {__version__}")
        sys.exit(0)
    sys.exit(run_job(words))


def run_job(words: Sequence[str]) -> int:
    """Run a job from RELION's command line; return the exit code."""
    where = folders(words)
    if where is None:
        _complain("no --o FOLDER: this program is started by RELION's External job")
        return 1
    folder, control = where
    try:
        for path in {Path(folder), control}:
            path.mkdir(parents=True, exist_ok=True)
        clear(control)
        clear(Path(folder))
    except OSError as error:
        _complain(f"{folder}: cannot be written: {error.strerror or error}")
        return 1
    with suppress(OSError):  # of a full disk; the exit file is then tried directly
        reserve(control)
    guard = start_guard(control)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGXCPU):
        signal.signal(number, _on_signal)
    ending: Ending = "FAILURE"
    try:
        ending = _run(words, guard)
    except _EndedError as error:
        _complain(f"ended by signal {error}")
    except OccupyError as error:
        _complain(" ".join(str(error).split()))
    except Exception as error:  # whatever it was, RELION has to be told
        _complain(f"{type(error).__name__}: {error}")
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGXCPU):
            signal.signal(number, signal.SIG_IGN)
        write_ending(control, ending)
        guard.dismiss()
    return 0 if ending == "SUCCESS" else 1


def _on_signal(number: int, _: Any) -> None:
    raise _EndedError(signal.Signals(number).name)


def _run(words: Sequence[str], guard: Guard) -> Ending:
    from occupy.relion.nodes import write_nodes

    request = parse(words)
    started = time.time()
    try:
        for command in request.commands:
            code = _supervised((*PYTHON, "occupy", *command), request, guard)
            if code:
                _complain(f"failed with code {code}; what went wrong stands above, or in run.err")
                return "FAILURE"
        # Pictures for the GUI are an extra: without them the results are still good.
        if _supervised((*PYTHON, "occupy.relion.logfile", request.folder), request, guard):
            _complain("warning: logfile.pdf could not be written")
    except _AbortedError:
        _say("aborted, as RELION asked")
        return "ABORTED"
    names = write_nodes(request.folder, started)
    _say(f"output for other jobs: {', '.join(names) or 'none'}")
    return "SUCCESS"


def _supervised(command: Sequence[str], request: Request, guard: Guard) -> int:
    """Run a command and return its exit code; end it where RELION or a signal asks for that."""
    _say(f"occupy-relion-job {__version__}: {shlex.join(command[len(PYTHON) :])}")
    worker = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        guard.tell(worker.pid)
        while (code := worker.poll()) is None:
            if abort_wanted(request.control) or abort_wanted(Path(request.folder)):
                raise _AbortedError
            with suppress(subprocess.TimeoutExpired):
                worker.wait(POLL)
        return code
    finally:
        _end(worker)
        guard.tell(0)


def _end(worker: subprocess.Popen[bytes]) -> None:
    """End a worker that still runs: politely first, so that it removes its unfinished files."""
    if worker.poll() is not None:
        return
    end_group(worker.pid, signal.SIGTERM)
    until = time.monotonic() + GRACE
    while worker.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    end_group(worker.pid, signal.SIGKILL)
    worker.wait()


def _say(text: str) -> None:
    with suppress(OSError):  # a full disk must not hide how the job ended
        print(text, flush=True)  # noqa: T201


def _complain(text: str) -> None:
    with suppress(OSError):
        print(f"occupy-relion-job: {text}", file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
