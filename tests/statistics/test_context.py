"""Local context of a place, and what leaks in from there: identities."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from occupy.statistics.context import LocalContext, _mended

SHARE = 0.77


def context(readings, density, share=SHARE, gain=1.0):
    gains = np.full(density.shape, gain, dtype=np.float32)
    return LocalContext.of(readings, density, gains, (1.25,) * 3, (1, 1, 1), share)


def mend(readings, density, **how):
    field = context(readings, density, **how)
    return field.mended(field.levelled(readings.copy(), 0), around(field, readings))


def around(field, readings, first=0):
    return field.around_planes(first, first + len(readings), readings.shape[1:]).copy()


def bar(values, width=8):
    """Return bands along x."""
    return np.repeat(np.array(values, dtype=np.float32), width)[None, None] * np.ones((16, 16, 1), np.float32)


@given(st.floats(1e-3, 1e3), st.integers(0, 5))
def test_where_all_is_alike_every_reading_is_its_own(value, seed):
    density = np.random.default_rng(seed).uniform(-1, 1, (6, 7, 8)).astype(np.float32)
    readings = np.full(density.shape, value, dtype=np.float32)
    assert_allclose(mend(readings, density), readings, rtol=2e-3)


def test_what_is_weak_beside_strong_density_loses_and_its_own_flank_gains():
    density = bar((1.0, 0.0, 1.0))
    found = mend(density + np.float32(0.1), density)
    assert_allclose(found[:, :, :5], 1.1, rtol=2e-3)
    assert found[:, :, 8].max() < 0.05
    # Emptiness takes nothing from a full part.
    alone = bar((0.0, 1.0, 0.0))
    assert_allclose(mend(alone, alone)[:, :, 8:16], 1, rtol=2e-3)
    # Readings near the mean around them are given it.
    readings = np.where(np.arange(24) % 2 == 0, np.float32(1), np.float32(0.98)) * np.ones(
        (16, 16, 1), np.float32
    )
    near = mend(readings, np.ones_like(readings))
    assert near.min() > 0.985


@given(st.lists(st.floats(0, 1), min_size=2, max_size=20), st.floats(0.3, 0.79))
def test_mending_keeps_the_order_and_ends(values, share):
    x = np.sort(np.array([0.0, *values, 1.0]))
    found = _mended(x, share)
    assert (np.diff(found) >= -1e-9).all()
    assert (found[0], found[-1]) == (0, 1)
    assert (found[x < share] <= x[x < share]).all()
    assert (found[x >= share] >= x[x >= share] - 1e-12).all()


@given(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_mending_does_not_depend_on_units(one, other):
    readings, density = bar((1.0, 0.2, 0.6)), bar((1.0, 0.1, 0.5)) - np.float32(0.05)
    expected = np.float32(one) * mend(readings, density)
    assert_allclose(mend(np.float32(one) * readings, np.float32(other) * density), expected, atol=2e-3 * one)


def test_a_gain_that_is_the_same_everywhere_is_a_factor():
    readings, density = bar((1.0, 0.2, 0.6)), bar((1.0, 0.1, 0.5))
    found = mend(readings, density, gain=0.5)
    assert_allclose(found, 0.5 * mend(readings, density), atol=2e-3)


def test_where_nothing_is_nothing_leaks():
    nothing = np.zeros((5, 5, 5), dtype=np.float32)
    assert_array_equal(mend(nothing, nothing), 0)
    assert_array_equal(mend(nothing, nothing - 1), 0)


def test_planes_of_a_part_are_those_of_the_whole():
    rng = np.random.default_rng(2)
    means, gain = rng.random((2, 5, 6, 7), dtype=np.float32)
    field = LocalContext(means, gain, (3, 3, 3), SHARE)
    readings = rng.random((15, 18, 21), dtype=np.float32)
    whole, part = field.levelled(readings.copy(), 0), field.levelled(readings[4:9].copy(), 4)
    assert_allclose(part, whole[4:9], rtol=1e-6)
    assert_allclose(around(field, part, 4), around(field, whole)[4:9], rtol=1e-6)


def test_halfway_between_strong_and_empty_is_mended_as_what_it_reads_there():
    # Weak beside strong: mended first and averaged after, half of the strong one would be left.
    field = context(*2 * (bar((1.0, 1.0)),))
    strong, weak = np.float32([1.0]), np.float32([0.3])
    middle = field.mended((strong + weak) / 2, np.float32([1.0]))
    assert middle < 0.6 * (field.mended(strong, np.float32([1.0])) + field.mended(weak, np.float32([1.0])))
