"""Histograms against numpy's, the Gaussian fit against scipy's, histogram matching."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import curve_fit

from occupy.numerics import histogram as module
from occupy.numerics.histogram import (
    Histogram,
    bin_index,
    fit_gaussian,
    gaussian,
    match_histogram,
    two_histograms,
    value_range,
)
from strategies import arrays, shapes


def near_an_edge(data, low, high, bins):
    """Count voxels that rounding in float32 may put on the other side of an edge."""
    position = (data.astype(np.float64) - low) / (high - low) * bins
    slack = 4e-7 * bins * max(abs(low), abs(high), high - low) / (high - low)
    return int(np.count_nonzero(np.abs(position - np.rint(position)) <= slack))


@given(st.data())
def test_equal_to_numpy_and_nothing_is_lost(data):
    array = data.draw(arrays(data.draw(shapes(2, 13)), ("noise", "ties", "sparse", "offset")))
    bins, threads = data.draw(st.integers(2, 200)), data.draw(st.integers(1, 2))
    low, high = value_range(array, threads=threads)
    assert (low, high) == (array.min(), array.max())
    if low == high:
        return
    region = np.random.default_rng(bins).random(array.shape) < 0.5
    everything, inside = two_histograms(
        array, lambda start, stop: region[start:stop], low, high, bins, threads=threads
    )
    assert everything.counts.sum() == array.size
    assert inside.counts.sum() == region.sum()
    assert (inside.counts <= everything.counts).all()
    for found, values in ((everything, array), (inside, array[region])):
        wanted = np.histogram(values, bins, (low, high))[0]
        assert np.abs(found.counts - wanted).sum() <= 2 * near_an_edge(values, low, high, bins)


def test_exactly_numpy_away_from_edges():
    data = (np.random.default_rng(0).integers(0, 50, (20, 21, 22)) + 0.5).astype(np.float32)
    found, _ = two_histograms(data, lambda a, b: np.zeros(data[a:b].shape, bool), 0.0, 50.0, 50)
    np.testing.assert_array_equal(found.counts, np.histogram(data, 50, (0, 50))[0])
    np.testing.assert_array_equal(found.edges, np.arange(51))
    np.testing.assert_array_equal(found.centres, np.arange(50) + 0.5)


@pytest.mark.parametrize("planes", [1, 2, 5])
@pytest.mark.parametrize("threads", [1, 2])
def test_slabs_and_threads_change_nothing(monkeypatch, planes, threads):
    data = np.random.default_rng(1).standard_normal((13, 9, 8), dtype=np.float32)
    region = data > 0.3
    args = (data, lambda start, stop: region[start:stop], -4.0, 4.0, 16383)
    whole = two_histograms(*args)
    monkeypatch.setattr(module, "planes_per_slab", lambda shape: planes)
    for a, b in zip(two_histograms(*args, threads=threads), whole, strict=True):
        np.testing.assert_array_equal(a.counts, b.counts)
    assert value_range(data, threads=threads) == (data.min(), data.max())


def test_values_outside_land_in_the_outer_bins():
    values = np.array([-9, 0, 0.99, 1, 2.5, 3, 99], dtype=np.float32)
    np.testing.assert_array_equal(bin_index(values, 0, 3, 3), [0, 0, 0, 1, 2, 2, 2])


def test_density_integrates_to_one():
    histogram = Histogram(-2.0, 3.0, np.array([3, 0, 5, 2], dtype=np.int64))
    assert (histogram.density * histogram.width).sum() == pytest.approx(1)
    np.testing.assert_allclose(histogram.density, np.histogram([0], 1)[0][0] * np.array([3, 0, 5, 2]) / 12.5)


def test_nan_shows_in_the_range():
    data = np.zeros((3, 3, 3), dtype=np.float32)
    data[1, 1, 1] = np.nan
    assert np.isnan(value_range(data)).all()


@given(
    st.floats(1e-3, 1e4), st.floats(-50, 50), st.floats(1e-4, 1e3), st.floats(0.6, 1.6), st.floats(-0.7, 0.7)
)
def test_the_fit_recovers_a_gaussian(height, mean, sigma, wrong, shift):
    x = np.linspace(mean - 5 * sigma, mean + 7 * sigma, 400)
    start = (height * wrong, mean + shift * sigma, sigma / wrong)
    found = fit_gaussian(x, gaussian(x, height, mean, sigma), start)
    assert found[0] == pytest.approx(height, rel=1e-6)
    assert found[1] == pytest.approx(mean, abs=1e-6 * sigma + 1e-9 * abs(mean))
    assert found[2] == pytest.approx(sigma, rel=1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_the_fit_finds_the_minimum_scipy_finds(seed):
    rng = np.random.default_rng(seed)
    solvent = rng.normal(0.01, 0.02, 40_000)
    content = rng.gamma(2.0, 0.05, 8_000)
    counts, edges = np.histogram(np.concatenate([solvent, content]), 1000)
    x, y = 0.5 * (edges[1:] + edges[:-1]), counts / counts.sum() / np.diff(edges)
    start = (float(y.max()), float(x[y.argmax()]), 0.015)
    found = fit_gaussian(x, y, start)
    scipys, _ = curve_fit(gaussian, x, y, p0=start, xtol=1e-14, ftol=1e-14)

    def cost(p):
        return ((y - gaussian(x, *p)) ** 2).sum()

    assert cost(found) <= cost(scipys) * (1 + 1e-9)
    np.testing.assert_allclose(found, scipys * [1, 1, np.sign(scipys[2])], rtol=1e-4)


@given(shapes(1, 10), st.integers(0, 10**6), st.sampled_from(["noise", "ties"]))
def test_matching_is_a_permutation_in_the_order_of_the_data(shape, seed, kind):
    rng = np.random.default_rng(seed)
    data = rng.integers(-3, 4, shape) if kind == "ties" else rng.normal(size=shape)
    data, reference = data.astype(np.float32), rng.gamma(2, size=shape).astype(np.float32)
    matched = match_histogram(data, reference)
    assert matched.shape == shape
    np.testing.assert_array_equal(np.sort(matched, axis=None), np.sort(reference, axis=None))
    order = np.argsort(matched, axis=None, kind="stable")
    assert (np.diff(data.ravel()[order]) >= 0).all()
    np.testing.assert_array_equal(match_histogram(data, data), data)


def test_matching_needs_as_many_voxels():
    with pytest.raises(ValueError, match="8 voxels to 27"):
        match_histogram(np.zeros((2, 2, 2), np.float32), np.zeros((3, 3, 3), np.float32))


def test_matching_breaks_ties_in_the_order_of_the_voxels():
    reference = np.random.default_rng(0).normal(size=(10, 10, 10)).astype(np.float32)
    matched = match_histogram(np.zeros((10, 10, 10), np.float32), reference)
    np.testing.assert_array_equal(matched.ravel(), np.sort(reference, axis=None))
