"""`occupy watch`: a classification followed as it goes."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from occupy.cli.console import say, warn
from occupy.errors import InputError
from occupy.io.mapset import MapSet
from occupy.io.mrc import write_map
from occupy.io.relion_job import finished_iterations, has_ended
from occupy.io.sets import find_set
from occupy.regions.table import OccupancyTable
from occupy.relion.watch import Watch, set_reader
from occupy.report.history import Step, _difference, read_history, write_history
from occupy.requests import RegionRequest
from occupy.volume import Volume

CLASSES = 2


def iteration(
    job: Path, number: int, planned: int = 5, complete: bool = True, shares: Any = (0.6, 0.4)
) -> None:
    """Write what RELION writes, in its order."""
    job.mkdir(parents=True, exist_ok=True)
    stem = f"run_it{number:03d}"
    head = f"data_optimiser_general\n\n_rlnModelStarFile {job}/{stem}_model.star\n"
    (job / f"{stem}_optimiser.star").write_text(f"{head}_rlnNumberOfIterations {planned}\n")
    for k in range(1, CLASSES + 1):
        volume = Volume.from_array(np.full((4, 4, 4), number + k, "f4"), 3.0, "m")
        write_map(job / f"{stem}_class{k:03d}.mrc", volume)
    rows = [f"{job}/{stem}_class{k:03d}.mrc {shares[k - 1]}" for k in range(1, CLASSES + 1)]
    (job / f"{stem}_model.star").write_text(
        "data_model_general\n\n_rlnPixelSize 3.0\n_rlnNrClasses 2\n_rlnOriginalImageSize 4\n\n"
        "data_model_classes\n\nloop_\n_rlnReferenceImage\n_rlnClassDistribution\n" + "\n".join(rows) + "\n"
    )
    if complete:
        labels = "\n".join(["1"] * 7 + ["2"] * 3)
        (job / f"{stem}_data.star").write_text(f"data_particles\n\nloop_\n_rlnClassNumber\n{labels}\n")
        (job / f"{stem}_sampling.star").write_text("data_sampling_general\n\n_rlnHealpixOrder 2\n")


def reader(found: MapSet) -> OccupancyTable:
    """Stand in for the estimator: classes drift apart with the iteration."""
    assert found.iteration is not None
    apart = 0.08 * found.iteration
    values = np.array([[0.5 + apart, 0.5 - apart], [1.0, 1.0]])
    names = tuple(entry.name for entry in found.maps)
    return OccupancyTable(
        ("L17", "core"), names, values, np.full((2, 2), 0.05), np.ones(2), np.ones(2), np.full(2, np.nan)
    )


@pytest.fixture
def job(work: Path, no_picture: None) -> Path:
    return work / "Class3D" / "job007"


@pytest.fixture
def no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw an empty picture: the real one takes longer than all the rest."""
    from matplotlib.figure import Figure

    monkeypatch.setattr("occupy.report.history._history_figure", lambda steps: Figure((1, 1)))


def watch(job: Path, **more: Any) -> Watch:
    return Watch(job, Path("out"), {"model": "m.cif"}, say=say, warn=warn, **more)


def numbers(steps: list[Step]) -> list[int]:
    return [step.iteration for step in steps]


def test_an_iteration_counts_once_it_is_complete(job: Path) -> None:
    iteration(job, 0)
    iteration(job, 1)
    iteration(job, 2, complete=False)
    assert [each.number for each in finished_iterations(job)] == [1]
    iteration(job, 2)
    assert [each.number for each in finished_iterations(job)] == [1, 2]
    assert not has_ended(job, finished_iterations(job)[-1])
    iteration(job, 5)
    assert has_ended(job, finished_iterations(job)[-1])


@pytest.mark.parametrize("ending", ["SUCCESS", "FAILURE", "ABORTED"])
def test_relion_says_that_a_job_ended(job: Path, ending: str) -> None:
    iteration(job, 1)
    (job / f"RELION_JOB_EXIT_{ending}").touch()
    assert has_ended(job, None)


