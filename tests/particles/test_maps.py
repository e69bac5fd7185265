"""Maps from single images: a reconstruction of each state, and what no part accounts for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy.spatial.transform import Rotation

from blob_images import CENTRES, NAMES, PIXEL, SIZE, STATES, WIDTHS, blobs, projected
from occupy.io.mrc import read_map, write_map
from occupy.io.particle_images import read_particle_images
from occupy.io.particles import read_structured, write_with_class
from occupy.particles.evidence import Evidence, fit_spread
from occupy.particles.images import ParticleImages
from occupy.particles.pipeline import Options, ParticleOccupancy, grid_for, particle_occupancy
from occupy.particles.presence import find_levels
from occupy.particles.slices import back_transformed, band_between, empty_volumes, fourier_volumes, plane_of
from occupy.report.particle_results import write_maps, write_particle_report
from occupy.volume import Volume

UNNAMED = (10.0, -40.0, 30.0)
MAP_OPTIONS = Options(shortest=14.0, full_densities=False)


def estimate(bits: npt.NDArray[np.bool_], noise: float, seed: int = 0) -> ParticleOccupancy:
    """Particles of four parts with names, and one without."""
    rng = np.random.default_rng(seed)
    matrices = Rotation.random(len(bits), rng=rng).as_matrix()
    images = projected(bits, matrices, noise, rng, (*CENTRES, UNNAMED), (*WIDTHS, 8.0))
    options = Options(shortest=14.0)
    volumes = blobs(grid_for(images, options)[1], images.side)
    return particle_occupancy(images, NAMES, volumes, options, lambda *_: None)


def values_at(
    volume: npt.NDArray[np.float32], side: float, points: tuple[tuple[float, ...], ...]
) -> list[float]:
    """Density at points, x, y, z in Å from the centre."""
    places = [np.rint(np.array(p)[::-1] / side * len(volume)).astype(int) + len(volume) // 2 for p in points]
    return [float(volume[tuple(place)]) for place in places]


@pytest.fixture(scope="module")
def found() -> ParticleOccupancy:
    rng = np.random.default_rng(1)
    bits = np.column_stack([STATES[np.arange(300) % 3], rng.uniform(size=300) < 0.6])
    return estimate(bits, 1.0)


def test_each_state_has_a_map_without_what_it_lacks(found: ParticleOccupancy) -> None:
    assert list(found.maps) == [1, 2, 3]
    for number, volume in found.maps.items():
        values = np.array(values_at(volume, found.band.side, CENTRES))
        there = found.states.bits[number - 1]
        assert (values[there] > 0.6).all()
        assert (values[~there] < 0.3).all()


def test_what_nobody_named_is_found_where_it_is(found: ParticleOccupancy) -> None:
    residual = found.residual
    assert residual is not None
    assert residual.sure
    peak = np.array(np.unravel_index(np.abs(residual.volume).argmax(), residual.volume.shape))[::-1]
    step = found.band.side / len(residual.volume)
    assert np.linalg.norm((peak - len(residual.volume) // 2) * step - UNNAMED) < 1.5 * step
    assert sum(residual.where) < 0.3
    assert "beside the parts" in next(n.text for n in found.notices if n.code == "residual")


def test_nothing_is_found_where_parts_are_all_there_is() -> None:
    bits = np.column_stack([STATES[np.arange(200) % 3], np.zeros(200, dtype=bool)])
    found = estimate(bits, 1.0)
    assert found.residual is not None
    assert not found.residual.sure
    assert found.residual.power < 0.01
    assert [notice.code for notice in found.notices] == []


def test_slices_put_back_are_the_volume_again() -> None:
    side, size = 192.0, 28
    volume = blobs(size, side).sum(axis=0)
    band = band_between(side, side, 14.5)
    grid = empty_volumes(size // 2 - 1)
    matrices = Rotation.random(400, rng=np.random.default_rng(0)).as_matrix()
    plane = plane_of(band.k_xy, matrices, grid)
    one = np.ones((400, len(band)), dtype=np.float32)
    slices = plane.of(fourier_volumes([volume], size // 2 - 1), one)[..., 0]
    again = back_transformed(plane.back(slices), plane.back(one), grid, 1e-3)
    # All but the mean, which no slice of the band has.
    away = (again - again.mean()) - (volume - volume.mean())
    assert np.abs(away).max() < 0.06 * volume.max()


def test_maps_are_written_in_the_frame_of_the_model(found: ParticleOccupancy, tmp_path: Path) -> None:
    files = write_maps(tmp_path, found, (10.0, 20.0, 30.0))
    assert set(files) == {"state_1", "state_2", "state_3", "residual"}
    volume = read_map(tmp_path / files["state_2"])
    assert volume.frame.origin == (10.0, 20.0, 30.0)
    assert volume.shape[0] * volume.voxel_size[0] == pytest.approx(found.band.side, rel=1e-5)
    np.testing.assert_allclose(volume.data, found.maps[2])
    page = write_particle_report(tmp_path / "report.html", found, "p.star").read_text()
    assert "each state" in page


@pytest.mark.parametrize("has", [True, False])
def test_cryosparc_gets_states_as_classes(has: bool, tmp_path: Path) -> None:
    fields = [("uid", "<u8"), ("alignments3D/shift", "<f4", (2,)), *([("alignments3D/class", "<u4")] * has)]
    table = np.zeros(3, dtype=fields)
    table["uid"], table["alignments3D/shift"] = [5, 7, 9], 1.5
    with (tmp_path / "p.cs").open("wb") as stream:
        np.save(stream, table)
    write_with_class(tmp_path / "p.cs", np.array([1, 0, 2]), tmp_path / "q.cs")
    again = read_structured(tmp_path / "q.cs")
    assert again["alignments3D/class"].tolist() == [1, 0, 2]
    assert again["uid"].tolist() == [5, 7, 9]
    assert (again["alignments3D/shift"] == 1.5).all()


@pytest.fixture(scope="module")
def of_a_map() -> tuple[ParticleImages, npt.NDArray[np.bool_], npt.NDArray[np.float32]]:
    """Images in two halves, and parts as a map of all of them has them: as high as they are often there."""
    rng = np.random.default_rng(0)
    bits = np.ones((300, 4), dtype=bool)
    bits[:, 1], bits[:, 2] = rng.uniform(size=300) < 0.4, rng.uniform(size=300) < 0.7
    matrices = Rotation.random(300, rng=rng).as_matrix()
    images = replace(projected(bits, matrices, 1.0, rng, CENTRES, WIDTHS), half=np.arange(300) % 2)
    volumes = blobs(grid_for(images, MAP_OPTIONS)[1], images.side)
    return images, bits, volumes * bits.mean(axis=0).astype(np.float32)[:, None, None, None]


def test_densities_of_a_map_are_as_low_as_parts_are_rare(
    of_a_map: tuple[ParticleImages, npt.NDArray[np.bool_], npt.NDArray[np.float32]],
) -> None:
    images, bits, volumes = of_a_map
    found = particle_occupancy(images, NAMES, volumes, MAP_OPTIONS, lambda *_: None)
    np.testing.assert_allclose(found.occupancy, bits.mean(axis=0), atol=0.04)
    levels = found.states.levels / found.levels.full
    np.testing.assert_allclose(levels, 1 / bits.mean(axis=0), rtol=0.1)


def test_each_half_is_compared_with_its_own_densities(
    of_a_map: tuple[ParticleImages, npt.NDArray[np.bool_], npt.NDArray[np.float32]],
) -> None:
    """Noise that images share with the densities of their own half would look like the part."""
    images, bits, volumes = of_a_map
    both = np.stack([volumes, 2 * volumes])
    found = particle_occupancy(images, NAMES, both, MAP_OPTIONS, lambda *_: None)
    np.testing.assert_allclose(found.occupancy, bits.mean(axis=0), atol=0.04)
    assert ((found.presence > 0.5) == bits).mean() > 0.95
    # A part that one half's densities lack is not seen in that half's images, and in no other's.
    both[0, 2] = 1e-3 * volumes[3]
    blind = particle_occupancy(images, NAMES, both, MAP_OPTIONS, lambda *_: None)
    sure = np.abs(blind.presence[:, 2] - 0.5) > 0.3
    assert sure[images.half == 1].mean() > sure[images.half == 0].mean() + 0.3


def test_halves_are_read_from_the_file(tmp_path: Path) -> None:
    optics = "data_optics\n\nloop_\n_rlnOpticsGroup\n_rlnVoltage\n_rlnSphericalAberration\n"
    optics += "_rlnAmplitudeContrast\n_rlnImagePixelSize\n_rlnImageSize\n1 300 2.7 0.1 6 32\n\n"
    names = "ImageName OpticsGroup AngleRot AngleTilt AnglePsi DefocusU DefocusV DefocusAngle RandomSubset"
    head = "data_particles\n\nloop_\n" + "".join(f"_rln{name}\n" for name in names.split())
    stack = Volume.from_array(np.zeros((3, SIZE, SIZE), dtype=np.float32), PIXEL)
    write_map(tmp_path / "p.mrc", stack)
    (tmp_path / "p.mrc").replace(tmp_path / "p.mrcs")
    for subsets, expected in (((1, 2, 2), [0, 1, 1]), ((1, 1, 1), None)):
        rows = "".join(f"{i + 1}@p.mrcs 1 0 0 0 9000 9000 0 {s}\n" for i, s in enumerate(subsets))
        (tmp_path / "p.star").write_text(optics + head + rows)
        half = read_particle_images(tmp_path / "p.star")[0].half
        assert (None if half is None else half.tolist()) == expected


def test_what_varies_but_never_is_absent_is_not_called_full() -> None:
    """A part that moves, or a mask that holds more than comes and goes: its amplitude has one wide peak."""
    rng = np.random.default_rng(2)
    amplitudes = np.ones((3000, 3))
    amplitudes[:, 1] = 1 + 0.7 * rng.normal(size=3000)
    precision = np.array([60.0, 20.0, 60.0])
    curvature = np.tile(np.diag(precision)[np.triu_indices(3)], (3000, 1)).astype(np.float32)
    noise = np.sqrt(precision) * rng.normal(size=amplitudes.shape)
    gradient = precision * (amplitudes - amplitudes.mean(axis=0)) + noise
    evidence = Evidence(gradient.astype(np.float32), curvature, amplitudes.mean(axis=0))
    levels = find_levels(evidence, fit_spread(evidence))
    assert levels.unclear.tolist() == [False, True, False]
    assert not levels.varying.any()
