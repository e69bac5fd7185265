"""Closed surfaces of maps as triangles, what a renderer wants at each vertex, and ways uphill from there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float32]
Index = npt.NDArray[np.int32]

# The eight corners of a cell (z, y, x) and its twelve edges as pairs of corners.
_CORNERS = np.array([(z, y, x) for z in (0, 1) for y in (0, 1) for x in (0, 1)])
_EDGES = [(a, b) for a in range(8) for b in range(a + 1, 8) if bin(a ^ b).count("1") == 1]


@dataclass(frozen=True)
class Mesh:
    """Triangles in units of voxels.

    Attributes
    ----------
    vertices : ndarray of float32, shape (n, 3)
        z, y, x as fractional indices of the array.
    normals : ndarray of float32, shape (n, 3)
        Unit vectors z, y, x that point from high values to low ones.
    faces : ndarray of int32, shape (m, 3)
        Vertices of each triangle, counter-clockwise seen from outside in a right-handed x, y, z frame.
    """

    vertices: Float
    normals: Float
    faces: Index

    def without_dust(self, smallest: float) -> Mesh:
        """Drop the pieces that enclose a volume (in voxels) below ``smallest``.

        Pieces that reach the border are open; what they enclose is counted up to planes through the centre of
        their vertices, so that a large open piece stays.
        """
        if smallest <= 0 or len(self.faces) == 0:
            return self
        f = self.faces
        links = np.concatenate([f[:, 0], f[:, 0]]), f[:, 1:].T.ravel()
        _, piece = np.unique(_connected(len(self.vertices), *links), return_inverse=True)
        pieces = int(piece.max()) + 1
        corners = self.vertices[f].astype(np.float64)
        # Relative to the middle of each piece, so that open ones don't depend on where the origin is.
        members = np.bincount(piece, minlength=pieces)
        middle = np.stack(
            [np.bincount(piece, self.vertices[:, a], pieces) / members for a in range(3)], axis=1
        )
        of_face = piece[f[:, 0]]
        corners -= middle[of_face][:, None, :]
        signed = np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6
        enclosed = np.abs(np.bincount(of_face, signed, pieces))
        return _keep_vertices(self, (enclosed >= smallest)[piece])


class TooManyCellsError(ValueError):
    """A surface passes through more cells than the caller can use."""


def surface(data: npt.NDArray[np.floating], level: float, *, most: int | None = None) -> Mesh:
    """Return the surface where an array crosses a level, by surface nets.

    One vertex per cell of 2×2×2 samples that the surface passes through, at the mean of the points where
    it crosses the cell's edges; one quadrangle, cut into two triangles, per edge of the grid that it
    crosses. Fewer and rounder triangles than those of marching cubes, and no table.

    Parameters
    ----------
    data : ndarray, shape (nz, ny, nx)
        At least two samples along each axis.
    level : float
        The surface encloses values above it; it is open where it meets the border of the array.
    most : int, optional
        Cells it may pass through; TooManyCellsError where there are more.

    References
    ----------
    S. F. F. Gibson, Constrained elastic surface nets, MICCAI 1998 (the unrelaxed net).
    """
    if data.ndim != 3 or min(data.shape) < 2:
        raise ValueError(f"a surface needs at least two samples along three axes, not {data.shape}")
    cells = _crossed_cells(data > level)
    if most is not None and len(cells) > most:
        raise TooManyCellsError(f"the surface passes through {len(cells)} cells, more than {most}")
    if len(cells) == 0:
        none = np.zeros((0, 3), dtype=np.float32)
        return Mesh(none, none, np.zeros((0, 3), dtype=np.int32))
    values = _corner_values(data, cells)
    values -= np.float32(level)
    places = np.unravel_index(cells, _cell_shape(data.shape))
    within = _crossing(values)
    vertices = np.stack(places).astype(np.float32) + within
    faces = _quadrangles(values > 0, cells, places, data.shape)
    return Mesh(np.ascontiguousarray(vertices.T), _normals(values, within), faces)


def _cell_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    return shape[0] - 1, shape[1] - 1, shape[2] - 1


def _crossed_cells(inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """Return the flat numbers, rising, of the cells whose corners are not all on one side."""
    some, every = inside, inside
    for axis in range(3):
        low = tuple(slice(None, -1) if a == axis else slice(None) for a in range(3))
        high = tuple(slice(1, None) if a == axis else slice(None) for a in range(3))
        some, every = some[low] | some[high], every[low] & every[high]
    return np.flatnonzero(some & ~every)


def _corner_values(data: npt.NDArray[np.floating], cells: npt.NDArray[np.intp]) -> Float:
    """Return the values at the eight corners of each cell, shape (8, n)."""
    _, ny, nx = data.shape
    z, y, x = np.unravel_index(cells, _cell_shape(data.shape))
    first = (z * ny + y) * nx + x
    flat = data.reshape(-1)
    return np.stack([flat[first + step] for step in _CORNERS @ np.array([ny * nx, nx, 1])]).astype(np.float32)


def _crossing(values: Float) -> Float:
    """Return the mean of the points where each cell's edges are crossed, within the cell; shape (3, n)."""
    total = np.zeros((3, values.shape[1]), dtype=np.float32)
    count = np.zeros(values.shape[1], dtype=np.float32)
    above = values > 0
    for a, b in _EDGES:
        crossed = above[a] != above[b]
        at = np.divide(values[a], values[a] - values[b], out=np.zeros_like(values[a]), where=crossed)
        count += crossed
        for axis in range(3):
            low, high = _CORNERS[a, axis], _CORNERS[b, axis]
            total[axis] += at if low != high else crossed * np.float32(low)
    return total / count


