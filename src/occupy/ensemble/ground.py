"""Bring the maps of a set onto one working grid, grey scale, fall-off and resolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft
from scipy.ndimage import distance_transform_edt

from occupy import tuning
from occupy.ensemble import common
from occupy.ensemble.factor import smoothed
from occupy.ensemble.passes import Means, Shelf
from occupy.errors import InputError, Notice
from occupy.numerics.fourier import fourier_crop
from occupy.numerics.spectra import Shells, shells_of
from occupy.volume import Grid, LazyMap, Volume, on_finer_grid

Array = npt.NDArray[np.float32]
Complex = npt.NDArray[np.complex64]
Numbers = npt.NDArray[np.float64]
Triple = tuple[float, float, float]
Shape = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Stack:
    """Maps on the working grid, Å per voxel along z, y, x, and which of the maps hold anything."""

    data: Shelf
    voxel_size: Triple
    kept: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.kept)

    def __getitem__(self, k: int) -> Array:
        return self.data[self.kept[k]]


@dataclass(frozen=True, eq=False)
class Ground:
    """Maps that can be compared.

    Attributes
    ----------
    maps : Shelf
        K maps (z, y, x) on a box around the content of the working grid.
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

    maps: Shelf
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

    def on_grid(self, array: Array, grid: Grid) -> LazyMap:
        """Return an array of the box as a map on the grid and axes of a map's file, 0 outside the box."""
        columns, rows, sections = grid.frame.axes
        order = (3 - sections, 3 - rows, 3 - columns)
        z, y, x = order
        shape, voxel = self.shape, self.voxel_size
        coarse = LazyMap(
            (shape[z], shape[y], shape[x]),
            (voxel[z], voxel[y], voxel[x]),
            grid.frame,
            grid.name,
            whole=lambda: np.ascontiguousarray(self.whole(array).transpose(order)),
        )
        return on_finer_grid(coarse, grid)


def _box(corner: Sequence[int], shape: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(c, c + n) for c, n in zip(corner, shape, strict=True))


def working_grid(grid: Volume, lowpass: float | None = None) -> tuple[Shape, Triple]:
    """Return shape and voxel size (z, y, x) of the grid to work on: even sides that transform fast.

    Parameters
    ----------
    grid : Volume
        A map of the set.
    lowpass : float, optional
        Å: common resolution asked for; where it is finer than usual, so is the grid.
    """
    finest = 2 * max(grid.voxel_size)
    if lowpass is not None and not lowpass >= finest:
        raise InputError(f"--lowpass {lowpass:g} Å is finer than two voxels of the maps ({finest:.3g} Å)")
    usual = tuning.SET.finest
    wanted = tuning.SET.working_voxel * min(1.0, (lowpass or usual) / usual)
    columns, rows, sections = grid.frame.axes
    of = {sections: 0, rows: 1, columns: 2}
    along = [of[axis] for axis in (3, 2, 1)]
    shape, voxel = [], []
    for i in along:
        n, a = grid.shape[i], grid.voxel_size[i]
        least = int(np.ceil(n * a / wanted))
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
    return fourier_crop(np.ascontiguousarray(data), shape)


