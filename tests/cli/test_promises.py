"""What is promised of every command alike (docs/reference/promises.md): a full disk, a kill, two at once."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from occupy.io import atomic
from occupy.report.contents import changed_file
from occupy.report.record import read_record
from occupy.simulation import demo_structure

POSIX = pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
RECORDS = {
    "estimate": "m_occupy.json",
    "modify": "m_modified.json",
    "regions": "m_regions.json",
    "classes": "occupy_set.json",
    "select": "chosen_selection.json",
    "simulate": "part_simulation.json",
}
STAR = """
data_particles

loop_
_rlnImageName #1
_rlnClassNumber #2
"""


@pytest.fixture
def words(request, cli, blob, half_mask, job, work) -> list[Any]:
    """Return a command line that writes into ``out``."""
    name = request.param
    (work / "m.mrc").write_bytes(blob.read_bytes())
    if name in ("modify", "regions"):
        assert cli("m.mrc", "-o", "done", "--quiet").code == 0
    if name == "select":
        assert cli("classes", job, "-o", "set", "--threads", 1, "--quiet").code == 0
        (work / "data.star").write_text(STAR + "".join(f"{i}@a.mrcs {1 + i % 3}\n" for i in range(9)))
        (work / "out").mkdir()
    if name == "simulate":
        part = demo_structure()
        for chain in [chain.name for chain in part[0] if chain.name != "G"]:
            part[0].remove_chain(chain)
        part.make_mmcif_document().write_file(str(work / "part.cif"))
    select = ["--particles", "data.star", "--where", "component01 >= 0"]
    return {
        "estimate": ["m.mrc", "-o", "out"],
        "modify": ["modify", "done", "--amplify", 3, "-o", "out"],
        "regions": ["regions", "done", "--masks", half_mask, "-o", "out"],
        "classes": ["classes", job, "-o", "out", "--no-components", "--threads", 1],
        "select": ["select", "set", *select, "-o", "out/chosen.star"],
        "simulate": ["simulate", "part.cif", "-o", "out", "--voxel-size", 6, "--resolution", 14, "--box", 32],
    }[name] + ["--quiet"]


EVERY = pytest.mark.parametrize(("words", "record"), RECORDS.items(), indirect=["words"], ids=RECORDS.keys())


@EVERY
def test_a_full_disk_is_one_line_and_leaves_no_record(cli, the_error, words, record, work, monkeypatch):
    """The disk is full when the last file is begun; an earlier run had left its results."""
    assert cli(*words).code == 0
    assert (work / "out" / record).exists()
    created = atomic._created

    def full(part):
        if record in part.name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return created(part)

    monkeypatch.setattr(atomic, "_created", full)
    assert f"no space left while writing out/{record}" in the_error(cli(*words))
    assert not (work / "out" / record).exists()
    assert not list((work / "out").rglob("*.part"))
    monkeypatch.setattr(atomic, "_created", created)
    assert cli(*words).code == 0
    assert (work / "out" / record).exists()


KILLED = """
import os, signal, sys
from pathlib import Path

move, last = Path.replace, sys.argv[1]

def replace(self, target):
    if Path(target).name == last:
        os.kill(os.getpid(), signal.SIGKILL)
    return move(self, target)

Path.replace = replace
from occupy.cli.main import run, _with_command
sys.exit(run(_with_command(sys.argv[2:])))
"""


@POSIX
@EVERY
def test_killed_before_its_record_a_run_leaves_none(cli, words, record, work):
    """An earlier run's is gone too, and the next one leaves nothing of the killed one's."""
    assert cli(*words).code == 0
    before = {p.name for p in (work / "out").rglob("*") if p.is_file()}
    command = [sys.executable, "-c", KILLED, record, *map(str, words)]
    assert subprocess.run(command, check=False, timeout=60).returncode == -signal.SIGKILL
    assert not (work / "out" / record).exists()
    atomic._swept.clear()  # as in a process that begins
    assert cli(*words).code == 0
    assert {p.name for p in (work / "out").rglob("*") if p.is_file()} == before


def test_two_estimates_in_one_folder_are_told_apart(cli, blob, work, monkeypatch):
    """The second ends between the maps and the record of the first: whose record it is shows."""
    from occupy.cli.main import run
    from occupy.report import results

    (work / "m.mrc").write_bytes(blob.read_bytes())
    log_text, once = results.log_text, []

    def meanwhile(record):
        if not once:
            once.append(True)
            assert run(["estimate", "m.mrc", "-o", "o", "--lowpass", "15", "--quiet"]) == 0
        return log_text(record)

    monkeypatch.setattr(results, "log_text", meanwhile)
    assert cli("m.mrc", "-o", "o", "--quiet").code == 0
    record = read_record(work / "o" / "m_occupy.json")
    assert record["settings_asked"]["lowpass"] is None
    assert changed_file(work / "o", record["files"]) == "m_scale.mrc is not as it was written"
    assert "estimated again" in cli("m.mrc", "-o", "o", "--resume").out
    assert changed_file(work / "o", read_record(work / "o" / "m_occupy.json")["files"]) is None


def test_two_sets_in_one_folder_the_second_is_refused(cli, the_error, job, work, monkeypatch):
    pytest.importorskip("fcntl")
    from occupy import classes

    pose_notices, said = classes.pose_notices, []

    def meanwhile(*given):
        monkeypatch.setattr(classes, "pose_notices", pose_notices)
        said.append(cli("classes", job, "-o", "o", "--threads", 1, "--quiet"))
        return pose_notices(*given)

    monkeypatch.setattr(classes, "pose_notices", meanwhile)
    assert cli("classes", job, "-o", "o", "--threads", 1, "--quiet").code == 0
    assert "another run is working in o" in the_error(said[0])
    record = json.loads((work / "o" / "occupy_set.json").read_text())
    assert changed_file(work / "o", record["files"]) is None


def test_every_promise_names_a_test_that_exists():
    """The matrix in the documentation, line by line."""
    home = Path(__file__).resolve().parents[2]
    page = home / "docs" / "reference" / "promises.md"
    named = [word for word in page.read_text(encoding="utf-8").split("`") if "::" in word]
    assert len(named) > 30
    for word in named:
        file, _, test = word.partition("::")
        assert f"\ndef {test}(" in (home / "tests" / file).read_text(encoding="utf-8"), word
