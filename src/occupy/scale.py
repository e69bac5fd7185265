"""The local scale of a map: its local maximum relative to that of a fully present region."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from occupy.errors import InputError
from occupy.numerics.fourier import Band, published_band, sphere_band
from occupy.numerics.morphology import ball_widths, dilate_slab
from occupy.numerics.quantiles import Tile, central_tiles, extreme_tile, tau_of, tile_starts
from occupy.resolve import ResolvedSettings

TILES_PER_AXIS = 20
TILE_REACH = 9.0


@dataclass(frozen=True)
class FullScale:
    """What counts as fully present.

    Attributes
    ----------
    value : float
        Map value of full scale (s_max).
    largest, smallest : Tile
        The tiles with the highest and the lowest quantile: where the map is fullest and emptiest.
        Corners are (section, row, column) on the working grid.
    tile_size : tuple of int
        Sides of a tile in voxels.
    naive : bool
        Whether ``value`` came from the map's maximum instead of a tile.
    """

    value: float
    largest: Tile
    smallest: Tile
    tile_size: tuple[int, int, int]
    naive: bool


@dataclass(frozen=True)
class TargetOccupancy:
    """Scale of one masked target: its maximum relative to full scale at a quantile for its own size.

    Attributes
    ----------
    occupancy : float
        Between 0 and 1.
    voxels : int
        Voxels of the target (mask above ½).
    tau : float
        Quantile level for that many voxels.
    full_scale : float
        Full scale at that level.
    """

    occupancy: float
    voxels: int
    tau: float
    full_scale: float


def lowpass_band(settings: ResolvedSettings) -> Band:
    """Return the Fourier coefficients the low-pass filter keeps.

    The published estimator keeps a window of ⌊n·a/d⌋ shells off the origin by half a Fourier voxel;
    otherwise it is the ball of radius 1/d, whose size does not depend on the box.
    """
    extent = [n * a / settings.lowpass for n, a in zip(settings.shape, settings.voxel_size, strict=True)]
    if settings.estimator == "nlf":
        shells = [int(e + 1e-6) for e in extent]
        return published_band(settings.shape, (shells[0], shells[1], shells[2]))
    return sphere_band(settings.shape, (extent[0], extent[1], extent[2]))


def find_full_scale(
    data: npt.NDArray[np.float32], settings: ResolvedSettings, tau: float | None = None
) -> FullScale:
    """Find the highest quantile among 20³ tiles in the middle of the map.

    Parameters
    ----------
    data : ndarray of float32, shape (sections, rows, columns)
        Low-passed map (or the map itself in resolution mode).
    settings : ResolvedSettings
        Tile size, tau, naive or not.
    tau : float, optional
        Another quantile level than the footprint's.

    Returns
    -------
    FullScale
        With a positive value.
    """
    level = settings.tau if tau is None else tau
    tile = settings.tile_size
    use = central_tiles(TILES_PER_AXIS, TILE_REACH)
    starts = [tile_starts(n, t, TILES_PER_AXIS) for n, t in zip(data.shape, tile, strict=True)]
    volume = int(np.prod(tile))
    rank = min(int(level * volume), volume - 1)
    corner = (starts[0], starts[1], starts[2])
    largest = extreme_tile(data, corner, tile, use, rank)
    smallest = extreme_tile(data, corner, tile, use, rank, largest=False)
    value = level * float(data.max()) if settings.naive else largest.value
    if not value > 0:
        raise InputError(
            f"full scale is {value:.3g}: no region of the map is positive. Is its contrast inverted?"
        )
    return FullScale(value, largest, smallest, tile, settings.naive)


def scale_slab(
    data: npt.NDArray[np.float32],
    settings: ResolvedSettings,
    full_scale: float,
    start: int,
    stop: int,
    zero: float = 0.0,
) -> npt.NDArray[np.float32]:
    """Return the local scale of planes ``start`` to ``stop``.

    Parameters
    ----------
    data : ndarray of float32, shape (sections, rows, columns)
        The whole low-passed map (or map).
    settings : ResolvedSettings
        Holds the footprint.
    full_scale : float
        Map value of full scale.
    start, stop : int
        Planes to compute.
    zero : float, default 0
        Scale that becomes zero (noise-level recalibration); below 1.

    Returns
    -------
    ndarray of float32, shape (stop − start, rows, columns)
        clip((s/s_max − zero)/(1 − zero), 0, 1), with s the maximum over the footprint.
    """
    out = dilate_slab(data, ball_widths(settings.kernel_radius, settings.kernel_size), start, stop)
    if zero:
        out -= np.float32(zero * full_scale)
    out *= np.float32(1.0 / ((1.0 - zero) * full_scale))
    np.clip(out, 0.0, 1.0, out=out)
    return out


def target_occupancy(
    data: npt.NDArray[np.float32], mask: npt.NDArray[np.floating], settings: ResolvedSettings
) -> TargetOccupancy:
    """Return the occupancy of one target given by a mask.

    Parameters
    ----------
    data : ndarray of float32
        Low-passed map (or map), as for the scale.
    mask : ndarray, same shape
        The target is where it exceeds ½.
    settings : ResolvedSettings
        As for the scale.
    """
    if mask.shape != data.shape:
        raise InputError(f"the target mask is {mask.shape} voxels, the map {data.shape}")
    inside = mask > 0.5
    voxels = int(np.count_nonzero(inside))
    if voxels == 0:
        raise InputError("the target mask is empty: no voxel is above 0.5")
    tau = tau_of(voxels)
    full = find_full_scale(data, settings, tau).value
    occupancy = float(np.clip(data[inside].max() / full, 0.0, 1.0))
    return TargetOccupancy(occupancy, voxels, tau, full)
