"""Coarse fields: means of blocks, and linear interpolation back."""

import numpy as np
from numpy.testing import assert_allclose

from occupy.numerics.resampling import block_means, interpolated_planes


def ramp(shape):
    z, y, x = np.indices(shape)
    return (1.0 + 2 * z - y + 0.5 * x).astype(np.float32)


def test_means_of_blocks():
    data = np.random.default_rng(0).random((7, 6, 5)).astype(np.float32)
    found = block_means(data, (2, 3, 4))
    assert found.shape == (4, 2, 2)
    assert_allclose(found[1, 1, 0], data[2:4, 3:6, :4].mean(), rtol=1e-6)
    assert_allclose(found[3, 0, 1], data[6:, :3, 4:].mean(), rtol=1e-6)


def test_a_linear_field_comes_back_as_it_was():
    fine = ramp((13, 17, 9))
    coarse = fine[::4, ::4, ::4].copy()
    found = np.concatenate(
        [interpolated_planes(coarse, (4, 4, 4), a, b, (17, 9)).copy() for a, b in ((0, 5), (5, 13))]
    )
    assert_allclose(found, fine, atol=1e-5)
    blocks = block_means(fine, (4, 4, 4))
    inner = interpolated_planes(blocks, (4, 4, 4), 2, 9, (17, 9), (1.5, 1.5, 1.5))
    assert_allclose(inner[:, 2:13, 2:6], fine[2:9, 2:13, 2:6], atol=1e-5)


def test_a_single_value_holds_everywhere():
    one = np.full((1, 1, 1), 3.0, dtype=np.float32)
    assert_allclose(interpolated_planes(one, (9, 9, 9), 0, 4, (5, 6)), 3.0)
