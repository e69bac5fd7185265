"""Modifications: their formulas, their limits, and noise like the solvent's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from occupy import modify
from occupy.modify import (
    _blend,
    amplification,
    amplify,
    attenuate,
    attenuation,
    sigmoid,
    sigmoid_curve,
    sigmoid_gain,
    solvent_noise,
)
from strategies import arrays

SHAPE = (6, 7, 5)
RNG = np.random.default_rng(0)
SCALE = RNG.random(SHAPE, dtype=np.float32)
SCALE[0, 0, :3] = 0, 1, 0.05
DATA = RNG.standard_normal(SHAPE, dtype=np.float32)
CONFIDENCE = RNG.random(SHAPE, dtype=np.float32)


@given(arrays(shape=SHAPE), st.booleans())
def test_power_one_changes_nothing(data, with_confidence):
    confidence = CONFIDENCE if with_confidence else None
    np.testing.assert_array_equal(amplify(data, SCALE, 1, confidence=confidence), data)
    np.testing.assert_array_equal(attenuate(data, SCALE, 1, confidence=confidence), data)
    np.testing.assert_allclose(sigmoid(data, SCALE, 1, 0.3, confidence=confidence), data, rtol=1e-5)


@pytest.mark.parametrize("power", [1e6, 1e12, np.inf])
def test_amplification_without_end_brings_everything_to_full_scale(power):
    full = np.float32(3.5)
    out = amplify(SCALE * full, SCALE, power, confidence=np.ones_like(SCALE))
    high = np.float32(0.05) <= SCALE
    np.testing.assert_allclose(out[high], full, rtol=2e-5)
    np.testing.assert_array_equal(out[~high], (SCALE * full)[~high])


@given(st.floats(1, 20), st.floats(0.01, 0.5))
def test_factors_are_the_formulas_above_the_limit_and_one_below(power, limit):
    above = np.float32(limit) <= SCALE
    s = SCALE.astype(float)
    for factor, formula in (
        (amplification(SCALE, power, limit), lambda x: x ** (1 / power - 1)),
        (attenuation(SCALE, power, limit), lambda x: x ** (power - 1)),
    ):
        np.testing.assert_allclose(factor[above], formula(s[above]), rtol=3e-5, atol=1e-37)
        assert (factor[~above] == 1).all()
    assert (amplification(SCALE, power, limit) >= 1).all()
    assert (attenuation(SCALE, power, limit) <= 1).all()


def test_amplifying_undoes_attenuating():
    factor = attenuation(SCALE, 3.0, 0.05)
    # S³ amplified with power 3 comes back to S.
    np.testing.assert_allclose((SCALE * factor) * amplification(SCALE**3, 3.0, 0.05**3), SCALE, rtol=1e-4)


def test_attenuation_without_end_leaves_full_scale_only():
    out = attenuate(np.ones(SHAPE, np.float32), SCALE, np.inf)
    assert (out[SCALE == 1] == 1).all()
    assert (out[(SCALE >= 0.05) & (SCALE < 1)] == 0).all()
    assert (out[np.float32(0.05) > SCALE] == 1).all()


@pytest.mark.parametrize("power", [1.0, 1.5, 5.0, 60.0])
@pytest.mark.parametrize("pivot", [0.02, 0.2, 0.5, 0.9])
def test_sigmoid_goes_through_zero_pivot_and_one(power, pivot):
    ends = sigmoid_curve(np.array([0, pivot, 1]), power, pivot)
    np.testing.assert_allclose(ends, [0, pivot, 1], rtol=1e-9, atol=0)
    x = np.linspace(0, 1, 2001)
    curve = sigmoid_curve(x, power, pivot)
    assert (np.diff(curve) >= 0).all()
    if power == 1:
        np.testing.assert_allclose(curve, x, atol=1e-12)
    else:
        assert (curve[(x > 0) & (x < pivot - 1e-9)] < x[(x > 0) & (x < pivot - 1e-9)]).all()
        assert (curve[(x > pivot + 1e-9) & (x < 1)] > x[(x > pivot + 1e-9) & (x < 1)]).all()


@pytest.mark.parametrize("power", [1.5, 5.0])
@pytest.mark.parametrize("pivot", [0.2, 0.7])
def test_sigmoid_is_the_published_formula(power, pivot):
    mu = 1 / (1 + (1 / pivot - 1) ** (-1 / power) * (1 - pivot) / pivot)
    x = np.linspace(0.01, 0.99, 99)
    published = 1 / (1 + (mu * (1 - x) / (x * (1 - mu))) ** power)
    np.testing.assert_allclose(sigmoid_curve(x, power, pivot), published, rtol=1e-9)


def test_sigmoid_gain_is_the_curve_over_the_scale():
    gain = sigmoid_gain(SCALE, 4.0, 0.3, 0.1)
    above = np.float32(0.1) <= SCALE
    np.testing.assert_allclose(gain[above] * SCALE[above], sigmoid_curve(SCALE[above], 4.0, 0.3), rtol=1e-5)
    assert (gain[~above] == 1).all()
    assert np.isfinite(sigmoid_gain(SCALE, 4.0, 0.3, 0.0)).all()


@given(arrays(shape=SHAPE), arrays(shape=SHAPE))
def test_blending(data, modified):
    c = CONFIDENCE.astype(float)
    atol = 1e-6 * max(np.abs(data).max(), np.abs(modified).max())
    excluded = _blend(data, modified, CONFIDENCE, exclude_solvent=True)
    np.testing.assert_allclose(_blend(data, modified, CONFIDENCE), c * modified + (1 - c) * data, atol=atol)
    np.testing.assert_allclose(excluded, c * modified, atol=atol)
    np.testing.assert_array_equal(_blend(data, modified, None), modified)
    np.testing.assert_array_equal(_blend(data, modified, np.zeros_like(data)), data)


@pytest.mark.parametrize(
    "change",
    [
        lambda **k: amplify(DATA, SCALE, 3.0, **k),
        lambda **k: attenuate(DATA, SCALE, 3.0, noise=DATA[::-1], **k),
        lambda **k: sigmoid(DATA, SCALE, 5.0, 0.2, **k),
    ],
)
def test_nothing_changes_below_the_limit_or_without_confidence(change):
    below = np.float32(0.3) > SCALE
    out = change(limit=0.3)
    np.testing.assert_array_equal(out[below], DATA[below])
    assert (out[~below] != DATA[~below]).mean() > 0.9
    np.testing.assert_array_equal(change(confidence=np.zeros_like(DATA)), DATA)
    assert (change(confidence=np.zeros_like(DATA), exclude_solvent=True) == 0).all()


def test_attenuation_puts_noise_where_it_takes_content():
    noise = np.full(SHAPE, 10, dtype=np.float32)
    weight = attenuation(SCALE, 3.0)
    out = attenuate(DATA, SCALE, 3.0, noise=noise)
    np.testing.assert_allclose(out, weight * DATA + (1 - weight) * 10, atol=1e-5)
    without = attenuate(DATA, SCALE, 3.0, noise=noise, confidence=CONFIDENCE, exclude_solvent=True)
    np.testing.assert_allclose(without, CONFIDENCE * weight * DATA, atol=1e-6)


def test_solvent_can_be_excluded_alone():
    np.testing.assert_array_equal(modify.exclude_solvent(DATA, CONFIDENCE), DATA * CONFIDENCE)


def test_inputs_stay_as_they_were():
    arrays_ = [DATA.copy(), SCALE.copy(), CONFIDENCE.copy(), DATA.copy()]
    for array in arrays_:
        array.flags.writeable = False  # as the arrays of a Volume are
    data, scale, confidence, noise = arrays_
    amplify(data, scale, 2.0, confidence=confidence)
    attenuate(data, scale, 2.0, confidence=confidence, noise=noise)
    sigmoid(data, scale, 2.0, 0.4, confidence=confidence)
    assert (solvent_noise(data, confidence, 0.1) != data).any()


@pytest.mark.parametrize(
    "change",
    [
        lambda d, o: amplify(d, o, 2.0),
        lambda d, o: attenuate(d, o, 2.0),
        lambda d, o: sigmoid(d, o, 2.0, 0.5),
        lambda d, o: amplify(d, d, 2.0, confidence=o),
        lambda d, o: modify.exclude_solvent(d, o),
        lambda d, o: solvent_noise(d, o, 0.0),
        lambda d, o: attenuate(d, d, 2.0, noise=o),
    ],
)
def test_arrays_of_another_shape_are_refused(change):
    with pytest.raises(ValueError, match=r"\(6, 7, 5\).*\(1, 7, 5\)"):
        change(np.ones(SHAPE, np.float32), np.ones((1, 7, 5), np.float32))


def coloured(shape, seed, sigma):
    """Noise whose spectrum falls off, of unit variance."""
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), sigma, mode="wrap")
    return (noise / noise.std()).astype(np.float32)


def shell_power(data):
    n = data.shape[0]
    k = np.fft.fftfreq(n) * n
    radius = np.rint(np.sqrt(k[:, None, None] ** 2 + k[:, None] ** 2 + k**2)).astype(int)
    power = np.abs(np.fft.fftn(data - data.mean())) ** 2
    number = np.bincount(radius.ravel())
    return np.bincount(radius.ravel(), power.ravel()) / number, number


@pytest.mark.parametrize("confidence", [0.0, 0.4])
def test_noise_has_the_spectrum_of_the_solvent(confidence):
    data = 0.5 + 2 * coloured((48, 48, 48), 1, 1.2)
    noise = solvent_noise(data, np.full(data.shape, confidence, np.float32), 0.5, seed=7)
    assert noise.dtype == np.float32
    wanted, number = shell_power(data)
    found, _ = shell_power(noise)
    for k in range(3, 24):
        # Half of the coefficients are independent; both spectra vary.
        spread = 2 / np.sqrt(number[k] / 2)
        assert found[k] / wanted[k] == pytest.approx(1, abs=3.5 * spread)
    assert noise.mean(dtype=float) == pytest.approx(0.5, abs=1e-5)
    assert noise.std() == pytest.approx(2, rel=0.05)


def test_content_does_not_leak_into_the_noise():
    shape = (48, 48, 48)
    data = -0.2 + 0.1 * coloured(shape, 2, 1.0)
    z, y, x = np.ogrid[:48, :48, :48]
    content = (z - 24) ** 2 + (y - 24) ** 2 + (x - 24) ** 2 < 14**2
    data[content] += 50
    noise = solvent_noise(data, content.astype(np.float32), -0.2, seed=3)
    assert noise.std() == pytest.approx(0.1, rel=0.06)
    assert noise.mean(dtype=float) == pytest.approx(-0.2, abs=1e-5)
    wanted, _ = shell_power(0.1 * coloured(shape, 2, 1.0))
    found, _ = shell_power(noise)
    np.testing.assert_allclose(found[5:20] / wanted[5:20], 1, atol=0.25)
    assert abs(np.corrcoef(noise.ravel(), data.ravel())[0, 1]) < 0.02


def test_noise_is_seeded_and_threads_do_not_matter():
    one = solvent_noise(DATA, CONFIDENCE, 0.0, seed=1)
    np.testing.assert_array_equal(solvent_noise(DATA, CONFIDENCE, 0.0, seed=1, threads=2), one)
    assert np.abs(solvent_noise(DATA, CONFIDENCE, 0.0, seed=2) - one).max() > 0.1


@pytest.mark.parametrize("shape", [(20, 21, 23), (9, 30, 16)])
def test_noise_of_any_box(shape):
    data = coloured(shape, 3, 0.7)
    noise = solvent_noise(data, np.zeros(shape, np.float32), 0.0, seed=1)
    assert noise.shape == shape
    assert noise.std() == pytest.approx(1, rel=0.1)


def test_without_solvent_there_is_no_noise():
    noise = solvent_noise(DATA, np.ones_like(DATA), 0.25)
    np.testing.assert_allclose(noise, 0.25, atol=1e-6)
