"""The percentile of the published method, and the tile with the highest or lowest quantile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

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
    borders = np.unique(np.concatenate([starts, starts + tile]))
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
