"""What counts as more than noise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from occupy import tuning
from occupy.ensemble.comparison import Null, shrinkage_weight


@pytest.mark.parametrize(("level", "width"), [(1.5, 0.25), (8.0, 0.5)])
def test_null_is_found_beside_real_differences(level, width):
    rng = np.random.default_rng(1)
    same = level * np.exp(width * rng.standard_normal(20000))
    other = 60 * level * np.exp(rng.standard_normal(8000))
    null = Null.of(np.concatenate([same, other]))
    assert null.level == pytest.approx(level, rel=0.2)
    assert null.width == pytest.approx(width, rel=0.35)


def test_null_is_neither_less_than_noise_nor_without_bounds():
    rng = np.random.default_rng(2)
    spread = np.exp(0.2 * rng.standard_normal(5000))
    assert Null.of(0.1 * spread).level == 1
    assert Null.of(1e4 * spread).level == tuning.SET.most_null


def test_about_one_place_without_difference_reaches_the_threshold():
    null = Null(2.0, 0.4)
    drawn = null.level * np.exp(null.width * np.random.default_rng(3).standard_normal((400, 500)))
    beyond = (drawn > null.threshold(500)).sum(axis=1)
    assert beyond.mean() == pytest.approx(1, rel=0.3)
    assert null.threshold(5000) > null.threshold(500)


@given(st.floats(1e-6, 1e6), st.floats(1.0, 30.0))
def test_weight_of_a_difference(scatter, level):
    share = float(shrinkage_weight(np.array([scatter]), Null(level, 0.3))[0])
    assert 0 <= share <= 1
    if scatter <= level:
        assert share == 0
    else:
        assert share == pytest.approx(1 - level / scatter, abs=1e-5)
