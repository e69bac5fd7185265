"""The benchmark's likelihood of unseen particles: its projections are RELION's, and truth wins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.classification.particles import BLOCKS, SETS, write_particles
from benchmarks.classification.runs import area_row
from benchmarks.classification.unseen import Images, likelihoods, mixture, project, read_images
from occupy.io.mrc import write_map
from occupy.volume import Volume

N, PIXEL, COUNT = 32, 4.0, 40
SETTINGS = replace(SETS["pol2"], box=N, voxel_size=PIXEL)


def blobs(rng: np.random.Generator, extra: bool) -> np.ndarray:
    z, y, x = np.indices((N, N, N)) - N // 2
    data = np.zeros((N, N, N))
    for centre in [*rng.uniform(-6, 6, (8, 3)), *([(6, 0, 3)] * extra)]:
        data += np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2) / 4)
    return data.astype(np.float32)


@pytest.fixture(scope="module")
def projected(
    tmp_path_factory: pytest.TempPathFactory, relion: Callable[..., Any]
) -> tuple[np.ndarray, Images]:
    """Return a map, and RELION's projections of it at random poses, with contrast transfer and shifts."""
    folder: Path = tmp_path_factory.mktemp("projected")
    rng = np.random.default_rng(0)
    data = blobs(rng, extra=True)
    write_map(folder / "map.mrc", Volume.from_array(data, PIXEL))
    columns = {
        "rlnImageName": np.array([f"{i + 1:06d}@particles.mrcs" for i in range(COUNT)]),
        "rlnOpticsGroup": np.ones(COUNT, dtype=int),
        "rlnAngleRot": rng.uniform(-180, 180, COUNT),
        "rlnAngleTilt": rng.uniform(0, 180, COUNT),
        "rlnAnglePsi": rng.uniform(-180, 180, COUNT),
        "rlnOriginXAngst": rng.normal(0, 8, COUNT),
        "rlnOriginYAngst": rng.normal(0, 8, COUNT),
        "rlnDefocusU": rng.uniform(8000, 20000, COUNT),
        "rlnDefocusV": rng.uniform(8000, 20000, COUNT),
        "rlnDefocusAngle": rng.uniform(0, 180, COUNT),
    }
    write_particles(folder / "particles.star", columns, SETTINGS)
    words = "relion_project --i map.mrc --ang particles.star --o projected --ctf --angpix"
    relion(*words.split(), PIXEL, cwd=folder)
    (folder / "projected.mrcs").rename(folder / "particles.mrcs")
    return data, read_images(folder / "particles.star", 12, 110)


def test_projections_are_relions(projected: tuple[np.ndarray, Images]) -> None:
    data, images = projected
    expected = project(data, images) * images.transfer
    cross = np.einsum("ic,ic->i", images.data, expected.conj()).real
    norms = np.linalg.norm(images.data, axis=1) * np.linalg.norm(expected, axis=1)
    assert (cross / norms).min() > 0.98


def test_the_right_map_is_the_likeliest(projected: tuple[np.ndarray, Images]) -> None:
    data, images = projected
    without = blobs(np.random.default_rng(0), extra=False)
    gains = likelihoods([without, data], images)
    assert (gains.argmax(axis=1) == 1).all()
    assert (mixture(gains) > mixture(gains[:, :1])).all()
    # The same map twice tells no more than once, and its grey scale does not matter.
    assert mixture(likelihoods([data, data], images)) == pytest.approx(mixture(likelihoods([data], images)))
    assert likelihoods([3 * data], images) == pytest.approx(likelihoods([data], images), rel=1e-4)


@pytest.mark.parametrize("name", sorted(SETS))
def test_shares_of_a_sets_states_add_up(name: str) -> None:
    states = SETS[name].states
    assert sum(share for share, _ in states.values()) == pytest.approx(1)
    assert len({tuple(absent) for _, absent in states.values()}) == len(states)


def test_sixteen_unequal_states_lack_known_blocks() -> None:
    states = SETS["sixteen"].states
    assert len(states) == 16
    assert min(share for share, _ in states.values()) == pytest.approx(0.0117, abs=1e-4)
    assert {block for _, absent in states.values() for block in absent} == set(BLOCKS)


def test_the_area_is_half_for_the_same_map_and_less_for_another_state() -> None:
    rng = np.random.default_rng(2)
    one, other = blobs(rng, extra=True), blobs(rng, extra=False)
    found = area_row([one, other], [3 * one, one], PIXEL, 100.0)
    same, different = map(float, found["areas"].split())
    assert same == pytest.approx(0.5, abs=0.02)
    assert different < 0.8 * same
    assert float(found["area"]) == pytest.approx((same + different) / 2, abs=1e-3)
