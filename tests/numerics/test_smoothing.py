"""Gaussian averages equal SciPy's."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from occupy.numerics.smoothing import quantile, smooth_curve, smooth_volume


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


@pytest.mark.parametrize("count", [1, 2, 3, 10, 999])
def test_quantiles_are_those_of_numpy_and_the_median_is_to_the_last_bit(count):
    values = np.random.default_rng(2).standard_normal((count, 2)).astype(np.float32)
    for share in (0.0, 0.25, 0.99, 1.0):
        assert quantile(values, share) == pytest.approx(np.quantile(values, share), abs=1e-6)
    assert quantile(values, 0.5) == float(np.median(values))
    assert quantile(values[1:, 0], 0.5) == float(np.median(values[1:, 0])) if count > 1 else True
