"""Relative B-factors: a known difference comes back with its sign, whatever occupancy and sharpening."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from occupy import InputError, Settings, Volume
from occupy.bfactor import UNKNOWN, _band_centres, relative_b_factors
from occupy.pipeline import estimate

VOXEL = 2.0


def fields(seed, shape=(72, 72, 72), noise=0.02):
    """Return two blocks of texture: the lower one blurred by an extra B-factor, half as present."""
    rng = np.random.default_rng(seed)
    f = np.meshgrid(*(np.fft.fftfreq(n, VOXEL) for n in shape), indexing="ij")
    q2 = sum(k**2 for k in f)
    texture = np.fft.fftn(np.abs(rng.standard_normal(shape)) + 1)

    def blurred(b):
        return np.fft.ifftn(texture * np.exp(-b * q2 / 4)).real

    where = np.zeros(shape, dtype=int)
    where[16:36, 18:54, 18:54] = 1
    where[36:56, 18:54, 18:54] = 2
    return where, blurred, noise * rng.standard_normal((2, *shape))


def made(extra, occupancy=1.0, sharpen=0.0, seed=0):
    where, blurred, noise = fields(seed)
    data = np.where(where == 1, blurred(60), 0) + occupancy * np.where(where == 2, blurred(60 + extra), 0)
    f = np.meshgrid(*(np.fft.fftfreq(n, VOXEL) for n in data.shape), indexing="ij")
    gain = np.exp(sharpen * sum(k**2 for k in f) / 4)
    both = [np.fft.ifftn(np.fft.fftn(data + n) * gain).real.astype(np.float32) for n in noise]
    return where, (both[0] + both[1]) / 2, tuple(both)


def difference(extra, halves=False, **options):
    where, data, pair = made(extra, **options)

    def content(sides):
        coarse = where[tuple(slice(None, None, s) for s in sides)]
        return coarse > 0, coarse == 0

    found = relative_b_factors(data, (VOXEL,) * 3, content, pair if halves else None)
    values = found.planes("values", 0, 72, (72, 72)).copy()
    errors = found.planes("errors", 0, 72, (72, 72)).copy()
    inner = {k: values[a : a + 10, 24:48, 24:48] for k, a in ((1, 21), (2, 41))}
    return float(np.median(inner[2]) - np.median(inner[1])), values, errors


def test_a_difference_comes_back_with_its_sign():
    assert abs(difference(0)[0]) < 25
    assert 50 < difference(80)[0] < 250
    assert difference(-40)[0] < -20


@pytest.mark.parametrize("options", [{"occupancy": 0.4}, {"sharpen": 40.0}, {"halves": True}])
def test_occupancy_and_sharpening_are_no_b_factor(options):
    assert difference(80, **options)[0] == pytest.approx(difference(80)[0], rel=0.3)


def test_nothing_is_said_where_nothing_is_known():
    _, values, errors = difference(80)
    # In the corner there is noise only.
    assert np.median(errors[:6, :6, :6]) == UNKNOWN
    assert np.median(np.abs(values[:6, :6, :6])) == 0
    assert np.median(errors[44:50, 30:40, 30:40]) < 100


def test_bands_lie_within_what_the_voxels_hold():
    for voxel in (0.8, 1.5, 4.0):
        centres, _ = _band_centres((voxel,) * 3)
        assert (np.diff(centres) > 0).all()
        assert centres[-1] < 0.5 / voxel


def test_the_estimate_finds_them_when_asked():
    _, data, _ = made(80)
    volume = Volume.from_array(data, VOXEL, "two")
    assert estimate(volume).b_factors is None
    est = estimate(volume, Settings(bfactor=True))
    assert est.b_factors is not None
    values = est.maps["relative_bfactor"].planes(0, 72)
    assert np.median(values[41:51, 24:48, 24:48]) > np.median(values[21:31, 24:48, 24:48]) + 30
    with pytest.raises(InputError, match="calibrated"):
        Settings(bfactor=True, estimator="nlf")


def test_noise_alone_gives_none_and_says_so():
    data = np.random.default_rng(1).standard_normal((48, 48, 48)).astype(np.float32)
    est = estimate(Volume.from_array(data, 3.0, "noise"), Settings(bfactor=True))
    assert est.b_factors is None
    assert "bfactor" in [notice.code for notice in est.notices]


def belted(detail=1.0, noise=0.05):
    """Return a map whose lower block has a fold at half occupancy, the upper one density without detail."""
    rng = np.random.default_rng(3)
    shape, where = (64, 64, 64), np.zeros((64, 64, 64), dtype=int)
    where[10:32, 16:48, 16:48], where[32:54, 16:48, 16:48] = 1, 2
    fold = 0.5 * (1 + detail * rng.standard_normal(shape)) * (where == 1)
    data = gaussian_filter(fold, 0.6) + 0.6 * gaussian_filter((where == 2).astype(float), 2.0)
    noisy = data + gaussian_filter(noise * rng.standard_normal(shape), 0.6)
    return where, Volume.from_array(noisy.astype(np.float32), 2.2)


def test_density_without_detail_is_marked_and_weak_folds_are_not():
    where, volume = belted()
    est = estimate(volume, Settings(bfactor=True))
    marked = est.maps["mask_featureless"].data
    assert marked[38:48, 22:42, 22:42].mean() > 0.8
    assert marked[where == 1].mean() < 0.05
    assert [n.text.split()[0] for n in est.notices if n.code == "featureless"] != []
    assert "mask_featureless" not in estimate(volume).maps


def test_where_noise_hides_all_detail_nothing_is_called_featureless():
    assert "mask_featureless" not in estimate(belted(noise=3.0)[1], Settings(bfactor=True)).maps
