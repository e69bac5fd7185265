"""Consensus of runs: as many classes as there are, better than one run, probabilities that hold."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import pytest

from occupy.runs.agreement import Entries, Partition, adjusted_rand, contingency
from occupy.runs.compare import Consensus, Rules, compare

Make = Callable[..., Any]
THREE = (0.5, 0.3, 0.2)


def right(labels: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Whether each particle is in the class that has most of its state."""
    table = contingency(true, labels, true.max() + 1, labels.max() + 1)
    return table.argmax(axis=1)[true] == labels


def calibration_error(probability: np.ndarray, correct: np.ndarray) -> float:
    bins = np.minimum((10 * probability).astype(int), 9)
    gaps = [
        abs(correct[bins == i].mean() - probability[bins == i].mean()) * (bins == i).mean() for i in set(bins)
    ]
    return float(sum(gaps))


@pytest.mark.parametrize("sharpened", [1.0, 3.0])
@pytest.mark.parametrize(("distance", "noise"), [(2.5, 0.5), (4.0, 0.5), (4.0, 0.1)])
def test_probabilities_hold(make_runs: Make, distance: float, noise: float, sharpened: float) -> None:
    true, runs = make_runs(THREE, distance, noise, sharpened=sharpened)
    # What these runs have in common, their images, they state as it is.
    found = Consensus.of(runs, Rules(overstated=1))
    correct = right(found.labels, true)
    assert found.count == 3
    assert calibration_error(found.probability, correct) < 0.05
    assert correct[found.probability > 0.9].mean() > 0.9
    indices = [adjusted_rand(run.labels.tolist(), true.tolist()) for run in runs]
    assert adjusted_rand(found.labels.tolist(), true.tolist()) > median(indices) - 0.005


@pytest.mark.parametrize("distance", [2.5, 4.0])
def test_what_runs_overstate_alike_is_taken_off(make_runs: Make, distance: float) -> None:
    true, runs = make_runs(THREE, distance, 0.1, sharpened=Rules().overstated)
    found = Consensus.of(runs)
    assert calibration_error(found.probability, right(found.labels, true)) < 0.05


def test_noise_of_maps_is_averaged_out(make_runs: Make) -> None:
    gains = []
    for seed in range(4):
        true, runs = make_runs(THREE, 2.5, 0.5, seed=seed)
        alone = median(adjusted_rand(run.labels.tolist(), true.tolist()) for run in runs)
        gains.append(adjusted_rand(Consensus.of(runs).labels.tolist(), true.tolist()) - alone)
    assert np.mean(gains) > 0.03


def test_runs_that_state_more_than_they_agree_on_are_tempered(make_runs: Make) -> None:
    modest, boastful = (Consensus.of(make_runs(THREE, 4.0, 0.5, sharpened=s)[1]).too_sure for s in (1.0, 2.5))
    assert all(b > 1.5 * m for b, m in zip(boastful, modest, strict=True))


@pytest.mark.parametrize("noise", [0.1, 0.5, 1.0])
def test_no_states_no_classes(make_runs: Make, noise: float) -> None:
    found = Consensus.of(make_runs([1.0], 0.0, noise, classes=3, free=100)[1])
    assert found.count == 1
    assert found.candidates == 3
    assert (found.probability == 1).all()


def test_classes_beyond_the_states_are_put_together(make_runs: Make) -> None:
    true, runs = make_runs(THREE, 3.5, 0.12, classes=5, free=100)
    found = Consensus.of(runs)
    assert (found.count, found.candidates) == (3, 5)
    assert right(found.labels, true).mean() > 0.8
    for run, belongs in zip(runs, found.belongs, strict=True):
        assert len(belongs) == len(run.classes) == 5
        assert set(belongs.tolist()) == {0, 1, 2}


def test_fewer_classes_than_states_are_what_can_be_had(make_runs: Make) -> None:
    assert Consensus.of(make_runs(THREE, 4.0, 0.2, classes=2)[1]).count <= 2


