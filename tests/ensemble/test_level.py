"""What full material reads, and how readings near it are taken."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from occupy.ensemble.comparison import FullLevel, content_of


def readings(parts, seed=0, width=0.1):
    rng = np.random.default_rng(seed)
    return np.concatenate([value * np.exp(width * rng.standard_normal(n)) for value, n in parts])


@pytest.mark.parametrize(
    "parts",
    [
        [(5.0, 20000)],
        [(5.0, 12000), (2.5, 8000)],
        [(5.0, 8000), (3.0, 12000), (1.0, 4000)],
        [(5.0, 20000), (9.0, 900)],
    ],
)
def test_full_is_the_uppermost_high_peak(parts):
    level = FullLevel.of(readings(parts))
    assert level.value == pytest.approx(5.0, rel=0.05)
    assert 0.04 <= level.spread <= 0.16


@given(st.floats(1e-3, 1e3))
def test_level_goes_with_the_units_of_the_map(factor):
    values = readings([(5.0, 4000), (2.0, 2000)])
    one, other = FullLevel.of(values), FullLevel.of(values * factor)
    assert other.value == pytest.approx(one.value * factor, rel=0.02)
    assert other.spread == pytest.approx(one.spread, abs=0.01)


def test_content_is_not_the_halo_around_it():
    reading = np.zeros((30, 30, 30), dtype=np.float32)
    density = np.zeros_like(reading)
    density[10:20, 10:20, 10:20] = 1
    reading[8:22, 8:22, 8:22] = 1
    np.testing.assert_array_equal(content_of(reading, density), density > 0)


def test_full_material_of_two_kinds_widens_the_level():
    one, two = (
        FullLevel.of(readings([(5.0, 20000)], width=0.05)),
        FullLevel.of(readings([(5.0, 14000), (4.3, 6000)], width=0.05)),
    )
    assert two.value == pytest.approx(5.0, rel=0.03)
    assert two.spread > 1.2 * one.spread
