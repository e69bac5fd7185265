"""Occupancy of parts from single images: exact without noise, whatever the order, blocks and threads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.spatial.transform import Rotation

from blob_images import CENTRES, NAMES, STATES, WIDTHS, Stack, blobs, off_by, projected
from occupy.errors import InputError
from occupy.io.particle_images import FolderStore, forget_pieces
from occupy.particles import pipeline
from occupy.particles.agreement import OfMap, compare_with_map, disagreements
from occupy.particles.columns import (
    BLOCK,
    Block,
    blocks,
    in_order,
    read_block,
    whole_and_moments,
    with_derivatives,
)
from occupy.particles.evidence import Evidence, false_spread, fit_spread
from occupy.particles.images import Ctf, ParticleImages, _wavelength, transfer
from occupy.particles.pipeline import Options, ParticleOccupancy, grid_for, particle_occupancy
from occupy.particles.presence import empty_images
from occupy.particles.refine import Model, no_offsets, overconfidence, refine
from occupy.particles.scaling import RefinedPoses, fit_scaling, shell_sums, turned
from occupy.particles.slices import (
    Band,
    FourierVolumes,
    band_between,
    coefficients_of,
    cropped,
    displaced,
    fourier_volumes,
    plane_of,
    rotations,
)
from occupy.particles.states import find_states, mixture_errors, presence_correlations, responsibilities


def made(
    count: int, noise: float, seed: int = 0, pose_error: float = 0.0, states: npt.NDArray[np.bool_] = STATES
) -> tuple[ParticleImages, npt.NDArray[np.int64]]:
    """Images of particles in equally many of each state."""
    rng = np.random.default_rng(seed)
    state = rng.permutation(np.arange(count) % len(states))
    matrices = Rotation.random(count, rng=rng).as_matrix()
    images = projected(states[state], matrices, noise, rng, CENTRES, WIDTHS)
    return replace(images, matrices=off_by(matrices, pose_error, rng)), state


def estimate(
    images: ParticleImages,
    order: tuple[int, ...] = (0, 1, 2, 3),
    store: FolderStore | None = None,
    **asked: object,
) -> ParticleOccupancy:
    options = replace(Options(shortest=14.0), **asked)  # type: ignore[arg-type]
    volumes = blobs(grid_for(images, options)[1], images.side)[list(order)]
    names = tuple(NAMES[i] for i in order)
    return particle_occupancy(images, names, volumes, options, lambda *_: None, store)


NOISE = 1.0


@pytest.fixture(scope="module")
def noisy() -> tuple[ParticleImages, npt.NDArray[np.int64]]:
    return made(300, NOISE, seed=3)


@pytest.fixture(scope="module")
def found(noisy: tuple[ParticleImages, npt.NDArray[np.int64]]) -> ParticleOccupancy:
    return estimate(noisy[0])


def test_the_transfer_function_is_the_textbooks() -> None:
    assert _wavelength(np.array([300.0, 200.0, 100.0])) == pytest.approx(
        [0.019687, 0.025079, 0.037014], rel=1e-4
    )
    one = np.ones(1)
    ctf = Ctf(15000 * one, 14000 * one, 30 * one, 300 * one, 2.7 * one, 0.07 * one, 20 * one, 50 * one)
    s, angle = 0.08, np.radians(75)
    value, slope = transfer(ctf, s * np.array([[np.cos(angle), np.sin(angle)]]))
    # Weighted sums of sine and cosine, astigmatism by the two squares: another way to write it.
    z = 15000 * np.cos(angle - np.radians(30)) ** 2 + 14000 * np.sin(angle - np.radians(30)) ** 2
    chi = np.pi * 0.01968749 * z * s**2 - np.pi / 2 * 2.7e7 * 0.01968749**3 * s**4 + np.radians(20)
    expected = (np.sqrt(1 - 0.07**2) * np.sin(chi) + 0.07 * np.cos(chi)) * np.exp(-50 / 4 * s**2)
    assert value[0, 0] == pytest.approx(expected, abs=1e-4)
    more = replace(ctf, defocus_u=ctf.defocus_u + 10, defocus_v=ctf.defocus_v + 10)
    change = transfer(more, s * np.array([[np.cos(angle), np.sin(angle)]]))[0] - value
    assert change[0, 0] / 10 == pytest.approx(slope[0, 0], rel=0.02)


def all_in_one(images: ParticleImages, band: Band) -> Block:
    return read_block(images, band, np.arange(len(images)))


def complex_of(pairs: npt.NDArray[np.float32]) -> npt.NDArray[np.complex64]:
    """Real and imaginary parts (…, 2) as complex numbers."""
    return pairs[..., 0] + 1j * pairs[..., 1]


def test_slices_of_gaussians_are_gaussians() -> None:
    images, state = made(40, 0.0)
    band = band_between(images.side, 60, 14)
    volumes = fourier_volumes(blobs(2 * band.last + 2, images.side), band.last)
    block = all_in_one(images, band)
    columns = plane_of(band.k_xy, images.matrices, volumes).of(volumes, block.ctf)
    model = complex_of((columns * STATES[state][:, None, None, :]).sum(axis=3))
    seen = complex_of(block.coefficients)
    scale = np.vdot(model, seen) / np.vdot(model, model)
    assert np.linalg.norm(seen - scale * model) < 0.02 * np.linalg.norm(seen)
    assert abs(scale.imag) < 1e-3 * abs(scale)


def test_derivatives_are_differences() -> None:
    images, _ = made(6, 0.0)
    band = band_between(images.side, 60, 14)
    core = blobs(2 * band.last + 2, images.side).sum(axis=0)
    whole = whole_and_moments(core, np.zeros_like(core), band.last)
    block, one = all_in_one(images, band), np.ones(len(band), dtype=np.float32)

    def columns(matrices: npt.NDArray[np.float64]) -> npt.NDArray[np.complex64]:
        plane = plane_of(band.k_xy, matrices, whole)
        return complex_of(with_derivatives(block, band, plane, matrices, whole, one).transpose(0, 1, 3, 2))

    here = columns(images.matrices)
    for axis in (3, 4, 5):
        step = np.zeros((6, 7))
        step[:, axis] = 0.01
        change = columns(turned(images.matrices, step)) - columns(turned(images.matrices, -step))
        expected = 0.02 * here[:, :, axis]
        assert np.linalg.norm(change[:, :, 0] - expected) < 0.25 * np.linalg.norm(expected)
    # An image moved by a shift against the particle's looks like the column added to the projection.
    shift = 0.2 * np.tile([1.0, 0.0], (6, 1))
    plain = block.coefficients
    change = complex_of(displaced(plain, band, -shift) - displaced(plain, band, shift)) / 0.4
    expected = 2j * np.pi / band.side * band.k_xy[:, 0] * complex_of(plain)
    assert np.linalg.norm(change - expected) < 0.01 * np.linalg.norm(expected)
    derivative = 2j * np.pi / band.side * band.k_xy[:, 0] * here[:, :, 0]
    np.testing.assert_allclose(here[:, :, 1], derivative, rtol=1e-4, atol=1e-4 * np.abs(derivative).max())


def test_a_coarser_band_is_the_beginning_of_a_finer_one() -> None:
    band = band_between(192.0, 60, 8)
    coarse = band.down_to(20)
    assert coarse.last == int(192 / 20)
    assert np.array_equal(coarse.k_xy, band.k_xy[: len(coarse)])
    assert band.down_to(0) is band


def test_without_noise_everything_is_exact() -> None:
    images, state = made(120, 0.05)
    result = estimate(images, refine=False)
    truth = STATES[state].mean(axis=0)
    np.testing.assert_allclose(result.occupancy, truth, atol=0.01)
    assert np.array_equal(result.presence > 0.5, STATES[state])
    assert result.levels.varying.tolist() == [False, True, True, False]
    assert {tuple(bits) for bits in result.states.bits} == {tuple(bits) for bits in STATES}


def test_noisy_images_give_occupancies_states_and_correlations(
    noisy: tuple[ParticleImages, npt.NDArray[np.int64]], found: ParticleOccupancy
) -> None:
    state = noisy[1]
    truth = STATES[state].mean(axis=0)
    np.testing.assert_allclose(found.occupancy, truth, atol=0.06)
    assert (found.presence[:, 1] > 0.5)[STATES[state][:, 1]].mean() > 0.8
    true = np.corrcoef(STATES[state][:, 1:3].T)[0, 1]
    assert abs(found.correlation[1, 2] - true) < 0.15 + 2 * found.correlation_error[1, 2]
    assert np.isnan(found.correlation[0, 1])
    assert found.states.weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(found.presence.mean(axis=0), found.states.occupancy, atol=0.02)


def test_the_order_of_parts_does_not_matter(
    noisy: tuple[ParticleImages, npt.NDArray[np.int64]], found: ParticleOccupancy
) -> None:
    order = (2, 0, 3, 1)
    other = estimate(noisy[0], order)
    np.testing.assert_allclose(other.occupancy, found.occupancy[list(order)], atol=2e-3)


def test_threads_do_not_matter(
    noisy: tuple[ParticleImages, npt.NDArray[np.int64]], found: ParticleOccupancy
) -> None:
    other = estimate(noisy[0], threads=3)
    assert np.array_equal(other.occupancy, found.occupancy)
    assert np.array_equal(other.presence, found.presence)


class KilledError(Exception):
    """What ends a run."""


class Mortal(FolderStore):
    """A store whose run is killed after some pieces."""

    def __init__(self, left: int, *args: Any) -> None:
        super().__init__(*args)
        self.left = left

    def save(self, name: str, arrays: dict[str, npt.NDArray[Any]]) -> None:
        if self.left == 0:
            raise KilledError
        self.left -= 1
        super().save(name, arrays)


def test_a_killed_run_goes_on_to_the_same_numbers(
    noisy: tuple[ParticleImages, npt.NDArray[np.int64]],
    found: ParticleOccupancy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pipeline, "_CHUNK", 4)
    plain = estimate(noisy[0])
    with pytest.raises(KilledError):
        estimate(noisy[0], store=Mortal(2, tmp_path, "run"))
    kept = sorted(path.name for path in tmp_path.glob(".occupy-particles/*/*"))
    assert kept == ["images-0.npz", "learnt.npz"]
    read: list[int] = []

    class Counted(Stack):
        def read(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
            read.extend(rows.tolist())
            return super().read(rows)

    again = replace(noisy[0], source=Counted(noisy[0].source.read(np.arange(300))))
    store = FolderStore(tmp_path, "run")
    result = estimate(again, store=store)
    # What was kept is not read again, and nothing is learnt again; then images are read for the states' maps.
    assert sorted(read[: 300 - 4 * BLOCK]) == list(range(4 * BLOCK, 300))
    for name in ("occupancy", "standard_error", "presence", "offsets"):
        assert np.array_equal(getattr(result, name), getattr(plain, name))
    np.testing.assert_allclose(result.occupancy, found.occupancy, atol=1e-6)
    assert FolderStore(tmp_path, "another run").load("learnt") is None
    forget_pieces(tmp_path)
    assert not list(tmp_path.iterdir())


def test_each_optics_group_has_its_scale_and_sign(
    noisy: tuple[ParticleImages, npt.NDArray[np.int64]], found: ParticleOccupancy
) -> None:
    images, group = noisy[0], np.arange(300) % 2
    scaled = images.source.read(np.arange(300)) * np.array([1, -3], dtype=np.float32)[group][:, None, None]
    other = estimate(replace(images, source=Stack(scaled), group=group))
    ratio = other.scaling.scale[1] / other.scaling.scale[0]
    assert np.median(ratio) == pytest.approx(-3, rel=0.1)
    np.testing.assert_allclose(other.occupancy, found.occupancy, atol=0.03)


def test_an_image_says_the_same_alone_and_among_others(
    noisy: tuple[ParticleImages, npt.NDArray[np.int64]],
) -> None:
    images = noisy[0]
    band = band_between(images.side, 60, 14)
    volumes = fourier_volumes(blobs(2 * band.last + 2, images.side), band.last)
    among, alone = (read_block(images, band, np.array(rows)) for rows in ([0, 1, 2], [1]))
    assert np.array_equal(among.coefficients[1], alone.coefficients[0])

    def columns(block: Block) -> npt.NDArray[np.float32]:
        return plane_of(band.k_xy, images.matrices[block.rows], volumes).of(volumes, block.ctf)

    assert np.array_equal(columns(among)[1], columns(alone)[0])


def start_of(
    images: ParticleImages, band: Band
) -> tuple[list[Block], Model, npt.NDArray[np.float32], FourierVolumes]:
    """Blocks, the whole, part volumes and their transforms, with scaling at the poses given."""
    volumes = blobs(2 * band.last + 2, images.side)
    seen = [read_block(images, band, rows) for rows in blocks(images.group)]
    parts = fourier_volumes(list(volumes), band.last)
    start = RefinedPoses(images.matrices, np.zeros((len(images), 7)), np.zeros(len(volumes), dtype=bool))
    scaling = fit_scaling(shell_sums(seen, band, parts, start, 1))
    core = np.tensordot(scaling.amplitudes.astype(np.float32), volumes, 1)
    return seen, Model(band, whole_and_moments(core, 0 * core, band.last), scaling), volumes, parts


def off(matrices: npt.NDArray[np.float64], truth: npt.NDArray[np.float64]) -> float:
    """Root mean square angle between rotations, in radians."""
    angles = Rotation.from_matrix(matrices @ truth.transpose(0, 2, 1)).magnitude()
    return float(np.sqrt((angles**2).mean()))


@pytest.mark.parametrize(
    ("error", "rounds", "left"), [(3.0, (0.0,) * 4, 0.6), (8.0, (30.0, 20.0, 0.0, 0.0), 0.4)]
)
def test_errors_of_poses_are_found(error: float, rounds: tuple[float, ...], left: float) -> None:
    images, _ = made(300, 0.3, seed=1, pose_error=error, states=STATES[:1])
    true = made(300, 0.3, seed=1, states=STATES[:1])[0].matrices
    seen, model, _, _ = start_of(images, band_between(images.side, 60, 14))
    offsets = refine(seen, images.matrices, model, no_offsets(300), rounds, 1)
    assert off(turned(images.matrices, offsets.values), true) < left * off(images.matrices, true)
    assert np.degrees(offsets.spread[3]) == pytest.approx(error, rel=0.35)


@pytest.mark.parametrize(("understated", "least", "most"), [(1.0, 1.0, 1.3), (4.0, 2.8, 5.2)])
def test_poses_are_not_surer_than_halves_agree(understated: float, least: float, most: float) -> None:
    """Where noise is understated the posterior covariance is too small by as much."""
    images, _ = made(200, 1.0, seed=9, states=STATES[:1])
    seen, model, _, _ = start_of(images, band_between(images.side, 60, 14))
    wrong = replace(model.scaling, noise=model.scaling.noise / understated)
    # The prior is wide: the images alone say where they are.
    spread = np.array([0.1, 20.0, 20.0, 0.3, 0.3, 0.3, 200.0])
    found = overconfidence(seen, images.matrices, replace(model, scaling=wrong), spread, (0.0,), 1)
    assert found[0] == found[1]
    assert (found >= least).all()
    assert (found <= most).all()


def quadratic(
    amplitudes: npt.NDArray[np.float64], precision: npt.NDArray[np.float64], rng: np.random.Generator
) -> Evidence:
    """Evidence of independent parts with these amplitudes (N, C), each known with a precision (C,)."""
    count, parts = amplitudes.shape
    curvature = np.tile(np.diag(precision)[np.triu_indices(parts)], (count, 1)).astype(np.float32)
    mean = amplitudes.mean(axis=0)
    gradient = precision * (amplitudes - mean) + np.sqrt(precision) * rng.normal(size=amplitudes.shape)
    return Evidence(gradient.astype(np.float32), curvature, mean)


def test_false_spread_is_what_varies_without_coming_or_going() -> None:
    rng = np.random.default_rng(2)
    amplitudes = 1 + 0.2 * rng.normal(size=(20_000, 1)) + 0.3 * rng.normal(size=(20_000, 5))
    evidence = quadratic(amplitudes, np.array([30.0, 20.0, 40.0, 10.0, 30.0]), rng)
    common, single = false_spread(evidence, fit_spread(evidence, rounds=2), np.ones(5, dtype=bool))
    assert common == pytest.approx(0.04, abs=0.008)
    assert single == pytest.approx(0.09, abs=0.012)
    still = quadratic(np.ones((20_000, 5)), np.full(5, 20.0), rng)
    assert max(false_spread(still, fit_spread(still, rounds=2), np.ones(5, dtype=bool))) < 0.003


def test_evidence_knows_its_mean_and_can_be_softened() -> None:
    rng = np.random.default_rng(3)
    precision = np.array([4.0, 9.0, 16.0])
    evidence = quadratic(1 + rng.normal(size=(50, 3)), precision, rng)
    moved = evidence.recentred(np.zeros(3))
    np.testing.assert_allclose(moved.gradient, evidence.onto, rtol=1e-5, atol=1e-5)
    # A variance in series with another: precisions add as resistances do.
    soft = evidence.softened(np.diag([0.5, 0.0, 0.25]))
    expected = 1 / (1 / precision + np.array([0.5, 0.0, 0.25]))
    np.testing.assert_allclose(
        np.diagonal(soft.matrices(), axis1=1, axis2=2), np.tile(expected, (50, 1)), rtol=1e-5
    )
    np.testing.assert_allclose(soft.gradient / expected, evidence.gradient / precision, rtol=1e-4, atol=1e-5)


def test_images_without_a_particle_are_found() -> None:
    rng = np.random.default_rng(5)
    bits = STATES[rng.permutation(np.arange(1200) % 3)].astype(float)
    there = rng.uniform(size=1200) > 0.2
    precision = np.array([50.0, 9.0, 9.0, 30.0])
    empty = empty_images(quadratic(bits * there[:, None], precision, rng))
    assert (empty == ~there).mean() > 0.97
    # Parts that come and go are no empty images.
    assert not empty_images(quadratic(bits, precision, rng)).any()
    # Nor are a few that show little of their particle.
    weak = np.ones((1200, 1))
    weak[:4] = np.array([[0.05], [0.1], [0.25], [0.35]])
    assert not empty_images(quadratic(np.ones((1200, 4)) * weak, precision, np.random.default_rng(0))).any()


def test_absent_parts_are_not_taken_for_errors_of_poses() -> None:
    """Where a part is missing the pose is as good as elsewhere once its amplitude is free."""
    states = np.array([[1, 1, 1, 1], [1, 0, 1, 1]], dtype=bool)
    images, _ = made(300, 0.1, seed=7, pose_error=2.0, states=states)
    true = made(300, 0.1, seed=7, states=states)[0].matrices
    seen, model, volumes, parts = start_of(images, band_between(images.side, 60, 14))
    outside = np.array([False, True, False, False])
    sums = [np.tensordot(model.scaling.amplitudes * each, volumes, 1) for each in (~outside, outside)]
    whole = whole_and_moments(sums[0].astype(np.float32), sums[1].astype(np.float32), model.band.last)
    free = replace(model, volumes=whole, others=parts.of(outside), deviation=np.array([[0.25]]))
    errors = []
    for each in (replace(model, volumes=whole), free):
        offsets = refine(seen, images.matrices, each, no_offsets(300), (0.0,) * 3, 1)
        errors.append(off(turned(images.matrices, offsets.values), true))
    assert errors[1] < 0.9 * errors[0]


def test_images_and_map_are_compared_in_standard_errors(found: ParticleOccupancy) -> None:
    one, two = float(found.occupancy[1]), float(found.occupancy[2])
    error = float(found.standard_error[1])
    of_map = {
        "one": OfMap(one + 0.01, error),
        "two": OfMap(two - 0.3, 0.02, relative_b=40.0),
        "three": OfMap(0.4, 0.02, unlike=True),
    }
    rows = {row.name: row for row in compare_with_map(found, of_map)}
    assert set(rows) == set(of_map)
    assert rows["one"].difference == pytest.approx(-0.01 / (error * 2**0.5))
    assert not rows["one"].reason
    assert rows["two"].reason == "map lower: flexible (relative B +40 Å²)?"
    assert "unlike" in rows["three"].reason
    assert [notice.code for notice in disagreements(tuple(rows.values()))] == ["images-against-map"]
    assert disagreements((rows["one"],)) == ()


def test_parts_that_come_together_are_found_among_many() -> None:
    """Ten varying parts: too many for all combinations; seven weak ones come and go together."""
    rng = np.random.default_rng(4)
    states = np.ones((3, 12), dtype=bool)
    states[1, 2:9] = False
    states[2, 9:12] = False
    bits = states[rng.permutation(np.arange(3000) % 3)]
    precision = np.array([60.0, 60.0, *[3.0] * 7, *[8.0] * 3])
    evidence = quadratic(bits.astype(float), precision, rng)
    varying = np.arange(12) >= 2
    found = find_states(evidence, varying, np.ones(12), fit_spread(evidence).covariance)
    assert {tuple(each) for each in found.bits} == {tuple(each) for each in states}
    np.testing.assert_allclose(found.occupancy, bits.mean(axis=0), atol=0.03)
    error = np.sqrt(np.diag(mixture_errors(evidence, found, np.ones(12), 3000)))
    assert (error > 0.005).all()
    assert (error < 0.02).all()


def test_no_more_states_than_there_are() -> None:
    rng = np.random.default_rng(0)
    bits = STATES[rng.permutation(np.arange(1500) % 3)].astype(float)
    evidence = quadratic(bits, np.array([50.0, 9.0, 9.0, 30.0]), rng)
    spread = fit_spread(evidence)
    mixture = find_states(evidence, np.array([False, True, True, False]), np.ones(4), spread.covariance)
    assert {tuple(each) for each in mixture.bits} == {tuple(each) for each in STATES}
    np.testing.assert_allclose(mixture.occupancy, bits.mean(axis=0), atol=0.03)
    chance = responsibilities(evidence, slice(None), mixture)[0] @ mixture.bits
    for low in (0.1, 0.5, 0.8):
        chosen = (chance[:, 1] >= low) & (chance[:, 1] < low + 0.2)
        assert abs(chance[chosen, 1].mean() - bits[chosen, 1].mean()) < 0.15
    correlation, error = presence_correlations(evidence, mixture)
    assert correlation[1, 2] == pytest.approx(0.5, abs=0.1)
    assert 0 < error[1, 2] < 0.1
    np.testing.assert_allclose(np.diag(spread.covariance)[1:3], bits.var(axis=0)[1:3], atol=0.05)


def test_parts_that_look_weaker_in_some_images_are_not_called_rarer() -> None:
    """Poses found without them are further off in some images: all that may be absent is weaker there."""
    rng = np.random.default_rng(7)
    bits = STATES[rng.permutation(np.arange(20_000) % 3)].astype(float)
    factor = np.ones((20_000, 4))
    factor[:, 1:3] += 0.3 * rng.normal(size=(20_000, 1))
    evidence = quadratic(bits * factor, np.array([80.0, 6.0, 6.0, 80.0]), rng)
    varying, covariance = np.array([False, True, True, False]), fit_spread(evidence).covariance
    mixture = find_states(evidence, varying, np.ones(4), covariance)
    assert mixture.unsteady == pytest.approx(0.09, abs=0.02)
    np.testing.assert_allclose(mixture.occupancy, bits.mean(axis=0), atol=0.01)
    errors = np.sqrt(np.diag(mixture_errors(evidence, mixture, np.ones(4), 20_000)))
    assert (errors < 0.01).all()
    # The likelihood is that of a normal factor: no gradient is left in its variance.
    values = [
        responsibilities(evidence, slice(None), replace(mixture, unsteady=u))[1].sum()
        for u in mixture.unsteady * np.array([0.8, 1.0, 1.2])
    ]
    assert values[1] > max(values[0], values[2])
    steady = quadratic(bits, np.array([80.0, 6.0, 6.0, 80.0]), rng)
    assert find_states(steady, varying, np.ones(4), covariance).unsteady < 0.01


def test_blocks_keep_groups_apart_and_order() -> None:
    group = np.array([0, 1] * (BLOCK + 3))
    tasks = blocks(group)
    assert all(len(set(group[rows])) == 1 for rows in tasks)
    assert sorted(np.concatenate(tasks)) == list(range(len(group)))
    assert [int(rows[0]) for rows in in_order(lambda rows: rows, tasks, 3)] == [
        int(rows[0]) for rows in tasks
    ]


def test_cropping_keeps_the_centre() -> None:
    fine, coarse = blobs(48, 192.0), blobs(24, 192.0)
    for one, other in zip(fine, coarse, strict=True):
        np.testing.assert_allclose(cropped(one, 24), other, atol=0.02)


def test_coefficients_know_where_the_centre_is() -> None:
    image = np.zeros((1, 9, 9), dtype=np.float32)
    image[0, 4, 4] = 1
    band = band_between(9.0, 9.0, 2.5)
    found = coefficients_of(image, band, np.zeros((1, 2)))
    np.testing.assert_allclose(found, np.broadcast_to([1, 0], found.shape), atol=1e-6)


def test_rotations_are_relions() -> None:
    # RELION's matrix for rot 10, tilt 20, psi 30 is Rz(30) Ry(20) Rz(10) of passive rotations.
    expected = Rotation.from_euler("ZYZ", [10, 20, 30], degrees=True).inv().as_matrix()
    np.testing.assert_allclose(rotations(np.array([[10.0, 20.0, 30.0]]))[0], expected, atol=1e-12)


def test_too_few_shells_are_refused() -> None:
    images, _ = made(2, 0.0)
    with pytest.raises(InputError, match="too few shells"):
        grid_for(replace(images, pixel_size=30.0), Options())


def test_images_that_hold_nothing_are_left_out_as_a_state_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where parts that come and go hide them in the first look (a fifth of the large set *channel*)."""
    monkeypatch.setattr(pipeline, "empty_images", lambda evidence: np.zeros(len(evidence), dtype=bool))
    states = np.array([[1, 1, 1, 1], [1, 0, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]], dtype=bool)
    images, state = made(400, NOISE, seed=5, states=states)
    found = estimate(images)
    assert "empty-images" in {notice.code for notice in found.notices}
    assert ((found.state == len(found.states.bits)) == (state == 3)).mean() > 0.95
    np.testing.assert_allclose(found.occupancy, [1, 1 / 3, 2 / 3, 1 / 3], atol=0.05)
