"""Bring the maps of a set onto one working grid, grey scale, fall-off and resolution."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import scipy.fft
from scipy.ndimage import distance_transform_edt

from occupy.ensemble import common
from occupy.ensemble.factor import smoothed
from occupy.errors import InputError, Notice
from occupy.numerics.fourier import fourier_crop
from occupy.numerics.parallel import available_cores
from occupy.numerics.resample import refine_slab
from occupy.numerics.shells import Shells, shells_of
from occupy.volume import Volume

Array = npt.NDArray[np.float32]
Complex = npt.NDArray[np.complex64]
Numbers = npt.NDArray[np.float64]
Triple = tuple[float, float, float]
Shape = tuple[int, int, int]

WORKING_VOXEL = 2.75
"""Å: finer maps are brought to this, a third of the finest resolution ever compared."""

LEAST_VOXELS = 2.2
"""The common resolution is at least so many voxels."""

MARGIN = 15.0
"""Å of solvent kept around the content."""

ENVELOPE = 3.0
"""Å: smoothing of the mean map before its envelope is drawn …"""

ENVELOPE_LEVEL = 0.1
"""… at this share of its highest values (99.5 %)."""

AWAY = 12.0
"""Å from the content on that counts as solvent."""

LEFT_BEHIND = 1.6
"""A class less resolved than so many times the median does not set the common resolution."""

_SLAB = 16


@dataclass(frozen=True, eq=False)
class Stack:
    """Maps on the working grid: data (K, z, y, x), and Å per voxel along z, y, x."""

    data: Array
    voxel_size: Triple


@dataclass(frozen=True, eq=False)
class Ground:
    """Maps that can be compared.

    Attributes
    ----------
    maps : ndarray, shape (K, z, y, x)
        On a box around the content of the working grid.
    total : ndarray, shape (z, y, x)
        Their weighted mean.
    noise : ndarray, shape (K,)
        Variance of each map in the solvent.
    solvent : ndarray of bool, shape (z, y, x)
        Voxels of the box away from the content that hold data.
    resolution : float
        Å: the common low-pass.
    resolutions : ndarray, shape (K,)
        Å: of each class.
    gains : ndarray, shape (K, shells)
        What each class was multiplied by.
    voxel_size : tuple of float
        Å along z, y, x.
    shape : tuple of int
        Of the whole working grid.
    corner : tuple of int
        First voxel of the box.
    notices : tuple of Notice
    """

    maps: Array
    total: Array
    noise: Numbers
    solvent: npt.NDArray[np.bool_]
    resolution: float
    resolutions: Numbers
    gains: Numbers
    voxel_size: Triple
    shape: Shape
    corner: Shape
    notices: tuple[Notice, ...]

    def voxels(self, length: float) -> Triple:
        """Return a length in Å as voxels along z, y, x."""
        return (length / self.voxel_size[0], length / self.voxel_size[1], length / self.voxel_size[2])

    def whole(self, array: npt.NDArray[np.floating]) -> Array:
        """Return an array of the box on the whole working grid, 0 outside."""
        out = np.zeros(self.shape, dtype=np.float32)
        out[_box(self.corner, array.shape)] = array
        return out

    def on_grid(self, array: Array, grid: Volume) -> Iterator[tuple[int, Array]]:
        """Yield slabs (first plane, values) of an array of the box on the grid and axes of a map's file."""
        columns, rows, sections = grid.frame.axes
        order = (3 - sections, 3 - rows, 3 - columns)
        coarse = np.ascontiguousarray(self.whole(array).transpose(order))
        for start in range(0, grid.shape[0], _SLAB):
            stop = min(start + _SLAB, grid.shape[0])
            yield (
                start,
                coarse[start:stop]
                if coarse.shape == grid.shape
                else refine_slab(coarse, grid.shape, start, stop),
            )


def _box(corner: Sequence[int], shape: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(c, c + n) for c, n in zip(corner, shape, strict=True))


