"""Paths uphill, against maps whose shape is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from occupy.numerics.mesh import _value_and_gradient, climb, sample, surface
from occupy.report.surfaces import blocks_of, carried, paint

N = 24
Z, Y, X = (np.indices((N, N, N)) - N / 2).astype(np.float32)


def test_paths_lead_to_the_middle_of_a_ball_and_no_further_than_they_may() -> None:
    data = np.exp(-(Z**2 + Y**2 + X**2) / 30)
    points = surface(data, 0.2).vertices
    size = np.array([2.0, 2.0, 2.0])
    ends = climb(data, points, size, reach=6.0, step=2.0)
    middle = np.full(3, N / 2)
    before, after = (np.linalg.norm((p - middle) * size, axis=1) for p in (points, ends))
    np.testing.assert_allclose(before - after, 6.0, atol=0.2)
    far = climb(data, points, size, reach=60.0, step=2.0)
    assert np.linalg.norm((far - middle) * size, axis=1).max() < 2.5


def test_a_path_does_not_leave_a_thin_sheet() -> None:
    data = np.exp(-(Z**2) / 2)
    points = surface(data, 0.3).vertices
    ends = climb(data, points, (1.0, 1.0, 1.0), reach=6.0, step=0.5)
    assert np.abs(ends[:, 0] - N / 2).max() <= 0.5


@given(
    slope=st.tuples(*[st.floats(-2, 2)] * 3),
    place=st.tuples(*[st.floats(0, N - 1)] * 3),
)
def test_value_and_gradient_of_a_plane_are_its_own(
    slope: tuple[float, float, float], place: tuple[float, float, float]
) -> None:
    data = (slope[0] * Z + slope[1] * Y + slope[2] * X).astype(np.float32)
    point = np.array([place], dtype=np.float32)
    value, gradient = _value_and_gradient(data, point)
    np.testing.assert_allclose(gradient[0], slope, atol=1e-3)
    np.testing.assert_allclose(value, sample([data], point)[0], atol=1e-3)


def test_points_where_nothing_rises_stay() -> None:
    points = np.array([[1.5, 2.5, 3.5], [0.0, 0.0, 0.0], [N - 1, N - 1, N - 1]], dtype=np.float32)
    flat = np.zeros((N, N, N), dtype=np.float32)
    np.testing.assert_array_equal(climb(flat, points, (1.0, 1.0, 1.0), reach=6.0, step=2.0), points)


@pytest.mark.parametrize("spacing", [0.3, 1.0, 3.0])
def test_paint_is_the_same_whatever_the_grid_and_the_level(spacing: float) -> None:
    """Two balls, one weaker, whose scale falls to 0 in the rim: each has its own colour throughout."""
    z, y, x = (np.indices((round(48 / spacing), round(48 / spacing), round(96 / spacing))) + 0.5) * spacing
    strong, weak = (
        height * np.clip((14 - np.sqrt((z - 24) ** 2 + (y - 24) ** 2 + (x - at) ** 2)) / 8, 0, 1)
        for at, height in ((24, 1.0), (72, 0.4))
    )
    data = (strong + weak).astype(np.float32)
    painted = carried(data, {"scale": data}, (spacing,) * 3)["scale"]
    blocks = blocks_of(data.shape, (spacing,) * 3)
    for level in (0.05, 0.1, 0.2):
        points = surface(data, level).vertices
        found, left = paint(painted, points, blocks), points[:, 2] * spacing < 48
        np.testing.assert_allclose(np.median(found[left]), 1.0, atol=0.1)
        np.testing.assert_allclose(np.median(found[~left]), 0.4, atol=0.05)
    assert paint(painted, points[:0], blocks).shape == (0,)


def test_noise_of_the_scale_does_not_show() -> None:
    shape = np.clip(3 - np.sqrt(Z**2 + Y**2 + X**2) / 3, 0, 1).astype(np.float32)
    noise = np.random.default_rng(0).normal(0, 0.1, shape.shape)
    scale = np.clip((0.8 + noise) * shape, 0, 1).astype(np.float32)
    points = surface(shape, 0.1).vertices
    found = paint(
        carried(shape, {"scale": scale}, (2.0,) * 3)["scale"], points, blocks_of(shape.shape, (2.0,) * 3)
    )
    assert np.std(found) < 0.04
    assert abs(np.mean(found) - 0.8) < 0.04


def test_far_from_all_matter_paint_is_what_is_read_there() -> None:
    layer = np.full((N, N, N), 0.1, dtype=np.float32)
    flat = np.zeros((N, N, N), dtype=np.float32)
    np.testing.assert_allclose(carried(flat, {"scale": layer}, (2.0,) * 3)["scale"], 0.1, atol=1e-5)


def test_two_halves_of_a_ball_are_painted_with_what_they_read_inside() -> None:
    """Scale falls to 0 in the rim; painted is what the half beneath reads, on both sides."""
    occupancy = np.where(X < 0, 0.4, 1.0)
    shape = np.clip(3 - np.sqrt(Z**2 + Y**2 + X**2) / 3, 0, 1).astype(np.float32)
    data, scale = (occupancy * shape).astype(np.float32), (occupancy * shape).astype(np.float32)
    points = surface(data, 0.1).vertices
    found = carried(data, {"scale": scale}, (2.0, 2.0, 2.0))["scale"]
    painted = paint(found, points, blocks_of(data.shape, (2.0, 2.0, 2.0)))
    at_rim = sample([scale], points)[0]
    assert np.median(at_rim) < 0.15
    side = points[:, 2] - N / 2
    np.testing.assert_allclose(np.median(painted[side < -3]), 0.4, atol=0.05)
    np.testing.assert_allclose(np.median(painted[side > 3]), 1.0, atol=0.05)
