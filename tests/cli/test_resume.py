"""`occupy classes --resume`: killed whenever that is, and resumed, it leaves the same files."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from occupy.report.set_record import NAME, STARTED

KILLED = """
import os, pathlib, signal, sys
import occupy.inputs
from occupy.cli.main import main

at, after = int(sys.argv[1]), sys.argv[2] == "after"
done = 0
move = pathlib.Path.replace

def replace(self, target):
    global done
    done += 1
    if done == at and not after:
        os.kill(os.getpid(), signal.SIGKILL)
    moved = move(self, target)
    if done == at:
        os.kill(os.getpid(), signal.SIGKILL)
    return moved

# Every file appears under its name by this, results and scratch files alike.
pathlib.Path.replace = replace
occupy.inputs.LIMITS = occupy.inputs._Limits(in_memory=0)
main(sys.argv[3:])
"""


def run(*words: object, at: int = -1, after: bool = False, seconds: float | None = None) -> tuple[int, str]:
    """Run to the end, or until killed at (or after) a write or after some time; return code and errors."""
    command = [sys.executable, "-c", KILLED, str(at), "after" if after else "before", *map(str, words)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return -signal.SIGKILL, ""
    return done.returncode, done.stderr


def written(folder: Path) -> dict[str, object]:
    """Return every file; of the record, all but when and how it was asked for."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            name = str(path.relative_to(folder))
            found[name] = path.read_bytes()
            if name == NAME:
                record = json.loads(path.read_text())
                found[name] = {k: v for k, v in record.items() if k not in ("created", "command")}
    return found


@pytest.fixture(scope="module")
def words(job) -> list[object]:
    return ["classes", job, "--quiet", "--threads", 1, "--compare", 1, 2]


@pytest.fixture(scope="module")
def whole(words, tmp_path_factory) -> dict[str, object]:
    """Return what an uninterrupted run writes."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    assert run(*words, "-o", folder) == (0, "")
    return written(folder)


def test_killed_at_any_moment_and_resumed_the_files_are_the_same(words, whole, tmp_path):
    out = tmp_path / "out"
    # Results of other options are there, and must not be gone on with.
    assert run(*words, "-o", out, "--no-components", "--lowpass", 14)[0] == 0
    # Twelve scratch files come first, then the note of what is wanted.
    assert run(*words, "-o", out, at=13, after=True)[0] == -signal.SIGKILL
    assert (out / STARTED).exists()
    assert not list(out.glob("*class*_occupancy.mrc"))
    rng = np.random.default_rng(11)
    run(*words, "-o", out, "--resume", seconds=float(rng.uniform(0.5, 3)))
    # While the maps of classes, and then those of the set and tables are written.
    for first, last in ((14, 22), (19, 25)):
        at = int(rng.integers(first, last))
        code, _ = run(*words, "-o", out, "--resume", at=at, after=bool(rng.integers(2)))
        assert code == -signal.SIGKILL
        assert not (out / NAME).exists()
    assert run(*words, "-o", out, "--resume") == (0, "")
    mine = written(out)
    assert sorted(mine) == sorted(whole)
    assert [name for name in whole if mine[name] != whole[name]] == []
