"""Bring the maps of a set onto one working grid, grey scale, spectral fall-off and resolution.

Assumed: all classes show the same particle in the same place, so that what they share differs between them
only by a positive factor per shell, and their noise is independent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft
from scipy.ndimage import distance_transform_edt, gaussian_filter1d

from occupy import tuning
from occupy.ensemble.execution import Execution, Storage
from occupy.ensemble.members import Stack
from occupy.errors import InputError, Notice
from occupy.numerics.smoothing import scipy_smoothed
from occupy.numerics.spectra import Shells
from occupy.volume import Grid, LazyMap, on_finer_grid

Numbers = npt.NDArray[np.float64]


def _wiener_gains(ssnr: Sequence[Sequence[float]], shells: int) -> Numbers:
    """Return factors that bring every class to the shrinkage of the least certain one.

    A regularised reconstruction is the data times w = SSNR/(1 + SSNR), per class and shell. Multiplying by
    w_min/w_k leaves the same shrinkage in all classes and amplifies no noise.

    Parameters
    ----------
    ssnr : sequence of K sequences
        Spectral signal-to-noise ratio per shell; missing shells count as 0.
    shells : int
        Number of shells wanted.

    Returns
    -------
    ndarray, shape (K, shells)
        Within (0, 1]; 1 where a class holds nothing.
    """
    w = _shrinkage(_padded(ssnr, shells))
    least = w.min(axis=0)
    return np.where(w > tuning.SET.least_shrinkage, least / np.maximum(w, tuning.SET.least_shrinkage), 1.0)


def _shrinkage(ssnr: Numbers) -> Numbers:
    """Return SSNR/(1 + SSNR)."""
    return ssnr / (1 + ssnr)


def _padded(rows: Sequence[Sequence[float]], length: int) -> Numbers:
    """Return rows of numbers as an array, cut or filled with zeros to a length."""
    out = np.zeros((len(rows), length))
    for row, values in zip(out, rows, strict=True):
        n = min(len(values), length)
        row[:n] = np.nan_to_num(np.asarray(values[:n], dtype=np.float64), nan=0.0, posinf=1e30)
    return np.maximum(out, 0)


def _resolution_of(ssnr: Numbers, frequency: Numbers) -> Numbers:
    """Return, per class, the resolution in Å where the signal-to-noise ratio falls below 0.3.

    Parameters
    ----------
    ssnr : ndarray, shape (K, shells)
    frequency : ndarray, shape (shells,)
        1/Å.

    Returns
    -------
    ndarray, shape (K,)
        Of the first shell from the second on that has too little; of the last shell where none has.
    """
    out = np.empty(len(ssnr))
    for k, row in enumerate(ssnr):
        low = np.flatnonzero(row[2:] < tuning.SET.enough_signal)
        shell = int(low[0]) + 2 if low.size else len(frequency) - 1
        out[k] = 1 / frequency[shell]
    return out


def _factors_of_products(products: Numbers, weights: Numbers, rounds: int = 60) -> Numbers:
    """Return factors g_k of quantities that share one pattern, from products with the sum of all others.

    Solves n_k = g_k (Σ_l a_l g_l − a_k g_k) up to a common factor: products of different members only, which
    independent noise does not enter.

    Parameters
    ----------
    products : ndarray, shape (K, ...)
        n_k, the product of member k with the weighted sum of all others.
    weights : ndarray, shape (K,)
        a_l, positive.

    Returns
    -------
    ndarray, shape (K, ...)
        Not negative.
    """
    a = weights.reshape(-1, *[1] * (products.ndim - 1))
    g = np.sqrt(np.maximum(products, 0))
    floor = 1e-6 * max(float(g.max(initial=0)), 1e-300)
    for _ in range(rounds):
        rest = np.maximum((a * g).sum(axis=0) - a * g, floor)
        g = 0.5 * g + 0.5 * np.maximum(products, 0) / rest
    return g


def _matched_gains(products: Numbers, powers: Numbers, weights: Numbers) -> Numbers:
    """Return factors per class and shell that bring what all classes share to one grey scale and fall-off.

    Parameters
    ----------
    products : ndarray, shape (K, shells)
        Cross-power of class k with the weighted sum of all others, within the conserved region.
    powers : ndarray, shape (K, shells)
        Power of each class there; used where there are two classes only, which one product can't tell apart.
    weights : ndarray, shape (K,)
        Of the classes in that sum.

    Returns
    -------
    ndarray, shape (K, shells)
        Smooth along shells, between 1/3 and 3, with a mean logarithm of 0 over the classes.
    """
    factor = np.sqrt(powers) if len(weights) < 3 else _factors_of_products(products, weights)
    mean = np.maximum((weights[:, None] * factor).sum(axis=0), 1e-300)
    ratio = np.clip(factor / mean, 1 / tuning.SET.most_gain, tuning.SET.most_gain)
    logs = gaussian_filter1d(np.log(ratio), tuning.SET.gain_smoothing, axis=1, mode="nearest")
    gains: Numbers = np.exp(-(logs - logs.mean(axis=0)))
    return gains


def _ssnr_of_products(products: Numbers, powers: Numbers, weights: Numbers) -> Numbers:
    """Estimate the signal-to-noise ratio of each class and shell from what the classes share.

    Parameters
    ----------
    products : ndarray, shape (K, shells)
        As for `_matched_gains`.
    powers : ndarray, shape (K, shells)
        Power of each class.
    weights : ndarray, shape (K,)

    Returns
    -------
    ndarray, shape (K, shells)
        At most 1e6. With two classes both are taken to be equally good.
    """
    if len(weights) < 3:
        shared = np.maximum(products / np.maximum(weights[::-1, None], 1e-300), 0)
        ratio = shared / np.maximum(np.sqrt(powers.prod(axis=0)), 1e-300)
        ratio = np.minimum(ratio, 1 - 1e-6)
        return np.asarray(ratio / (1 - ratio))
    factor = _factors_of_products(products, weights)
    signal: Numbers = np.minimum(factor**2, (1 - 1e-6) * powers)
    return np.asarray(signal / np.maximum(powers - signal, 1e-300))


Array = npt.NDArray[np.float32]
Complex = npt.NDArray[np.complex64]
Triple = tuple[float, float, float]
Shape = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class ScaledMaps:
    """Maps that can be compared.

    Attributes
    ----------
    maps : Storage
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

    maps: Storage
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

    def matched_within(self, weights: Numbers, conserved: Array, execution: Execution) -> ScaledMaps:
        """Bring grey scale and fall-off of maps together by what they show within a conserved region.

        Parameters
        ----------
        weights : ndarray, shape (K,)
            With a sum of 1.
        conserved : ndarray
            Soft mask, on the box, of what all classes share.
        execution : Execution
            Where the work runs and arrays are kept.

        Returns
        -------
        Ground
            With a new mean and new noise; ``gains`` as found here.
        """
        count, shape = len(self.maps), self.maps.shape
        shells = Shells.of(shape, self.voxel_size)
        total = _transform(self.total * conserved)
        shared, power = _shell_products(self.maps, weights, total, shells, conserved, execution, "matching")
        beyond = shells.frequency * self.resolution > 1
        gains = _matched_gains(shared, power, weights)
        gains[:, beyond] = gains[:, ~beyond][:, -1:]
        maps = execution.storage(count, shape)
        filtering = _Filtering(self.maps, maps, gains, shells, weights, self.solvent)
        (mean,), noise = execution.folded("matching", _filter_one, filtering, count)
        self.maps.clear()
        return replace(self, maps=maps, total=mean, noise=np.array(noise), gains=gains)


