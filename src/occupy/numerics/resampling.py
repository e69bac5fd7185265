"""From coarse grids to finer ones and back, some planes at a time."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from occupy.numerics.parallel import one_blas_thread, scratch

Array = npt.NDArray[np.float32]


def block_means(data: Array, sides: tuple[int, int, int]) -> Array:
    """Return the means over blocks of these sides, shape (⌈nz/side⌉, …); blocks at the end may be smaller."""
    out = data
    for axis, side in enumerate(sides):
        length = out.shape[axis]
        starts = np.arange(0, length, side)
        counts = np.minimum(starts + side, length) - starts
        sums = np.add.reduceat(out, starts, axis=axis)
        each = counts.reshape([-1 if k == axis else 1 for k in range(3)])
        out = np.asarray(sums / each, dtype=np.float32)
    return np.ascontiguousarray(out)


@one_blas_thread()
def interpolated_planes(
    field: Array,
    strides: tuple[int, int, int],
    start: int,
    stop: int,
    shape: tuple[int, ...],
    offsets: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Array:
    """Interpolate a coarse field linearly at some planes of a fine grid; beyond its ends it is constant.

    Parameters
    ----------
    field : ndarray of float32, shape (nz', ny', nx')
        Values.
    strides : tuple of int
        Fine voxels between them along each axis.
    start, stop : int
        Planes of the fine grid.
    shape : tuple of int
        Rows and columns of the fine grid.
    offsets : tuple of float
        Where the first value lies, in fine voxels.

    Returns
    -------
    ndarray of float32, shape (stop − start, rows, columns)
        This thread's scratch array: use it before the next call.
    """
    last = len(field) - 1
    rows, columns = (_weights(shape[k], strides[k + 1], field.shape[k + 1], offsets[k + 1]) for k in range(2))
    out = scratch("interpolated", (stop - start, *shape))
    for z in range(start, stop):
        at = min(max((z - offsets[0]) / strides[0], 0.0), float(last))
        low = min(int(at), max(last - 1, 0))
        share = np.float32(at - low)
        part = (1 - share) * field[low] + share * field[min(low + 1, last)]
        np.matmul(rows @ part, columns.T, out=out[z - start])
    return out


@cache
def _weights(length: int, stride: int, size: int, offset: float) -> Array:
    """Return the matrix, (length, size), that interpolates every ``stride``-th value linearly."""
    at = np.clip((np.arange(length) - offset) / stride, 0, size - 1)
    low = np.minimum(at.astype(int), max(size - 2, 0))
    out = np.zeros((length, size), dtype=np.float32)
    out[np.arange(length), low] = 1 - (at - low)
    if size > 1:
        out[np.arange(length), low + 1] += (at - low).astype(np.float32)
    return out


Neighbours = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Array]


def _neighbours(coarse: int, fine: int, start: int, stop: int) -> Neighbours:
    """Return lower and upper coarse neighbours of fine samples and the weight of the upper one."""
    x = np.arange(start, stop) * (coarse / fine)
    low = np.minimum(x.astype(np.intp), coarse - 1)
    return low, np.minimum(low + 1, coarse - 1), (x - low).astype(np.float32)


def refine_slab(
    coarse: npt.NDArray[np.float32], shape: tuple[int, int, int], start: int, stop: int
) -> npt.NDArray[np.float32]:
    """Interpolate planes ``start`` to ``stop`` of a map of ``shape`` from a coarser one.

    Both grids begin at the same point and cover the same extent; values stay within the range of the
    coarse map (Fourier padding would ring beyond it). Along columns and rows once per coarse plane.
    """
    below, above, of_plane = _neighbours(coarse.shape[0], shape[0], start, stop)
    columns, rows = (_neighbours(coarse.shape[k], shape[k], 0, shape[k]) for k in (2, 1))
    out = np.empty((stop - start, *shape[1:]), dtype=np.float32)
    wide: dict[int, Array] = {}

    def plane(z: int) -> Array:
        if z not in wide:
            # Two planes are wanted at a time; the older one's memory is used again.
            kept = wide.pop(min(wide)) if len(wide) == 2 else np.empty(shape[1:], dtype=np.float32)
            wide[z] = _widened(coarse[z], columns, rows, kept)
        return wide[z]

    for k, found in enumerate(out):
        low, high = plane(int(below[k])), plane(int(above[k]))
        np.subtract(high, low, out=found)
        found *= of_plane[k]
        found += low
    return out


def _widened(plane: Array, columns: Neighbours, rows: Neighbours, out: Array) -> Array:
    """Interpolate one plane along columns, then rows: the latter on whole rows of memory."""
    low, high, weight = columns
    wide = plane.take(high, axis=1)
    left = plane.take(low, axis=1)
    wide -= left
    wide *= weight
    wide += left
    low, high, weight = rows
    wide.take(high, axis=0, out=out, mode="clip")
    upper = wide.take(low, axis=0, out=scratch("rows", out.shape), mode="clip")
    out -= upper
    out *= weight[:, None]
    out += upper
    return out
