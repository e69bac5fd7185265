"""The percentile of the published method, and the tile with the highest or lowest quantile."""

from __future__ import annotations

from dataclasses import dataclass

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


def tile_starts(length: int, tile: int, count: int) -> npt.NDArray[np.intp]:
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


def central_tiles(count: int, reach: float) -> npt.NDArray[np.bool_]:
    """Return which of ``count``³ tiles lie nearer than ``reach`` to tile (count/2, count/2, count/2)."""
    i = np.arange(count) - count // 2
    distance2: npt.NDArray[np.int_] = i[:, None, None] ** 2 + i[None, :, None] ** 2 + i**2
    return distance2 < reach**2


def _window(starts: npt.NDArray[np.intp], tile: int, low: int, high: int) -> npt.NDArray[np.float32]:
    """Return the (high − low, len(starts)) matrix whose columns are 1 inside each tile."""
    x = np.arange(low, high)[:, None]
    return ((x >= starts) & (x < starts + tile)).astype(np.float32)


def _counts_above(
    data: npt.NDArray[np.float32], starts: Starts, tile: tuple[int, int, int], limit: float
) -> npt.NDArray[np.float64]:
    """Count the voxels above ``limit`` in every tile: three small matrix products."""
    low = [int(s.min()) for s in starts]
    high = [int(s.max()) + t for s, t in zip(starts, tile, strict=True)]
    wz, wy, wx = (_window(s, t, lo, hi) for s, t, lo, hi in zip(starts, tile, low, high, strict=True))
    per_plane = np.empty((high[0] - low[0], len(starts[1]), len(starts[2])), dtype=np.float32)
    buffer = np.empty((high[1] - low[1], high[2] - low[2]), dtype=np.float32)
    for row, z in enumerate(range(low[0], high[0])):
        np.greater(data[z, low[1] : high[1], low[2] : high[2]], limit, out=buffer, casting="unsafe")
        # Counts stay below 2²⁴, so float32 sums are exact.
        per_plane[row] = wy.T @ (buffer @ wx)
    return np.tensordot(wz.astype(np.float64), per_plane.astype(np.float64), axes=(0, 0))


def _order_statistic(
    data: npt.NDArray[np.float32], start: tuple[int, int, int], tile: tuple[int, int, int], rank: int
) -> float:
    block = data[tuple(slice(s, s + t) for s, t in zip(start, tile, strict=True))]
    return float(np.partition(block, rank, axis=None)[rank])


def extreme_tile(
    data: npt.NDArray[np.float32],
    starts: Starts,
    tile: tuple[int, int, int],
    use: npt.NDArray[np.bool_],
    rank: int,
    *,
    largest: bool = True,
) -> Tile:
    """Find the tile whose order statistic ``rank`` is largest (or smallest) without sorting them all.

    Parameters
    ----------
    data : ndarray of float32, shape (nz, ny, nx)
        The map.
    starts : tuple of three ndarrays of int
        Corner positions of the tiles per axis.
    tile : tuple of int
        Sides of a tile (z, y, x) in voxels.
    use : ndarray of bool, shape (len(starts[0]), len(starts[1]), len(starts[2]))
        Tiles to look at.
    rank : int
        Index into the sorted values of a tile, 0 ≤ rank < number of its voxels.
    largest : bool, default True
        Look for the largest; otherwise for the smallest.

    Notes
    -----
    A tile's statistic exceeds the best one so far exactly where more than ``volume − 1 − rank`` of its
    voxels do, so each round counts voxels (exactly, for all tiles at once) and sorts one tile only:
    the one with the most. It ends when no tile is left, after two or three rounds on real maps.
    """
    volume = tile[0] * tile[1] * tile[2]
    index = np.argwhere(use)
    middle = index[len(index) // 2]

    def corner(i: npt.NDArray[np.intp]) -> tuple[int, int, int]:
        return int(starts[0][i[0]]), int(starts[1][i[1]]), int(starts[2][i[2]])

    best = Tile(corner(middle), _order_statistic(data, corner(middle), tile, rank))
    while True:
        if largest:
            excess = _counts_above(data, starts, tile, best.value) - (volume - 1 - rank)
        else:
            # Smaller statistic: at least rank + 1 voxels below the best, so at most the rest not below.
            not_below = _counts_above(
                data, starts, tile, float(np.nextafter(np.float32(best.value), -np.inf))
            )
            excess = (volume - rank) - not_below
        excess[~use] = 0
        if excess.max() <= 0:
            return best
        found = corner(np.array(np.unravel_index(int(excess.argmax()), excess.shape)))
        best = Tile(found, _order_statistic(data, found, tile, rank))
