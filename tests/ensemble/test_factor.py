"""Local products and what is solved from them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from occupy.ensemble.factor import (
    OWN_PRODUCT,
    Neighbourhood,
    products,
    relative_amplitudes,
    smoothed,
    unmixed,
)

SIGMA = (1.5, 1.5, 1.5)


def test_smoothing_keeps_the_sum_away_from_the_edge():
    data = np.zeros((21, 21, 21), dtype=np.float32)
    data[10, 10, 10] = 8
    assert abs(smoothed(data, SIGMA).sum() - 8) < 1e-4


@given(st.lists(st.floats(0.0, 1.0), min_size=3, max_size=7), st.integers(0, 99))
def test_amplitudes_are_solved_from_exact_products(o, seed):
    o = np.array(o)
    o[0] = 1.0
    a = np.random.default_rng(seed).uniform(0.5, 1.5, len(o))
    a /= a.sum()
    n = o * ((a * o).sum() - (1 - OWN_PRODUCT) * a * o)
    ratio, mean = relative_amplitudes(np.tile(n[:, None, None, None], (1, 2, 2, 2)).astype(np.float32), a)
    np.testing.assert_allclose(ratio[:, 0, 0, 0] * mean[0, 0, 0], o, atol=0.02)


def test_noise_of_a_class_does_not_enter():
    rng = np.random.default_rng(1)
    pattern = smoothed(rng.standard_normal((40, 40, 40)), (1, 1, 1)) * 30
    o = np.array([1.0, 1.0, 0.5, 0.0])
    a = np.full(4, 0.25)
    sigma = np.array([0.5, 2.0, 1.0, 1.5])
    noise = sigma[:, None, None, None] * rng.standard_normal((4, 40, 40, 40))
    maps = (o[:, None, None, None] * pattern + noise).astype(np.float32)
    out = np.empty_like(maps)
    products(maps, maps.mean(axis=0), a, sigma**2, (4.0, 4.0, 4.0), out)
    ratio, _ = relative_amplitudes(out, a)
    found = np.median(ratio[:, 8:-8, 8:-8, 8:-8], axis=(1, 2, 3)) * o.mean()
    np.testing.assert_allclose(found, o, atol=0.12)
    assert found[3] < 0.1


def test_a_part_of_one_class_alone_is_told_by_its_own_product():
    rng = np.random.default_rng(2)
    pattern = smoothed(rng.standard_normal((24, 24, 24)), (1, 1, 1)) * 30
    maps = np.stack([pattern, 0 * pattern, 0 * pattern]).astype(np.float32)
    out = np.empty_like(maps)
    products(maps, maps.mean(axis=0), np.full(3, 1 / 3), np.zeros(3), SIGMA, out)
    ratio, _ = relative_amplitudes(out, np.full(3, 1 / 3))
    np.testing.assert_allclose(np.median(ratio, axis=(1, 2, 3)), [3, 0, 0], atol=0.01)


def test_density_of_neighbours_is_taken_off():
    # Two slabs side by side, of which class 0 lacks the second, blurred into each other.
    first, second = np.zeros((2, 48, 12, 12), dtype=np.float32)
    first[8:24], second[24:40] = 1, 1
    blurred, other = smoothed(first, (2.0, 0, 0)), smoothed(second, (2.0, 0, 0))
    total = blurred + 0.5 * other
    around = Neighbourhood.of(smoothed(total**2, SIGMA), (2.0, 2.0, 2.0))
    ratios = smoothed(blurred * total, SIGMA) / np.maximum(around.weight, 1e-6)
    better = unmixed(ratios, around)
    absent, there = slice(26, 30), slice(12, 22)
    assert 0 <= better[absent, 6, 6].mean() < 0.6 * ratios[absent, 6, 6].mean()
    assert abs(better[there, 6, 6].mean() - 1) <= abs(ratios[there, 6, 6].mean() - 1) + 0.02


@given(st.integers(0, 99), st.floats(0.2, 5.0))
def test_unmixing_changes_nothing_where_nothing_differs(seed, scale):
    rng = np.random.default_rng(seed)
    around = Neighbourhood.of(rng.random((9, 10, 11), dtype=np.float32), SIGMA)
    same = np.full((9, 10, 11), scale, dtype=np.float32)
    np.testing.assert_allclose(unmixed(same, around), same, rtol=1e-4)
    assert around.spread(same).max() < 0.01 * scale


def test_ratios_of_all_classes_still_have_a_mean_of_one():
    rng = np.random.default_rng(3)
    around = Neighbourhood.of(rng.random((9, 10, 11), dtype=np.float32), SIGMA)
    low = rng.uniform(0.7, 1.3, (9, 10, 11)).astype(np.float32)
    mean = 0.25 * unmixed(low, around) + 0.75 * unmixed((1 - 0.25 * low) / np.float32(0.75), around)
    np.testing.assert_allclose(mean, 1, atol=1e-4)
