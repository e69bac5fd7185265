"""Occupancies of consensus classes: between runs, and by single particles."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from occupy.cli.main import run
from occupy.regions.table import OccupancyTable
from occupy.report.tables import read_table, write_tables
from occupy.runs.agreement import Entries
from occupy.runs.occupancies import combine, differences, occupancy_by_images
from run_files import write_star


def test_what_runs_differ_by_is_added_to_what_they_state() -> None:
    rng = np.random.default_rng(0)
    spread, stated, runs, regions = 0.1, 0.05, 40, 200
    true = rng.random(regions)
    values = [
        (true + spread * rng.normal(size=regions) + stated * rng.normal(size=regions))[:, None]
        for _ in range(runs)
    ]
    errors = [np.full((regions, 1), stated)] * runs
    found = combine(values, errors, [np.array([9])] * runs, [np.array([0])] * runs, 1)
    assert np.abs(found.values[:, 0] - true).mean() < 0.02
    assert found.within[:, 0] == pytest.approx(stated)
    assert found.between.mean() == pytest.approx(spread, rel=0.05)
    assert found.errors.mean() == pytest.approx(np.hypot(spread, stated), rel=0.05)


def test_runs_that_agree_are_no_surer_than_one() -> None:
    values = [np.array([[0.5, 0.9]])] * 3
    found = combine(values, [np.array([[0.1, 0.2]])] * 3, [np.array([1, 1])] * 3, [np.array([1, 0])] * 3, 2)
    assert found.values.tolist() == [[0.9, 0.5]]
    assert found.errors == pytest.approx(np.array([[0.2, 0.1]]))
    assert found.runs.tolist() == [3, 3]


def test_classes_of_a_run_that_are_one_are_averaged_by_particles() -> None:
    values, errors = [np.array([[0.2, 0.8]]), np.array([[0.5]])], [np.zeros((1, 2)), np.zeros((1, 1))]
    found = combine(
        values, errors, [np.array([30, 10]), np.array([5])], [np.zeros(2, int), np.zeros(1, int)], 1
    )
    assert found.values[0, 0] == pytest.approx((0.35 + 0.5) / 2)


def test_an_unknown_class_or_run_leaves_the_others() -> None:
    values = [np.array([[0.4, np.nan]]), np.array([[0.6, np.nan]])]
    errors = [np.array([[0.1, np.nan]])] * 2
    found = combine(values, errors, [np.array([5, 0])] * 2, [np.array([0, 1])] * 2, 2)
    assert found.values[0, 0] == pytest.approx(0.5)
    assert np.isnan(found.values[0, 1])
    assert found.runs.tolist() == [2, 0]


def simulated_presence(
    occupancy: np.ndarray, labels: np.ndarray, rng: np.random.Generator, distance: float = 2.0
) -> np.ndarray:
    """Probability of presence, given all particles' occupancy, from images of given signal to noise."""
    there = rng.random((len(labels), len(occupancy))) < occupancy[:, labels].T
    image = distance * there + rng.normal(size=there.shape)
    ratio = np.exp(distance * image - distance**2 / 2)
    overall = there.mean(axis=0)
    return overall * ratio / (overall * ratio + 1 - overall)


def test_occupancy_by_images_is_that_of_the_class_and_not_drawn_to_all() -> None:
    rng = np.random.default_rng(1)
    labels = rng.choice(3, 6000, p=[0.6, 0.3, 0.1])
    true = np.array([[0.9, 0.1, 0.5], [0.5, 0.5, 0.5]])
    presence = simulated_presence(true, labels, rng)
    values, errors = occupancy_by_images(presence, labels, 3, Entries.of(np.arange(6000)))
    assert (np.abs(values - true) < 3.5 * errors).all()
    assert errors.max() < 0.06
    plain = presence[labels == 1, 0].mean()
    assert abs(values[0, 1] - 0.1) < abs(plain - 0.1)


def test_errors_by_images_count_particles() -> None:
    rng = np.random.default_rng(2)
    labels = np.zeros(500, dtype=int)
    presence = simulated_presence(np.array([[0.5]]), labels, rng)
    once = occupancy_by_images(presence, labels, 1, Entries.of(np.arange(500)))
    four = occupancy_by_images(
        np.repeat(presence, 4, axis=0), np.repeat(labels, 4), 1, Entries.of(np.repeat(np.arange(500), 4))
    )
    assert four[0] == pytest.approx(once[0])
    assert four[1] == pytest.approx(once[1], abs=0.002)


def test_copies_are_called_so_and_real_differences_are_not() -> None:
    values = np.array([[0.56, 0.53, 0.95], [1.0, 1.0, 0.98]])
    found = differences(values, np.full((2, 3), 0.02))
    assert [(each.first, each.second, each.copies) for each in found] == [
        (0, 1, True),
        (0, 2, False),
        (1, 2, False),
    ]
    assert found[1].part == 0
    assert found[1].difference == pytest.approx(0.39)


def test_copies_are_rarely_told_apart() -> None:
    rng = np.random.default_rng(3)
    apart = sum(
        not differences(rng.normal(0.5, 0.1, (20, 2)), np.full((20, 2), 0.1))[0].copies for _ in range(400)
    )
    assert apart < 40


def test_results_of_occupy_classes_are_brought_to_the_consensus_classes(
    make_runs: Callable[..., Any], tmp_path: Path
) -> None:
    true, runs = make_runs((0.5, 0.3, 0.2), 5.0, 0.1)
    truth, words = np.array([0.9, 0.5, 0.1]), []
    for i, (one, offset) in enumerate(zip(runs, (-0.1, 0.0, 0.1), strict=True)):
        folder, job = tmp_path / f"classes{i}", tmp_path / f"job{i}" / "run_it025_data.star"
        folder.mkdir()
        write_star(job, one)
        # Each run numbers its classes in its own way, and its maps read a little more or less.
        state = [np.bincount(true[one.labels == k]).argmax() for k in range(3)]
        names = tuple(f"run_it025_class00{k}" for k in one.classes)
        values = np.array([truth[state] * (1 + offset), [0.5] * 3])
        regions = ("CP", "component01")
        table = OccupancyTable(regions, names, values, np.full((2, 3), 0.02), [9, 9], [2, 2], [0.3] * 3)
        write_tables(folder, table)
        maps = [{"name": name, "number": k} for name, k in zip(names, one.classes, strict=True)]
        about = {"kind": "relion", "source": "run_it025_model.star", "base": 1, "maps": maps, "notices": []}
        (folder / "occupy_set.json").write_text(json.dumps(about))
        words += [str(job.parent), "--occupancies", str(folder)]
    assert run(["compare-runs", *words, "-o", str(tmp_path / "out"), "--quiet"]) == 0
    found = read_table(tmp_path / "out" / "occupancy.csv")
    assert found.regions == ("CP",)
    assert found.values[0] == pytest.approx(truth, abs=1e-3)
    # Between the runs the values differ by a tenth of themselves, beside the 0.02 that each states.
    assert found.errors[0] == pytest.approx(np.maximum(0.1 * truth, 0.02), abs=2e-3)
