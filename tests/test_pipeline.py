"""The whole way from a map to scale, confidence and modified maps: invariances and known answers."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from occupy import Frame, InputError, Settings, Volume
from occupy.modify import _finished, modifications
from occupy.pipeline import estimate
from occupy.volume import compute_planes


def texture(shape, seed, width):
    """Return band-limited noise of unit variance: a Gaussian low-pass of white noise."""
    rng = np.random.default_rng(seed)
    k2 = sum(np.meshgrid(*(np.fft.fftfreq(n) ** 2 for n in shape), indexing="ij"))
    field = np.fft.ifftn(
        np.fft.fftn(rng.standard_normal(shape)) * np.exp(-2 * (np.pi * width) ** 2 * k2)
    ).real
    return (field / field.std()).astype(np.float32)


def phantom(shape=(64, 64, 64), occupancy=0.5, centre=None, seed=0, noise=0.3):
    """Return a ball of dense texture, full below the middle (z) and ``occupancy`` above it."""
    centre = np.array(shape) / 2 if centre is None else np.array(centre)
    z, y, x = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    radius = np.sqrt((z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2)
    content = np.clip(5 + texture(shape, 1, 1.5), 0, None) * (radius < 18)
    content = np.where(z < centre[0], content, occupancy * content)
    return (content + noise * texture(shape, seed + 2, 1.0)).astype(np.float32)


def volume(data, voxel=2.5):
    return Volume.from_array(data, voxel, "phantom")


BOTH = pytest.mark.parametrize("estimator", ["local", "nlf"])


@BOTH
def test_half_present_reads_half(estimator):
    est = estimate(volume(phantom()), Settings(estimator=estimator, tile_size=10))
    full, half = est.scale[20:28, 26:38, 26:38], est.scale[36:44, 26:38, 26:38]
    # Full scale is the fullest tile of many, so that an average full place reads a little below 1.
    assert 0.85 < np.median(full) < 1
    # The statistic is a maximum: noise adds to it, so the half reads a little more than a half.
    assert 0.45 < np.median(half) / np.median(full) < 0.56
    assert not est.notices


@BOTH
def test_confidence_separates_content_from_solvent(estimator):
    est = estimate(volume(phantom()), Settings(estimator=estimator))
    assert est.confidence[22:42, 26:38, 26:38].mean() > 0.98
    assert est.confidence[:8].mean() < 0.02
    assert 0 <= est.confidence.min() <= est.confidence.max() <= 1
    assert est.lowest_confident_scale < 0.5


@BOTH
@pytest.mark.parametrize("factor", [1e-4, 3.0, 2e5])
def test_a_positive_factor_changes_nothing(estimator, factor):
    data = phantom()
    one, other = (
        estimate(volume(d), Settings(estimator=estimator)) for d in (data, data * np.float32(factor))
    )
    assert_allclose(other.scale, one.scale, atol=2e-5)
    # A voxel may move to the neighbouring step of the table by rounding; no more than a few do.
    assert np.mean(np.abs(other.confidence - one.confidence) > 1e-3) < 1e-3
    assert other.full_scale.value == pytest.approx(factor * one.full_scale.value, rel=1e-5)
    assert other.lowest_confident_scale == pytest.approx(one.lowest_confident_scale, abs=1e-3)


@pytest.mark.parametrize("order", [(0, 2, 1), (1, 0, 2), (2, 1, 0), (1, 2, 0)])
def test_permuting_the_axes_commutes_with_the_estimate(order):
    data = phantom(shape=(64, 60, 54))
    plain = estimate(volume(data))
    turned = estimate(volume(np.ascontiguousarray(data.transpose(order))))
    assert_allclose(turned.scale, plain.scale.transpose(order), atol=1e-4)
    assert np.mean(np.abs(turned.confidence - plain.confidence.transpose(order)) > 1e-3) < 1e-3
    assert turned.full_scale.value == pytest.approx(plain.full_scale.value, rel=1e-5)


@pytest.mark.parametrize("shape", [(81, 81, 81), (72, 80, 64), (67, 61, 79)])
def test_odd_and_oblong_boxes_give_the_answer_of_the_cube(shape):
    big = phantom(shape=(96, 96, 96), centre=(48, 48, 48))
    start = [(96 - n) // 2 for n in shape]
    part = tuple(slice(s, s + n) for s, n in zip(start, shape, strict=True))
    settings = Settings(tile_size="25A")
    whole, cut = estimate(volume(big), settings), estimate(volume(np.ascontiguousarray(big[part])), settings)
    assert cut.full_scale.value == pytest.approx(whole.full_scale.value, rel=0.03)
    inner = tuple(slice(32 - s, 64 - s) for s in start)
    difference = np.abs(cut.scale[inner] - whole.scale[32:64, 32:64, 32:64])
    assert np.median(difference) < 0.02
    assert np.quantile(difference, 0.99) < 0.08
    assert cut.lowest_confident_scale == pytest.approx(whole.lowest_confident_scale, abs=0.05)


def test_strong_amplification_brings_confident_content_to_full_scale():
    est = estimate(volume(phantom()), Settings(amplify=1e6, exclude_solvent=True))
    out = np.empty(est.volume.shape, np.float32)

    def keep(_, start, stop, slab):
        out[start:stop] = slab

    compute_planes({"amplified": est.maps["amplified"]}, keep)
    again = estimate(volume(out), Settings())
    full, half = again.scale[20:28, 26:38, 26:38], again.scale[36:44, 26:38, 26:38]
    assert np.median(half) / np.median(full) > 0.9
    assert np.abs(out[:8]).mean() < 0.1 * np.abs(est.volume.data[:8]).mean()


def test_amplification_by_one_is_the_identity():
    est = estimate(volume(phantom()), Settings(amplify=1.0))
    parts = {}
    compute_planes({"amplified": est.maps["amplified"]}, lambda p, a, b, s: parts.__setitem__(a, s.copy()))
    joined = np.concatenate([parts[key] for key in sorted(parts)])
    assert_allclose(joined, est.volume.data, atol=1e-6)


@pytest.mark.parametrize("threads", [1, 3])
def test_slabs_join_to_the_whole(threads):
    data = phantom(shape=(70, 48, 52))
    est = estimate(volume(data), Settings(threads=threads, amplify=3, attenuate=2, sigmoid=4))
    names = ["scale", "confidence", *modifications(est.settings)]
    made = {p: np.empty(data.shape, np.float32) for p in names}

    def keep(product, start, stop, slab):
        made[product][start:stop] = slab

    compute_planes({p: est.maps[p] for p in names}, keep)
    assert_allclose(made["scale"], est.scale)
    assert_allclose(made["confidence"], est.confidence)
    s, c = est.scale.astype(float), est.confidence.astype(float)
    factor = np.where(s >= 0.05, np.maximum(s, 0.05) ** (1 / 3 - 1), 1)
    plain = np.clip(c * data * factor + (1 - c) * data, data.min(), data.max())
    assert_allclose(made["amplified"], plain, atol=2e-5)


def test_recalibration_puts_zero_at_the_lowest_confident_scale():
    data = phantom()
    plain, moved = (
        estimate(volume(data), Settings(estimator="local", recalibrate=move)) for move in (False, True)
    )
    zero = plain.lowest_confident_scale
    assert_allclose(moved.scale, np.clip((plain.scale - zero) / (1 - zero), 0, 1), atol=1e-5)


def test_naive_full_scale_comes_from_the_maximum():
    est = estimate(volume(phantom()), Settings(naive=True))
    assert est.full_scale.value == pytest.approx(est.settings.tau * est.lowpassed.max(), rel=1e-6)


def test_resolution_mode_uses_the_map_as_it_is():
    data = phantom()
    est = estimate(volume(data), Settings(mode="resolution", kernel_size=3, kernel_radius=1.0))
    crossed = np.maximum.reduce([np.roll(data, s, a) for a in range(3) for s in (-1, 0, 1)])
    inner = (slice(2, -2),) * 3
    assert_allclose(est.scale[inner], np.clip(crossed[inner] / est.full_scale.value, 0, 1), atol=1e-6)


def test_a_target_reads_its_occupancy():
    data = phantom(noise=0.05)
    mask = np.zeros_like(data)
    mask[36:44, 26:38, 26:38] = 1
    est = estimate(volume(data), target_mask=volume(mask))
    assert est.target.voxels == 8 * 12 * 12
    assert est.target.occupancy == pytest.approx(0.5, abs=0.08)


def test_a_solvent_mask_helps_from_either_side():
    data = phantom()
    content = (estimate(volume(data)).confidence > 0.5).astype(np.float32)
    inside, outside = (
        estimate(volume(data), solvent_mask=volume(m)).solvent.sigma for m in (content, 1 - content)
    )
    assert inside == pytest.approx(outside, rel=1e-6)


@pytest.mark.parametrize("max_box", [48, 40])
def test_a_coarser_working_grid_changes_little(max_box):
    data = phantom(shape=(64, 60, 64))
    fine, coarse = (estimate(volume(data), Settings(max_box=m, lowpass=12)) for m in (None, max_box))
    assert coarse.settings.shape[0] == max_box
    assert coarse.scale.shape == data.shape
    inner = (slice(20, 44),) * 3
    assert np.abs(coarse.scale[inner] - fine.scale[inner]).mean() < 0.06


def test_a_low_passed_output_has_nothing_beyond():
    est = estimate(volume(phantom()), Settings(amplify=3, lowpass_output=10))
    data = _finished(est.settings, est.volume, est.volume.data)
    r = np.sqrt(sum(np.meshgrid(*[np.fft.fftfreq(64) ** 2] * 3, indexing="ij")))
    power = np.abs(np.fft.fftn(data)) ** 2
    # Clipping to the input's range puts a little back.
    assert power[r > 1.05 * 2.5 / 10].sum() < 1e-3 * power[(r > 0) & (r <= 2.5 / 10)].sum()


def test_masks_of_another_size_are_refused():
    with pytest.raises(InputError, match=r"solvent mask .*resample the mask"):
        estimate(volume(phantom()), solvent_mask=volume(np.ones((32, 32, 32), np.float32)))


def test_an_inverted_map_is_reported():
    est = estimate(volume(-phantom()))
    assert [n.code for n in est.notices].count("contrast") == 1


def test_a_low_pass_longer_than_the_box_is_refused():
    with pytest.raises(InputError, match="is the voxel size right"):
        estimate(volume(phantom(), voxel=2.5), Settings(lowpass=500))


def test_a_map_masked_to_nothing_but_content_is_reported():
    blob = phantom(noise=0)
    est = estimate(volume(blob), Settings(estimator="local"))
    assert {"masked", "solvent-fit"} <= {n.code for n in est.notices}


def test_a_mask_with_other_axes_is_refused():
    data = phantom()
    turned = Volume(
        np.ones_like(data), (2.5,) * 3, Frame(axes=(3, 2, 1), cell=(160.0,) * 3, sampling=(64,) * 3)
    )
    with pytest.raises(InputError, match="axes in the order"):
        estimate(volume(data), target_mask=turned)
