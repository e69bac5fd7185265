"""Leakage from neighbours is taken off, and only that."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from occupy.numerics.smoothing import scipy_smoothed as smoothed
from occupy.statistics.context import Neighbourhood, without_leakage

SIGMA = (1.5, 1.5, 1.5)


def test_density_of_neighbours_is_taken_off():
    # Two slabs side by side, of which class 0 lacks the second, blurred into each other.
    first, second = np.zeros((2, 48, 12, 12), dtype=np.float32)
    first[8:24], second[24:40] = 1, 1
    blurred, other = smoothed(first, (2.0, 0, 0)), smoothed(second, (2.0, 0, 0))
    total = blurred + 0.5 * other
    around = Neighbourhood.of(smoothed(total**2, SIGMA), (2.0, 2.0, 2.0))
    ratios = smoothed(blurred * total, SIGMA) / np.maximum(around.weight, 1e-6)
    better = without_leakage(ratios, around)
    absent, there = slice(26, 30), slice(12, 22)
    assert 0 <= better[absent, 6, 6].mean() < 0.6 * ratios[absent, 6, 6].mean()
    assert abs(better[there, 6, 6].mean() - 1) <= abs(ratios[there, 6, 6].mean() - 1) + 0.02


@given(st.integers(0, 99), st.floats(0.2, 5.0))
def test_leakage_changes_nothing_where_nothing_differs(seed, scale):
    rng = np.random.default_rng(seed)
    around = Neighbourhood.of(rng.random((9, 10, 11), dtype=np.float32), SIGMA)
    same = np.full((9, 10, 11), scale, dtype=np.float32)
    np.testing.assert_allclose(without_leakage(same, around), same, rtol=1e-4)
    assert around.spread(same).max() < 0.01 * scale


def test_ratios_of_all_classes_still_have_a_mean_of_one():
    rng = np.random.default_rng(3)
    around = Neighbourhood.of(rng.random((9, 10, 11), dtype=np.float32), SIGMA)
    low = rng.uniform(0.7, 1.3, (9, 10, 11)).astype(np.float32)
    mean = 0.25 * without_leakage(low, around) + 0.75 * without_leakage(
        (1 - 0.25 * low) / np.float32(0.75), around
    )
    np.testing.assert_allclose(mean, 1, atol=1e-4)