def common_ground(
    stack: Stack,
    weights: Numbers,
    ssnr: Sequence[Sequence[float] | None],
    *,
    lowpass: float | None,
    means: Means,
) -> Ground:
    """Bring maps to one grey scale, fall-off and resolution.

    Parameters
    ----------
    stack : Stack
        Its room is given back.
    weights : ndarray, shape (K,)
        With a sum of 1.
    ssnr : sequence of K
        Spectral signal-to-noise ratio by which a map was shrunk; None where unknown.
    lowpass : float or None
        Å.
    means : Means
        With what to work.
    """
    shape, count = stack.data.shape, len(stack)
    shells = shells_of(shape, stack.voxel_size)
    gains, ratios = _wiener(stack, weights, ssnr, shells, means)
    resolutions = common.resolution_of(ratios, shells.frequency)
    resolution, notices = _common_resolution(resolutions, stack.voxel_size, lowpass)
    passed = means.room(count, shape)
    factors = gains * shells.soft_lowpass(resolution)
    shared = _Filtering(stack, passed, factors, shells, weights)
    (total,), _ = means.folded("common resolution", _filter_one, shared, count)
    stack.data.clear()
    density = smoothed(total, [tuning.SET.envelope / a for a in stack.voxel_size])
    content = density > tuning.SET.envelope_level * np.quantile(density, 0.995)
    corner, stop = _bounds(content, [tuning.SET.margin / a for a in stack.voxel_size])
    inside = tuple(slice(a, b) for a, b in zip(corner, stop, strict=True))
    away = distance_transform_edt(~content, sampling=stack.voxel_size) > tuning.SET.solvent_distance
    away &= total != 0
    box = total[inside].copy()
    maps = means.room(count, (box.shape[0], box.shape[1], box.shape[2]))
    noise = np.array(list(means.each("content", _cut_one, (passed, maps, inside, away), count)))
    passed.clear()
    return Ground(
        maps,
        box,
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


@dataclass(frozen=True, eq=False)
class _Filtering:
    """What filtering maps needs: maps, where to, factors per map and shell, and shares for their mean."""

    maps: Stack | Shelf
    out: Shelf
    factors: Numbers
    shells: Shells
    weights: Numbers
    solvent: npt.NDArray[np.bool_] | None = None


def _filter_one(shared: _Filtering, k: int) -> tuple[tuple[Array, ...], float]:
    """Filter a map; return its part of the mean, and its variance in the solvent."""
    factors = shared.shells.spread(shared.factors[k])
    data = _inverse(_transform(shared.maps[k]) * factors, shared.shells.shape)
    shared.out[k] = data
    noise = 0.0 if shared.solvent is None else _variance(data[shared.solvent])
    return (np.float32(shared.weights[k]) * data,), noise


def _cut_one(shared: tuple[Any, ...], k: int) -> float:
    """Cut a map to the content; return its variance in the solvent."""
    passed, out, inside, away = shared
    data = passed[k]
    out[k] = data[inside]
    return _variance(data[away])


def matched_within(ground: Ground, weights: Numbers, conserved: Array, means: Means) -> Ground:
    """Bring grey scale and fall-off of maps together by what they show within a conserved region.

    Parameters
    ----------
    ground : Ground
        The room of its maps is given back.
    weights : ndarray, shape (K,)
        With a sum of 1.
    conserved : ndarray
        Soft mask, on the box, of what all classes share.
    means : Means
        With what to work.

    Returns
    -------
    Ground
        With a new mean and new noise; ``gains`` as found here.
    """
    count, shape = len(ground.maps), ground.maps.shape
    shells = shells_of(shape, ground.voxel_size)
    total = _transform(ground.total * conserved)
    shared, power = _shell_products(ground.maps, weights, total, shells, conserved, means, "matching")
    beyond = shells.frequency * ground.resolution > 1
    gains = common.matched_gains(shared, power, weights)
    gains[:, beyond] = gains[:, ~beyond][:, -1:]
    maps = means.room(count, shape)
    filtering = _Filtering(ground.maps, maps, gains, shells, weights, ground.solvent)
    (mean,), noise = means.folded("matching", _filter_one, filtering, count)
    ground.maps.clear()
    return replace(ground, maps=maps, total=mean, noise=np.array(noise), gains=gains)


def _shell_products(
    maps: Stack | Shelf,
    weights: Numbers,
    total: Complex,
    shells: Shells,
    within: Array | None,
    means: Means,
    stage: str,
) -> tuple[Numbers, Numbers]:
    """Return each map's product with the sum of the others, and with itself, per shell."""
    rows = list(means.each(stage, _shell_products_one, (maps, weights, total, shells, within), len(maps)))
    return np.array([row[0] for row in rows]), np.array([row[1] for row in rows])


def _shell_products_one(shared: tuple[Any, ...], k: int) -> tuple[Numbers, Numbers]:
    maps, weights, total, shells, within = shared
    own = _transform(maps[k] if within is None else maps[k] * within)
    power = shells.product(own, own)
    return shells.product(own, total) - weights[k] * power, power


def _transform(data: Array) -> Complex:
    return np.asarray(scipy.fft.rfftn(data), dtype=np.complex64)


def _inverse(data: npt.NDArray[np.complexfloating], shape: Shape) -> Array:
    return np.asarray(scipy.fft.irfftn(data, s=shape), dtype=np.float32)


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
    stack: Stack,
    weights: Numbers,
    ssnr: Sequence[Sequence[float] | None],
    shells: Shells,
    means: Means,
) -> tuple[Numbers, Numbers]:
    """Return gains that undo unequal shrinkage, and signal-to-noise ratios, per class and shell."""
    known = [s for s in ssnr if s is not None]
    if len(known) == len(stack):
        return common.wiener_gains(known, len(shells)), common.padded(known, len(shells))
    (total,), _ = means.folded("spectra", _spectrum_one, (stack, weights), len(stack))
    shared, power = _shell_products(stack, weights, total, shells, None, means, "spectra")
    return np.ones_like(power), common.ssnr_of_products(shared, power, weights)


def _spectrum_one(shared: tuple[Stack, Numbers], k: int) -> tuple[tuple[Complex, ...], None]:
    stack, weights = shared
    return (np.float32(weights[k]) * _transform(stack[k]),), None


def _common_resolution(
    resolutions: Numbers, voxel_size: Triple, lowpass: float | None
) -> tuple[float, list[Notice]]:
    """Return the resolution at which all classes are compared."""
    least = tuning.SET.least_voxels * max(voxel_size)
    if lowpass is not None:
        return float(lowpass), []
    median = float(np.median(resolutions))
    usual = resolutions[resolutions <= tuning.SET.behind * median]
    behind = int((resolutions > tuning.SET.behind * median).sum())
    notices = []
    if behind:
        text = (
            f"{behind} classes are resolved to {resolutions.max():.0f} Å only, the others to "
            f"{usual.max():.0f} Å: what they lack in detail may read as absent"
        )
        notices.append(Notice("poor-classes", text))
    return max(float(usual.max()), tuning.SET.finest, least), notices