def test_a_run_that_failed_does_not_spoil_the_others(make_runs: Make) -> None:
    _, runs = make_runs(THREE, 4.0, 0.2)
    rng = np.random.default_rng(0)
    failed = Partition.of("failed", rng.integers(0, 3, 3000), rng.uniform(0.9, 1, 3000))
    found, without = Consensus.of([*runs[:2], failed]), Consensus.of(runs[:2])
    assert found.count == 3
    assert found.probability == pytest.approx(without.probability, abs=0.05)
    assert adjusted_rand(found.labels.tolist(), without.labels.tolist()) > 0.98
    assert found.too_sure[2] > 5 * max(found.too_sure[:2])
    summaries = compare([*runs[:2], failed], Entries.of(np.arange(3000)), draws=19).class_summaries()
    assert [each.found_in for each in summaries] == [2, 2, 2]


def test_a_run_that_merges_two_classes_says_nothing_of_which_of_them(make_runs: Make) -> None:
    true, runs = make_runs(THREE, 3.5, 0.3)
    of = contingency(true, runs[2].labels, 3, 3).argmax(axis=1)
    numbers = np.where(runs[2].labels == of[2], of[1], runs[2].labels)
    merged = Partition.of("merged", numbers, np.full(len(true), 0.99))
    rules = Rules(overstated=1)
    found, without = Consensus.of([*runs[:2], merged], rules), Consensus.of(runs[:2], rules)
    assert found.count == without.count == 3
    together = found.labels > 0  # in one of the two classes that the third run has in one
    assert found.probability[together].mean() > without.probability[together].mean() - 0.01
    assert calibration_error(found.probability, right(found.labels, true)) < 0.05


def test_order_of_runs_and_numbers_of_classes_do_not_matter(make_runs: Make) -> None:
    _, runs = make_runs(THREE, 3.0, 0.3)
    other = [Partition.of(run.name, 9 - run.labels, run.certainty) for run in runs[::-1]]
    one, two = Consensus.of(runs), Consensus.of(other)
    assert adjusted_rand(one.labels.tolist(), two.labels.tolist()) > 0.99
    assert one.probability == pytest.approx(two.probability, abs=0.05)


def test_a_comparison_says_what_there_is(make_runs: Make) -> None:
    _, runs = make_runs(THREE, 4.0, 0.2)
    found = compare(runs, Entries.of(np.arange(3000)), draws=99)
    summaries = found.class_summaries()
    assert [each.number for each in summaries] == [1, 2, 3]
    assert sum(each.entries for each in summaries) == 3000
    for each, share in zip(summaries, THREE, strict=True):
        assert each.share == pytest.approx(share, abs=0.03)
        assert each.agreement > 0.7
        assert all(len(members) == 1 for members in each.members)
    assert found.settled.mean() > 0.95
    assert found.merges() == []


def test_merged_classes_are_named(make_runs: Make) -> None:
    true, runs = make_runs((0.4, 0.3, 0.3), 6.0, 0.1)
    both = Partition.of("merged", np.where(true == 2, 7, 4))
    found = compare([*runs, both], Entries.of(np.arange(3000)), draws=19)
    assert {(each.run, each.into, each.one) for each in found.merges()} == {(i, 3, 4) for i in range(3)}


def test_homogeneous_runs_raise_what_is_asked(make_runs: Make) -> None:
    _, runs = make_runs(THREE, 4.0, 0.2)
    of = Entries.of(np.arange(3000))
    # Runs of one state that agree by something else than states, such as views, to three quarters.
    views = np.random.default_rng(1).integers(0, 3, 3000)
    noise = [np.where(np.arange(3000) % 8 == i, (views + 1) % 3, views) for i in range(2)]
    alike = [Partition.of(str(i), each) for i, each in enumerate(noise)]
    found = compare(runs, of, homogeneous=(alike, of), draws=19)
    assert found.rules.least_distinct > 0.6
    assert found.without is not None
    assert compare(runs, of, draws=19).rules == Rules()
