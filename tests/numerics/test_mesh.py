"""Surfaces: closed, where they should be, the right way round."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from occupy.numerics.mesh import (
    Mesh,
    TooManyCellsError,
    _connected,
    _keep_vertices,
    sample,
    surface,
)
from strategies import arrays, shapes

N, RADIUS = 40, 13.0


def ball(n: int = N, radius: float = RADIUS, centre: tuple[float, float, float] | None = None) -> np.ndarray:
    middle = np.full(3, (n - 1) / 2) if centre is None else np.array(centre)
    at = np.indices((n,) * 3, dtype=np.float32) - middle[:, None, None, None].astype(np.float32)
    return (radius - np.sqrt((at**2).sum(axis=0))).astype(np.float32)


def enclosed(mesh: Mesh) -> float:
    """Return the signed volume, in the x, y, z frame."""
    a, b, c = np.moveaxis(mesh.vertices[mesh.faces][:, :, ::-1].astype(np.float64), 1, 0)
    return float((a * np.cross(b, c)).sum() / 6)


def test_a_ball_has_its_radius_volume_and_normals() -> None:
    mesh = surface(ball(), 0.0)
    out = mesh.vertices - (N - 1) / 2
    distance = np.linalg.norm(out, axis=1)
    assert np.abs(distance - RADIUS).max() < 0.05
    assert enclosed(mesh) == pytest.approx(4 / 3 * np.pi * RADIUS**3, rel=0.01)
    assert ((mesh.normals * out).sum(axis=1) / distance).min() > 0.98


def test_faces_and_normals_agree_on_what_is_outside() -> None:
    mesh = surface(ball(), 0.0)
    a, b, c = np.moveaxis(mesh.vertices[mesh.faces][:, :, ::-1], 1, 0)
    across = np.cross(b - a, c - a)
    assert ((across * mesh.normals[mesh.faces[:, 0]][:, ::-1]).sum(axis=1) > 0).all()


@given(shapes(2, 9).flatmap(lambda s: arrays(s, kinds=("noise", "ties", "sparse"))), st.floats(-1, 1))
def test_surfaces_inside_the_box_are_closed(data: np.ndarray, level: float) -> None:
    padded = np.pad(data, 2, constant_values=-10.0)
    mesh = surface(padded, level)
    edges = mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    # Every edge is walked as often one way as the other: no holes, and no face turned round.
    there, back = (np.unique(e, axis=0, return_counts=True) for e in (edges, edges[:, ::-1]))
    assert np.array_equal(there[0], back[0])
    assert np.array_equal(there[1], back[1])
    assert np.isfinite(mesh.vertices).all()


@given(shapes(2, 8).flatmap(lambda s: arrays(s, kinds=("noise", "ties"))), st.floats(-1, 1))
def test_vertices_lie_in_cells_that_the_surface_crosses(data: np.ndarray, level: float) -> None:
    mesh = surface(data, level)
    low = np.minimum(np.floor(mesh.vertices).astype(int), np.array(data.shape) - 2)
    for z, y, x in np.unique(low, axis=0):
        # On the face between two cells either may be meant.
        cell = data[max(z - 1, 0) : z + 2, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
        assert cell.min() <= level
        assert cell.max() > level


def test_nothing_above_the_level_is_an_empty_surface() -> None:
    mesh = surface(np.zeros((4, 5, 6), dtype=np.float32), 1.0)
    assert mesh.vertices.shape == mesh.faces.shape == (0, 3)
    assert mesh.without_dust(10).faces.shape == (0, 3)


def test_dust_goes_and_the_particle_stays() -> None:
    both = np.maximum(ball(radius=9, centre=(20, 20, 14)), ball(radius=2.5, centre=(20, 20, 34)))
    mesh = surface(both, 0.0)
    clean = mesh.without_dust(500.0)
    assert clean.vertices[:, 2].max() < 25
    assert enclosed(clean) == pytest.approx(4 / 3 * np.pi * 9**3, rel=0.02)
    assert len(mesh.without_dust(20.0).faces) == len(mesh.faces)
    assert len(mesh.without_dust(1e6).faces) == 0


def test_keep_renumbers_faces() -> None:
    mesh = surface(ball(), 0.0)
    everything = _keep_vertices(mesh, np.ones(len(mesh.vertices), dtype=bool))
    assert np.array_equal(everything.faces, mesh.faces)


def test_too_many_cells_are_refused() -> None:
    with pytest.raises(TooManyCellsError, match="more than 10"):
        surface(ball(), 0.0, most=10)
    with pytest.raises(ValueError, match="two samples"):
        surface(np.zeros((1, 5, 5), dtype=np.float32), 0.0)


@given(shapes(2, 7), st.integers(0, 2**32 - 1))
def test_samples_are_exact_for_trilinear_functions_and_at_voxels(
    shape: tuple[int, int, int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    z, y, x = np.indices(shape, dtype=np.float64)
    plane = (1 + 2 * z - y + 0.5 * x).astype(np.float32)
    noise = rng.standard_normal(shape, dtype=np.float32)
    points = (rng.random((50, 3)) * (np.array(shape) - 1)).astype(np.float32)
    found, _ = sample([plane, noise], points)
    assert np.allclose(found, 1 + points @ [2, -1, 0.5], atol=1e-4)
    voxels = np.indices(shape).reshape(3, -1).T.astype(np.float32)
    assert np.array_equal(sample([noise], voxels)[0], noise.ravel())


def test_samples_outside_are_those_of_the_border() -> None:
    data = np.arange(27, dtype=np.float32).reshape(3, 3, 3)
    points = np.array([[-5, 0, 0], [9, 9, 9]], dtype=np.float32)
    assert sample([data], points)[0].tolist() == [0.0, 26.0]
    assert sample([], points) == []


@given(st.integers(1, 40), st.lists(st.tuples(st.integers(0, 39), st.integers(0, 39)), max_size=60))
def test_connected_pieces_are_scipys(count: int, pairs: list[tuple[int, int]]) -> None:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links = np.array([p for p in pairs if max(p) < count], dtype=np.int32).reshape(-1, 2)
    found = _connected(count, links[:, 0], links[:, 1])
    graph = coo_array((np.ones(len(links)), (links[:, 0], links[:, 1])), shape=(count, count))
    _, expected = connected_components(graph, directed=False)
    assert np.array_equal(found[:, None] == found, expected[:, None] == expected)
    assert all(found[i] <= i for i in range(count))
