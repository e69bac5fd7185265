"""Histograms of maps in one pass, a Gaussian fitted to one, histogram matching, and moments for headers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from occupy.numerics.parallel import VOXELS_IN_CACHE, for_each_slab, planes_per_slab, scratch


@dataclass(frozen=True)
class Histogram:
    """Counts in equal bins between ``low`` and ``high`` (both included).

    Attributes
    ----------
    low, high : float
        Outer edges.
    counts : ndarray of int64
        Voxels per bin.
    """

    low: float
    high: float
    counts: npt.NDArray[np.int64]

    @property
    def width(self) -> float:
        """Width of a bin."""
        return (self.high - self.low) / len(self.counts)

    @property
    def edges(self) -> npt.NDArray[np.float64]:
        """All edges, one more than there are bins."""
        return np.linspace(self.low, self.high, len(self.counts) + 1, dtype=np.float64)

    @property
    def centres(self) -> npt.NDArray[np.float64]:
        """Middles of the bins."""
        return np.asarray(self.low + (np.arange(len(self.counts)) + 0.5) * self.width, dtype=np.float64)

    @property
    def density(self) -> npt.NDArray[np.float64]:
        """Counts normalised to integrate to one."""
        total = max(1, int(self.counts.sum()))
        return np.asarray(self.counts / (total * self.width), dtype=np.float64)


def value_range(data: npt.NDArray[np.floating], *, threads: int = 1) -> tuple[float, float]:
    """Return the smallest and the largest value (NaN if any value is NaN)."""
    thickness = planes_per_slab(data.shape)
    ends = np.empty((-(-data.shape[0] // thickness), 2), dtype=np.float64)

    def work(start: int, stop: int) -> None:
        slab = data[start:stop]
        ends[start // thickness] = slab.min(), slab.max()

    for_each_slab(work, data.shape[0], thickness, threads)
    return float(ends[:, 0].min()), float(ends[:, 1].max())


def bin_index(values: npt.NDArray[np.float32], low: float, high: float, bins: int) -> npt.NDArray[np.intp]:
    """Return the bin each value falls into; values outside land in the first or last bin.

    The result is this thread's scratch array: use it before the next call.
    """
    scaled = scratch("scaled", values.shape)
    np.subtract(values, np.float32(low), out=scaled)
    scaled *= np.float32(bins / (high - low))
    np.clip(scaled, 0, bins - 1, out=scaled)
    index = scratch("index", values.shape, np.intp)
    index[...] = scaled
    return index


def two_histograms(
    data: npt.NDArray[np.float32],
    inside: Callable[[int, int], npt.NDArray[np.bool_]],
    low: float,
    high: float,
    bins: int,
    *,
    threads: int = 1,
) -> tuple[Histogram, Histogram]:
    """Histogram all voxels, and those inside a region, in one pass.

    Parameters
    ----------
    data : ndarray of float32, shape (nz, ny, nx)
        The map.
    inside : callable
        ``inside(start, stop)`` returns the region's boolean mask for planes ``start`` to ``stop``.
    low, high : float
        Outer edges; must differ.
    bins : int
        Number of bins.
    threads : int, default 1
        Threads to use.

    Returns
    -------
    everything, region : Histogram
        Histogram of the whole array and of the region.
    """
    thickness = planes_per_slab(data.shape)
    parts = np.zeros((-(-data.shape[0] // thickness), 2 * bins), dtype=np.int64)

    def work(start: int, stop: int) -> None:
        index = bin_index(data[start:stop], low, high, bins)
        np.add(index, bins, out=index, where=inside(start, stop))
        parts[start // thickness] = np.bincount(index.ravel(), minlength=2 * bins)

    for_each_slab(work, data.shape[0], thickness, threads)
    counts = parts.sum(axis=0)
    return Histogram(low, high, counts[:bins] + counts[bins:]), Histogram(low, high, counts[bins:])


def gaussian(x: npt.NDArray[np.float64], height: float, mean: float, sigma: float) -> npt.NDArray[np.float64]:
    """Return height · exp(−(x − mean)² / 2 sigma²)."""
    return np.asarray(height * np.exp(-0.5 * ((x - mean) / sigma) ** 2), dtype=np.float64)


def fit_gaussian(
    x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], start: tuple[float, float, float]
) -> tuple[float, float, float]:
    """Fit ``height · exp(−(x − mean)²/2σ²)`` to ``y`` by least squares (Levenberg–Marquardt).

    Parameters
    ----------
    x, y : ndarray, shape (n,)
        Points to fit.
    start : tuple of float
        First guess of height, mean and sigma.

    Returns
    -------
    height, mean, sigma : float
        The fit; sigma is positive.
    """
    # Fitted in units of the guess, so that the damping means the same for all three parameters.
    unit_x, unit_y = abs(start[2]), max(abs(start[0]), np.finfo(float).tiny)
    u, v = (x - start[1]) / unit_x, y / unit_y
    p = np.array([start[0] / unit_y, 0.0, 1.0])

    def model(q: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return gaussian(u, q[0], q[1], q[2])

    damping = 1e-3
    cost = float(((v - model(p)) ** 2).sum())
    for _ in range(200):
        shape = gaussian(u, 1.0, p[1], p[2])
        z = (u - p[1]) / p[2]
        jacobian = np.stack([shape, p[0] * shape * z / p[2], p[0] * shape * z**2 / p[2]], axis=1)
        normal = jacobian.T @ jacobian
        step = np.linalg.solve(
            normal + damping * np.diag(np.diag(normal) + 1e-12), jacobian.T @ (v - p[0] * shape)
        )
        trial = p + step
        trial_cost = float(((v - model(trial)) ** 2).sum()) if abs(trial[2]) > 1e-6 else np.inf
        if trial_cost <= cost:
            settled = cost - trial_cost <= 1e-14 * cost
            p, cost, damping = trial, trial_cost, max(damping / 10, 1e-12)
            if settled:
                break
        else:
            damping *= 10
            if damping > 1e12:
                break
    return float(p[0] * unit_y), float(p[1] * unit_x + start[1]), float(abs(p[2]) * unit_x)


def match_histogram(
    data: npt.NDArray[np.float32], reference: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Give ``data`` the values of ``reference``, keeping the order of its own.

    Parameters
    ----------
    data, reference : ndarray of float32, same size
        Map to change, and map whose grey values it shall have.

    Returns
    -------
    ndarray of float32, shape of ``data``
        A permutation of the values of ``reference``.
    """
    if data.size != reference.size:
        raise ValueError(f"cannot match {data.size} voxels to {reference.size}")
    out = np.empty(data.size, dtype=np.float32)
    out[np.argsort(data, axis=None, kind="stable")] = np.sort(reference, axis=None)
    return out.reshape(data.shape)


