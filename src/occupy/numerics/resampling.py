"""From coarse grids to finer ones and back, some planes at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable
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


class Refiner:
    """A map on a finer grid, by linear interpolation, some planes at a time and from several threads.

    Both grids begin at the same point and cover the same extent; values stay within the range of the
    coarse map (Fourier padding would ring beyond it). Along columns and rows once per coarse plane: these
    wide planes are kept from call to call.

    Parameters
    ----------
    coarse : tuple of int
        Shape of the map.
    shape : tuple of int
        Of the finer grid.
    plane : callable
        Returns a plane of the map, by its number; of an array, its ``__getitem__``.
    """

    def __init__(
        self, coarse: tuple[int, ...], shape: tuple[int, int, int], plane: Callable[[int], Array]
    ) -> None:
        self._shape, self._plane = shape, plane
        self._planes, self._rows, self._columns = (
            _neighbours(n, m, 0, m) for n, m in zip(coarse, shape, strict=True)
        )
        self._kept = threading.local()

    def planes(self, start: int, stop: int) -> Array:
        """Return planes ``start`` to ``stop``; valid until the next call from the same thread."""
        below, above, share = self._planes
        out = self._work("out", stop - start)
        for found, z in zip(out, range(start, stop), strict=True):
            low, rise = self._step(int(below[z]), int(above[z]))
            np.multiply(rise, share[z], out=found)
            found += low
        return out

    def _work(self, name: str, planes: int) -> Array:
        """Return this thread's array of a name, made anew only where it is too small."""
        kept: dict[str, Array] = vars(self._kept)
        if name not in kept or len(kept[name]) < planes:
            kept[name] = np.empty((planes, *self._shape[1:]), dtype=np.float32)
        return kept[name][:planes]

    def _step(self, low: int, high: int) -> tuple[Array, Array]:
        """Return the wide plane below, and what the one above has more."""
        kept = vars(self._kept)
        # The plane above mostly is the next one below.
        wide, rise = self._work("wide", 2), self._work("rise", 1)[0]
        if kept.get("steps") != (low, high):
            before = kept.get("steps", (-1, -1))
            if before[1] == low:
                wide[0] = wide[1]
            elif before[0] != low:
                self._widen(low, wide[0])
            self._widen(high, wide[1])
            np.subtract(wide[1], wide[0], out=rise)
            kept["steps"] = low, high
        return wide[0], rise

    def _widen(self, z: int, out: Array) -> None:
        plane = self._plane(z)
        if plane.any():
            _widened(plane, self._columns, self._rows, out)
        else:
            out.fill(0)


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
