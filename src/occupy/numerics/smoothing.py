"""Gaussian averages and the normal distribution without SciPy, whose import takes longer than an estimate."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

from occupy.numerics.parallel import VOXELS_IN_CACHE, slabs

Array = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.float64]


@cache
def _kernel(sigma: float, truncate: float) -> tuple[float, ...]:
    reach = int(truncate * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2) if reach else np.ones(1)
    return tuple((weights / weights.sum()).tolist())


def smooth_curve(values: npt.NDArray[np.floating], sigma: float, truncate: float = 4.0) -> Numbers:
    """Return a curve averaged with a Gaussian of ``sigma`` samples, 0 beyond its ends; same shape."""
    kernel = _kernel(sigma, truncate)
    # In full, then cut: numpy's "same" would have the kernel's length where that is the longer one.
    reach = len(kernel) // 2
    return np.asarray(np.convolve(values, kernel)[reach : reach + len(values)], dtype=np.float64)


def smooth_volume(
    data: Array, sigma: tuple[float, ...], truncate: float = 4.0, *, empty: bool = False
) -> Array:
    """Return an array averaged with a Gaussian, its border reflected; as SciPy's ``gaussian_filter``.

    Parameters
    ----------
    data : ndarray of float32
        Any number of axes.
    sigma : tuple of float
        Standard deviation along each axis, in elements.
    truncate : float
        The Gaussian ends at so many standard deviations.
    empty : bool
        What lies beyond the border is 0, instead of a reflection.
    """
    source = data
    for axis, width in enumerate(sigma):
        kernel, across = _kernel(width, truncate), (axis + 1) % data.ndim
        # In place after the first axis, and a few planes at a time: large maps leave no room for copies.
        out = source if axis else np.empty(data.shape, np.result_type(data, np.float32))
        step = VOXELS_IN_CACHE * data.shape[across] // max(1, data.size) if across != axis else data.size
        for start, stop in slabs(data.shape[across], max(1, step)):
            part = (slice(None),) * across + (slice(start, stop),)
            _averaged(np.moveaxis(source[part], axis, 0), kernel, np.moveaxis(out[part], axis, 0), empty)
        source = out
    return source


def _averaged(data: Array, kernel: tuple[float, ...], out: Array, empty: bool) -> None:
    """Average along the first axis."""
    reach, count = len(kernel) // 2, len(data)
    pads = [(reach, reach), *[(0, 0)] * (data.ndim - 1)]
    padded = np.pad(data, pads, mode="constant" if empty else "symmetric")
    np.multiply(data, np.float32(kernel[reach]), out=out)
    for k in range(1, reach + 1):
        both = padded[reach + k : reach + k + count] + padded[reach - k : reach - k + count]
        both *= np.float32(kernel[reach + k])
        out += both


def scipy_smoothed(data: npt.NDArray[np.floating] | npt.NDArray[np.bool_], sigma: Sequence[float]) -> Array:
    """Return a Gaussian average by SciPy, twice as fast once it is imported; nothing lies outside the map."""
    from scipy.ndimage import gaussian_filter

    average: Array = gaussian_filter(np.asarray(data, dtype=np.float32), sigma, mode="constant", truncate=3)
    return average


def quantile(values: npt.NDArray[np.floating], share: float) -> float:
    """Return a quantile, interpolated linearly, without NumPy's own, which imports masked arrays."""
    at = share * (values.size - 1)
    low = int(at)
    ends = np.partition(values, (low, min(low + 1, values.size - 1)), axis=None)[low : low + 2]
    if at - low == 0.5:  # to the last bit a median as NumPy has it
        return float(ends.mean())
    return float(ends[0]) + (at - low) * float(ends[-1] - ends[0])
