"""Linear interpolation from a coarse grid to a finer one over the same extent, slab by slab."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


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
