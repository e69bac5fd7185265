"""Linear interpolation: exact where it must be, in any slabs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from occupy.numerics.resampling import Refiner
from strategies import arrays, cuts, shapes


def refiner(coarse, fine):
    """Return what interpolates an array."""
    return Refiner(coarse.shape, fine, coarse.__getitem__)


@st.composite
def refinements(draw):
    coarse = draw(shapes(1, 8))
    fine = tuple(n + draw(st.integers(0, 9)) for n in coarse)
    return coarse, fine


@given(refinements(), st.floats(-10, 10, width=32))
def test_constants_stay(shapes_, value):
    coarse, fine = shapes_
    out = refiner(np.full(coarse, value, dtype=np.float32), fine).planes(0, fine[0])
    assert out.shape == fine
    np.testing.assert_allclose(out, value, rtol=1e-6, atol=1e-37)


@given(refinements(), st.integers(0, 2))
def test_ramps_stay_ramps_up_to_the_last_coarse_sample(shapes_, axis):
    coarse, fine = shapes_
    ramp = np.broadcast_to(
        np.expand_dims(np.arange(coarse[axis], dtype=np.float32), [a for a in range(3) if a != axis]), coarse
    )
    out = refiner(np.ascontiguousarray(ramp), fine).planes(0, fine[0])
    wanted = np.minimum(np.arange(fine[axis]) * coarse[axis] / fine[axis], coarse[axis] - 1)
    line = np.moveaxis(out, axis, 0).reshape(fine[axis], -1)
    np.testing.assert_allclose(line, np.broadcast_to(wanted[:, None], line.shape), atol=3e-6)


@given(st.data())
def test_values_stay_in_range_and_slabs_join(data):
    coarse, fine = data.draw(refinements())
    array = data.draw(arrays(coarse))
    whole = refiner(array, fine).planes(0, fine[0])
    slack = 1e-6 * float(np.abs(array).max())
    assert whole.min() >= array.min() - slack
    assert whole.max() <= array.max() + slack
    finer = refiner(array, fine)
    parts = [finer.planes(*slab).copy() for slab in data.draw(cuts(fine[0]))]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_coarse_samples_are_kept(factor):
    array = np.random.default_rng(1).standard_normal((4, 5, 6), dtype=np.float32)
    fine = tuple(n * factor for n in array.shape)
    out = refiner(array, fine).planes(0, fine[0])
    np.testing.assert_array_equal(out[::factor, ::factor, ::factor], array)
