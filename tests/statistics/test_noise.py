"""What noise adds to a maximum can be taken off again."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from occupy.statistics.noise import mode_of_maxima, with_noise, without_noise


@given(st.floats(0, 10), st.floats(0, 10), st.floats(1, 3))
def test_noise_and_signal_add_up_as_they_are_taken_apart(signal, floor, power):
    together = with_noise(signal, floor, power)
    # What is far weaker than the noise is lost in rounding: its power is.
    assert without_noise(np.array([together]), floor, power)[0] == pytest.approx(signal, abs=1e-4)
    assert without_noise(np.array([floor * 0.9, -1.0]), floor, power).max() == 0


def test_mode_does_not_see_content_nor_what_is_flat():
    rng = np.random.default_rng(1)
    noise = np.abs(rng.normal(2.0, 0.3, 50000)).astype(np.float32)
    more = np.concatenate([noise, rng.uniform(5, 20, 15000).astype(np.float32), np.zeros(9000, np.float32)])
    assert mode_of_maxima(noise) == pytest.approx(2.0, rel=0.08)
    assert mode_of_maxima(more) == pytest.approx(mode_of_maxima(noise), rel=0.05)
    assert mode_of_maxima(noise[:149]) == 0
