"""Runs over particles of known states: images shared by all runs, maps noisy in each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pytest

from occupy.runs.agreement import Partition

Labels = npt.NDArray[np.int64]
MakeRuns = Callable[..., tuple[Labels, list[Partition]]]


def make_runs(
    shares: Sequence[float],
    distance: float,
    map_noise: float,
    *,
    classes: int | None = None,
    runs: int = 3,
    particles: int = 3000,
    sharpened: float = 1.0,
    free: int = 8,
    seed: int = 0,
) -> tuple[Labels, list[Partition]]:
    """Return the true states and what runs say of them.

    An image is its state's mean (all `distance` apart) and noise of unit variance; a run knows the means up
    to `map_noise` and states its classes' posterior probabilities, their logarithms times `sharpened`. More
    classes than states: some states have two. In `free` directions no states differ, but maps do.
    """
    rng = np.random.default_rng(seed)
    states, size = len(shares), len(shares) + free
    means = np.zeros((states, size))
    means[range(states), range(states)] = distance / np.sqrt(2)
    true = rng.choice(states, particles, p=shares)
    images = means[true] + rng.normal(size=(particles, size))
    found = []
    for i in range(runs):
        count = classes or states
        of = np.concatenate([rng.permutation(states), rng.integers(0, states, max(0, count - states))])
        maps = means[of[:count]] + map_noise * rng.normal(size=(count, size))
        odds = sharpened * (images @ maps.T - (maps**2).sum(axis=1) / 2)
        chance = np.exp(odds - odds.max(axis=1, keepdims=True))
        chance /= chance.sum(axis=1, keepdims=True)
        found.append(Partition.of(f"run {i + 1}", chance.argmax(axis=1) + 1, chance.max(axis=1)))
    return true, found


@pytest.fixture(name="make_runs", scope="session")
def _make_runs() -> MakeRuns:
    return make_runs
