"""What is around a place, and what that does to its reading: identities."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from occupy import Volume, estimate
from occupy.surroundings import BORROWED, LEAST_LEFT, Surroundings, own_shares, surroundings_of

SPACING = (4.0, 4.0, 4.0)


def bar(values, width=8):
    """Return texture in bands along x, and the middle of each band."""
    rng = np.random.default_rng(0)
    out = np.repeat(np.array(values, dtype=np.float32), width)[None, None] * np.ones((16, 16, 1), np.float32)
    return out * rng.uniform(0.8, 1.2, out.shape).astype(np.float32)


@given(st.floats(1e-3, 1e3), st.integers(0, 5))
def test_where_all_is_alike_every_reading_is_its_own(value, seed):
    density = np.random.default_rng(seed).uniform(-1, 1, (6, 7, 8)).astype(np.float32)
    readings = np.full(density.shape, value, dtype=np.float32)
    assert_array_equal(own_shares(readings, density, SPACING), 1)


def test_only_what_is_weak_beside_strong_density_loses():
    shares = own_shares(bar((1.0, 0.0, 1.0)) + 0.1, bar((1.0, 0.0, 1.0)), SPACING)
    assert_array_equal(shares[:, :, :7], 1)
    assert shares[:, :, 8].max() < 0.5
    assert shares.min() >= np.float32(LEAST_LEFT)
    # Emptiness takes nothing from a full part, and density of more than the share b is let be.
    alone = bar((0.0, 1.0, 0.0))
    assert_array_equal(own_shares(alone, alone, SPACING)[:, :, 8:16], 1)
    unlike = np.where(bar((1.0, 0.0)) > 0, np.float32(1), np.float32(BORROWED + 0.01))
    assert_array_equal(own_shares(unlike, unlike, SPACING), 1)


@given(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_shares_do_not_depend_on_units(one, other):
    readings, density = bar((1.0, 0.2, 0.6)), bar((1.0, 0.1, 0.5)) - 0.05
    expected = own_shares(readings, density, SPACING)
    found = own_shares(np.float32(one) * readings, np.float32(other) * density, SPACING)
    assert_allclose(found, expected, atol=2e-4)


def test_nothing_borrows_nothing():
    nothing = np.zeros((5, 5, 5), dtype=np.float32)
    assert_array_equal(own_shares(nothing, nothing, SPACING), 1)
    assert_array_equal(own_shares(nothing, nothing - 1, SPACING), 1)


def test_factors_on_top_multiply():
    content = bar((1.0, 0.0)) > 0.5
    near = surroundings_of(content, SPACING)
    extra = np.random.default_rng(1).uniform(0.1, 1, content.shape).astype(np.float32)
    both = near.times(extra)
    assert both.strides == (1, 1, 1)
    expected = near.planes(0, 16, content.shape[1:]) * extra
    assert_allclose(both.planes(0, 16, content.shape[1:]), expected, rtol=1e-6)


def test_planes_of_a_part_are_those_of_the_whole():
    field = Surroundings(np.random.default_rng(2).random((5, 6, 7), dtype=np.float32), (3, 3, 3))
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
    monkeypatch.setattr("occupy.calibration.own_shares", lambda readings, *_: np.ones_like(readings))
    without = estimate(volume)
    assert np.median(est.scale[middle]) < 0.9 * np.median(without.scale[middle]) + 1e-6
    assert_allclose(np.median(est.scale[full]), np.median(without.scale[full]), atol=0.01)
    assert est.full_scale.value == without.full_scale.value
