"""The posterior of an occupancy given what a part reads."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from occupy.statistics.posterior import (
    STANDARD_ERRORS_95,
    chance_of_full,
    interval_95,
    posterior_error,
    posterior_mean,
)

READINGS = st.floats(0, 2)
SPREADS = st.floats(0.04, 0.16)
PRIORS = st.floats(0.05, 0.95)


@given(READINGS, SPREADS, PRIORS)
def test_posterior_mean_is_an_occupancy_not_below_the_reading(reading, spread, prior):
    x = np.array([reading])
    chance = chance_of_full(x, spread, prior)
    mean = posterior_mean(x, chance)[0]
    assert min(reading, 1) - 1e-6 <= mean <= 1 + 1e-6
    # A variable between 0 and 1 has no standard deviation above one half.
    assert 0 <= posterior_error(x, chance, 0.3 * x.clip(0, 1))[0] <= 0.5


@given(SPREADS, PRIORS)
def test_chance_of_full_rises_with_reading_and_prior(spread, prior):
    x = np.linspace(0, 1.5, 40)
    chance = chance_of_full(x, spread, prior)
    assert np.all(np.diff(chance) >= 0)
    assert np.all(chance_of_full(x, spread, 0.5 * prior) <= chance)


def test_near_full_is_full_and_far_is_what_it_reads():
    x = np.array([0.0, 0.5, 0.95, 1.0, 1.4])
    chance = chance_of_full(x, 0.06, 0.8)
    error = posterior_error(x, chance, 0.06 * x.clip(0, 1))
    np.testing.assert_allclose(posterior_mean(x, chance), [0, 0.5, 1, 1, 1], atol=0.02)
    assert error[0] < 0.01
    assert error[1] == pytest.approx(0.03, abs=0.005)


def test_posterior_is_that_of_drawn_parts():
    # Draw full and partial parts, and look at those that read about 0.9.
    rng = np.random.default_rng(7)
    n, prior, spread = 2_000_000, 0.6, 0.1
    full = rng.random(n) < prior
    truth = np.where(full, 1.0, rng.random(n))
    reading = np.where(full, rng.normal(1, spread, n), truth)
    near = truth[np.abs(reading - 0.9) < 0.005]
    x = np.array([0.9])
    chance = chance_of_full(x, spread, prior)
    assert posterior_mean(x, chance)[0] == pytest.approx(near.mean(), abs=0.005)
    assert posterior_error(x, chance, 0.0)[0] == pytest.approx(near.std(), abs=0.005)


@given(st.floats(0, 1), st.floats(0, 2))
def test_interval_holds_its_value_and_stays_within_bounds(value, error):
    low, high = interval_95(value, error)
    assert 0 <= low <= value <= high <= 1
    assert interval_95(value, error, -10, 10) == pytest.approx(
        (value - STANDARD_ERRORS_95 * error, value + STANDARD_ERRORS_95 * error)
    )