def working_grid(grid: Volume) -> tuple[Shape, Triple]:
    """Return shape and voxel size (z, y, x) of the grid to work on: even sides that transform fast."""
    columns, rows, sections = grid.frame.axes
    of = {sections: 0, rows: 1, columns: 2}
    along = [of[axis] for axis in (3, 2, 1)]
    shape, voxel = [], []
    for i in along:
        n, a = grid.shape[i], grid.voxel_size[i]
        least = int(np.ceil(n * a / WORKING_VOXEL))
        m = n if least >= n else _fast_even(least, n)
        shape.append(m)
        voxel.append(n * a / m)
    return (shape[0], shape[1], shape[2]), (voxel[0], voxel[1], voxel[2])


def _fast_even(least: int, most: int) -> int:
    """Return the next fast even length from `least` on, or `most`."""
    m = least + least % 2
    while m < most and scipy.fft.next_fast_len(m, real=True) != m:
        m += 2
    return min(m, most)


def working_copy(volume: Volume, shape: Shape) -> Array:
    """Return a map's data in (z, y, x) order on the working grid."""
    data = volume.standard()
    if data.shape == shape:
        return np.array(data, dtype=np.float32)
    return fourier_crop(np.ascontiguousarray(data), shape, threads=available_cores())


def common_ground(
    stack: Stack,
    weights: Numbers,
    ssnr: Sequence[Sequence[float] | None],
    *,
    lowpass: float | None,
    report: Callable[[str, int, int], None],
) -> Ground:
    """Bring maps to one grey scale, fall-off and resolution.

    Parameters
    ----------
    stack : Stack
        Overwritten.
    weights : ndarray, shape (K,)
        With a sum of 1.
    ssnr : sequence of K
        Spectral signal-to-noise ratio by which a map was shrunk; None where unknown.
    lowpass : float or None
        Å.
    report : callable
        ``report(stage, done, total)``.
    """
    maps = stack.data
    shape: Shape = (maps.shape[1], maps.shape[2], maps.shape[3])
    shells = shells_of(shape, stack.voxel_size)
    gains, ratios = _wiener(maps, weights, ssnr, shells, report)
    resolutions = common.resolution_of(ratios, shells.frequency)
    resolution, notices = _common_resolution(resolutions, stack.voxel_size, lowpass)
    band = shells.soft_lowpass(resolution)
    for k in range(len(maps)):
        report("common resolution", k, len(maps))
        maps[k] = _inverse(_transform(maps[k]) * shells.spread(gains[k] * band), shape)
    total = _mean(maps, weights)
    density = smoothed(total, [ENVELOPE / a for a in stack.voxel_size])
    content = density > ENVELOPE_LEVEL * np.quantile(density, 0.995)
    corner, stop = _bounds(content, [MARGIN / a for a in stack.voxel_size])
    inside = tuple(slice(a, b) for a, b in zip(corner, stop, strict=True))
    away = distance_transform_edt(~content, sampling=stack.voxel_size) > AWAY
    away &= total != 0
    noise = np.array([_variance(m[away]) for m in maps])
    return Ground(
        maps[(slice(None), *inside)],
        total[inside],
        noise,
        away[inside],
        resolution,
        resolutions,
        gains,
        stack.voxel_size,
        shape,
        corner,
        tuple(notices),
    )


def matched_within(ground: Ground, weights: Numbers, conserved: Array) -> Ground:
    """Bring grey scale and fall-off of maps together by what they show within a conserved region.

    Parameters
    ----------
    ground : Ground
        Its maps are overwritten.
    weights : ndarray, shape (K,)
        With a sum of 1.
    conserved : ndarray
        Soft mask, on the box, of what all classes share.

    Returns
    -------
    Ground
        With a new mean and new noise; ``gains`` as found here.
    """
    maps = ground.maps
    shape: Shape = (maps.shape[1], maps.shape[2], maps.shape[3])
    shells = shells_of(shape, ground.voxel_size)
    total = _transform(ground.total * conserved)
    shared, power = np.empty((len(maps), len(shells))), np.empty((len(maps), len(shells)))
    for k, w in enumerate(weights):
        own = _transform(maps[k] * conserved)
        power[k] = shells.product(own, own)
        shared[k] = shells.product(own, total) - w * power[k]
    beyond = shells.frequency * ground.resolution > 1
    gains = common.matched_gains(shared, power, weights)
    gains[:, beyond] = gains[:, ~beyond][:, -1:]
    for k in range(len(maps)):
        maps[k] = _inverse(_transform(maps[k]) * shells.spread(gains[k]), shape)
    noise = np.array([_variance(m[ground.solvent]) for m in maps])
    return replace(ground, maps=maps, total=_mean(maps, weights), noise=noise, gains=gains)


