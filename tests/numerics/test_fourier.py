"""Pruned transforms equal the plain ones."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from occupy.numerics import fourier
from occupy.numerics.fourier import (
    FourierBand,
    _map_from_band,
    _spectrum_in_band,
    fourier_crop,
    lowpass,
)
from occupy.numerics.parallel import planes_per_slab
from strategies import arrays, shapes

BOXES = [(16, 16, 16), (15, 15, 15), (12, 17, 20), (9, 10, 31), (1, 8, 7), (5, 1, 6), (6, 5, 1), (2, 2, 2)]


def frequencies(shape):
    """Signed indices of the coefficients of rfftn, broadcastable."""
    z, y = (np.rint(np.fft.fftfreq(n) * n) for n in shape[:2])
    return z[:, None, None], y[None, :, None], np.arange(shape[2] // 2 + 1)[None, None, :]


def plain_sphere(shape, radius):
    return sum((k / r) ** 2 for k, r in zip(frequencies(shape), radius, strict=True)) <= 1 + 1e-9


def plain_published(shape, s):
    """The window −s … s−1, −s … s−1, 0 … s, and the distance from (−½, −½, +½) at most s + 1."""
    mask = np.zeros((shape[0], shape[1], shape[2] // 2 + 1), dtype=bool)
    for iz, iy, x in itertools.product(*(range(n) for n in mask.shape)):
        z = iz if iz < (shape[0] + 1) // 2 else iz - shape[0]
        y = iy if iy < (shape[1] + 1) // 2 else iy - shape[1]
        inside = -s[0] <= z < s[0] and -s[1] <= y < s[1] and x <= s[2]
        offset = ((z + 0.5) / (s[0] + 1), (y + 0.5) / (s[1] + 1), (x - 0.5) / (s[2] + 1))
        mask[iz, iy, x] = inside and sum(o * o for o in offset) <= 1 + 1e-9
    return mask


def plain_lowpass(data, mask):
    return np.fft.irfftn(np.fft.rfftn(data.astype(np.float64)) * mask, s=data.shape, axes=(0, 1, 2))


def dense(band):
    mask = np.zeros((band.shape[0], band.shape[1], band.shape[2] // 2 + 1), dtype=bool)
    mask[np.ix_(band.rows[0], band.rows[1], np.arange(band.columns))] = band.keep
    return mask


def close(a, b, data):
    np.testing.assert_allclose(a, b, rtol=0, atol=3e-6 * max(1e-30, float(np.abs(data).max())))


def noise(shape, seed=0):
    return np.random.default_rng(seed).normal(0.3, 1, shape).astype(np.float32)


@given(shapes(1, 14), st.tuples(*[st.floats(0.3, 9)] * 3))
def test_sphere_band_is_its_definition(shape, radius):
    np.testing.assert_array_equal(dense(FourierBand.sphere(shape, radius)), plain_sphere(shape, radius))


@given(st.data())
def test_published_band_is_its_definition(data):
    shape = data.draw(shapes(2, 13))
    shells = tuple(data.draw(st.integers(1, n // 2)) for n in shape)
    np.testing.assert_array_equal(dense(FourierBand.published(shape, shells)), plain_published(shape, shells))


def test_published_band_stops_at_nyquist():
    far, nyquist = (
        FourierBand.published((8, 9, 10), (99, 99, 99)),
        FourierBand.published((8, 9, 10), (4, 4, 5)),
    )
    np.testing.assert_array_equal(dense(far), dense(nyquist))


@given(st.data())
def test_lowpass_equals_the_plain_formula(data):
    array = data.draw(arrays(data.draw(shapes(1, 14))))
    radius = data.draw(st.tuples(*[st.floats(0.3, 9)] * 3))
    result = lowpass(array, FourierBand.sphere(array.shape, radius))
    assert result.dtype == np.float32
    close(result, plain_lowpass(array, plain_sphere(array.shape, radius)), array)


@pytest.mark.parametrize("shape", [(16, 16, 16), (15, 15, 15), (12, 17, 20), (9, 10, 31)])
def test_published_lowpass_equals_the_plain_formula(shape):
    data, shells = noise(shape), tuple(n // 3 for n in shape)
    wanted = plain_lowpass(data, plain_published(shape, shells))
    close(lowpass(data, FourierBand.published(shape, shells)), wanted, data)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("slab", [1, 100, 700])
def test_slabs_and_threads_change_nothing(monkeypatch, threads, slab):
    data = noise((13, 12, 11))
    band = FourierBand.sphere(data.shape, (4, 3.5, 3))
    whole = lowpass(data, band)
    monkeypatch.setattr(fourier, "VOXELS_IN_CACHE", slab)
    monkeypatch.setattr(fourier, "planes_per_slab", lambda shape: planes_per_slab(shape, slab))
    np.testing.assert_allclose(lowpass(data, band, threads=threads), whole, rtol=0, atol=1e-6)


@settings(max_examples=25)
@given(shapes(1, 12), st.tuples(*[st.floats(0.5, 6)] * 3), st.floats(-3, 3))
def test_lowpass_is_a_linear_projection_that_keeps_the_mean(shape, radius, factor):
    a, b, band = noise(shape, 1), noise(shape, 2), FourierBand.sphere(shape, radius)
    low = lowpass(a, band)
    close(lowpass(low, band), low, a)
    close(lowpass(a + np.float32(factor) * b, band), low + factor * lowpass(b, band), 20 * np.ones(1))
    assert low.mean(dtype=float) == pytest.approx(a.mean(dtype=float), abs=2e-6)
    removed = a - low
    assert np.vdot(low.astype(float), removed) == pytest.approx(0, abs=1e-5 * a.size)


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("shape", [(12, 13, 14), (9, 16, 7)])
def test_lowpass_does_not_know_the_order_of_axes(shape, axes):
    data, radius = noise(shape), (3.2, 4.1, 2.7)
    turned_band = FourierBand.sphere(tuple(shape[a] for a in axes), tuple(radius[a] for a in axes))
    turned = lowpass(data.transpose(axes), turned_band)
    close(turned, lowpass(data, FourierBand.sphere(shape, radius)).transpose(axes), data)


@pytest.mark.parametrize("shape", BOXES)
def test_a_band_beyond_nyquist_changes_nothing(shape):
    data = noise(shape)
    radius = tuple(n * 1.0 for n in shape)
    close(lowpass(data, FourierBand.sphere(shape, radius)), data, data)


def test_spectrum_there_and_back():
    data = noise((10, 11, 12))
    band = FourierBand.sphere(data.shape, (3, 3, 3))
    spectrum = _spectrum_in_band(data, band)
    full = np.fft.rfftn(data.astype(float)) * plain_sphere(data.shape, (3, 3, 3))
    wanted = full[np.ix_(band.rows[0], band.rows[1], np.arange(band.columns))]
    np.testing.assert_allclose(spectrum, wanted, atol=1e-4)
    close(_map_from_band(spectrum, band), lowpass(data, band), data)


def cosines(shape, waves):
    """A sum of cosines sampled at index / n along each axis."""
    grid = np.meshgrid(*(np.arange(n) / n for n in shape), indexing="ij")
    out = np.full(shape, 0.7)
    for amplitude, phase, k in waves:
        out += amplitude * np.cos(2 * np.pi * sum(f * g for f, g in zip(k, grid, strict=True)) + phase)
    return out.astype(np.float32)


@given(st.data())
def test_cropping_resamples_band_limited_maps_exactly(data):
    new = data.draw(shapes(3, 10))
    old = tuple(n + data.draw(st.integers(0, 9)) for n in new)
    reach = [(n - 1) // 2 for n in new]
    wave = st.tuples(st.floats(0.1, 2), st.floats(0, 6), st.tuples(*[st.integers(-r, r) for r in reach]))
    waves = data.draw(st.lists(wave, max_size=4))
    result = fourier_crop(cosines(old, waves), new)
    np.testing.assert_allclose(result, cosines(new, waves), rtol=0, atol=2e-5)


@given(arrays(shape=(9, 12, 8)), st.tuples(st.integers(1, 9), st.integers(1, 12), st.integers(1, 8)))
def test_cropping_keeps_the_mean(data, new):
    cropped = fourier_crop(data, new)
    assert cropped.shape == new
    scale = float(np.abs(data).max())
    assert cropped.mean(dtype=float) == pytest.approx(data.mean(dtype=float), abs=3e-6 * scale)


@pytest.mark.parametrize("new", [(9, 8, 8), (8, 8, 0)])
def test_cropping_cannot_enlarge(new):
    with pytest.raises(ValueError, match="cannot crop"):
        fourier_crop(np.zeros((8, 8, 8), dtype=np.float32), new)
