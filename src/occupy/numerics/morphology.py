"""Footprints and grey-scale dilation with a ball, by nested running maxima."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import numpy.typing as npt

from occupy.numerics.parallel import for_each_slab, planes_per_slab, scratch

Widths = tuple[int, ...]


@cache
def ball_widths(radius: tuple[float, float, float], size: tuple[int, int, int]) -> tuple[Widths, ...]:
    """Describe a ball (or ellipsoid) cut to an odd box as runs along x.

    Parameters
    ----------
    radius : tuple of float
        Semi-axes (z, y, x) in voxels; a voxel belongs where (z/rz)² + (y/ry)² + (x/rx)² ≤ 1.
    size : tuple of int
        Odd box sides (z, y, x) the ball is cut to.

    Returns
    -------
    tuple of tuple of int
        ``widths[z][y]`` is the half-length of the run at ``|dz| = z, |dy| = y``; −1 where there is none.
    """
    if any(side < 1 or side % 2 == 0 for side in size):
        raise ValueError(f"the footprint's box sides must be odd and positive, not {size}")
    if any(not r > 0 for r in radius):
        raise ValueError(f"the footprint's radius must be positive, not {radius}")
    half = [side // 2 for side in size]
    x = np.arange(half[2] + 1)
    # 1e-9: a voxel exactly on the sphere belongs to it whatever the rounding of the squares.
    return tuple(
        tuple(
            int(
                np.count_nonzero(
                    (z / radius[0]) ** 2 + (y / radius[1]) ** 2 + (x / radius[2]) ** 2 <= 1 + 1e-9
                )
            )
            - 1
            for y in range(half[1] + 1)
        )
        for z in range(half[0] + 1)
    )


def box_of_ball(radius: float) -> int:
    """Return the side of the smallest odd box that holds a ball of this radius, in voxels."""
    # A radius that should be whole must not fall short by rounding.
    return 2 * int(radius + 1e-6) + 1


def ball_footprint(radius: tuple[float, float, float], size: tuple[int, int, int]) -> npt.NDArray[np.bool_]:
    """Return the footprint of `ball_widths` as a boolean array of shape ``size``."""
    widths = ball_widths(radius, size)
    half = [side // 2 for side in size]
    reach = np.abs(np.arange(-half[2], half[2] + 1))
    rows = [
        [reach <= widths[abs(z)][abs(y)] for y in range(-half[1], half[1] + 1)]
        for z in range(-half[0], half[0] + 1)
    ]
    return np.array(rows, dtype=bool)


def _running_maxima(
    data: npt.NDArray[np.float32], planes: slice, rows: slice, pad: int, widest: int
) -> list[npt.NDArray[np.float32]]:
    """Return, for half-lengths 0 … widest, the maxima over runs along x of some rows of some planes.

    Every item has ``pad`` rows more on both sides in y. What lies beyond the border of the array is −∞.
    """
    ny, nx = data.shape[1:]
    low, high = rows.start - pad, rows.stop + pad
    padded = scratch("padded", (planes.stop - planes.start, high - low, nx + 2 * widest))
    first, last = max(0, low), min(ny, high)
    padded[:, : first - low] = padded[:, last - low :] = -np.inf
    padded[..., :widest] = padded[..., nx + widest :] = -np.inf
    padded[:, first - low : last - low, widest : nx + widest] = data[planes, first:last]
    maxima = [padded]
    for width in range(1, widest + 1):
        inner = maxima[-1]
        outer = scratch(f"run {width}", (*inner.shape[:2], inner.shape[2] - 2))
        np.maximum(inner[..., :-2], inner[..., 2:], out=outer)
        # Runs of half-length w − 1 shifted by ±1 cover w; only at w = 1 they leave out the centre itself.
        if width == 1:
            np.maximum(outer, inner[..., 1:-1], out=outer)
        maxima.append(outer)
    return [run[..., widest - w : widest - w + nx] for w, run in enumerate(maxima)]


def _discs(
    maxima: list[npt.NDArray[np.float32]], pad: int, rows: list[Widths]
) -> list[npt.NDArray[np.float32]]:
    """Return, for every disc of the ball, the maxima over it: runs ``widths[|dy|]`` stacked along y."""
    ny = maxima[0].shape[1] - 2 * pad

    def at(width: int, dy: int) -> npt.NDArray[np.float32]:
        return maxima[width][:, pad + dy : pad + dy + ny]

    pairs: dict[tuple[int, int], npt.NDArray[np.float32]] = {}
    made: dict[Widths, npt.NDArray[np.float32]] = {}
    for row in rows:
        if row in made:
            continue
        disc = at(row[0], 0)
        for dy in range(1, sum(width >= 0 for width in row)):
            key = row[dy], dy
            if key not in pairs:
                pairs[key] = scratch(f"pair {key}", disc.shape)
                np.maximum(at(row[dy], dy), at(row[dy], -dy), out=pairs[key])
            target = scratch(f"disc {len(made)}", disc.shape)
            disc = np.maximum(disc, pairs[key], out=target)
        made[row] = disc
    return [made[row] for row in rows]


def _blocks(
    shape: tuple[int, ...], start: int, stop: int, voxels: int = 1 << 16
) -> Iterator[tuple[int, int, int, int]]:
    """Cut planes into blocks whose maxima fit a second-level cache: whole planes, or a part of one's rows."""
    planes = planes_per_slab(shape, voxels)
    rows = shape[1] if planes > 1 else max(32, min(shape[1], voxels // shape[2]))
    for b0 in range(start, stop, planes):
        for y0 in range(0, shape[1], rows):
            yield b0, min(stop, b0 + planes), y0, min(shape[1], y0 + rows)


def dilate_stream(
    data: npt.NDArray[np.float32], widths: tuple[Widths, ...], start: int, stop: int, thickness: int
) -> Iterator[tuple[int, int, npt.NDArray[np.float32]]]:
    """Dilate planes ``start`` to ``stop`` with the footprint ``widths``, some planes at a time.

    What a block of planes gives to those above it is kept until they are complete, so that every plane of
    the input is worked on once; only the planes within the footprint's reach of ``start`` and ``stop`` are
    worked on in excess.

    Parameters
    ----------
    data : ndarray of float32, shape (nz, ny, nx)
        The whole array.
    widths : tuple of tuple of int
        The footprint, from `ball_widths`.
    start, stop : int
        Planes wanted.
    thickness : int
        Planes per step.

    Yields
    ------
    first, last : int
        Planes that are complete: ``first`` to ``last``.
    dilated : ndarray of float32, shape (last − first, ny, nx)
        Exactly ``scipy.ndimage.maximum_filter(data, footprint=…)[first:last]``; valid until the next step.
        For these footprints a reflecting border gives the same as leaving out what lies beyond it: the
        border is padded with −∞.
    """
    rows = [row for row in widths if row[0] >= 0]
    reach, pad = len(rows) - 1, max(sum(width >= 0 for width in row) for row in rows) - 1
    widest = max(max(row) for row in rows)
    low, high = max(0, start - reach), min(data.shape[0], stop + reach)
    hold = np.full((thickness + 2 * reach, *data.shape[1:]), -np.inf, dtype=np.float32)
    for z0 in range(low, high, thickness):
        z1, base = min(high, z0 + thickness), z0 - reach
        for b0, b1, y0, y1 in _blocks(data.shape, z0, z1):
            maxima = _running_maxima(data, slice(b0, b1), slice(y0, y1), pad, widest)
            for dz, disc in enumerate(_discs(maxima, pad, rows)):
                for shift in {dz, -dz}:
                    target = hold[b0 + shift - base : b1 + shift - base, y0:y1]
                    np.maximum(target, disc, out=target)
        first, last = max(start, base), stop if z1 == high else min(stop, z1 - reach)
        if first < last:
            yield first, last, hold[first - base : last - base]
        hold[: 2 * reach] = hold[z1 - z0 : z1 - z0 + 2 * reach]
        hold[2 * reach :] = -np.inf


def dilate(
    data: npt.NDArray[np.float32], widths: tuple[Widths, ...], *, threads: int = 1
) -> npt.NDArray[np.float32]:
    """Dilate a whole array; see `dilate_stream`."""
    out = np.empty(data.shape, dtype=np.float32)
    thickness = max(12, planes_per_slab(data.shape, 1 << 19))

    def work(start: int, stop: int) -> None:
        for first, last, part in dilate_stream(data, widths, start, stop, thickness):
            out[first:last] = part

    for_each_slab(work, data.shape[0], -(-data.shape[0] // threads), threads)
    return out


def dilate_strided(
    data: npt.NDArray[np.float32],
    widths: tuple[Widths, ...],
    strides: tuple[int, int, int],
    *,
    threads: int = 1,
) -> npt.NDArray[np.float32]:
    """Dilate an array, but only at every n-th element along each axis.

    Parameters
    ----------
    data : ndarray of float32, shape (nz, ny, nx)
        The whole array.
    widths : tuple of tuple of int
        The footprint, from `ball_widths`.
    strides : tuple of int
        n along z, y, x.
    threads : int, default 1
        Threads to use.

    Returns
    -------
    ndarray of float32, shape (⌈nz/n⌉, …)
        Exactly ``dilate(data, widths)[::n, ::n, ::n]``, for the work of a few passes over the data.
    """
    size = [-(-n // s) for n, s in zip(data.shape, strides, strict=True)]
    out = np.full(size, -np.inf, dtype=np.float32)
    reach = sum(row[0] >= 0 for row in widths) - 1

    def work(start: int, stop: int) -> None:
        low = max(0, start * strides[0] - reach)
        for z in range(low, min(data.shape[0], (stop - 1) * strides[0] + reach + 1)):
            # Output planes within reach of this one, by their distance.
            near = range(max(start, -(-(z - reach) // strides[0])), min(stop, (z + reach) // strides[0] + 1))
            wanted = {abs(z - p * strides[0]) for p in near}
            discs = _strided_discs(data[z], [widths[dz] for dz in wanted], strides[1:])
            for p in near:
                np.maximum(out[p], discs[widths[abs(z - p * strides[0])]], out=out[p])

    for_each_slab(work, size[0], -(-size[0] // threads), threads)
    return out


def _strided_discs(
    plane: npt.NDArray[np.float32], rows: list[Widths], strides: tuple[int, ...]
) -> dict[Widths, npt.NDArray[np.float32]]:
    """Return the maxima of one plane over discs, at every n-th row and column."""
    if not rows:
        return {}
    pad, widest = max(sum(w >= 0 for w in row) for row in rows) - 1, max(max(row) for row in rows)
    ny, nx = (-(-n // s) for n, s in zip(plane.shape, strides, strict=True))
    padded = scratch("strided", (plane.shape[0] + 2 * pad, plane.shape[1] + 2 * widest))
    padded.fill(-np.inf)
    padded[pad : pad + plane.shape[0], widest : widest + plane.shape[1]] = plane

    def column(dx: int) -> npt.NDArray[np.float32]:
        return padded[:, widest + dx :: strides[1]][:, :nx]

    runs = [column(0)]
    for dx in range(1, widest + 1):
        run = np.maximum(column(dx), column(-dx))
        runs.append(np.maximum(run, runs[-1], out=run))
    discs = {}
    for row in set(rows):
        disc = runs[row[0]][pad :: strides[0]][:ny].copy()
        for dy in range(1, sum(w >= 0 for w in row)):
            for start in (pad + dy, pad - dy):
                np.maximum(disc, runs[row[dy]][start :: strides[0]][:ny], out=disc)
        discs[row] = disc
    return discs