def _box(corner: Sequence[int], shape: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(c, c + n) for c, n in zip(corner, shape, strict=True))


def scale_maps(
    stack: Stack,
    weights: Numbers,
    ssnr: Sequence[Sequence[float] | None],
    *,
    lowpass: float | None,
    execution: Execution,
) -> ScaledMaps:
    """Bring maps to one grey scale, fall-off and resolution.

    Parameters
    ----------
    stack : Stack
        Its storage is given back.
    weights : ndarray, shape (K,)
        With a sum of 1.
    ssnr : sequence of K
        Spectral signal-to-noise ratio by which a map was shrunk; None where unknown.
    lowpass : float or None
        Å.
    execution : Execution
        Where the work runs and arrays are kept.
    """
    shape, count = stack.data.shape, len(stack)
    shells = Shells.of(shape, stack.voxel_size)
    gains, ratios = _wiener(stack, weights, ssnr, shells, execution)
    resolutions = _resolution_of(ratios, shells.frequency)
    resolution, notices = _common_resolution(resolutions, stack.voxel_size, lowpass)
    passed = execution.storage(count, shape)
    factors = gains * shells.soft_lowpass(resolution)
    shared = _Filtering(stack, passed, factors, shells, weights)
    (total,), _ = execution.folded("common resolution", _filter_one, shared, count)
    stack.data.clear()
    density = scipy_smoothed(total, [tuning.SET.envelope / a for a in stack.voxel_size])
    content = density > tuning.SET.envelope_level * np.quantile(density, 0.995)
    corner, stop = _bounds(content, [tuning.SET.margin / a for a in stack.voxel_size])
    inside = tuple(slice(a, b) for a, b in zip(corner, stop, strict=True))
    away = distance_transform_edt(~content, sampling=stack.voxel_size) > tuning.SET.solvent_distance
    away &= total != 0
    box = total[inside].copy()
    maps = execution.storage(count, (box.shape[0], box.shape[1], box.shape[2]))
    noise = np.array(list(execution.each("content", _cut_one, (passed, maps, inside, away), count)))
    passed.clear()
    return ScaledMaps(
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

    maps: Stack | Storage
    out: Storage
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


def _shell_products(
    maps: Stack | Storage,
    weights: Numbers,
    total: Complex,
    shells: Shells,
    within: Array | None,
    execution: Execution,
    stage: str,
) -> tuple[Numbers, Numbers]:
    """Return each map's product with the sum of the others, and with itself, per shell."""
    rows = list(execution.each(stage, _shell_products_one, (maps, weights, total, shells, within), len(maps)))
    return np.array([row[0] for row in rows]), np.array([row[1] for row in rows])


def _shell_products_one(shared: tuple[Any, ...], k: int) -> tuple[Numbers, Numbers]:
    maps, weights, total, shells, within = shared
    one = _transform(maps[k] if within is None else maps[k] * within)
    power = shells.product(one, one)
    return shells.product(one, total) - weights[k] * power, power


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
    for axis, more in enumerate(margin):
        others = tuple(i for i in range(3) if i != axis)
        at = np.flatnonzero(content.any(axis=others))
        first.append(max(int(at[0] - np.ceil(more)), 0))
        last.append(min(int(at[-1] + np.ceil(more)) + 1, content.shape[axis]))
    return (first[0], first[1], first[2]), (last[0], last[1], last[2])


def _wiener(
    stack: Stack,
    weights: Numbers,
    ssnr: Sequence[Sequence[float] | None],
    shells: Shells,
    execution: Execution,
) -> tuple[Numbers, Numbers]:
    """Return gains that undo unequal shrinkage, and signal-to-noise ratios, per class and shell."""
    known = [s for s in ssnr if s is not None]
    if len(known) == len(stack):
        return _wiener_gains(known, len(shells)), _padded(known, len(shells))
    (total,), _ = execution.folded("spectra", _spectrum_one, (stack, weights), len(stack))
    shared, power = _shell_products(stack, weights, total, shells, None, execution, "spectra")
    return np.ones_like(power), _ssnr_of_products(shared, power, weights)


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
