"""Shells of Fourier space: what they count, and that power is conserved."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from occupy.numerics.spectra import Shells

SIDES = st.integers(min_value=5, max_value=13)


@given(SIDES, SIDES, SIDES)
def test_every_coefficient_lies_in_one_shell(z, y, x):
    shells = Shells.of((z, y, x), (2.0, 2.0, 2.0))
    assert shells.count.sum() == z * y * x
    assert shells.index.shape == (z, y, x // 2 + 1)
    assert shells.count.shape == (len(shells),)


@given(SIDES, SIDES, SIDES, st.integers(0, 99))
def test_power_over_all_shells_is_that_of_the_map(z, y, x, seed):
    data = np.random.default_rng(seed).standard_normal((z, y, x))
    shells = Shells.of((z, y, x), (1.5, 2.0, 1.0))
    transform = np.fft.rfftn(data)
    total = shells.product(transform, transform).sum() / data.size
    assert total == pytest.approx((data**2).sum(), rel=1e-6)


def test_products_of_two_maps_per_shell_add_up_to_their_product():
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((2, 9, 10, 11))
    shells = Shells.of(a.shape, (2.0, 2.0, 2.0))
    summed = shells.product(np.fft.rfftn(a), np.fft.rfftn(b)).sum() / a.size
    assert summed == pytest.approx((a * b).sum())


def test_in_a_cubic_box_shells_are_those_of_relion():
    shells = Shells.of((16, 16, 16), (2.0, 2.0, 2.0))
    assert len(shells) == 9
    np.testing.assert_allclose(shells.frequency, np.arange(9) / 32)
    assert shells.index[3, 4, 0] == 5
    assert shells.index[-3, 4, 0] == 5
    assert shells.index[8, 8, 8] == 8


def test_other_boxes_of_the_same_size_have_the_same_frequencies():
    cubic = Shells.of((20, 20, 20), (2.0, 2.0, 2.0))
    finer = Shells.of((20, 40, 30), (2.0, 1.0, 4 / 3))
    np.testing.assert_allclose(finer.frequency, cubic.frequency)


def test_soft_lowpass_passes_half_at_its_cut_off():
    shells = Shells.of((64, 64, 64), (2.0, 2.0, 2.0))
    kept = shells.soft_lowpass(8.0)
    assert kept[16] == pytest.approx(0.5)
    assert np.all(np.diff(kept) <= 0)
    assert kept[:13].min() > 0.99
    assert kept[20:].max() == 0


def test_spread_gives_every_coefficient_the_value_of_its_shell():
    shells = Shells.of((8, 9, 10), (2.0, 2.0, 2.0))
    np.testing.assert_array_equal(shells.spread(np.arange(len(shells))), shells.index)
