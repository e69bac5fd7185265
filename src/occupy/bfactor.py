"""Relative B-factors: how much faster than elsewhere the map fades towards high resolution, place by place.

Amplitudes of a part with ΔB more than the rest fall by exp(−ΔB q²/4) at the frequency q = 1/d, whatever its
occupancy. See docs/explanation/estimator.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from occupy import tuning
from occupy.numerics.resampling import block_means, interpolated_planes
from occupy.numerics.smoothing import smooth_volume
from occupy.settings import short_repr

Array = npt.NDArray[np.float32]

UNKNOWN = 999.0
"""Standard error where nothing is known."""


@dataclass(frozen=True, eq=False)
class BFactors:
    """Relative B-factors on a coarse grid.

    Attributes
    ----------
    values, errors : ndarray of float32, shape (nz', ny', nx')
        Å² more than in the middle of the content, and standard errors; 0 and `UNKNOWN` where unknown.
    sides : tuple of int
        Voxels of the map in each block along each axis.
    bands : tuple of float
        Resolutions in Å at which power was compared: the bands that counted.
    """

    values: Array
    errors: Array
    sides: tuple[int, int, int]
    bands: tuple[float, ...]

    __repr__ = short_repr

    def planes(self, what: str, start: int, stop: int, shape: tuple[int, ...]) -> Array:
        """Return ``values`` or ``errors`` at planes of the map; to be used before the next call."""
        offsets = ((self.sides[0] - 1) / 2, (self.sides[1] - 1) / 2, (self.sides[2] - 1) / 2)
        return interpolated_planes(getattr(self, what), self.sides, start, stop, shape, offsets)


def _block_sides(voxel_size: Sequence[float]) -> tuple[int, int, int]:
    """Return the voxels per place along each axis."""
    sides = [max(1, int(tuning.B_FACTOR.place / a)) for a in voxel_size]
    return sides[0], sides[1], sides[2]


def _band_centres(voxel_size: Sequence[float]) -> tuple[npt.NDArray[np.float64], float]:
    """Return the frequencies (1/Å) of the bands, equally spaced, and the standard deviation of each.

    Narrow bands would ring far beyond a part; these reach some 5 Å.
    """
    finest = max(tuning.B_FACTOR.finest, 2.4 * max(voxel_size))
    coarsest = max(tuning.B_FACTOR.coarsest, 2 * finest)
    centres = np.linspace(1 / coarsest, 1 / finest, tuning.B_FACTOR.bands)
    return centres, tuning.B_FACTOR.width


def _band_powers(
    maps: tuple[Array, Array] | tuple[Array], voxel_size: tuple[float, float, float]
) -> tuple[list[Array], npt.NDArray[np.float64]]:
    """Measure the local power in each band: of one map, or the cross-power of two halves.

    Parameters
    ----------
    maps : tuple of one or two ndarrays of float32
        The map, or its halves: the noise of these is independent, so it adds nothing on average.
    voxel_size : tuple of float
        Å along z, y, x.

    Returns
    -------
    powers : list of ndarray of float32
        Per band, on the coarse grid.
    q2 : ndarray of float64
        Mean q² of the power in each band: below its centre, since maps fade.
    """
    shape = maps[0].shape
    transforms = [np.fft.rfftn(data) for data in maps]
    f = [np.fft.fftfreq(n, a).astype(np.float32) for n, a in zip(shape[:2], voxel_size[:2], strict=True)]
    x = np.fft.rfftfreq(shape[2], voxel_size[2]).astype(np.float32)
    squared = f[0][:, None, None] ** 2 + f[1][:, None] ** 2 + x**2
    frequency = np.sqrt(squared)
    centres, width = _band_centres(voxel_size)
    sides = _block_sides(voxel_size)
    sigma = tuple(tuning.B_FACTOR.window / (s * a) for s, a in zip(sides, voxel_size, strict=True))
    out, q2 = [], []
    spectrum = (transforms[0] * transforms[-1].conj()).real
    for centre in centres:
        weight = np.exp(-0.5 * ((frequency - np.float32(centre)) / np.float32(width)) ** 2)
        real = [np.fft.irfftn(t * weight, s=shape, axes=(0, 1, 2)).astype(np.float32) for t in transforms]
        out.append(smooth_volume(block_means(real[0] * real[-1], sides), sigma, 3.0))
        passed = spectrum * weight**2
        q2.append(float((passed * squared).sum(dtype=np.float64) / passed.sum(dtype=np.float64)))
    return out, np.array(q2)


def _fitted(
    powers: Sequence[Array],
    q2: npt.NDArray[np.float64],
    content: npt.NDArray[np.bool_],
    solvent: npt.NDArray[np.bool_],
    independent: Sequence[float],
    *,
    cross: bool,
) -> tuple[Array, Array, tuple[int, ...]] | None:
    """Fit ln amplitude relative to the middle of the content against q².

    Parameters
    ----------
    powers : sequence of ndarray
        From `_band_powers`.
    q2 : ndarray
        q² of the bands.
    content, solvent : ndarray of bool
        Where there is surely content, and surely none.
    independent : sequence of float
        Independent values of each band under the window.
    cross : bool
        Powers are cross-powers: noise takes nothing away on average.

    Returns
    -------
    values, errors : ndarray of float32
        Relative B-factors and standard errors, in Å² (0 and UNKNOWN where no band stands out of the noise).
    used : tuple of int
        Bands that count; None instead of all where fewer than two do.
    """
    logs, weights, seen, used = [], [], [], []
    for band, power in enumerate(powers):
        mean, sigma = _noise(power[solvent])
        signal = power if cross else power - np.float32(mean)
        good = signal > tuning.B_FACTOR.least_signal * sigma
        if np.count_nonzero(good & content) < max(
            tuning.B_FACTOR.least_places, tuning.B_FACTOR.least_share * np.count_nonzero(content)
        ):
            continue
        # Left out where it is weak, a band would be missing just where the map fades; it counts as that weak.
        safe = np.maximum(signal, tuning.B_FACTOR.least_signal * sigma)
        # Power of a field with n independent values has a relative variance of 2/n, noise included.
        relative = np.maximum(power, safe) / safe * np.sqrt(2 / independent[band]) / 2
        logs.append(0.5 * np.log(safe))
        weights.append(1 / relative**2)
        seen.append(good)
        used.append(band)
    if len(used) < 2:
        return None
    height = np.stack([log - np.median(log[content]) for log in logs])
    slope, error = _slopes(height, np.stack(weights), q2[used])
    known = np.count_nonzero(seen, axis=0) >= 1
    values = -4 * slope / tuning.B_FACTOR.recovered
    values = np.where(known, values - np.median(values[content]), 0.0)
    common = np.hypot(tuning.B_FACTOR.structure_error, tuning.B_FACTOR.relative_error * values)
    errors = np.where(known, np.hypot(4 * error / tuning.B_FACTOR.recovered, common), UNKNOWN)
    return values.astype(np.float32), np.minimum(errors, UNKNOWN).astype(np.float32), tuple(used)


def _noise(values: Array) -> tuple[float, float]:
    """Return mean and standard deviation, robust against what content leaves in the solvent."""
    middle = float(np.median(values))
    return middle, 1.4826 * float(np.median(np.abs(values - middle)))


def _slopes(
    height: npt.NDArray[np.floating], weight: npt.NDArray[np.floating], q2: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return slope and standard error of weighted straight lines."""
    x = q2[:, None, None, None]
    total = np.maximum(weight.sum(axis=0), 1e-30)
    centre = (weight * x).sum(axis=0) / total
    spread = np.maximum((weight * (x - centre) ** 2).sum(axis=0), 1e-30)
    slope = (weight * (x - centre) * height).sum(axis=0) / spread
    return slope, 1 / np.sqrt(spread)


def relative_b_factors(
    data: Array,
    voxel_size: tuple[float, float, float],
    content: Callable[[tuple[int, int, int]], tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]],
    halves: tuple[Array, Array] | None = None,
) -> BFactors | None:
    """Find relative B-factors of a map.

    Parameters
    ----------
    data : ndarray of float32, shape (nz, ny, nx)
        The map, not low-passed. Sharpening does not matter: it is the same everywhere.
    voxel_size : tuple of float
        Å along z, y, x.
    content : callable
        From the sides of a block in voxels to where on the coarse grid there is surely content, and surely
        none.
    halves : tuple of ndarray, optional
        Independent halves, whose cross-power is free of noise.

    Returns
    -------
    BFactors or None
        None where fewer than two bands stand out of the noise.
    """
    sides = _block_sides(voxel_size)
    inside, outside = content(sides)
    if min(np.count_nonzero(inside), np.count_nonzero(outside)) < tuning.B_FACTOR.least_places:
        return None
    centres, width = _band_centres(voxel_size)
    volume = (2 * np.sqrt(np.pi) * tuning.B_FACTOR.window) ** 3
    # The shell that the square of a Gaussian band takes up in Fourier space, in one half of it.
    independent = [volume * 2 * np.pi * c**2 * 2 * np.sqrt(np.pi) * width for c in centres]
    powers, q2 = _band_powers((data,) if halves is None else halves, voxel_size)
    found = _fitted(powers, q2, inside, outside, independent, cross=halves is not None)
    if found is None:
        return None
    values, errors, used = found
    return BFactors(values, errors, sides, tuple(float(1 / centres[k]) for k in used))


