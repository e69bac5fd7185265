"""Local context of a place, and what leaks in from there: identities."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from occupy import Volume, estimate
from occupy.statistics.context import LocalContext, leakage_factors, local_context

SPACING = (4.0, 4.0, 4.0)
SHARE = 0.5


def factors_of(readings, density):
    return leakage_factors(readings, density, (1.25,) * 3, SHARE)


def bar(values, width=8):
    """Return texture in bands along x, and the middle of each band."""
    rng = np.random.default_rng(0)
    out = np.repeat(np.array(values, dtype=np.float32), width)[None, None] * np.ones((16, 16, 1), np.float32)
    return out * rng.uniform(0.8, 1.2, out.shape).astype(np.float32)


@given(st.floats(1e-3, 1e3), st.integers(0, 5))
def test_where_all_is_alike_every_reading_is_its_own(value, seed):
    density = np.random.default_rng(seed).uniform(-1, 1, (6, 7, 8)).astype(np.float32)
    readings = np.full(density.shape, value, dtype=np.float32)
    assert_array_equal(factors_of(readings, density), 1)


def test_only_what_is_weak_beside_strong_density_loses():
    shares = factors_of(bar((1.0, 0.0, 1.0)) + 0.1, bar((1.0, 0.0, 1.0)))
    assert_array_equal(shares[:, :, :7], 1)
    assert shares[:, :, 8].max() < 0.5
    assert shares.min() >= 0
    # Emptiness takes nothing from a full part, and density of more than the share b is let be.
    alone = bar((0.0, 1.0, 0.0))
    assert_array_equal(factors_of(alone, alone)[:, :, 8:16], 1)
    unlike = np.where(bar((1.0, 0.0)) > 0, np.float32(1), np.float32(SHARE + 0.01))
    assert_array_equal(factors_of(unlike, unlike), 1)


@given(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_factors_do_not_depend_on_units(one, other):
    readings, density = bar((1.0, 0.2, 0.6)), bar((1.0, 0.1, 0.5)) - 0.05
    expected = factors_of(readings, density)
    found = factors_of(np.float32(one) * readings, np.float32(other) * density)
    assert_allclose(found, expected, atol=2e-4)


def test_where_nothing_is_nothing_leaks():
    nothing = np.zeros((5, 5, 5), dtype=np.float32)
    assert_array_equal(factors_of(nothing, nothing), 1)
    assert_array_equal(factors_of(nothing, nothing - 1), 1)


def test_factors_on_top_multiply():
    content = bar((1.0, 0.0)) > 0.5
    near = local_context(content, SPACING, 25.0, 0.17, (0.2, 3.0))
    extra = np.random.default_rng(1).uniform(0.1, 1, content.shape).astype(np.float32)
    both = near.times(extra)
    assert both.strides == (1, 1, 1)
    expected = near.planes(0, 16, content.shape[1:]) * extra
    assert_allclose(both.planes(0, 16, content.shape[1:]), expected, rtol=1e-6)


def test_planes_of_a_part_are_those_of_the_whole():
    field = LocalContext(np.random.default_rng(2).random((5, 6, 7), dtype=np.float32), (3, 3, 3))
    whole = field.planes(0, 15, (18, 21)).copy()
    assert_array_equal(field.planes(4, 9, (18, 21)), whole[4:9])
    assert_allclose(field.within((4, 5, 6)).planes(0, 5, (10, 11)), whole[4:9, 5:15, 6:17], rtol=1e-5)


@pytest.mark.parametrize("gap", [6, 8])
def test_an_absent_part_among_full_ones_reads_less(gap, monkeypatch):
    rng = np.random.default_rng(5)
    x = np.arange(64)
    wave = np.cos(2 * np.pi * x / 4)
    texture = 2 + wave[:, None, None] * wave[None, :, None] * wave
    inside = (abs(x - 32) < 20).astype(float)
    block = inside[:, None, None] * inside[None, :, None] * inside
    hole = np.ones(64)
    hole[32 - gap // 2 : 32 + gap // 2] = 0
    data = (block * hole * texture + 0.05 * rng.standard_normal(block.shape)).astype(np.float32)
    volume = Volume.from_array(data, 3.0, "hole")
    middle = np.s_[20:44, 20:44, 31:33]
    full = np.s_[20:44, 20:44, 18:22]
    est = estimate(volume)
    monkeypatch.setattr("occupy.calibration.leakage_factors", lambda readings, *_: np.ones_like(readings))
    without = estimate(volume)
    assert np.median(est.scale[middle]) < 0.9 * np.median(without.scale[middle]) + 1e-6
    assert_allclose(np.median(est.scale[full]), np.median(without.scale[full]), atol=0.01)
    assert est.full_scale.value == without.full_scale.value
