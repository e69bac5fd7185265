"""The calibrated estimator: recovery of what was put in, identities, and what it says it does not know."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from occupy import InputError, Settings, Volume, estimate, tuning
from occupy.calibration import (
    Calibration,
    _content_places,
    _full_level,
    _standard_error,
    calibrate,
    noise_floor,
    occupancy,
)
from occupy.pipeline import _calibration_notices
from occupy.statistics.context import crowding_gain


def smooth(shape, seed, width=1.2):
    """Return band-limited noise of unit variance."""
    rng = np.random.default_rng(seed)
    k2 = sum(np.meshgrid(*(np.fft.fftfreq(n) ** 2 for n in shape), indexing="ij"))
    field = np.fft.ifftn(np.fft.fftn(rng.standard_normal(shape)) * np.exp(-2 * (np.pi * width) ** 2 * k2))
    return (field.real / field.real.std()).astype(np.float32)


def slabs(values=(1.0, 0.7, 0.3, 0.0), noise=0.2, seed=0, shape=(64, 64, 64)):
    """Return a block of texture whose quarters along x have these occupancies, in noise; and its middles."""
    content = np.clip(4 + smooth(shape, 1), 0, None)
    out = noise * smooth(shape, seed + 2)
    middles = {}
    for k, value in enumerate(values):
        part = np.s_[16:48, 16:48, 8 + 12 * k : 20 + 12 * k]
        out[part] += value * content[part]
        middles[k] = np.s_[22:42, 22:42, 12 + 12 * k : 16 + 12 * k]
    return out.astype(np.float32), middles


def volume(data, voxel=3.0):
    return Volume.from_array(np.asarray(data, dtype=np.float32), voxel, "slabs")


def test_occupancies_are_recovered_within_their_errors():
    data, middles = slabs()
    est = estimate(volume(data))
    assert est.full_scale.source == "calibration"
    for k, truth in enumerate((1.0, 0.7, 0.3)):
        value, error = np.median(est.scale[middles[k]]), np.median(est.uncertainty[middles[k]])
        assert abs(value - truth) < max(1.96 * error, 0.02), (truth, value, error)
    assert np.median(est.scale[:8]) < 0.02
    low, high = est.calibration.interval
    assert low < est.full_scale.value < high


@pytest.mark.parametrize("factor", [1e-4, 7.0, 1e5])
def test_a_positive_factor_changes_nothing(factor):
    data, _ = slabs()
    one, other = (estimate(volume(d)) for d in (data, data * np.float32(factor)))
    assert_allclose(one.scale, other.scale, atol=2e-3)
    assert_allclose(one.uncertainty, other.uncertainty, atol=2e-3)
    assert other.calibration.full == pytest.approx(one.calibration.full * factor, rel=1e-3)


def test_axes_may_be_permuted():
    data, _ = slabs()
    one, other = (estimate(volume(d)) for d in (data, np.ascontiguousarray(data.transpose(2, 0, 1))))
    assert_allclose(one.scale.transpose(2, 0, 1), other.scale, atol=2e-3)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=20), st.floats(0.05, 0.9))
def test_occupancy_rises_from_nothing_to_full_and_only_upwards(values, prior):
    x = np.sort(np.array(values))
    found = occupancy(x, 0.1, prior)
    assert (np.diff(found) >= -1e-12).all()
    assert (found >= x - 1e-12).all()
    assert (found <= 1).all()
    assert (_standard_error(x, 0.1, prior) > 0).all()


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.9])
def test_full_scale_is_found_however_few_parts_are_full(share):
    rng = np.random.default_rng(5)
    n = 20000
    full = rng.random(n) < share
    values = np.where(full, rng.normal(3.0, 0.15, n), rng.uniform(0.5, 2.6, n))
    found, estimated, others = _full_level(np.log(values).astype(np.float32))
    assert found == pytest.approx(3.0, rel=0.06)
    assert sum(weight for _, weight in others) == pytest.approx(1)
    # Places of 0.75 to 0.87 full count as nearly full, too.
    assert share - 0.05 < estimated < share + 0.2


def test_full_is_what_nothing_is_above_and_not_the_commonest_value():
    rng = np.random.default_rng(6)
    values = np.concatenate([rng.normal(1.9, 0.1, 17000), rng.normal(3.0, 0.15, 3000)])
    found, _, _ = _full_level(np.log(values).astype(np.float32))
    assert found == pytest.approx(3.0, rel=0.05)


def test_where_most_is_full_the_level_is_the_middle_of_what_reads_so():
    rng = np.random.default_rng(7)
    few = np.concatenate([rng.normal(3.0, 0.2, 3000), rng.uniform(0.5, 2.8, 17000)])
    most = np.concatenate([rng.normal(3.0, 0.2, 17000), rng.uniform(0.5, 2.8, 3000)])
    found = [_full_level(np.log(values).astype(np.float32))[0] for values in (few, most)]
    # Close to the edge in the one, as much further below is partial; a wider mean in the other.
    assert found[0] == pytest.approx(3.0, rel=0.05)
    assert found[1] == pytest.approx(3.0, rel=0.03)


def test_in_noise_what_reads_a_little_less_than_full_is_more_likely_full():
    quiet, noisy = (occupancy(np.array([0.8, 1.0]), noise, 0.6) for noise in (0.05, 0.5))
    assert quiet[0] == pytest.approx(0.8, abs=0.01)
    assert noisy[0] > quiet[0] + 0.05
    assert noisy[1] == pytest.approx(1)


def test_what_lies_in_a_crowd_reads_more_and_is_taken_down_to_what_lies_at_the_rim():
    density = np.zeros((40, 40, 40), dtype=np.float32)
    density[8:32, 8:32, 8:32] = 1
    inside = density > 0
    gain = crowding_gain(density, inside, (5.0,) * 3, 0.15)
    assert np.median(gain[inside]) == pytest.approx(1, abs=0.01)
    assert gain[20, 20, 20] < 1 < gain[8, 8, 8] < gain[0, 0, 0] <= 10**0.15 + 1e-3
    # A power of 0 changes nothing, nor does the unit.
    assert_allclose(crowding_gain(density, inside, (5.0,) * 3, 0), 1)
    assert_allclose(crowding_gain(7 * density, inside, (5.0,) * 3, 0.15), gain, rtol=1e-4)


def test_the_floor_of_noise_does_not_see_content():
    rng = np.random.default_rng(1)
    noise = np.abs(rng.normal(2.0, 0.3, 50000)).astype(np.float32)
    content = rng.uniform(5, 20, 15000).astype(np.float32)
    assert noise_floor(noise) == pytest.approx(2.3, rel=0.08)
    assert noise_floor(np.concatenate([noise, content])) == pytest.approx(noise_floor(noise), rel=0.05)
    assert noise_floor(np.zeros(1000, np.float32)) == 0


def test_nothing_to_calibrate_on_gives_none():
    flat = np.zeros((20, 20, 20), dtype=np.float32)
    assert calibrate(flat, flat, (4.0,) * 3) is None
    assert _content_places(flat, flat, 0.0) is None


def test_uncertainty_grows_with_noise_and_is_a_function_of_the_scale():
    scale = np.linspace(0, 1, 50, dtype=np.float32)
    quiet, noisy = (Calibration(f, 1.0, 0.05, 0.5).uncertainty_of(scale) for f in (0.01, 0.5))
    assert (noisy >= quiet - 1e-6).all()
    assert noisy[5] > 2 * quiet[5]
    doubtful = Calibration(0.01, 1.0, 0.3, 0.5, others=((1.0, 0.5), (0.7, 0.5)))
    assert doubtful.uncertainty_of(scale)[30] > 2 * quiet[30]


def test_a_second_level_that_explains_the_map_is_warned_about():
    two = ((0.9, 0.1), (1.0, 0.5), (1.2, 0.05), (1.6, 0.08), (1.8, 0.2), (2.0, 0.07))
    found = Calibration(0.01, 5.0, 0.3, 0.2, others=two)
    assert found.other_level == 1.8
    (notice,) = _calibration_notices(found)
    assert notice.code == "ambiguous-level"
    assert "5 map units (taken) or 9" in notice.text
    one = Calibration(0.01, 5.0, 0.3, 0.2, others=(*two[:3], (1.8, 0.02)))
    assert one.other_level is None
    assert _calibration_notices(one) == []


def test_full_parts_among_many_alike_partial_ones_make_the_level_ambiguous():
    rng = np.random.default_rng(5)
    values = np.concatenate([rng.normal(1.8, 0.1, 12000), rng.normal(3.2, 0.2, 8000)])
    full, share, others = _full_level(np.log(values).astype(np.float32))
    other = Calibration(0.01, full, 0.1, share, others=others).other_level
    assert other is not None
    assert [full, other * full] == pytest.approx([3.2, 1.8], rel=0.1)
    clear = np.where(rng.random(20000) < 0.7, rng.normal(3, 0.15, 20000), rng.uniform(0.5, 2.7, 20000))
    full, share, others = _full_level(np.log(clear).astype(np.float32))
    assert Calibration(0.01, full, 0.1, share, others=others).other_level is None


def halves(noise=0.3):
    data, _ = slabs(noise=0)
    first, second = (noise * 2**0.5 * smooth(data.shape, seed) for seed in (11, 12))
    return volume(data + (first + second) / 2), (volume(data + first), volume(data + second))


def test_half_maps_measure_the_noise_without_solvent():
    whole, pair = halves()
    alone, both = estimate(whole), estimate(whole, half_maps=pair)
    assert not alone.calibration.from_halves
    assert both.calibration.floor >= alone.calibration.floor
    assert both.calibration.floor == pytest.approx(alone.calibration.floor, rel=0.15)
    # Where the solvent has been taken away, only the halves know.
    data = whole.data.copy()
    data[:14] = data[50:] = 0
    data[:, :14] = data[:, 50:] = 0
    masked = estimate(volume(data), half_maps=pair)
    assert masked.calibration.from_halves
    assert masked.calibration.floor == pytest.approx(both.calibration.floor, rel=0.15)


def test_half_maps_that_cannot_be_are_refused():
    whole, pair = halves()
    with pytest.raises(InputError, match="are equal"):
        estimate(whole, half_maps=(pair[0], pair[0]))
    broken = pair[1].data.copy()
    broken[5, 6, 7] = np.nan
    with pytest.raises(InputError, match=r"the half-map .* not finite numbers"):
        estimate(whole, half_maps=(pair[0], volume(broken)))
    with pytest.raises(InputError, match="on one grid"):
        estimate(whole, half_maps=(pair[0], volume(pair[1].data[:60])))
    with pytest.raises(InputError, match="calibrated estimator only"):
        estimate(whole, Settings(estimator="nlf"), half_maps=pair)


def test_the_estimator_follows_what_is_asked():
    assert Settings().chosen_estimator == "calibrated"
    assert Settings(mode="resolution").chosen_estimator == "local"
    for given_ in ({"tile_size": 12}, {"naive": True}, {"recalibrate": True}, {"tau": 0.9}):
        assert Settings(**given_).chosen_estimator == "local"
        with pytest.raises(InputError, match="knows no tile"):
            Settings(estimator="calibrated", **given_)


@pytest.mark.parametrize("rate", [0.01, 0.1])
def test_a_mask_holds_its_false_discovery_rate(rate):
    # Independent voxels, so that the rate itself can be counted; weak content among them.
    rng = np.random.default_rng(3)
    from occupy.confidence import _fit_solvent, fdr_threshold

    data = rng.normal(0, 1, (60, 60, 60)).astype(np.float32)
    content = np.zeros(data.shape, dtype=bool)
    content[20:40, 20:40, 20:40] = True
    data[content] += rng.uniform(2, 8, content.sum()).astype(np.float32)
    model = _fit_solvent(data, lambda start, stop: np.ones((stop - start, 60, 60), dtype=bool))
    mean, sigma, share = model.truncated_null()
    assert (mean, sigma) == (pytest.approx(0, abs=0.02), pytest.approx(1, rel=0.02))
    assert share == pytest.approx(1 - content.mean(), abs=0.02)
    chosen = data > fdr_threshold(model, rate)
    assert np.count_nonzero(chosen & ~content) / np.count_nonzero(chosen) == pytest.approx(rate, rel=0.4)
    assert np.count_nonzero(chosen & content) > 0.6 * content.sum()


@pytest.mark.parametrize("unit", [1.0, 1e-4, 3e3])
@pytest.mark.parametrize("range_of_content", [(2, 5), (2, 45), (2, 100), (2, 300), (46, 100)])
def test_the_false_discovery_rate_is_the_one_asked_for_however_strong_the_content(range_of_content, unit):
    from occupy.confidence import _fit_solvent, fdr_threshold, inscribed_ellipsoid

    rng = np.random.default_rng(3)
    data = rng.normal(0, 1, (80, 80, 80)).astype(np.float32)
    content = np.zeros(data.shape, dtype=bool)
    content[25:55, 25:55, 25:55] = True
    data[content] += rng.uniform(*range_of_content, content.sum()).astype(np.float32)
    data *= np.float32(unit)
    # Solvent is learnt in the inscribed sphere, but the mask is of the whole box, corners included.
    level = fdr_threshold(_fit_solvent(data, inscribed_ellipsoid(data.shape)), 0.1)
    chosen = data > level
    assert 0.085 < np.count_nonzero(chosen & ~content) / np.count_nonzero(chosen) < 0.102
    assert np.count_nonzero(chosen & content) > 0.7 * content.sum()


def test_corners_that_a_mask_made_equal_do_not_count_as_solvent():
    from occupy.confidence import _fit_solvent, fdr_threshold, inscribed_ellipsoid

    rng = np.random.default_rng(4)
    sphere = inscribed_ellipsoid((80, 80, 80))
    inside = sphere(0, 80)
    data = rng.normal(0, 1, inside.shape).astype(np.float32) * inside
    content = np.zeros(inside.shape, dtype=bool)
    content[25:55, 25:55, 25:55] = True
    data[content] += rng.uniform(2, 60, content.sum()).astype(np.float32)
    model = _fit_solvent(
        data, lambda start, stop: sphere(start, stop) & (data[start:stop] != 0), partly_flat=True
    )
    chosen = data > fdr_threshold(model, 0.1)
    assert 0.085 < np.count_nonzero(chosen & ~content) / np.count_nonzero(chosen) < 0.105


def scale_of(calibration, maxima):
    return calibration.scale_of(calibration.readings_of(maxima, np.empty_like(maxima)))


def test_the_scale_is_linear_in_what_is_read_and_nothing_is_pulled_to_full():
    plain = Calibration(0.0, 2.0, 0.05, 0.6)
    read = np.linspace(0, 2, 101, dtype=np.float32)
    assert_allclose(scale_of(plain, read), read / 2, atol=2e-5)
    noisy = Calibration(0.4, 2.0, 0.05, 0.6)
    scale = scale_of(noisy, read)
    power = tuning.SHARED.noise_power
    expected = np.maximum(read**power - 0.4**power, 0) ** (1 / power) / (2**power - 0.4**power) ** (1 / power)
    assert_allclose(scale, expected, atol=3e-5)
    # What lies above full is full; below, no two readings are told as one.
    assert scale_of(noisy, np.float32([5.0])) == 1
    assert (np.diff(scale[scale > 0]) > 0).all()
    # The posterior mean is pulled upwards, most where parts are nearly full.
    pulled = noisy.occupancy_of(scale) - scale
    assert (pulled >= -2e-5).all()
    assert pulled[scale > 0.99].max() < 0.01 < pulled[(scale > 0.85) & (scale < 0.97)].max()
    assert pulled[scale < 0.6].max() < 0.01


def test_scale_and_occupancy_are_two_maps_of_one_measurement():
    data, middles = slabs(values=(1.0, 0.6, 0.3, 0.0))
    finer, est = (estimate(volume(data, voxel)) for voxel in (1.7, 2.3))
    # On any grid, as readings are interpolated and all else follows from them voxel by voxel.
    assert (finer.resampled, est.resampled) == (True, False)
    for one in (finer, est):
        assert_allclose(one.occupancy, one.calibration.occupancy_of(one.scale), rtol=0)
        assert_allclose(one.uncertainty, one.calibration.uncertainty_of(one.occupancy), rtol=0)
    for k, truth in enumerate((1.0, 0.6, 0.3)):
        assert np.median(est.scale[middles[k]]) == pytest.approx(truth, abs=0.06)


def test_estimators_without_a_posterior_have_their_scale_as_occupancy():
    est = estimate(volume(slabs()[0]), Settings(estimator="local"))
    assert "occupancy" not in est.maps
    assert est.occupancy is est.scale
