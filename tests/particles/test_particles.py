"""Occupancy of parts from single images: exact without noise, whatever the order, blocks and threads."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from scipy.spatial.transform import Rotation

from occupy.errors import InputError
from occupy.particles.columns import BLOCK, Poses, Setup, blocks, in_order, whole_and_moments
from occupy.particles.covariance import fit_spread
from occupy.particles.ctf import Ctf, transfer, wavelength
from occupy.particles.evidence import Evidence
from occupy.particles.images import ParticleImages
from occupy.particles.pipeline import Options, ParticleOccupancy, grid_for, particle_occupancy
from occupy.particles.refine import moved, refine
from occupy.particles.scaling import fit_scaling, shell_sums
from occupy.particles.slices import (
    band_between,
    coefficients_of,
    cropped,
    fourier_volumes,
    rotations,
)
from occupy.particles.states import find_states, presence_correlations, responsibilities

SIZE, PIXEL = 32, 6.0
CENTRES = ((0, 0, 0), (38, 10, 0), (-20, 36, 12), (0, -30, -34))
WIDTHS = (14.0, 8.0, 8.0, 8.0)
NAMES = ("core", "one", "two", "three")
STATES = np.array([[1, 1, 1, 1], [1, 0, 1, 1], [1, 0, 0, 1]], dtype=bool)


class Stack:
    """Images in memory."""

    def __init__(self, images: npt.NDArray[np.float32]) -> None:
        self.images = images

    def read(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        return self.images[rows]


def blobs(size: int, side: float) -> npt.NDArray[np.float32]:
    """Gaussian parts, on a cube whose centre is voxel size // 2."""
    along = (np.arange(size) - size // 2) * side / size
    z, y, x = np.meshgrid(along, along, along, indexing="ij")
    return np.stack(
        [
            np.exp(-((x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2) / (2 * width**2))
            for (a, b, c), width in zip(CENTRES, WIDTHS, strict=True)
        ]
    ).astype(np.float32)


def ctf_of(count: int, rng: np.random.Generator) -> Ctf:
    defocus = rng.uniform(8000, 20000, count)
    one = np.ones(count)
    return Ctf(defocus + 300, defocus, 40 * one, 300 * one, 2.7 * one, 0.1 * one, 0 * one, 0 * one)


def made(
    count: int, noise: float, seed: int = 0, pose_error: float = 0.0, states: npt.NDArray[np.bool_] = STATES
) -> tuple[ParticleImages, npt.NDArray[np.int64]]:
    """Images by an exact projection of Gaussians: no interpolation is in them."""
    rng = np.random.default_rng(seed)
    state = rng.permutation(np.arange(count) % len(states))
    matrices = Rotation.random(count, rng=rng).as_matrix()
    shifts = rng.normal(0, 4, (count, 2))
    ctf = ctf_of(count, rng)
    f = np.fft.fftfreq(SIZE, PIXEL)
    fx, fy = np.meshgrid(f[: SIZE // 2 + 1], f)
    frequency = np.stack([np.abs(fx).ravel(), fy.ravel()], axis=1)
    spectra = np.zeros((count, len(frequency)), dtype=complex)
    for part, (centre, width) in enumerate(zip(CENTRES, WIDTHS, strict=True)):
        place = matrices[:, :2, :] @ np.array(centre)
        weight = states[state, part] * (2 * np.pi * width**2) ** 1.5 / PIXEL**3
        shape = np.exp(-2 * (np.pi * width) ** 2 * (frequency**2).sum(axis=1))
        # The particle stands off the centre by minus its origin; pixel size // 2 is the centre.
        at = place - shifts + SIZE // 2 * PIXEL
        spectra += weight[:, None] * shape * np.exp(-2j * np.pi * at @ frequency.T)
    spectra *= transfer(ctf, frequency)[0]
    images = np.fft.irfft2(spectra.reshape(count, SIZE, SIZE // 2 + 1), s=(SIZE, SIZE))
    images += noise * rng.normal(size=images.shape)
    turned = Rotation.from_rotvec(np.radians(pose_error) * rng.normal(size=(count, 3))).as_matrix() @ matrices
    group = np.zeros(count, dtype=np.int64)
    return ParticleImages(Stack(images.astype(np.float32)), SIZE, PIXEL, turned, shifts, ctf, group), state


def estimate(
    images: ParticleImages, order: tuple[int, ...] = (0, 1, 2, 3), **asked: object
) -> ParticleOccupancy:
    options = replace(Options(shortest=14.0), **asked)  # type: ignore[arg-type]
    volumes = blobs(grid_for(images, options)[1], images.side)[list(order)]
    return particle_occupancy(images, tuple(NAMES[i] for i in order), volumes, options, lambda *_: None)


NOISE = 1.0


@pytest.fixture(scope="module")
def noisy() -> tuple[ParticleImages, npt.NDArray[np.int64]]:
    return made(300, NOISE, seed=3)


@pytest.fixture(scope="module")
def found(noisy: tuple[ParticleImages, npt.NDArray[np.int64]]) -> ParticleOccupancy:
    return estimate(noisy[0])


def test_the_transfer_function_is_the_textbooks() -> None:
    assert wavelength(np.array([300.0, 200.0, 100.0])) == pytest.approx(
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


def test_slices_of_gaussians_are_gaussians() -> None:
    images, state = made(40, 0.0)
    setup = Setup(images, band_between(images.side, 60, 14))
    last = setup.band.first + setup.band.shells - 1
    volumes = fourier_volumes(blobs(2 * last + 2, images.side), last)
    poses, rows = Poses(images.matrices, images.shifts), np.arange(40)
    model = (setup.projections(rows, poses, volumes) * STATES[state][:, None, :]).sum(axis=2)
    seen = setup.observed(rows, poses)
    scale = np.vdot(model, seen) / np.vdot(model, model)
    assert np.linalg.norm(seen - scale * model) < 0.02 * np.linalg.norm(seen)
    assert abs(scale.imag) < 1e-3 * abs(scale)


def test_derivatives_are_differences() -> None:
    images, _ = made(6, 0.0)
    setup = Setup(images, band_between(images.side, 60, 14))
    last = setup.band.first + setup.band.shells - 1
    core = blobs(2 * last + 2, images.side).sum(axis=0)
    whole = whole_and_moments(core, np.zeros_like(core), last)
    poses, rows = Poses(images.matrices, images.shifts), np.arange(6)
    columns = setup.whole(rows, poses, whole)
    for axis in (3, 4, 5):
        step = np.zeros((6, 7))
        step[:, axis] = 0.01
        change = (
            setup.whole(rows, moved(poses, step), whole)[:, :, 0]
            - setup.whole(rows, moved(poses, -step), whole)[:, :, 0]
        )
        expected = 0.02 * columns[:, :, axis]
        assert np.linalg.norm(change - expected) < 0.25 * np.linalg.norm(expected)
    # A particle whose true shift is larger by a step looks like the column added to the projection.
    step = np.zeros((6, 7))
    step[:, 1] = 0.2
    seen, further = setup.observed(rows, poses), setup.observed(rows, moved(poses, step))
    factor = np.exp(-2j * np.pi * 0.2 * setup.band.k_xy[:, 0] / setup.band.side)
    np.testing.assert_allclose(further, seen * factor, rtol=1e-3, atol=1e-3 * np.abs(seen).max())


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
    setup = Setup(images, band_between(images.side, 60, 14))
    last = setup.band.first + setup.band.shells - 1
    volumes = fourier_volumes(blobs(2 * last + 2, images.side), last)
    poses = Poses(images.matrices, images.shifts)
    among, alone = np.arange(3), np.array([1])
    assert np.array_equal(
        setup.projections(among, poses, volumes)[1], setup.projections(alone, poses, volumes)[0]
    )
    assert np.array_equal(setup.observed(among, poses)[1], setup.observed(alone, poses)[0])


def test_small_errors_of_poses_are_found() -> None:
    images, _ = made(300, 0.3, seed=1, pose_error=3.0, states=STATES[:1])
    setup = Setup(images, band_between(images.side, 60, 14))
    last = setup.band.first + setup.band.shells - 1
    volumes = blobs(2 * last + 2, images.side)
    start = Poses(images.matrices, images.shifts)
    scaling = fit_scaling(shell_sums(setup, start, fourier_volumes(volumes, last), 1))
    core = np.tensordot(scaling.amplitudes.astype(np.float32), volumes, 1)
    offsets = refine(setup, start, whole_and_moments(core, 0 * core, last), scaling, 4, 1)
    true = made(300, 0.3, seed=1, states=STATES[:1])[0].matrices

    def off(matrices: npt.NDArray[np.float64]) -> float:
        angles = Rotation.from_matrix(matrices @ true.transpose(0, 2, 1)).magnitude()
        return float(np.sqrt((angles**2).mean()))

    assert off(moved(start, offsets.values).matrices) < 0.6 * off(start.matrices)
    assert np.degrees(offsets.spread[3]) == pytest.approx(3.0, rel=0.35)


def test_no_more_states_than_there_are() -> None:
    rng = np.random.default_rng(0)
    bits = STATES[rng.permutation(np.arange(1500) % 3)].astype(float)
    curvature = np.tile(np.diag([50.0, 9.0, 9.0, 30.0])[np.triu_indices(4)], (1500, 1))
    mean = bits.mean(axis=0)
    precision = np.array([50.0, 9.0, 9.0, 30.0])
    gradient = precision * (bits - mean) + np.sqrt(precision) * rng.normal(size=bits.shape)
    evidence = Evidence(gradient.astype(np.float32), curvature.astype(np.float32), mean)
    mixture = find_states(evidence, np.array([False, True, True, False]), np.ones(4))
    assert {tuple(each) for each in mixture.bits} == {tuple(each) for each in STATES}
    np.testing.assert_allclose(mixture.occupancy, mean, atol=0.03)
    chance = responsibilities(evidence, slice(None), mixture)[0] @ mixture.bits
    for low in (0.1, 0.5, 0.8):
        chosen = (chance[:, 1] >= low) & (chance[:, 1] < low + 0.2)
        assert abs(chance[chosen, 1].mean() - bits[chosen, 1].mean()) < 0.15
    correlation, error = presence_correlations(evidence, mixture, np.ones(4))
    assert correlation[1, 2] == pytest.approx(0.5, abs=0.1)
    assert 0 < error[1, 2] < 0.1
    spread = fit_spread(evidence)
    np.testing.assert_allclose(np.diag(spread.covariance)[1:3], bits.var(axis=0)[1:3], atol=0.05)


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
    np.testing.assert_allclose(coefficients_of(image, band, np.zeros((1, 2))), 1, atol=1e-6)


def test_rotations_are_relions() -> None:
    # RELION's matrix for rot 10, tilt 20, psi 30 is Rz(30) Ry(20) Rz(10) of passive rotations.
    expected = Rotation.from_euler("ZYZ", [10, 20, 30], degrees=True).inv().as_matrix()
    np.testing.assert_allclose(rotations(np.array([[10.0, 20.0, 30.0]]))[0], expected, atol=1e-12)


def test_too_few_shells_are_refused() -> None:
    images, _ = made(2, 0.0)
    with pytest.raises(InputError, match="too few shells"):
        grid_for(replace(images, pixel_size=30.0), Options())
