"""The solvent model and the confidence made from it, against known mixtures."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from occupy import InputError
from occupy.confidence import (
    _fit_solvent,
    _rise_monotonically,
    _rising_fit,
    _solvent_side,
    confidence_curve,
    inscribed_ellipsoid,
)


def mixture(share=0.2, mean=1.0, sigma=2.0, shape=(64, 64, 64), seed=0):
    """Return Gaussian solvent with a share of content spread evenly up to 20 sigma."""
    rng = np.random.default_rng(seed)
    solvent = rng.normal(mean, sigma, shape)
    content = mean + 20 * sigma * rng.random(shape)
    return np.where(rng.random(shape) < share, content, solvent).astype(np.float32)


def everywhere(shape):
    return lambda start, stop: np.ones((stop - start, *shape[1:]), bool)


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize(("share", "mean", "sigma"), [(0.1, 0.0, 1.0), (0.3, 5.0, 0.01), (0.2, -200.0, 40.0)])
def test_the_solvent_of_a_mixture_is_recovered(published, share, mean, sigma):
    data = mixture(share, mean, sigma)
    model = _fit_solvent(data, inscribed_ellipsoid(data.shape), published=published)
    assert model.mean == pytest.approx(mean, abs=0.08 * sigma)
    assert model.sigma == pytest.approx(sigma, rel=0.05)
    assert model.misfit < 0.1
    assert model.region.counts.sum() < model.everything.counts.sum() <= data.size


def test_a_hot_voxel_does_not_press_the_solvent_into_one_bin():
    data = mixture()
    data[3, 4, 5] = 1e6
    model = _fit_solvent(data, everywhere(data.shape))
    assert model.sigma == pytest.approx(2.0, rel=0.05)


def test_the_confidence_is_one_minus_the_local_false_discovery_rate():
    share, mean, sigma = 0.2, 1.0, 2.0
    data = mixture(share, mean, sigma, shape=(96, 96, 96))
    curve = confidence_curve(_fit_solvent(data, everywhere(data.shape)))
    values = np.linspace(mean + 2.6 * sigma, mean + 5 * sigma, 60).astype(np.float32)
    null = (1 - share) * np.exp(-0.5 * ((values - mean) / sigma) ** 2) / np.sqrt(2 * np.pi) / sigma
    truth = 1 - null / (null + share / (20 * sigma))
    # The least-squares Gaussian takes some of the content under its flank with it, so that near the
    # crossing confidence is too low (careful); where it matters, above 0.9, it is right.
    error = curve(values) - truth
    assert -0.2 < error.min() <= error.max() < 0.03
    assert np.abs(error[truth > 0.9]).max() < 0.05


def test_half_confidence_lies_where_the_densities_are_equal():
    data = mixture(0.2, 0.0, 1.0, shape=(96, 96, 96))
    curve = confidence_curve(_fit_solvent(data, everywhere(data.shape)))
    v = np.linspace(1, 5, 4001)
    null, content = 0.8 * np.exp(-0.5 * v**2) / np.sqrt(2 * np.pi), 0.2 / 20
    equal = v[np.argmin(np.abs(null - content))]
    assert 0 <= curve.crossing(0.5) - equal < 0.3


def test_the_curve_rises_from_zero_to_one_with_falling_slope():
    rng = np.random.default_rng(0)
    raw = 1 - np.exp(-np.linspace(-1, 8, 400)) + 0.05 * rng.standard_normal(400)
    out = _rise_monotonically(raw)
    steps = np.diff(out)
    assert (steps >= 0).all()
    assert out[0] == 0
    assert out[-1] == 1
    risen = out[:-1] > 0
    assert (np.diff(steps[risen]) <= 1e-12).all()
    assert (out <= np.clip(raw, 0, 1) + 1e-12)[:-2].all()


def test_a_second_rise_below_is_not_content():
    raw = np.r_[np.ones(50), np.zeros(50), np.linspace(0, 1, 100)]
    assert (_rise_monotonically(raw)[:100] == 0).all()


def test_the_rising_fit_is_the_weighted_least_squares_one():
    from scipy.optimize import isotonic_regression

    rng = np.random.default_rng(3)
    values, weights = rng.standard_normal(200) + np.linspace(0, 3, 200), rng.random(200) + 0.01
    assert_allclose(_rising_fit(values, weights), isotonic_regression(values, weights=weights).x, atol=1e-9)


def test_hedging_is_a_power():
    data = mixture()
    model = _fit_solvent(data, everywhere(data.shape))
    one, three = (confidence_curve(model, hedge=h) for h in (1.0, 3.0))
    assert_allclose(three.table, one.table.astype(float) ** 3, atol=1e-6)


def test_the_solvent_side_of_a_mask_is_the_one_that_varies_less():
    data = mixture(0.0, 0.0, 1.0, shape=(32, 32, 32))
    mask = np.zeros(data.shape, np.float32)
    mask[8:24, 8:24, 8:24] = 1
    data = data + mask * mixture(1.0, 0.0, 3.0, shape=(32, 32, 32))
    for given in (mask, 1 - mask):
        assert not _solvent_side(data, given)(8, 24)[:, 8:24, 8:24].any()
        assert _solvent_side(data, given)(0, 8).all()


def test_a_mask_without_two_sides_is_refused():
    data = mixture(shape=(16, 16, 16))
    with pytest.raises(InputError, match="one side is too small"):
        _solvent_side(data, np.ones(data.shape, np.float32))


def test_the_inscribed_region_is_the_sphere_of_a_cube():
    n = 40
    inside = inscribed_ellipsoid((n, n, n))(0, n)
    z, y, x = np.meshgrid(*[np.arange(n) - n / 2] * 3, indexing="ij")
    assert (inside == (z**2 + y**2 + x**2 <= (n / 2) ** 2 + 1e-6)).all()


def test_a_constant_map_is_refused():
    with pytest.raises(InputError, match="constant"):
        _fit_solvent(np.ones((16, 16, 16), np.float32), everywhere((16, 16, 16)))


@pytest.mark.parametrize("published", [False, True])
def test_the_quick_look_up_equals_the_plain_one(published):
    data = mixture(shape=(40, 41, 42))
    curve = confidence_curve(
        _fit_solvent(data, everywhere(data.shape), published=published), published=published
    )
    step = (curve.high - curve.low) / len(curve.table)
    plain = curve.table[np.clip((data.astype(float) - curve.low) / step, 0, len(curve.table) - 1).astype(int)]
    # Single voxels within rounding of a step may fall on its other side.
    assert np.mean(curve(data) != plain) < 1e-3
    assert_allclose(curve(data), plain, atol=2 * np.abs(np.diff(curve.table)).max())
    assert (curve.table == 0).any()
    assert curve(np.full((1, 1, 1), -1e9, np.float32)) == 0
    assert curve(np.full((1, 1, 1), 1e9, np.float32)) == 1
