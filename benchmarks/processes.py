"""Run commands as whole processes and read what the operating system says of them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median


@dataclass(frozen=True)
class Cost:
    """What one process took.

    Attributes
    ----------
    cpu, wall : float
        Seconds.
    peak : float
        Largest resident memory in MiB.
    """

    cpu: float
    wall: float
    peak: float


# A child's peak memory counts what it was before it became the command, so it is started by a process that
# is small, and not by this one, which has held maps.
LAUNCHER = """
import json, os, sys, time
report, command = sys.argv[1], sys.argv[2:]
begun = time.perf_counter()
child = os.posix_spawnp(command[0], command, os.environ)
_, status, usage = os.wait4(child, 0)
wall = time.perf_counter() - begun
with open(report, "w") as stream:
    code = os.waitstatus_to_exitcode(status)
    json.dump([code, usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss], stream)
"""


def measure(command: Sequence[str], folder: Path, environment: dict[str, str] | None = None) -> Cost:
    """Run a command in a folder; CalledProcessError where it fails."""
    log, report = folder / "output.txt", folder / "usage.json"
    with log.open("wb") as stream:
        launch = [sys.executable, "-S", "-c", LAUNCHER, str(report), *command]
        subprocess.run(launch, cwd=folder, stdout=stream, stderr=stream, env=environment, check=True)
    code, cpu, wall, peak = json.loads(report.read_text())
    if code:
        raise subprocess.CalledProcessError(code, command, log.read_bytes())
    # Linux counts in kilobytes, macOS in bytes.
    return Cost(cpu, wall, peak / (1 << 20 if sys.platform == "darwin" else 1 << 10))


def middle(costs: Sequence[Cost]) -> Cost:
    """Return the medians of several runs."""
    return Cost(median(c.cpu for c in costs), median(c.wall for c in costs), max(c.peak for c in costs))