def _transform(data: Array) -> Complex:
    return np.asarray(scipy.fft.rfftn(data, workers=available_cores()), dtype=np.complex64)


def _inverse(data: npt.NDArray[np.complexfloating], shape: Shape) -> Array:
    return np.asarray(scipy.fft.irfftn(data, s=shape, workers=available_cores()), dtype=np.float32)


def _mean(maps: Array, weights: Numbers) -> Array:
    total = np.zeros(maps.shape[1:], dtype=np.float32)
    for m, w in zip(maps, weights, strict=True):
        total += np.float32(w) * m
    return total


def _variance(values: npt.NDArray[np.floating]) -> float:
    """Return a variance that outliers do not raise; 0 without values."""
    return float(1.4826 * np.median(np.abs(values))) ** 2 if values.size > 100 else 0.0


def _bounds(content: npt.NDArray[np.bool_], margin: Sequence[float]) -> tuple[Shape, Shape]:
    """Return first and last + 1 voxel of the box around content."""
    if not content.any():
        raise InputError("these maps show no density above solvent")
    first, last = [], []
    for axis, room in enumerate(margin):
        others = tuple(i for i in range(3) if i != axis)
        at = np.flatnonzero(content.any(axis=others))
        first.append(max(int(at[0] - np.ceil(room)), 0))
        last.append(min(int(at[-1] + np.ceil(room)) + 1, content.shape[axis]))
    return (first[0], first[1], first[2]), (last[0], last[1], last[2])


def _wiener(
    maps: Array,
    weights: Numbers,
    ssnr: Sequence[Sequence[float] | None],
    shells: Shells,
    report: Callable[[str, int, int], None],
) -> tuple[Numbers, Numbers]:
    """Return gains that undo unequal shrinkage, and signal-to-noise ratios, per class and shell."""
    known = [s for s in ssnr if s is not None]
    if len(known) == len(maps):
        return common.wiener_gains(known, len(shells)), common.padded(known, len(shells))
    total = np.zeros(shells.index.shape, dtype=np.complex64)
    for k, w in enumerate(weights):
        report("spectra", k, 2 * len(maps))
        total += np.float32(w) * _transform(maps[k])
    shared, power = np.empty((len(maps), len(shells))), np.empty((len(maps), len(shells)))
    for k, w in enumerate(weights):
        report("spectra", len(maps) + k, 2 * len(maps))
        own = _transform(maps[k])
        power[k] = shells.product(own, own)
        shared[k] = shells.product(own, total) - w * power[k]
    return np.ones_like(power), common.ssnr_of_products(shared, power, weights)


def _common_resolution(
    resolutions: Numbers, voxel_size: Triple, lowpass: float | None
) -> tuple[float, list[Notice]]:
    """Return the resolution at which all classes are compared."""
    least = LEAST_VOXELS * max(voxel_size)
    if lowpass is not None:
        if not lowpass >= 2 * max(voxel_size):
            raise InputError(
                f"--lowpass {lowpass:g} Å is finer than two voxels ({2 * max(voxel_size):.3g} Å)"
            )
        return float(lowpass), []
    median = float(np.median(resolutions))
    usual = resolutions[resolutions <= LEFT_BEHIND * median]
    behind = int((resolutions > LEFT_BEHIND * median).sum())
    notices = []
    if behind:
        text = (
            f"{behind} classes are resolved to {resolutions.max():.0f} Å only, the others to "
            f"{usual.max():.0f} Å: what they lack in detail may read as absent"
        )
        notices.append(Notice("poor-classes", text))
    return max(float(usual.max()), common.FINEST, least), notices
