"""Work that takes a while: in threads, with progress, a log, and a way to stop it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from occupy.errors import InputError, OccupyError

_logger = logging.getLogger(__name__)

Report = Callable[[str, int, int], None]
Work = Callable[["Job"], dict[str, Any]]
# Jobs that may wait for their turn.
MOST_WAITING = 50


class CancelledError(Exception):
    """The user stopped a job."""


@dataclass
class Job:
    """One piece of work; written by its thread, read by the page."""

    id: int
    title: str
    state: str = "waiting"
    stage: str = ""
    done: int = 0
    total: int = 0
    error: str = ""
    began: float = 0.0
    seconds: float = 0.0
    # What can be looked at while it works.
    scene: int | None = None
    log: list[str] = field(default_factory=list)
    result: dict[str, Any] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)

    def report(self, stage: str, done: int, total: int | None) -> None:
        """Take note of progress; raise CancelledError where the user has stopped the job."""
        if self._stop.is_set():
            raise CancelledError
        if stage != self.stage:
            self.say(f"{stage} …")
        self.stage, self.done, self.total = stage, int(done), int(total or 0)

    def say(self, text: str) -> None:
        """Add a line to the log."""
        self.log.append(text)

    def stop(self) -> None:
        """Ask the job to end at its next step."""
        self._stop.set()

    def as_dict(self) -> dict[str, Any]:
        """Return what the page shows."""
        if self.state == "running":
            self.seconds = round(time.monotonic() - self.began, 3)
        return {name: value for name, value in vars(self).items() if name not in ("began", "_stop")}


class Jobs:
    """All jobs of a server; two run at a time."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="occupy-job")
        self._jobs: dict[int, Job] = {}
        self._numbers = count(1)

    def start(self, title: str, work: Work) -> Job:
        """Begin a job; ``work(job)`` returns what the page is told when it is done.

        InputError where too many are waiting already.
        """
        if len(self.running()) >= MOST_WAITING:
            raise InputError(f"{MOST_WAITING} jobs are waiting; stop some, or wait until they are done")
        job = Job(next(self._numbers), title)
        self._jobs[job.id] = job
        for old in [j.id for j in self._jobs.values() if j.state in ("done", "failed", "stopped")][:-50]:
            del self._jobs[old]
        self._pool.submit(_run, job, work)
        return job

    def get(self, number: int) -> Job:
        """Return a job; InputError where there is none."""
        try:
            return self._jobs[number]
        except KeyError:
            raise InputError(f"there is no job {number}") from None

    def running(self) -> list[Job]:
        """Return the jobs that have not ended."""
        return [job for job in list(self._jobs.values()) if job.state in ("waiting", "running")]

    def close(self) -> None:
        """Stop everything."""
        for job in list(self._jobs.values()):
            job.stop()
        self._pool.shutdown(wait=True, cancel_futures=True)


def _run(job: Job, work: Work) -> None:
    job.began = time.monotonic()
    job.state = "running"
    state = "failed"
    try:
        job.report("starting", 0, 0)
        job.result = work(job)
        state = "done"
    except CancelledError:
        job.say("stopped")
        state = "stopped"
    except OccupyError as error:
        job.error = str(error)
    except MemoryError:
        job.error = "not enough memory; try a smaller max box, or fewer modifications in one run"
    except Exception as error:
        _logger.exception("in job %s", job.title)
        job.error = f"{type(error).__name__}: {error} (this is our mistake)"
    if job.error:
        job.say(f"error: {job.error}")
    job.seconds = round(time.monotonic() - job.began, 3)
    # Last: who sees the state may rely on the rest.
    job.state = state
