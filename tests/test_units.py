"""Extreme values, threads and axis order: the result is a function of the data and the settings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from threadpoolctl import threadpool_info, threadpool_limits

from occupy import Settings, Volume, estimate_set, read_map, write_map
from occupy.cli.main import _with_command, run
from occupy.ensemble.members import Member
from occupy.errors import InputError
from occupy.numerics import parallel
from occupy.numerics.fourier import fourier_crop
from occupy.numerics.parallel import one_blas_thread, ordinary_unit
from occupy.pipeline import estimate
from occupy.report.results import _write_maps
from occupy.settings import Output
from occupy.volume import Frame, LazyMap, compute_planes, in_stretches

SIDE = 56
PRODUCTS = ["scale", "confidence", "uncertainty", "mask_fdr", "lowpass", "amplified", "attenuated", "sigmoid"]
ALL = Settings(amplify=3, attenuate=2, sigmoid=4, fdr=0.05, bfactor=True)


def blobs(side: int = SIDE, seed: int = 5) -> np.ndarray:
    """Return blobs of several strengths in smooth noise."""
    rng = np.random.default_rng(seed)
    data = np.zeros((side,) * 3)
    for z, y, x in rng.integers(side // 4, 3 * side // 4, (60, 3)):
        data[z, y, x] += rng.choice([0.5, 1.0])
    data = gaussian_filter(data, 1.2) * 30
    return (data + 0.05 * gaussian_filter(rng.standard_normal(data.shape), 0.5)).astype(np.float32)


def rendered(est, products=PRODUCTS) -> dict[str, np.ndarray]:
    out = {product: np.empty(est.volume.shape, np.float32) for product in products}

    def keep(product, start, stop, slab):
        out[product][start:stop] = slab

    compute_planes({p: est.maps[p] for p in products}, keep)
    return out


@pytest.fixture(scope="module")
def plain():
    return estimate(Volume.from_array(blobs(), 2.5), ALL)


@pytest.fixture(scope="module")
def small():
    return estimate(Volume.from_array(blobs() * np.float32(2.0**-40), 2.5), ALL)


@pytest.mark.parametrize("power", [-95, 40, 95])
def test_l15_values_of_1e20_or_1e_30_give_the_same_to_the_last_bit(small, power):
    unit = 2.0 ** (power + 40)
    est = estimate(Volume.from_array(blobs() * np.float32(2.0**power), 2.5), ALL)
    for product, values in rendered(small).items():
        relative = product in ("scale", "confidence", "uncertainty", "mask_fdr")
        found = rendered(est, [product])[product]
        np.testing.assert_array_equal(
            found, values if relative else np.ldexp(values, power + 40), err_msg=product
        )
    assert est.full_scale.value == small.full_scale.value * unit
    assert est.solvent.sigma == small.solvent.sigma * unit
    assert est.lowest_confident_scale == small.lowest_confident_scale
    assert est.variability_limit == small.variability_limit
    assert est.fdr_level == pytest.approx(small.fdr_level * unit)
    np.testing.assert_array_equal(est.b_factors.values, small.b_factors.values)


def test_l15_extreme_values_give_what_ordinary_ones_do(plain, small):
    np.testing.assert_allclose(small.scale, plain.scale, atol=2e-4)
    # A voxel may move to the neighbouring bin by rounding; no more than a few do.
    assert np.mean(np.abs(small.confidence - plain.confidence) > 1e-3) < 1e-3
    assert small.full_scale.value == pytest.approx(plain.full_scale.value * 2.0**-40, rel=1e-5)


def test_l15_masks_and_half_maps_are_taken_along():
    noise = np.random.default_rng(0).standard_normal((SIDE,) * 3).astype(np.float32) * 0.02
    target = Volume.from_array((blobs() > 0.3).astype(np.float32), 2.5)
    found = [
        estimate(
            Volume.from_array(blobs() * unit, 2.5),
            half_maps=tuple(Volume.from_array((blobs() + s * noise) * unit, 2.5) for s in (1, -1)),
            target_mask=target,
            solvent_mask=target,
        )
        for unit in (np.float32(1), np.float32(2.0**-80))
    ]
    assert found[0].target.occupancy == pytest.approx(found[1].target.occupancy, abs=1e-4)
    assert found[0].calibration.noise == pytest.approx(found[1].calibration.noise, rel=1e-6)
    assert found[1].target.full_scale == pytest.approx(found[0].target.full_scale * 2.0**-80, rel=1e-6)


@pytest.mark.parametrize(
    "factor", [pytest.param(1e-42, id="l14_denormal_values"), pytest.param(1e37, id="l16_values_of_1e37")]
)
def test_values_that_single_precision_cannot_hold_are_refused(factor):
    volume = Volume.from_array(blobs().astype(np.float64) * factor, 2.5, "odd")
    with pytest.raises(InputError, match=r"odd: its values reach .*; multiply the map by about"):
        estimate(volume)
    with pytest.raises(InputError, match="multiply all of them"):
        estimate_set([Member(name, lambda: volume) for name in "ab"])


def test_ordinary_values_are_left_as_they_are():
    assert [ordinary_unit(peak) for peak in (0.0, 1e-9, 1.0, 4e9, np.inf)] == [1.0] * 5
    assert ordinary_unit(3 * 2.0**50) == 2.0**52
    assert ordinary_unit(2.0**-60) == 2.0**-59


def test_l17_files_and_numbers_do_not_depend_on_threads(tmp_path: Path):
    write_map(tmp_path / "t.mrc", Volume.from_array(blobs(72), 2.0))
    kept = {}
    for threads in (1, 2, 5):
        folder = tmp_path / f"t{threads}"
        words = ["t.mrc", "-o", folder, "--threads", threads, "--amplify", 3, "--attenuate", 3, "--quiet"]
        words[0] = tmp_path / "t.mrc"
        assert run(_with_command([str(word) for word in words])) == 0
        maps = {path.name: path.read_bytes() for path in folder.glob("*.mrc")}
        kept[threads] = maps, json.loads((folder / "t_occupy.json").read_text())["numbers"]
    assert len(kept[1][0]) >= 4
    assert kept[1] == kept[2] == kept[5]


def test_l18_results_do_not_depend_on_threads_of_linear_algebra(tmp_path: Path):
    write_map(tmp_path / "t.mrc", Volume.from_array(blobs(72), 2.0))
    program = (
        "import sys, hashlib, occupy; e = occupy.estimate(occupy.read_map(sys.argv[1])); "
        "print([hashlib.sha256(a.tobytes()).hexdigest() for a in (e.scale, e.confidence)])"
    )
    said = set()
    for threads in "1", "2":
        # OpenBLAS's code for Haswell is one whose last bits depend on how products are divided.
        env = os.environ | {"OPENBLAS_NUM_THREADS": threads, "OPENBLAS_CORETYPE": "Haswell"}
        words = [sys.executable, "-c", program, str(tmp_path / "t.mrc")]
        said.add(subprocess.run(words, env=env, check=True, capture_output=True, text=True).stdout)
    assert len(said) == 1


def test_one_thread_of_linear_algebra_until_the_last_is_done(monkeypatch):
    # A viewer of another test may hold the limit for as long as it is open.
    monkeypatch.setattr(parallel, "_blas_limits", [])

    def threads() -> list[int]:
        return [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]

    if not threads():
        pytest.skip("a linear algebra library without a limit of its threads")
    with threadpool_limits(2, "blas"):
        first, second = one_blas_thread(), one_blas_thread()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert set(threads()) == {1}
        second.__exit__(None, None, None)
        assert set(threads()) == {2}


@pytest.mark.parametrize("threads", [1, 3])
def test_a_scale_that_is_never_whole_in_memory_gives_the_same_maps(monkeypatch, threads: int):
    volume, asked = Volume.from_array(blobs(SIDE), 1.25), Settings(amplify=3, threads=threads)
    whole = estimate(volume, asked)
    parts = estimate(volume, asked)
    assert parts.resampled
    monkeypatch.setattr("occupy.estimated.in_stretches", partial(in_stretches, planes=5, most=0))
    for name, lazy in whole.maps.items():
        np.testing.assert_array_equal(parts.maps[name].data, lazy.data)
    assert not parts._readings.is_known
    assert parts.variability_limit == whole.variability_limit


def test_each_stretch_is_made_once_for_planes_in_their_order():
    asked: list[tuple[int, int]] = []

    def stream(start: int, stop: int):
        asked.append((start, stop))
        yield start, stop, np.arange(start, stop, dtype=np.float32)[:, None, None] * np.ones((1, 2, 3))

    lazy = LazyMap((11, 2, 3), (1.0, 1.0, 1.0), Frame(), stream=stream)
    assert in_stretches(lazy) is lazy
    parts = in_stretches(lazy, planes=4, most=0)
    assert [float(parts.planes(z, z + 1)[0, 0, 0]) for z in range(11)] == list(range(11))
    assert asked == [(0, 4), (4, 8), (8, 11)]


def test_the_variability_limit_means_the_same_on_a_coarser_grid(tmp_path: Path):
    fine = np.asarray(blobs(SIDE).repeat(2, 0).repeat(2, 1).repeat(2, 2))
    coarse = fourier_crop(fine, (SIDE,) * 3)
    asked = Settings(max_box=SIDE, estimator="local")
    est = estimate(Volume.from_array(fine, 1.25), asked)
    same = estimate(Volume.from_array(coarse, 2.5), Settings(estimator="local"))
    assert est.resampled
    assert est.variability_limit == pytest.approx(same.variability_limit, rel=1e-4)
    limit = _write_maps(est, tmp_path, "m", output=Output()).variability_limit
    assert limit == est.variability_limit


def test_what_was_written_is_read_back_with_its_statistics(tmp_path: Path):
    data = blobs() * np.float32(2.0**90)
    write_map(tmp_path / "m.mrc", Volume.from_array(data, 2.5))
    np.testing.assert_array_equal(read_map(tmp_path / "m.mrc").data, data)
