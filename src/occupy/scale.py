"""The local scale of a map: its local maximum relative to that of a fully present region."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from occupy.calibration import Calibration
from occupy.errors import InputError
from occupy.numerics.fourier import FourierBand
from occupy.numerics.histogram import Tile, Tiling, coarse_tile, extreme_tile, tau_of
from occupy.numerics.morphology import ball_widths, dilate_stream, dilate_strided
from occupy.numerics.parallel import planes_per_slab, scratch
from occupy.resolve import ResolvedSettings
from occupy.settings import short_repr
from occupy.statistics.posterior import interval_95
from occupy.volume import LazyMap


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
    calibration : Calibration or None
        What ``value`` came from, with its uncertainty, where the calibrated estimator was used.
    """

    value: float
    largest: Tile
    smallest: Tile
    tile_size: tuple[int, int, int]
    naive: bool
    calibration: Calibration | None = None

    __repr__ = short_repr

    @property
    def source(self) -> str:
        """Where ``value`` comes from: calibration, maximum or tile."""
        if self.calibration is not None:
            return "calibration"
        return "maximum" if self.naive else "tile"

    @classmethod
    def calibrated(
        cls, data: npt.NDArray[np.float32], settings: ResolvedSettings, calibration: Calibration
    ) -> FullScale:
        """Return the full scale of a calibration, with the fullest and the emptiest tile beside it."""
        tiling = Tiling.central(data.shape, settings.tile_size)
        largest, smallest = (
            coarse_tile(data, tiling, settings.tau, largest=fullest) for fullest in (True, False)
        )
        return cls(
            calibration.full, largest, smallest, settings.tile_size, naive=False, calibration=calibration
        )


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
    error : float or None
        Standard error; with the calibrated estimator, whose occupancy is the median in the mask.
    interval_95 : tuple of float or None
        95 % interval, where there is a standard error; see `occupy.statistics.posterior`.
    """

    occupancy: float
    voxels: int
    tau: float
    full_scale: float
    error: float | None = None
    interval_95: tuple[float, float] | None = None

    @classmethod
    def of(
        cls, data: npt.NDArray[np.float32], mask: npt.NDArray[np.floating], settings: ResolvedSettings
    ) -> TargetOccupancy:
        """Return the occupancy of one target by the published statistic.

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
        inside = _inside(mask)
        voxels = int(np.count_nonzero(inside))
        tau = tau_of(voxels)
        full = find_full_scale(data, settings, tau).value
        occupancy = float(np.clip(data[inside].max() / full, 0.0, 1.0))
        return cls(occupancy, voxels, tau, full)

    @classmethod
    def read(
        cls, occupancy: LazyMap, mask: npt.NDArray[np.floating], calibration: Calibration, tau: float
    ) -> TargetOccupancy:
        """Return the median occupancy of one target, with its standard error; ``mask`` as for `of`."""
        inside = _inside(mask)
        planes = [int(z) for z in np.flatnonzero(inside.any(axis=(1, 2)))]
        values = np.concatenate([occupancy.planes(z, z + 1)[0][inside[z]] for z in planes])
        middle = np.median(values, keepdims=True)
        error = float(calibration.uncertainty_of(middle.astype(np.float32))[0])
        value = float(middle[0])
        return cls(value, values.size, tau, calibration.full, error, interval_95(value, error))


def _inside(mask: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
    inside = mask > 0.5
    if not inside.any():
        raise InputError("the target mask is empty: no voxel is above 0.5")
    return inside


def lowpass_band(settings: ResolvedSettings) -> FourierBand:
    """Return the Fourier coefficients the low-pass filter keeps.

    The published estimator keeps a window of ⌊n·a/d⌋ shells off the origin by half a Fourier voxel;
    otherwise it is the ball of radius 1/d, whose size does not depend on the box.
    """
    extent = [n * a / settings.lowpass for n, a in zip(settings.shape, settings.voxel_size, strict=True)]
    if settings.estimator == "nlf":
        shells = [int(e + 1e-6) for e in extent]
        return FourierBand.published(settings.shape, (shells[0], shells[1], shells[2]))
    return FourierBand.sphere(settings.shape, (extent[0], extent[1], extent[2]))


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
    tiling = Tiling.central(data.shape, settings.tile_size)
    largest = extreme_tile(data, tiling, tiling.rank(level))
    smallest = coarse_tile(data, tiling, level, largest=False)
    value = level * float(data.max()) if settings.naive else largest.value
    if not value > 0:
        raise InputError(
            f"full scale is {value:.3g}: no region of the map is positive. Is its contrast inverted?"
        )
    return FullScale(value, largest, smallest, settings.tile_size, settings.naive)


def scale_stream(
    data: npt.NDArray[np.float32],
    settings: ResolvedSettings,
    full_scale: float,
    start: int,
    stop: int,
    zero: float = 0.0,
    calibration: Calibration | None = None,
) -> Iterator[tuple[int, int, npt.NDArray[np.float32]]]:
    """Yield the local scale of planes ``start`` to ``stop``, some planes at a time.

    With a calibration, its readings: what they become where neighbours leak in, `Calibration.scale_of` tells.

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
    calibration : Calibration, optional
        In place of ``full_scale`` and ``zero``.

    Yields
    ------
    first, last : int
        Planes.
    scale : ndarray of float32, shape (last − first, rows, columns)
        clip((s/s_max − zero)/(1 − zero), 0, 1), with s the maximum over the footprint; valid until the
        next step.
    """
    widths = ball_widths(settings.kernel_radius, settings.kernel_size)
    # What is made of one step stays in cache.
    thickness = max(12, planes_per_slab(data.shape, 1 << 18))
    factor = np.float32(1.0 / ((1.0 - zero) * full_scale))
    for first, last, dilated in dilate_stream(data, widths, start, stop, thickness):
        if calibration is not None:
            yield first, last, calibration.readings_of(dilated, scratch("scale", dilated.shape), first)
            continue
        out = np.subtract(dilated, np.float32(zero * full_scale), out=scratch("scale", dilated.shape))
        out *= factor
        np.clip(out, 0.0, 1.0, out=out)
        yield first, last, out


def strided_maxima(
    data: npt.NDArray[np.float32], settings: ResolvedSettings, strides: tuple[int, int, int]
) -> npt.NDArray[np.float32]:
    """Return the local maxima of a map at every n-th voxel along each axis."""
    widths = ball_widths(settings.kernel_radius, settings.kernel_size)
    return dilate_strided(data, widths, strides, threads=settings.threads)