def _normals(values: Float, within: Float) -> Float:
    """Return minus the direction of the trilinear interpolant's gradient in each cell."""
    out = np.empty((values.shape[1], 3), dtype=np.float32)
    for axis in range(3):
        others = [a for a in range(3) if a != axis]
        slope = np.zeros(values.shape[1], dtype=np.float32)
        for corner, value in zip(_CORNERS, values, strict=True):
            weight = np.float32(1.0)
            for other in others:
                weight = weight * (within[other] if corner[other] else 1 - within[other])
            slope += weight * value if corner[axis] else -weight * value
        out[:, axis] = -slope
    length = np.linalg.norm(out, axis=1, keepdims=True)
    return np.asarray(np.divide(out, length, out=np.zeros_like(out), where=length > 0))


def _quadrangles(
    above: npt.NDArray[np.bool_],
    cells: npt.NDArray[np.intp],
    places: tuple[npt.NDArray[np.intp], ...],
    shape: tuple[int, ...],
) -> Index:
    """Return two triangles for every crossed edge that has a cell on all four sides."""
    sides = _cell_shape(shape)
    strides = (sides[1] * sides[2], sides[2], 1)
    number = np.full(sides[0] * sides[1] * sides[2], -1, dtype=np.int32)
    number[cells] = np.arange(len(cells), dtype=np.int32)
    faces = []
    for axis in range(3):
        # The two axes after this one in z, y, x order; x, y, z being right-handed, z, y, x is not.
        u, v = (axis + 1) % 3, (axis + 2) % 3
        ahead = above[4 >> axis]  # the corner one step along this axis
        whole = (places[u] > 0) & (places[v] > 0)
        for crossed, outward in ((above[0] & ~ahead, True), (~above[0] & ahead, False)):
            here = cells[crossed & whole]
            a, b, c, d = (
                number[here - du * strides[u] - dv * strides[v]]
                for du, dv in ((0, 0), (1, 0), (1, 1), (0, 1))
            )
            if outward:
                b, d = d, b
            faces += [np.stack([a, b, c], axis=1), np.stack([a, c, d], axis=1)]
    return np.concatenate(faces)


def _connected(count: int, first: Index, second: Index) -> Index:
    """Return for each of ``count`` items the lowest number among those it is linked to, directly or not.

    Parameters
    ----------
    count : int
        Number of items.
    first, second : ndarray of int, same length
        Linked pairs.
    """
    # SciPy's graphs do the same, but importing them takes longer than a first surface may.
    label = np.arange(count, dtype=np.int32)
    while True:
        one, other = label[first], label[second]
        apart = one != other
        if not apart.any():
            return label
        first, second, one, other = first[apart], second[apart], one[apart], other[apart]
        np.minimum.at(label, np.maximum(one, other), np.minimum(one, other))
        while not np.array_equal(shorter := label[label], label):
            label = shorter


def _keep_vertices(mesh: Mesh, wanted: npt.NDArray[np.bool_]) -> Mesh:
    """Return the vertices that are wanted and the faces between them."""
    number = np.cumsum(wanted, dtype=np.int32) - np.int32(1)
    faces = mesh.faces[wanted[mesh.faces[:, 0]]]
    return Mesh(mesh.vertices[wanted], mesh.normals[wanted], number[faces])


