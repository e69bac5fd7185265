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


def _neighbours(
    coarse: int, fine: int, start: int, stop: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """Return lower and upper coarse neighbours of fine samples and the weight of the upper one."""
    x = np.arange(start, stop) * (coarse / fine)
    low = np.minimum(x.astype(np.intp), coarse - 1)
    return low, np.minimum(low + 1, coarse - 1), (x - low).astype(np.float32)


def _along(
    array: npt.NDArray[np.float32], axis: int, fine: int, start: int, stop: int
) -> npt.NDArray[np.float32]:
    low, high, weight = _neighbours(array.shape[axis], fine, start, stop)
    shape = [1, 1, 1]
    shape[axis] = -1
    w = weight.reshape(shape)
    out: npt.NDArray[np.float32] = array.take(low, axis=axis) * (1 - w) + array.take(high, axis=axis) * w
    return out


def refine_slab(
    coarse: npt.NDArray[np.float32], shape: tuple[int, int, int], start: int, stop: int
) -> npt.NDArray[np.float32]:
    """Interpolate planes ``start`` to ``stop`` of a map of ``shape`` from a coarser one.

    Both grids begin at the same point and cover the same extent; values stay within the range of the
    coarse map (Fourier padding would ring beyond it).
    """
    slab = _along(coarse, 0, shape[0], start, stop)
    slab = _along(slab, 1, shape[1], 0, shape[1])
    return _along(slab, 2, shape[2], 0, shape[2])
