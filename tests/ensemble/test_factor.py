"""Local products and what is solved from them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from occupy import tuning
from occupy.ensemble.comparison import (
    _products,
    _relative_amplitudes,
)
from occupy.numerics.smoothing import scipy_smoothed

SIGMA = (1.5, 1.5, 1.5)


def test_smoothing_keeps_the_sum_away_from_the_edge():
    data = np.zeros((21, 21, 21), dtype=np.float32)
    data[10, 10, 10] = 8
    assert abs(scipy_smoothed(data, SIGMA).sum() - 8) < 1e-4


@given(st.lists(st.floats(0.0, 1.0), min_size=3, max_size=7), st.integers(0, 99))
def test_amplitudes_are_solved_from_exact_products(o, seed):
    o = np.array(o)
    o[0] = 1.0
    a = np.random.default_rng(seed).uniform(0.5, 1.5, len(o))
    a /= a.sum()
    n = o * ((a * o).sum() - (1 - tuning.SET.same_class_weight) * a * o)
    ratio, mean = _relative_amplitudes(np.tile(n[:, None, None, None], (1, 2, 2, 2)).astype(np.float32), a)
    np.testing.assert_allclose(ratio[:, 0, 0, 0] * mean[0, 0, 0], o, atol=0.02)


def test_noise_of_a_class_does_not_enter():
    rng = np.random.default_rng(1)
    pattern = scipy_smoothed(rng.standard_normal((40, 40, 40)), (1, 1, 1)) * 30
    o = np.array([1.0, 1.0, 0.5, 0.0])
    a = np.full(4, 0.25)
    sigma = np.array([0.5, 2.0, 1.0, 1.5])
    noise = sigma[:, None, None, None] * rng.standard_normal((4, 40, 40, 40))
    maps = (o[:, None, None, None] * pattern + noise).astype(np.float32)
    out = np.empty_like(maps)
    _products(maps, maps.mean(axis=0), a, sigma**2, (4.0, 4.0, 4.0), out)
    ratio, _ = _relative_amplitudes(out, a)
    found = np.median(ratio[:, 8:-8, 8:-8, 8:-8], axis=(1, 2, 3)) * o.mean()
    np.testing.assert_allclose(found, o, atol=0.12)
    assert found[3] < 0.1


def test_a_part_of_one_class_alone_is_told_by_its_own_product():
    rng = np.random.default_rng(2)
    pattern = scipy_smoothed(rng.standard_normal((24, 24, 24)), (1, 1, 1)) * 30
    maps = np.stack([pattern, 0 * pattern, 0 * pattern]).astype(np.float32)
    out = np.empty_like(maps)
    _products(maps, maps.mean(axis=0), np.full(3, 1 / 3), np.zeros(3), SIGMA, out)
    ratio, _ = _relative_amplitudes(out, np.full(3, 1 / 3))
    np.testing.assert_allclose(np.median(ratio, axis=(1, 2, 3)), [3, 0, 0], atol=0.01)
