"""Ways uphill in a map: from points on its rim to the matter beneath."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float32]

# The eight corners of a cell, z, y, x.
_CORNERS = tuple((z, y, x) for z in (0, 1) for y in (0, 1) for x in (0, 1))


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
    height, slope = value_and_gradient(data, here)
    moving = np.arange(len(here))
    for _ in range(round(reach / step)):
        uphill = slope / size
        length = np.linalg.norm(uphill, axis=1, keepdims=True)
        uphill = np.divide(uphill, length, out=np.zeros_like(uphill), where=length > 0)
        ahead = np.clip(here[moving] + uphill * np.float32(step) / size, 0, last).astype(np.float32)
        higher, slope = value_and_gradient(data, ahead)
        rises = higher > height
        moving, height, slope = moving[rises], higher[rises], slope[rises]
        here[moving] = ahead[rises]
    return here


def value_and_gradient(data: npt.NDArray[np.floating], points: Float) -> tuple[Float, Float]:
    """Return the linear interpolant of a map and its gradient, per sample along z, y, x.

    Parameters
    ----------
    data : ndarray, shape (nz, ny, nx)
        At least two samples along each axis.
    points : ndarray, shape (n, 3)
        Fractional indices z, y, x within the map.
    """
    flat, (_, ny, nx) = data.reshape(-1), data.shape
    low = [np.minimum(points[:, a].astype(np.intp), n - 2) for a, n in enumerate(data.shape)]
    part = [(points[:, a] - i).astype(np.float32) for a, i in enumerate(low)]
    first = (low[0] * ny + low[1]) * nx + low[2]
    value = np.zeros(len(points), dtype=np.float32)
    gradient = np.zeros((3, len(points)), dtype=np.float32)
    for corner in _CORNERS:
        found = flat[first + (corner[0] * ny + corner[1]) * nx + corner[2]]
        sides = [part[a] if corner[a] else 1 - part[a] for a in range(3)]
        value += sides[0] * sides[1] * sides[2] * found
        for axis in range(3):
            other, third = (a for a in range(3) if a != axis)
            weight = sides[other] * sides[third] * found
            gradient[axis] += weight if corner[axis] else -weight
    return value, np.ascontiguousarray(gradient.T)
