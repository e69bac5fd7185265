"""Grey scale, fall-off and resolution of classes, from what is known and from what they share."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from occupy import tuning
from occupy.ensemble.scaling import (
    _factors_of_products,
    _matched_gains,
    _padded,
    _resolution_of,
    _shrinkage,
    _ssnr_of_products,
    _wiener_gains,
)

RATIOS = st.lists(st.floats(0.01, 1e4), min_size=6, max_size=6)


@given(st.lists(RATIOS, min_size=2, max_size=5))
def test_after_wiener_gains_all_classes_are_shrunk_alike(ssnr):
    gains = _wiener_gains(ssnr, 6)
    left = gains * _shrinkage(np.array(ssnr))
    np.testing.assert_allclose(left, np.broadcast_to(left.min(axis=0), left.shape), rtol=1e-9)
    assert gains.max() <= 1
    assert gains.min() > 0


def test_shells_that_hold_nothing_are_left_alone():
    gains = _wiener_gains([[10.0, 0.0], [5.0, 0.0]], 3)
    np.testing.assert_array_equal(gains[:, 1:], 1)


def test_rows_are_cut_and_filled():
    made = _padded([[1.0, 2.0, 3.0], [np.nan, -1.0]], 2)
    np.testing.assert_array_equal(made, [[1, 2], [0, 0]])


def test_resolution_is_where_signal_ends():
    frequency = np.arange(6) / 60
    ssnr = np.array([[0, 0, 9, 9, 0.2, 9], [9, 9, 9, 9, 9, 9.0]])
    np.testing.assert_allclose(_resolution_of(ssnr, frequency), [15, 12])


@given(
    st.lists(st.floats(0.1, 2.0), min_size=3, max_size=8),
    st.integers(0, 99),
)
def test_factors_are_recovered_from_products_with_the_others(g, seed):
    g = np.array(g)
    a = np.random.default_rng(seed).uniform(0.5, 1.5, len(g))
    a /= a.sum()
    products = g * ((a * g).sum() - a * g)
    found = _factors_of_products(products[:, None], a, rounds=400)[:, 0]
    np.testing.assert_allclose(found / found.mean(), g / g.mean(), rtol=0.02)


@pytest.mark.parametrize("count", [2, 4])
def test_matched_gains_undo_factors_and_fall_off(count):
    shells = 24
    scale = np.linspace(0.7, 1.4, count)[:, None]
    decay = np.exp(-np.linspace(0, 0.4, count)[:, None] * (np.arange(shells) / shells) ** 2)
    g = scale * decay
    a = np.full(count, 1 / count)
    power = np.exp(-np.arange(shells) / 6) * 100
    own = g**2 * power
    shared = g * ((a[:, None] * g).sum(axis=0) - a[:, None] * g) * power
    matched = _matched_gains(shared, own, a) * g
    np.testing.assert_allclose(matched[:, 3:-3], np.broadcast_to(matched[0], g.shape)[:, 3:-3], rtol=0.02)
    gains = _matched_gains(shared, own, a)
    np.testing.assert_allclose(np.log(gains).mean(axis=0), 0, atol=1e-9)


def test_matched_gains_stay_within_bounds():
    own = np.array([[1.0] * 9, [1e8] * 9])
    gains = _matched_gains(own * 0.5, own, np.array([0.5, 0.5]))
    assert np.all(gains < tuning.SET.most_gain * 1.8)
    assert np.all(np.isfinite(gains))


@pytest.mark.parametrize("count", [2, 3, 5])
def test_signal_to_noise_is_found_from_what_classes_share(count):
    signal, noise = np.array([100.0, 25.0, 1.0]), np.array([1.0, 5.0, 4.0])
    a = np.full(count, 1 / count)
    power = np.tile(signal + noise, (count, 1))
    shared = np.tile(signal * (1 - 1 / count), (count, 1))
    found = _ssnr_of_products(shared, power, a)
    np.testing.assert_allclose(found, np.tile(signal / noise, (count, 1)), rtol=0.05)


def test_no_shared_signal_is_no_resolution():
    found = _ssnr_of_products(np.full((3, 4), -1.0), np.ones((3, 4)), np.full(3, 1 / 3))
    assert found.max() < 1e-9
