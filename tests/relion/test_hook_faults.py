"""What may go wrong around `occupy-relion-reconstruct`: RELION goes on, and what is said of a map is true."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hook_calls import N, call, maps, result, two_iterations
from occupy.io.loop import CALLS, FOLDER, read_calls, unregularised_name
from occupy.relion import hook
from occupy.relion.classes import earlier_classes, store_class
from occupy.relion.separation import LOOP

PROGRAM = [sys.executable, "-c", "from occupy.relion.hook import main; main()"]


def said(capfd) -> str:
    return capfd.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize("log", ["full", "closed", "pipe that nobody reads"])
def test_h01_a_log_that_cannot_be_written_stops_nothing(job, log):
    star = two_iterations(job)[0]
    before = result(star)
    words = [*PROGRAM, str(star)]
    if log == "full":
        with Path("/dev/full").open("w") as stream:
            code = subprocess.run(words, stdout=stream, check=False, timeout=60).returncode
    elif log == "closed":
        code = subprocess.run(["sh", "-c", '"$@" >&-', "sh", *words], check=False, timeout=60).returncode
    else:
        read, write = os.pipe()
        os.close(read)
        code = subprocess.run(words, stdout=write, check=False, timeout=60).returncode
        os.close(write)
    assert code == 0
    assert not np.array_equal(result(star), before)
    assert read_calls(job / FOLDER)[-1]["state"] == "separated"


def changed(job: Path, name: str, value: float) -> None:
    """Multiply an array in the state of class 2 by a number, all else untouched."""
    path = job / FOLDER / "half0_class002_it001.npz"
    arrays = dict(np.load(path))
    np.savez(path, **(arrays | {name: arrays[name] * np.float32(value)}))


@pytest.mark.parametrize(("name", "value"), [("factor", 0), ("weight", 1e6), ("spectrum", -3)])
def test_m09_a_state_that_was_changed_is_not_used(job, name, value):
    stars = two_iterations(job)
    changed(job, name, value)
    assert [one.number for one in earlier_classes(job / FOLDER, 0, 2, N)] == [1]
    before = result(stars[0])
    assert hook._run_hook([str(stars[0])]) == 0
    assert np.corrcoef(result(stars[0]).ravel(), before.ravel())[0, 1] > 0.5


def test_m09_a_state_under_another_name_is_not_used(job):
    two_iterations(job)
    path = job / FOLDER / "half0_class002_it001.npz"
    path.rename(path.with_name("half0_class003_it001.npz"))
    assert [one.number for one in earlier_classes(job / FOLDER, 0, 2, N)] == [1]


@pytest.mark.parametrize("wrong", ["scale", "sign"])
def test_m09_a_map_unlike_relions_is_refused(job, capfd, wrong):
    """The states are well-formed here, but not those of this job; nothing of its own is left to the class."""
    (job / "occupy_relion.yaml").write_text("budget: 0\n")
    stars = two_iterations(job)
    for one in earlier_classes(job / FOLDER, 0, 2, N):
        spectrum = one.map.spectrum * np.float32({"scale": 10, "sign": -1}[wrong])
        store_class(job / FOLDER, 0, replace(one, map=replace(one.map, spectrum=spectrum)))
    before = result(stars[0])
    assert hook._run_hook([str(stars[0])]) == 0
    assert "RELION's map is used" in said(capfd)
    assert np.array_equal(result(stars[0]), before)
    assert read_calls(job / FOLDER)[-1]["state"] == "refused"


def test_m10_the_log_tells_which_map_is_used(job, capfd):
    stars = two_iterations(job)
    (job / FOLDER / CALLS).unlink()
    (job / FOLDER / CALLS).mkdir()
    before = stars[0].with_suffix(".mrc").read_bytes()
    assert hook._run_hook([str(stars[0])]) == 0
    out = capfd.readouterr().out
    assert "RELION's own map is used" in out
    assert str(job / FOLDER / CALLS) in out
    assert stars[0].with_suffix(".mrc").read_bytes() == before
    assert not list(job.glob(".*.part"))


def test_m10_a_full_disk(job, monkeypatch, capfd):
    """The line of the record fits half only: RELION's map stays, and the next line is whole again."""
    stars = two_iterations(job)
    before = result(stars[0])
    real = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[: len(data) // 2]))
        assert hook._run_hook([str(stars[0])]) == 0
    out = capfd.readouterr().out
    assert "no space left" in out
    assert "RELION's own map is used" in out
    assert np.array_equal(result(stars[0]), before)
    assert hook._run_hook([str(stars[1])]) == 0
    assert [(c["iteration"], c["class"]) for c in read_calls(job / FOLDER)] == [(1, 1), (1, 2), (2, 2)]


def test_eight_calls_at_once_for_one_class(job):
    stars = two_iterations(job)
    alone = call(job, 2, 1, maps(1)[0])
    hook._run_hook([str(alone)])
    expected = result(alone)
    call(job, 2, 1, maps(1)[0])
    running = [subprocess.Popen([*PROGRAM, str(stars[0])], stdout=subprocess.DEVNULL) for _ in range(8)]
    assert [one.wait(timeout=120) for one in running] == [0] * 8
    # Whoever was last may have taken another's map for RELION's; it is a whole map all the same.
    assert np.corrcoef(result(stars[0]).ravel(), expected.ravel())[0, 1] > 0.9
    lines = (job / FOLDER / CALLS).read_text().splitlines()
    # Whole lines, one for each call; one more where a call took its statement back.
    assert 2 + 1 + 8 <= len([json.loads(line) for line in lines]) <= 2 + 1 + 16
    assert [one.number for one in earlier_classes(job / FOLDER, 0, 3, N)] == [1]
    assert not [path for path in (*job.iterdir(), *(job / FOLDER).iterdir()) if path.name.endswith(".part")]


def test_records_are_strict_json(job):
    (job / "occupy_relion.yaml").write_text("budget: 0\n")
    for star in two_iterations(job):
        hook._run_hook([str(star)])

    def refuse(word: str) -> None:
        raise AssertionError(word)

    for line in (job / FOLDER / CALLS).read_text().splitlines():
        json.loads(line, parse_constant=refuse)
    last = read_calls(job / FOLDER)[-1]
    assert last["state"] == "separated"
    assert last["strength"] is None  # infinite: nothing may be kept


def test_the_infinity_of_old_records_is_read(tmp_path):
    (tmp_path / CALLS).write_text('{"iteration": 1, "half": 0, "class": 1, "strength": Infinity}\n')
    assert read_calls(tmp_path)[0]["strength"] is None


def test_every_call_leaves_an_unregularised_map(job):
    """Which call is the last cannot be known; those that no later call can need go."""
    for iteration in range(1, 4 + LOOP.kept_iterations):
        stars = [call(job, iteration, number, data) for number, data in enumerate(maps(iteration), 1)]
        assert [hook._run_hook([str(star)]) for star in stars] == [0, 0]
        assert all(unregularised_name(star).is_file() for star in stars) == (iteration > 1)
    left = {int(path.name[6:9]) for path in job.glob("*_unregularised.mrc")}
    assert left == set(range(4, 4 + LOOP.kept_iterations))


def test_an_iteration_done_again_leaves_no_map_of_the_first_time(job, monkeypatch):
    star = two_iterations(job)[0]
    hook._run_hook([str(star)])
    assert unregularised_name(star).is_file()
    monkeypatch.setenv("OCCUPY_RELION_OFF", "1")
    hook._run_hook([str(call(job, 2, 1, maps(5)[0]))])
    assert not unregularised_name(star).exists()
