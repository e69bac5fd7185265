"""Footprints and grey-scale dilation with a ball, by nested running maxima."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from occupy.numerics.parallel import for_each_slab, planes_per_slab

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


def _running_maxima(block: npt.NDArray[np.float32], widest: int) -> list[npt.NDArray[np.float32]]:
    """Return maxima over runs of half-length 0, 1, … widest along x; beyond the border counts as absent."""
    maxima = [block]
    for width in range(1, widest + 1):
        inner = maxima[-1]
        # Runs of half-length w−1 shifted by ±1 cover w; only at w = 1 they leave out the centre itself.
        outer = block.copy() if width == 1 else inner.copy()
        if block.shape[2] > 1:
            np.maximum(outer[..., 1:], inner[..., :-1], out=outer[..., 1:])
            np.maximum(outer[..., :-1], inner[..., 1:], out=outer[..., :-1])
        maxima.append(outer)
    return maxima


def _disc_maximum(maxima: list[npt.NDArray[np.float32]], widths: Widths) -> npt.NDArray[np.float32]:
    """Return maxima over the disc made of runs ``widths[|dy|]``."""
    disc: npt.NDArray[np.float32] = maxima[widths[0]].copy()
    rows = disc.shape[1]
    for dy, width in enumerate(widths[1:], start=1):
        if width < 0 or dy >= rows:
            break
        run = maxima[width]
        np.maximum(disc[:, dy:], run[:, :-dy], out=disc[:, dy:])
        np.maximum(disc[:, :-dy], run[:, dy:], out=disc[:, :-dy])
    return disc


def dilate_slab(
    data: npt.NDArray[np.float32], widths: tuple[Widths, ...], start: int, stop: int
) -> npt.NDArray[np.float32]:
    """Dilate planes ``start`` to ``stop`` of ``data`` with the footprint described by ``widths``.

    Parameters
    ----------
    data : ndarray of float32, shape (nz, ny, nx)
        The whole array: planes next to the slab are read as far as the footprint reaches.
    widths : tuple of tuple of int
        The footprint, from `ball_widths`.
    start, stop : int
        Slab to compute.

    Returns
    -------
    ndarray of float32, shape (stop − start, ny, nx)
        Exactly ``scipy.ndimage.maximum_filter(data, footprint=…)[start:stop]``. For these footprints a
        reflecting border gives the same as leaving out voxels beyond it, so nothing is padded.
    """
    discs = [row for row in widths if row[0] >= 0]
    reach = len(discs) - 1
    widest = max(max(row) for row in discs)
    out = np.full((stop - start, *data.shape[1:]), -np.inf, dtype=np.float32)
    low, high = max(0, start - reach), min(data.shape[0], stop + reach)
    thickness = planes_per_slab(data.shape, 1 << 16)
    for z0 in range(low, high, thickness):
        z1 = min(high, z0 + thickness)
        maxima = _running_maxima(data[z0:z1], widest)
        made: dict[Widths, npt.NDArray[np.float32]] = {}
        for dz, row in enumerate(discs):
            if row not in made:
                made[row] = _disc_maximum(maxima, row)
            for shift in {dz, -dz}:
                first, last = max(start, z0 + shift), min(stop, z1 + shift)
                if first < last:
                    target = out[first - start : last - start]
                    np.maximum(target, made[row][first - shift - z0 : last - shift - z0], out=target)
    return out


def dilate(
    data: npt.NDArray[np.float32], widths: tuple[Widths, ...], *, threads: int = 1
) -> npt.NDArray[np.float32]:
    """Dilate a whole array; see `dilate_slab`."""
    out = np.empty(data.shape, dtype=np.float32)

    def work(start: int, stop: int) -> None:
        out[start:stop] = dilate_slab(data, widths, start, stop)

    for_each_slab(work, data.shape[0], max(8, planes_per_slab(data.shape, 1 << 21)), threads)
    return out