def test_a_job_is_followed_to_its_end(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    iteration(job, 1)
    seen: list[list[int]] = []

    def sleep(seconds: float) -> None:
        seen.append(numbers(read_history(Path("out"))))
        assert Path("out/history.png").exists()
        number = len(seen) + 1
        iteration(job, number, complete=number % 2 == 0 or number > 3)

    steps = watch(job).follow(reader, sleep)
    # 3 is complete only when 4 is there.
    assert seen == [[1], [1, 2], [1, 2], [1, 2, 3, 4]]
    assert numbers(steps) == [1, 2, 3, 4, 5]
    assert steps[-1].particles == (7, 3)
    assert steps[-1].table.maps == ("class 1", "class 2")
    assert steps[-1].table.weights.tolist() == [0.6, 0.4]
    said = capsys.readouterr().out
    assert (
        "iteration 5: classes 60.0, 40.0 %; 1 of 2 regions differ; most L17: 0.10 (class 2) to 0.90 (class 1)"
    ) in said


def test_a_second_run_reads_only_what_is_new(job: Path) -> None:
    calls: list[int | None] = []

    def read(found: MapSet) -> OccupancyTable:
        calls.append(found.iteration)
        return reader(found)

    iteration(job, 1)
    iteration(job, 2)
    watch(job, once=True).follow(read)
    iteration(job, 3)
    assert numbers(watch(job, once=True).follow(read)) == [1, 2, 3]
    assert calls == [1, 2, 3]
    other = Watch(job, Path("out"), {"model": "other.cif"}, once=True)
    assert numbers(other.follow(read)) == [1, 2, 3]
    assert calls == [1, 2, 3, 1, 2, 3]


def test_a_job_started_anew_leaves_nothing_of_the_old_one(job: Path) -> None:
    for number in (1, 2, 3):
        iteration(job, number)
    watch(job, once=True).follow(reader)
    for path in job.glob("run_it00[123]*"):
        path.unlink()
    iteration(job, 1, shares=(0.9, 0.1))
    steps = watch(job, once=True).follow(reader)
    assert numbers(steps) == [1]
    assert steps[0].table.weights.tolist() == [0.9, 0.1]


def test_every_few_iterations_and_the_last(job: Path) -> None:
    for number in range(1, 6):
        iteration(job, number)
    assert numbers(watch(job, every=3).follow(reader)) == [3, 5]


def test_an_iteration_that_cannot_be_read_is_left_out(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def read(found: MapSet) -> OccupancyTable:
        if found.iteration == 2:
            raise InputError("a class is empty")
        return reader(found)

    for number in (1, 2, 3):
        iteration(job, number)
    assert numbers(watch(job, once=True).follow(read)) == [1, 3]
    assert "iteration 2 is left out: a class is empty" in capsys.readouterr().err


def test_nothing_to_follow(job: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        watch(job).follow(reader)
    iteration(job, 0)
    with pytest.raises(InputError, match="no iteration"):
        watch(job, once=True).follow(reader)


def test_a_damaged_history_is_made_anew(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    iteration(job, 1)
    watch(job, once=True).follow(reader)
    for name, text in (("history.csv", "x"), ("history_classes.csv", ""), ("watch.json", "[]")):
        good = Path("out", name).read_text()
        Path("out", name).write_text(text)
        assert numbers(watch(job, once=True).follow(reader)) == [1]
        assert "made anew" in capsys.readouterr().err
        assert Path("out", name).read_text() == good
    assert json.loads(Path("out/watch.json").read_text())["options"] == {"model": "m.cif"}


def steps_of(values: list[Any], errors: float, maps: int) -> list[Step]:
    names = tuple(f"class {k + 1}" for k in range(maps))
    out = []
    for number, data in enumerate(values, start=1):
        array = np.array(data, dtype=float)
        regions = tuple(f"r{i}" for i in range(len(array)))
        spread, ones = np.full(array.shape, errors), np.ones(len(array))
        weights = np.full(maps, 1 / maps)
        table = OccupancyTable(regions, names, array, spread, ones, ones, weights)
        out.append(Step(number, table, (None,) * maps))
    return out


def test_histories_are_read_back(tmp_path: Path) -> None:
    steps = steps_of([[[0.1, np.nan], [0.5, 0.6]], [[0.2, 0.3], [0.5, 0.6]]], 0.05, 2)
    write_history(tmp_path, steps)
    assert (tmp_path / "history.png").stat().st_size > 5000
    found = read_history(tmp_path)
    for ours, theirs in zip(steps, found, strict=True):
        assert ours.iteration == theirs.iteration
        assert ours.particles == theirs.particles
        assert ours.table.regions == theirs.table.regions
        np.testing.assert_allclose(ours.table.values, theirs.table.values)
        np.testing.assert_allclose(ours.table.errors, theirs.table.errors)
        np.testing.assert_allclose(ours.table.weights, theirs.table.weights)


def test_differences_of_noise_are_rarely_significant() -> None:
    rng = np.random.default_rng(0)
    found = [
        _difference(steps_of([0.5 + 0.05 * rng.standard_normal((40, 4))], 0.05, 4)[0].table).significant
        for _ in range(100)
    ]
    # At the 5 % level for the whole table, about 5 of 100 tables have one.
    assert 0 < sum(bool(n) for n in found) <= 12


def test_without_errors_nothing_is_called_significant() -> None:
    step = steps_of([[[0.1, 0.9]]], np.nan, 2)[0]
    assert _difference(step.table).significant is None
    assert "regions differ" not in step.line()


def test_with_a_model_its_parts_are_fitted(work: Path, shared_data: Callable[[str], Path]) -> None:
    home = shared_data("relion_50s")
    found = find_set([home / "Class3D" / "job004"], count_particles=True)
    asked = RegionRequest(models=(home / "model.cif",))
    table = set_reader(asked, None, work / "fitted")(found)
    read = set_reader(replace(asked, by_reading=True), None, work / "read")(found)
    with (home / "truth" / "job004_class_occupancy.csv").open() as stream:
        truth = {
            row["unit"]: [float(row[f"class00{k}"]) for k in range(1, 5)] for row in csv.DictReader(stream)
        }
    known = np.array([truth[name] for name in table.regions])
    assert table.kind == "occupancy"
    # Median over parts: small ones are not all told apart in the maps of 15 Å.
    assert np.median(np.abs(table.values - known)) < 0.01
    assert np.abs(table.values - known).mean() < 0.5 * np.abs(read.values - known).mean()