def featureless(
    detail: Array, low: Array, content: npt.NDArray[np.bool_], empty: npt.NDArray[np.bool_], voxel: float
) -> npt.NDArray[np.bool_] | None:
    """Tell which content has no detail, as belts of lipid and detergent have none.

    Detail and density both are in proportion to the occupancy; their ratio is low where nothing has a fold.

    Parameters
    ----------
    detail, low : ndarray of float32, same shape
        What the map has beyond its low-pass, and the low-passed map.
    content, empty : ndarray of bool, same shape
        Where there is content, and where only noise.
    voxel : float
        Å.

    Returns
    -------
    ndarray of bool or None
        None where detail does not stand out of the noise.
    """
    t = tuning.B_FACTOR
    sigma = (t.detail_window / voxel,) * 3
    power = smooth_volume(np.square(detail), sigma, 2.5)
    noise = float(np.median(power[empty])) if empty.any() else 0.0
    power -= np.float32(noise)
    if not content.any() or float(np.quantile(power[content], 0.9)) <= t.detail_signal * noise:
        return None
    density = smooth_volume(np.maximum(low, np.float32(0)), sigma, 2.5)
    ratio = np.sqrt(np.maximum(power, np.float32(0))) / np.maximum(density, np.float32(1e-6 * density.max()))
    # Belts may be most of the content: folds are what has the most detail.
    return np.asarray(content & (ratio < np.float32(t.detail_share * np.quantile(ratio[content], 0.9))))
