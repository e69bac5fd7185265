"""Symmetry-expanded particles: each image is looked at once, copies are counted, errors count particles."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from scipy.spatial.transform import Rotation

from blob_images import blobs, off_by, projected
from occupy.particles.images import ParticleImages
from occupy.particles.pipeline import Options, ParticleOccupancy, grid_for, particle_occupancy
from occupy.particles.symmetry import _count_copies, _turned, find_expansion, neighbours, with_copies

ORDER = 4
OPERATIONS = Rotation.from_rotvec(2 * np.pi / ORDER * np.arange(ORDER)[:, None] * [0, 0, 1]).as_matrix()
CORE, PLACE = (0.0, 0.0, 0.0), np.array([44.0, 0.0, 12.0])
CENTRES = (CORE, *(tuple(place) for place in OPERATIONS @ PLACE))
WIDTHS = (15.0, *[8.0] * ORDER)
NAMES = ("core", "a", "b", "c", "d")
RINGS = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0]], dtype=bool)
"""Copies come in pairs of neighbours; before their ring is turned at random."""

Bits = npt.NDArray[np.bool_]


def made(count: int, noise: float, seed: int = 0) -> tuple[ParticleImages, Bits]:
    """Symmetry-expanded particles, entries of a particle after each other, and the copies of each."""
    rng = np.random.default_rng(seed)
    ring = RINGS[rng.choice(4, count, p=(0.3, 0.2, 0.3, 0.2))]
    ring = np.stack([np.roll(each, turn) for each, turn in zip(ring, rng.integers(0, 4, count), strict=True)])
    matrices = Rotation.random(count, rng=rng).as_matrix()
    bits = np.column_stack([np.ones(count, dtype=bool), ring])
    images = projected(bits, matrices, noise, rng, CENTRES, WIDTHS)
    rows = np.repeat(np.arange(count), ORDER)
    expanded = matrices[rows] @ np.tile(OPERATIONS, (count, 1, 1))
    return replace(images.of(rows), matrices=expanded, particle=rows), ring


def estimate(images: ParticleImages, parts: tuple[int, ...]) -> ParticleOccupancy:
    options = Options(shortest=14.0)
    volumes = blobs(grid_for(images, options)[1], images.side, CENTRES, WIDTHS)[list(parts)]
    return particle_occupancy(images, tuple(NAMES[i] for i in parts), volumes, options, lambda *_: None)


@pytest.fixture(scope="module")
def expanded() -> tuple[ParticleImages, Bits]:
    return made(150, 1.2)


@pytest.fixture(scope="module")
def found(expanded: tuple[ParticleImages, Bits]) -> ParticleOccupancy:
    return estimate(expanded[0], (0, 1))


def in_frame_of_entries(ring: Bits) -> Bits:
    """Copies a, b, c, d of each particle, as they stand in each of its entries."""
    return np.stack([np.roll(ring, -turn, axis=1) for turn in range(ORDER)], axis=1).reshape(-1, ORDER)


def test_the_symmetry_is_found_from_the_poses(expanded: tuple[ParticleImages, Bits]) -> None:
    images, particle = expanded[0], expanded[0].particle
    assert particle is not None
    rows = np.random.default_rng(0).permutation(len(images))[:400]
    some = images.of(rows)
    found = find_expansion(some, np.unique(particle[rows], return_inverse=True)[1])
    assert found is not None
    assert len(found.operations) == ORDER
    products = found.operations[:, None] @ found.operations[None]
    np.testing.assert_allclose(found.operations[found.products], products, atol=1e-6)
    first = np.unique(particle[rows], return_inverse=True)[1]
    again = some.matrices[found.first[first]] @ found.operations[found.operation]
    np.testing.assert_allclose(again, some.matrices, atol=1e-6)
    moved = replace(images, matrices=off_by(images.matrices, 4.0, np.random.default_rng(1)))
    assert find_expansion(moved, particle) is None


def test_parts_are_turned_as_their_atoms_would_be() -> None:
    volumes = blobs(24, 192.0, CENTRES, WIDTHS)
    for number in range(1, ORDER):
        np.testing.assert_allclose(_turned(volumes[1], OPERATIONS[number]), volumes[1 + number], atol=0.02)
    tilted = Rotation.from_rotvec([0.5, -0.3, 0.2]).as_matrix()
    expected = blobs(24, 192.0, (tuple(tilted @ PLACE),), (8.0,))[0]
    np.testing.assert_allclose(_turned(volumes[1], tilted), expected, atol=0.02)


def test_copies_that_are_not_among_the_parts_are_added(expanded: tuple[ParticleImages, Bits]) -> None:
    images = expanded[0]
    assert images.particle is not None
    symmetry = find_expansion(images, images.particle)
    assert symmetry is not None
    volumes = blobs(24, images.side, CENTRES, WIDTHS)
    copied = with_copies(NAMES[:2], volumes[:2], symmetry)
    assert copied is not None
    assert copied.names == ("core", "a", "a.2", "a.3", "a.4")
    assert [each.tolist() for each in copied.orbits()] == [[1, 2, 3, 4]]
    given = with_copies(NAMES, volumes, symmetry)
    assert given is not None
    assert given.names == NAMES
    np.testing.assert_allclose(given.volumes, volumes)
    # One copy and another's neighbour in one part: no operation makes a part of it.
    across = np.stack([volumes[0], volumes[1] + volumes[2], volumes[3] + 0.9 * volumes[2]])
    assert with_copies(("core", "ab", "cb"), across, symmetry) is None


def test_copies_and_neighbours_are_counted(
    expanded: tuple[ParticleImages, Bits], found: ParticleOccupancy
) -> None:
    ring = expanded[1]
    truth = np.bincount(ring.sum(axis=1), minlength=ORDER + 1) / len(ring)
    (copies,) = found.copies
    assert copies.names == ("a", "a.2", "a.3", "a.4")
    np.testing.assert_allclose(copies.shares, truth, atol=0.06)
    assert (np.abs(copies.shares - truth) < 0.02 + 3 * copies.shares_error).all()
    both = (ring & np.roll(ring, 1, axis=1)).mean()
    assert copies.together == pytest.approx(both, abs=0.04)
    assert copies.ratio == pytest.approx(both / ring.mean() ** 2, abs=3 * copies.ratio_error)
    assert copies.ratio > 1.2
    assert found.occupancy[1:] == pytest.approx([ring.mean()] * ORDER, abs=0.05)


def test_presence_is_of_each_copy_in_the_frame_of_its_entry(
    expanded: tuple[ParticleImages, Bits], found: ParticleOccupancy
) -> None:
    truth = in_frame_of_entries(expanded[1])
    for i, name in enumerate(found.names[1:]):
        # Copies that were added come in the order of the operations.
        column = ("a", "a.2", "a.3", "a.4").index(name)
        assert ((found.presence[:, 1 + i] > 0.5) == truth[:, column]).mean() > 0.93


def test_errors_count_particles(found: ParticleOccupancy) -> None:
    """Copies mostly come in all or none: four entries tell little more than one."""
    noise = np.sqrt(found.standard_error[1] ** 2 - (found.levels.common_error * found.occupancy[1]) ** 2)
    entries = np.sqrt(found.occupancy[1] * (1 - found.occupancy[1]) / len(found.state))
    assert noise > 1.3 * entries
    assert noise < 2.2 * entries


def test_entries_refined_further_are_looked_at_by_themselves() -> None:
    images, ring = made(100, 1.2, seed=1)
    moved = replace(images, matrices=off_by(images.matrices, 1.5, np.random.default_rng(1)))
    found = estimate(moved, (0, 1, 2, 3, 4))
    assert found.names == NAMES
    assert "no common symmetry" in found.notices[0].text
    assert found.occupancy[1] == pytest.approx(ring.mean(), abs=0.06)
    assert ((found.presence[:, 1] > 0.5) == in_frame_of_entries(ring)[:, 0]).mean() > 0.9
    (copies, *_) = found.copies
    truth = np.bincount(ring.sum(axis=1), minlength=ORDER + 1) / len(ring)
    np.testing.assert_allclose(copies.shares, truth, atol=0.08)


def test_independent_copies_are_counted_as_such() -> None:
    rng = np.random.default_rng(4)
    there = rng.uniform(size=(4000, 6)) < 0.4
    ahead = np.where(there, 1.5, -1.5) + 1.7 * rng.normal(size=there.shape)
    # Log-likelihood ratio of two normal distributions of this distance and width.
    chance = 1 / (1 + np.exp(-2 * 1.5 * ahead / 1.7**2))
    ring = 2 * np.pi * np.arange(6) / 6
    pairs = neighbours(np.stack([np.cos(ring), np.sin(ring), 0 * ring], axis=1))
    assert len(pairs) == 6
    copies = _count_copies([*"abcdef"], chance, pairs)
    truth = np.bincount(there.sum(axis=1), minlength=7) / 4000
    assert (np.abs(copies.shares - truth) < 0.01 + 4 * copies.shares_error).all()
    assert copies.ratio == pytest.approx(1.0, abs=max(0.03, 3 * copies.ratio_error))


def test_the_same_images_twice_count_once() -> None:
    """Without symmetry: everything given twice changes no error of a population."""
    images, _ = made(80, 1.0, seed=2)
    once = images.of(np.arange(0, 320, ORDER))
    rows = np.repeat(np.arange(80), 2)
    twice = replace(once.of(rows), particle=rows)
    plain, double = estimate(once, (0, 1, 2, 3, 4)), estimate(twice, (0, 1, 2, 3, 4))
    np.testing.assert_allclose(double.occupancy, plain.occupancy, atol=1e-3)
    np.testing.assert_allclose(double.standard_error, plain.standard_error, rtol=0.1)
