"""The statistics of shared and own parts, on maps with a known answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from occupy.io.loop import ReconstructionCall
from occupy.relion.classes import StoredClass, separate
from occupy.relion.options import HookOptions, RunningJob
from occupy.relion.separation import (
    LOOP,
    ClassSpectrum,
    SpecificPart,
    _chi_square_ratio,
    _degrees_of_freedom,
    _sphere,
    choose_bands,
    even_size,
    map_of,
    on_shells,
    radii,
    resize,
    shared_part,
    spectrum_of,
)

M = 32
LENGTH = 320.0  # Å: voxels of 10 Å
SHELLS = 12


def noise_map(rng: np.random.Generator, sigma: float = 1.0) -> np.ndarray:
    white = np.fft.rfftn(rng.normal(size=(M, M, M)))
    kept = np.fft.irfftn(white * (radii(M) <= SHELLS), s=(M, M, M), axes=(0, 1, 2))
    return (sigma * kept / kept.std()).astype(np.float32)


def blob(centre: tuple[int, int, int], width: float = 2.0) -> np.ndarray:
    grid = np.indices((M, M, M)) - np.array(centre)[:, None, None, None]
    return np.exp(-(grid**2).sum(axis=0) / (2 * width**2)).astype(np.float32)


def class_map(data: np.ndarray, weight: float = 1.0, factor: float = 1.0) -> ClassSpectrum:
    flat = np.ones(SHELLS + 1, dtype=np.float32)
    return ClassSpectrum(spectrum_of(data), weight * flat, factor * flat)


@given(st.sampled_from([6, 8, 12, 16, 24]), st.sampled_from([12, 16, 24, 32]))
def test_resizing_keeps_what_both_grids_hold(m, n):
    rng = np.random.default_rng(m * n)
    spectrum = spectrum_of(rng.normal(size=(m, m, m)).astype(np.float32))
    least = min(m, n)
    below_nyquist = radii(least)[..., :] < least / 2
    there_and_back = resize(resize(resize(spectrum, n), m), least)
    assert np.allclose(there_and_back[below_nyquist], resize(spectrum, least)[below_nyquist])


def test_a_map_comes_back_from_its_spectrum():
    data = np.random.default_rng(0).normal(size=(M, M, M)).astype(np.float32)
    assert np.allclose(map_of(spectrum_of(data)), data, atol=1e-5)


def test_a_larger_grid_samples_the_same_map():
    data = blob((16, 16, 16), 3.0)
    fine = map_of(spectrum_of(data), 2 * M)
    assert np.allclose(fine[::2, ::2, ::2], data, atol=1e-4)


@pytest.mark.parametrize(("least", "size"), [(3, 4), (7, 8), (13, 16), (31, 32), (98, 100)])
def test_sizes_are_even_and_quick_to_transform(least, size):
    assert even_size(least) == size


def test_shared_part_is_the_mean_by_weight():
    a, b = blob((16, 16, 10)), blob((16, 16, 22))
    shared = shared_part([class_map(a, 3.0), class_map(b, 1.0)], M)
    inside = on_shells(np.ones(SHELLS + 1), M) > 0
    expected = 0.75 * spectrum_of(a) + 0.25 * spectrum_of(b)
    assert np.allclose(shared.mean[inside], expected[inside], atol=1e-6)


def test_the_prior_of_a_class_is_divided_out():
    data = blob((16, 16, 16))
    shrunk = class_map(0.5 * data, factor=0.5)
    assert np.allclose(map_of(shrunk.unshrunk(M)), data, atol=1e-4)


def test_more_particles_shrink_less():
    classes = [class_map(blob((16, 16, 16)), 1.0, 0.5)] * 4
    # One class: W/(W + 1/τ²) = 1/2; four with the same prior: 4/5.
    assert shared_part(classes, M).factor == pytest.approx(0.8)


def own(difference: np.ndarray, budget: float = np.inf):
    noise = np.ones(SHELLS + 1)
    bands = choose_bands(LENGTH, LENGTH / SHELLS)
    return SpecificPart.of(spectrum_of(difference), noise, bands, 0.45, budget)


def test_a_real_difference_is_kept_where_it_is_and_noise_is_not():
    rng = np.random.default_rng(1)
    signal = 12 * blob((16, 16, 9), 1.8)
    found = map_of(own(signal + noise_map(rng), budget=150).spectrum)
    true = map_of(resize(spectrum_of(signal), M) * (radii(M) <= SHELLS))
    assert np.corrcoef(found.ravel(), true.ravel())[0, 1] > 0.85
    elsewhere = _sphere(M, 0.45) & (blob((16, 16, 9), 4.0) < 0.01)
    assert found[elsewhere].std() < 0.35


def test_noise_alone_keeps_less_energy_than_a_difference():
    rng = np.random.default_rng(2)
    nothing, something = own(noise_map(rng), 100), own(noise_map(rng) + 12 * blob((16, 16, 9)), 100)
    assert something.energy > 4 * nothing.energy


def test_the_budget_holds():
    data = noise_map(np.random.default_rng(3))
    free = own(data)
    assert free.strength == 1
    for budget in (20.0, 60.0, free.freedom / 2):
        assert own(data, budget).freedom <= budget * 1.001
    assert own(data, 60).freedom > 50


def test_too_few_particles_for_an_own_part():
    found = own(12 * blob((16, 16, 9)), budget=3)
    assert found.freedom == found.energy == 0
    assert not found.spectrum.any()


def test_no_difference_gives_no_own_part():
    found = own(np.zeros((M, M, M), dtype=np.float32), 100)
    assert not found.spectrum.any()
    assert found.energy == 0


def test_scale_does_not_matter():
    data = noise_map(np.random.default_rng(4)) + 8 * blob((16, 16, 9))
    one, other = own(data, 80), own(1000 * data, 80)
    assert other.energy == pytest.approx(one.energy, rel=1e-3)
    assert np.allclose(other.spectrum, 1000 * one.spectrum, rtol=1e-3, atol=1e-4)


def test_bands_reach_the_finest_resolution():
    bands = choose_bands(LENGTH, 9.0)
    assert list(bands.edges) == sorted(bands.edges)
    assert bands.edges[0] == pytest.approx(LENGTH / 30)
    assert bands.edges[-1] == pytest.approx(LENGTH / 9)
    assert len(choose_bands(LENGTH, 40.0).edges) == 1


def test_degrees_of_freedom_describe_the_spread_of_local_power():
    rng = np.random.default_rng(5)
    transfer = np.exp(-2 * (np.pi * 0.05 * radii(M)) ** 2)
    variance = (radii(M) <= SHELLS).astype(float)
    powers = []
    for _ in range(10):
        power = np.fft.rfftn(noise_map(rng) ** 2) * transfer
        powers.append(np.fft.irfftn(power, s=(M, M, M), axes=(0, 1, 2)))
    local = np.array(powers)
    measured = 2 * local.mean() ** 2 / local.var()
    assert _degrees_of_freedom(variance, transfer) == pytest.approx(measured, rel=0.15)


@pytest.mark.parametrize("freedom", [3.0, 10.0, 50.0])
def test_quantiles_of_chi_square(freedom):
    from scipy.stats import chi2

    assert _chi_square_ratio(freedom, 0.25) == pytest.approx(chi2.ppf(0.25, freedom) / freedom, rel=0.02)


@pytest.mark.parametrize(("share", "counts_as"), [(0.02, LOOP.least_share / 2), (0.4, 0.4), (0.5, 0.5)])
def test_a_small_class_is_not_starved(share, counts_as):
    rng = np.random.default_rng(0)
    weights = (share, 1 - share)
    maps = [class_map(blob((16, 16, 16)) + noise_map(rng, 0.1), weight) for weight in weights]
    earlier = tuple(StoredClass(1, k + 1, one, M) for k, one in enumerate(maps))
    mine = class_map(blob((16, 16, 20)) + noise_map(rng, 0.1), share)
    none = Path("none")
    call = ReconstructionCall(
        none, none, none, none, none, 2, 0, 1, M, 2 * SHELLS, 1.0, 4.0, np.ones(SHELLS + 1), 10.0, 280.0
    )
    job = RunningJob(pixel_size=10.0, diameter=280.0, particles=1000, classes=2)
    own = separate(mine, earlier, call, job, HookOptions(budget=0.1)).own
    assert own.freedom == pytest.approx(0.1 * 1000 * counts_as, rel=0.01)