def sample(arrays: Sequence[npt.NDArray[np.floating]], points: Float) -> list[Float]:
    """Interpolate arrays of one shape linearly at fractional indices.

    Parameters
    ----------
    arrays : sequence of ndarray, shape (nz, ny, nx)
        Values; at least two samples along each axis.
    points : ndarray, shape (n, 3)
        z, y, x; those outside get the value at the nearest border.
    """
    if not arrays:
        return []
    last = np.array(arrays[0].shape) - 1
    out = [np.zeros(len(points), dtype=np.float32) for _ in arrays]
    flat = [array.reshape(-1) for array in arrays]
    for _, sides, index in _around(arrays[0].shape, np.clip(points, 0, last)):
        weight = sides[0] * sides[1] * sides[2]
        for result, values in zip(out, flat, strict=True):
            result += weight * values[index]
    return out


def _around(
    shape: tuple[int, ...], points: npt.NDArray[np.floating]
) -> Iterator[tuple[Index, list[Float], npt.NDArray[np.intp]]]:
    """Yield the corners of the cells that points lie in: which, weights per axis, and flat indices."""
    low = [np.minimum(points[:, a].astype(np.intp), n - 2) for a, n in enumerate(shape)]
    part = [(points[:, a] - i).astype(np.float32) for a, i in enumerate(low)]
    first = (low[0] * shape[1] + low[1]) * shape[2] + low[2]
    steps = _CORNERS @ np.array([shape[1] * shape[2], shape[2], 1])
    for corner, step in zip(_CORNERS, steps, strict=True):
        yield corner, [part[a] if corner[a] else 1 - part[a] for a in range(3)], first + step


def climb(
    data: npt.NDArray[np.floating],
    points: Float,
    spacing: Sequence[float],
    *,
    reach: float,
    step: float,
) -> Float:
    """Return where paths end that follow the gradient of a map uphill.

    A path turns with the gradient after each step and ends where the next step would lead down, so that it
    neither crosses a thin part nor leaves it.

    Parameters
    ----------
    data : ndarray, shape (nz, ny, nx)
        The map; at least two samples along each axis.
    points : ndarray of float32, shape (n, 3)
        Fractional indices z, y, x where paths begin.
    spacing : sequence of float
        Å per sample along z, y, x.
    reach, step : float
        Longest way and length of a step, in Å.

    Returns
    -------
    ndarray of float32, shape (n, 3)
        Fractional indices; where the map does not rise, the points themselves.
    """
    size = np.asarray(spacing, dtype=np.float32)
    last = np.array(data.shape, dtype=np.float32) - 1
    here = np.clip(points, 0, last).astype(np.float32)
    height, slope = _value_and_gradient(data, here)
    moving = np.arange(len(here))
    for _ in range(round(reach / step)):
        uphill = slope / size
        length = np.linalg.norm(uphill, axis=1, keepdims=True)
        uphill = np.divide(uphill, length, out=np.zeros_like(uphill), where=length > 0)
        ahead = np.clip(here[moving] + uphill * np.float32(step) / size, 0, last).astype(np.float32)
        higher, slope = _value_and_gradient(data, ahead)
        rises = higher > height
        moving, height, slope = moving[rises], higher[rises], slope[rises]
        here[moving] = ahead[rises]
    return here


def _value_and_gradient(data: npt.NDArray[np.floating], points: Float) -> tuple[Float, Float]:
    """Return the linear interpolant of a map and its gradient, per sample along z, y, x.

    Parameters
    ----------
    data : ndarray, shape (nz, ny, nx)
        At least two samples along each axis.
    points : ndarray, shape (n, 3)
        Fractional indices z, y, x within the map.
    """
    flat = data.reshape(-1)
    value = np.zeros(len(points), dtype=np.float32)
    gradient = np.zeros((3, len(points)), dtype=np.float32)
    for corner, sides, index in _around(data.shape, points):
        found = flat[index]
        value += sides[0] * sides[1] * sides[2] * found
        for axis in range(3):
            other, third = (a for a in range(3) if a != axis)
            weight = sides[other] * sides[third] * found
            gradient[axis] += weight if corner[axis] else -weight
    return value, np.ascontiguousarray(gradient.T)
