"""Gaussian averages equal SciPy's."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from occupy.numerics.smoothing import smooth_curve, smooth_volume


@pytest.mark.parametrize("sigma", [0.05, 0.7, 6.0])
def test_a_curve_is_averaged_as_by_scipy(sigma):
    values = np.random.default_rng(0).random(40)
    assert_allclose(
        smooth_curve(values, sigma), gaussian_filter1d(values, sigma, mode="constant"), atol=1e-12
    )


@pytest.mark.parametrize(("sigma", "truncate"), [((1.3, 1.3, 1.3), 2.5), ((0.1, 2.0, 5.0), 4.0)])
def test_a_volume_is_averaged_as_by_scipy_however_thin(sigma, truncate):
    data = np.random.default_rng(1).random((3, 12, 17)).astype(np.float32)
    expected = gaussian_filter(data, sigma, truncate=truncate)
    assert_allclose(smooth_volume(data, sigma, truncate), expected, atol=1e-6)
    expected = gaussian_filter(data, sigma, truncate=truncate, mode="constant")
    assert_allclose(smooth_volume(data, sigma, truncate, empty=True), expected, atol=1e-6)