Moments = tuple[int, float, float, float, float]


def moments_of_parts(flat: npt.NDArray[np.float32]) -> list[Moments]:
    """Return count, minimum, maximum, mean and sum of squared deviations from it, for each part.

    For the same bytes with any number of cores the caller keeps the linear algebra library on one thread.
    """
    parts = (flat[start : start + VOXELS_IN_CACHE] for start in range(0, flat.size, VOXELS_IN_CACHE))
    with np.errstate(invalid="ignore", over="ignore"):  # infinite values have no deviation
        return [_moments(part, part.min(), part.max(), part.mean()) for part in parts]


def moments_of_planes(block: npt.NDArray[np.float32]) -> list[list[Moments]]:
    """Return `moments_of_parts` of each plane of a block; of small planes with one call for all."""
    flat = block.reshape(len(block), -1)
    if flat.shape[1] > VOXELS_IN_CACHE or not flat.size:
        return [moments_of_parts(plane) for plane in flat]
    with np.errstate(invalid="ignore", over="ignore"):
        found = zip(flat, flat.min(axis=1), flat.max(axis=1), flat.mean(axis=1), strict=True)
        return [[_moments(*each)] for each in found]


def _moments(part: npt.NDArray[np.float32], low: np.float32, high: np.float32, middle: np.float32) -> Moments:
    mean = float(middle)
    squares = float(np.dot(part, part)) - part.size * mean**2
    if not 0.1 * part.size * mean**2 < squares < math.inf:
        mean, squares = _centred_moments(part, mean)
    return part.size, float(low), float(high), mean, max(squares, 0.0)


def _centred_moments(part: npt.NDArray[np.float32], guess: float) -> tuple[float, float]:
    """Return mean and sum of squared deviations where the mean is large beside them."""
    # Differences from a float32 next to the mean are exact, and small.
    pivot = np.float32(guess)
    centred = np.subtract(part, pivot, out=scratch("centred", part.shape))
    rest = float(centred.mean())
    squares = float(np.dot(centred, centred)) - part.size * rest**2
    if math.isfinite(squares):
        return float(pivot) + rest, squares
    wide = part.astype(np.float64)
    mean = float(wide.mean())
    wide -= mean
    return mean, float(np.dot(wide, wide))
