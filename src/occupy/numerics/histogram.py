"""How values of maps are distributed: histograms in one pass, moments for headers, percentiles, tiles.

With a Gaussian fitted to a histogram, histogram matching, the percentile of the published method, and the
tile with the highest or lowest quantile.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

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


def _moments_of_parts(flat: npt.NDArray[np.float32]) -> list[Moments]:
    """Return count, minimum, maximum, mean and sum of squared deviations from it, for each part.

    For the same bytes with any number of cores the caller keeps the linear algebra library on one thread.
    """
    parts = (flat[start : start + VOXELS_IN_CACHE] for start in range(0, flat.size, VOXELS_IN_CACHE))
    with np.errstate(invalid="ignore", over="ignore"):  # infinite values have no deviation
        return [_moments(part, part.min(), part.max(), part.mean()) for part in parts]


def moments_of_planes(block: npt.NDArray[np.float32]) -> list[list[Moments]]:
    """Return `_moments_of_parts` of each plane of a block; of small planes with one call for all."""
    flat = block.reshape(len(block), -1)
    if flat.shape[1] > VOXELS_IN_CACHE or not flat.size:
        return [_moments_of_parts(plane) for plane in flat]
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


Starts = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.intp]]


def tau_of(n: int) -> float:
    """Return the root τ in (0, 1) of τⁿ + τ = 1.

    Parameters
    ----------
    n : int
        Number of voxels in the footprint, at least 1.

    Returns
    -------
    float
        The quantile level that the maximum of ``n`` draws exceeds with probability τ
        (n = 1 → 0.5, 19 → 0.890, 93 → 0.9647).

    References
    ----------
    Forsberg, Shah & Burt, Nature Communications 14 (2023), doi 10.1038/s41467-023-41478-1.
    """
    if n < 1:
        raise ValueError(f"a footprint has at least one voxel, not {n}")
    low, high = 0.0, 1.0
    # The left side grows with τ, so bisection cannot fail; 60 halvings exhaust a double.
    for _ in range(60):
        middle = 0.5 * (low + high)
        if middle**n + middle > 1:
            high = middle
        else:
            low = middle
    return 0.5 * (low + high)


@dataclass(frozen=True)
class Tile:
    """One tile: corner voxel ``start`` (z, y, x) and its order statistic ``value``."""

    start: tuple[int, int, int]
    value: float


def _tile_starts(length: int, tile: int, count: int) -> npt.NDArray[np.intp]:
    """Return ``count`` corner positions of tiles along an axis, centred and evenly spaced.

    Parameters
    ----------
    length, tile : int
        Voxels along the axis and along a tile.
    count : int
        Number of tiles; the step is tile + ⌊(length − count·tile)/(count − 1)⌋, so tiles overlap in a
        small box. Where the box is so small that the step would vanish, positions repeat.
    """
    step = max(0, tile + (length - count * tile) // (count - 1))
    offset = (length - ((count - 1) * step + tile)) // 2
    return np.clip(offset + step * np.arange(count), 0, length - tile).astype(np.intp)


@dataclass(frozen=True, eq=False)
class Tiling:
    """Tiles of a map.

    Attributes
    ----------
    starts : tuple of three ndarrays of int
        Corner positions per axis (z, y, x).
    side : tuple of int
        Sides of a tile (z, y, x) in voxels.
    use : ndarray of bool, shape (len(starts[0]), len(starts[1]), len(starts[2]))
        Tiles to look at.
    """

    starts: Starts
    side: tuple[int, int, int]
    use: npt.NDArray[np.bool_]

    @classmethod
    def central(
        cls, shape: tuple[int, ...], side: tuple[int, int, int], count: int = 20, reach: float = 9.0
    ) -> Tiling:
        """Make ``count``³ tiles, to look at those nearer than ``reach`` to (count/2, count/2, count/2)."""
        starts = [_tile_starts(n, t, count) for n, t in zip(shape, side, strict=True)]
        i = np.arange(count) - count // 2
        distance2 = i[:, None, None] ** 2 + i[None, :, None] ** 2 + i**2
        return cls((starts[0], starts[1], starts[2]), side, distance2 < reach**2)

    @property
    def volume(self) -> int:
        """Voxels of a tile."""
        return self.side[0] * self.side[1] * self.side[2]

    def rank(self, level: float) -> int:
        """Return the index into a tile's sorted values of a quantile level."""
        return min(int(level * self.volume), self.volume - 1)

    def coarser(self, n: int) -> Tiling:
        """Return the tiles on every n-th voxel."""
        (z, y, x), (a, b, c) = self.starts, self.side
        return Tiling((z // n, y // n, x // n), (a // n, b // n, c // n), self.use)

    def corner(self, index: Sequence[Any]) -> tuple[int, int, int]:
        """Return the first voxel of a tile."""
        z, y, x = (int(starts[i]) for starts, i in zip(self.starts, index, strict=True))
        return z, y, x

    def nearest(self, coarse: tuple[int, int, int], n: int) -> tuple[int, int, int]:
        """Return the first voxel of the tile whose corner on every n-th voxel is ``coarse``."""
        starts = self.coarser(n).starts
        return self.corner([np.abs(s - at).argmin() for s, at in zip(starts, coarse, strict=True)])


def _cells(starts: npt.NDArray[np.intp], tile: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Cut an axis at every tile border; return the borders and each tile's first and last border."""
    # numpy.unique would import masked arrays.
    borders = np.array(sorted({*starts.tolist(), *(starts + tile).tolist()}), dtype=np.intp)
    return borders, np.stack([np.searchsorted(borders, starts), np.searchsorted(borders, starts + tile)])


def _counts_above(data: npt.NDArray[np.float32], tiling: Tiling, limit: float) -> npt.NDArray[np.int64]:
    """Count the voxels above ``limit`` in every tile.

    Only those voxels are touched: they are counted in the cells between the tiles' borders, and tiles are
    sums of cells, read off a summed-area table.
    """
    cut = [_cells(s, t) for s, t in zip(tiling.starts, tiling.side, strict=True)]
    borders = [c[0] for c in cut]
    low, high = [int(b[0]) for b in borders], [int(b[-1]) for b in borders]
    cell = [
        np.searchsorted(b, np.arange(lo, hi), side="right") - 1
        for b, lo, hi in zip(borders, low, high, strict=True)
    ]
    sizes = [len(b) - 1 for b in borders]
    table = np.zeros([n + 1 for n in sizes], dtype=np.int64)
    in_plane = (cell[1][:, None] * sizes[2] + cell[2]).astype(np.int32)
    for row, z in enumerate(range(low[0], high[0])):
        above = data[z, low[1] : high[1], low[2] : high[2]] > limit
        counts = np.bincount(in_plane[above], minlength=sizes[1] * sizes[2])
        table[cell[0][row] + 1, 1:, 1:] += counts.reshape(sizes[1], sizes[2])
    for axis in range(3):
        np.cumsum(table, axis=axis, out=table)
    for axis, (_, ends) in enumerate(cut):
        table = table.take(ends[1], axis=axis) - table.take(ends[0], axis=axis)
    return table


def _tile_at(
    data: npt.NDArray[np.float32], start: tuple[int, int, int], side: tuple[int, int, int], rank: int
) -> Tile:
    block = data[tuple(slice(s, s + t) for s, t in zip(start, side, strict=True))]
    return Tile(start, float(np.partition(block, rank, axis=None)[rank]))


def extreme_tile(data: npt.NDArray[np.float32], tiling: Tiling, rank: int, *, largest: bool = True) -> Tile:
    """Find the tile whose order statistic ``rank`` is largest (or smallest) without sorting them all.

    Parameters
    ----------
    data : ndarray of float32, shape (nz, ny, nx)
        The map.
    tiling : Tiling
        Its tiles.
    rank : int
        Index into the sorted values of a tile, 0 ≤ rank < number of its voxels.
    largest : bool, default True
        Look for the largest; otherwise for the smallest.

    Notes
    -----
    A tile's statistic exceeds the best one so far exactly where more than ``volume − 1 − rank`` of its
    voxels do, so each round counts voxels (exactly, for all tiles at once) and sorts one tile only:
    the one with the most. Begun at the best tile of every n-th voxel, it ends after one or two rounds.
    """
    best = _first_guess(data, tiling, rank, largest)
    while True:
        if largest:
            excess = _counts_above(data, tiling, best.value) - (tiling.volume - 1 - rank)
        else:
            # Smaller statistic: at least rank + 1 voxels below the best, so at most the rest not below.
            not_below = _counts_above(data, tiling, float(np.nextafter(np.float32(best.value), -np.inf)))
            excess = (tiling.volume - rank) - not_below
        excess[~tiling.use] = 0
        if excess.max() <= 0:
            return best
        found = tiling.corner(np.unravel_index(int(excess.argmax()), excess.shape))
        best = _tile_at(data, found, tiling.side, rank)


def coarse_tile(data: npt.NDArray[np.float32], tiling: Tiling, level: float, *, largest: bool) -> Tile:
    """Find the tile with the highest or lowest quantile on every n-th voxel: to be shown, not counted on."""
    n = max(1, min(tiling.side) // 5)
    fewer = tiling.coarser(n)
    coarse = np.ascontiguousarray(data[::n, ::n, ::n])
    found = extreme_tile(coarse, fewer, fewer.rank(level), largest=largest)
    return Tile(tiling.nearest(found.start, n), found.value)


def _first_guess(data: npt.NDArray[np.float32], tiling: Tiling, rank: int, largest: bool) -> Tile:
    """Return the best tile of a coarser problem, on every n-th voxel, or just one of the tiles."""
    n = min(6, min(tiling.side) // 4)
    if n < 2:
        middle = np.argwhere(tiling.use)[int(tiling.use.sum()) // 2]
        return _tile_at(data, tiling.corner(middle), tiling.side, rank)
    fewer = tiling.coarser(n)
    coarse = np.ascontiguousarray(data[::n, ::n, ::n])
    guess = extreme_tile(coarse, fewer, int(rank / tiling.volume * fewer.volume), largest=largest)
    return _tile_at(data, tiling.nearest(guess.start, n), tiling.side, rank)
