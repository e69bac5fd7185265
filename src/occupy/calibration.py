"""What full parts and nothing read in a map, and how sure that is: the scale of the calibrated estimator.

Pure numbers: local maxima in, a `Calibration` out. See docs/explanation/estimator.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import log, sqrt

import numpy as np
import numpy.typing as npt

from occupy.numerics.parallel import scratch
from occupy.numerics.smoothing import normal_cdf, smooth_curve, smooth_volume
from occupy.surroundings import Surroundings, own_shares, surroundings_of

Array = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.float64]

# Every constant below was chosen on the tuning half of benchmarks/accuracy, on crowded maps of its models,
# and on the RELION maps.
POWER = 1.3
"""Noise and signal add up as (sᵖ + nᵖ)^(1/p) in a local maximum."""
FLOOR_OF_MEDIAN = 1.1
"""Noise floor in medians of the local maxima of noise: where nothing is, next to nothing is read."""
FLOOR_OF_HALVES = 1.1
"""The same where the medians come from half-maps."""
CLEARLY_MORE = 1.2
"""Half-maps that show so many times the noise of the solvent are believed; otherwise the solvent is."""
MEDIAN_OF_MODE = 1.05
"""These are skewed: their median lies this much above their mode."""
CORE = 0.4
"""A voxel is inside density where the map is at least this share of its own local maximum."""
ABOVE_FLOOR = 1.83
"""Local maxima below this many noise floors are not looked at for full scale: 1.5 σ above the floor."""
LEAST_SHARE = 0.1
"""Nor those below this share of the highest."""
LEAST_VOXELS = 150
"""With fewer voxels there is nothing to calibrate on."""
SMOOTHING = 6.5
"""Å over which local maxima are averaged, as a chain's reading is, before full scale is sought."""
MOST_STRIDE = 5.5
"""Å between the places that are looked at for full scale, at most."""

SPREAD = 0.07
"""Relative standard deviation of full places among each other, in the averaged local maxima."""
OUTLIERS = 0.05
"""Share of places that read above full scale for reasons of their own (metals, dense helices)."""
FULL_SHARE_PRIOR = 15.0
"""Weight of the expectation that much is full, in places: the share w has the prior density w¹⁵."""
PLACES = 200.0
"""How many independent places the histogram counts for, whatever the size of the map."""
SPAN = 2.3
"""Range of the histogram, in ln."""

FULL_PRIOR = 0.75
"""Chance that a part is full before it is looked at."""
FULL_SPREAD = 0.08
"""Relative standard deviation of the readings of full parts."""

RELATIVE_ERROR = 0.05
NOISE_ERROR = 0.2
LEAST_ERROR = 0.01
FULL_SCALE_ERROR = 0.04
"""Standard errors of partial readings: relative, in noise floors, absolute; and of ln full scale."""
TRUST = 0.05
"""Power of the likelihood of full scale when its error is judged: places are less independent than that."""
INTERVAL_95 = 3.182446
"""Half a 95 % interval in standard errors: Student's t with three degrees of freedom, since the errors were
judged on four kinds of particle, and what goes wrong is mostly common to all parts of a particle."""
# Fine enough that look-ups need no interpolation.
_STEPS = 1 << 16
_COARSE = 1025
# Above this many full scales everything reads 1, whatever the surroundings.
_TOP = 1.3


@dataclass(frozen=True)
class Calibration:
    """How local maxima become occupancies.

    Attributes
    ----------
    floor : float
        Local maximum of pure noise, in the map's units; read as 0.
    full : float
        Local maximum of a full part; read as 1.
    error : float
        Standard error of ln ``full``.
    share : float
        Estimated share of the density that is full, 0 to 1.
    from_halves : bool
        Whether the floor was measured in half-maps, since the solvent showed less noise than these.
    others : tuple of pairs
        What full scale may be instead: its ratio to ``full``, and how likely.
    surroundings : Surroundings or None
        What makes local maxima comparable inside, at the surface and beside strong density; ``full`` is for
        average surroundings.
    """

    floor: float
    full: float
    error: float
    share: float
    from_halves: bool = False
    others: tuple[tuple[float, float], ...] = ((1.0, 1.0),)
    surroundings: Surroundings | None = None

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the map value that is read as 1; see `INTERVAL_95`."""
        factor = float(np.exp(INTERVAL_95 * self.error))
        return self.full / factor, self.full * factor

    @property
    def noise(self) -> float:
        """Noise floor relative to full scale."""
        return self.floor / self.full

    def within(self, start: tuple[int, int, int]) -> Calibration:
        """Return the same for a part of the map that begins at this voxel."""
        if self.surroundings is None:
            return self
        return replace(self, surroundings=self.surroundings.within(start))

    def is_content(self, data: Array, dilated: Array) -> npt.NDArray[np.bool_]:
        """Tell where low-passed map and local maxima are surely of content."""
        least = max(2 * self.floor, 0.3 * self.full)
        return np.asarray((data > np.float32(CORE) * dilated) & (dilated > np.float32(least)))

    @cached_property
    def _tables(self) -> tuple[Array, Array, Array]:
        """Relative height, occupancy and standard error.

        Per step of the local maximum (0 to `_TOP` full scales), of the relative height, of the occupancy.
        """
        steps = np.linspace(0.0, 1.0, _STEPS)
        relative = above_floor(_TOP * steps, self.noise) / above_floor(np.ones(1), self.noise)
        sums = np.zeros(_COARSE)
        unit = np.linspace(0.0, 1.0, _COARSE)
        for ratio, chance in self.others:
            other = np.minimum(unit / ratio, 1.0)
            sums += chance * (
                (occupancy(other) - occupancy(unit)) ** 2 + standard_error(other, self.noise) ** 2
            )
        error = np.interp(steps, occupancy(unit), np.sqrt(sums))
        value = occupancy(steps)
        value[0] = 0.0
        return relative.astype(np.float32), value.astype(np.float32), error.astype(np.float32)

    def scale_of(self, dilated: Array, out: Array, first: int | None = None) -> Array:
        """Return the occupancy that local maxima read.

        Parameters
        ----------
        dilated : ndarray of float32
            Local maxima.
        out : ndarray of float32, same shape
            Where to put the result.
        first : int, optional
            Number of the first plane; without it the surroundings are taken to be average.
        """
        np.multiply(dilated, np.float32(1 / (_TOP * self.full)), out=out)
        np.clip(out, 0.0, 1.0, out=out)
        _look_up(self._tables[0], out, out)
        if first is not None and self.surroundings is not None:
            out *= self.surroundings.planes(first, first + len(out), out.shape[1:])
        return _look_up(self._tables[1], out, out)

    def of_value(self, value: float) -> float:
        """Return the occupancy that one local maximum reads in average surroundings."""
        values = np.array([value], dtype=np.float32)
        return float(self.scale_of(values, values)[0])

    def uncertainty_of(self, scale: Array) -> Array:
        """Return the standard error of a scale (float32, same shape)."""
        return _look_up(self._tables[2], scale)


def _look_up(table: Array, unit: Array, out: Array | None = None) -> Array:
    index = scratch("steps", unit.shape, np.intp)
    steps = np.multiply(unit, np.float32(len(table) - 1), out=scratch("unit", unit.shape))
    steps += np.float32(0.5)
    np.copyto(index, steps, casting="unsafe")
    return np.asarray(table.take(index, mode="clip", out=out))


def above_floor(values: npt.NDArray[np.floating], floor: float) -> npt.NDArray[np.floating]:
    """Return local maxima without what noise adds to them: (dᵖ − nᵖ)^(1/p), 0 below the floor."""
    return np.asarray(np.maximum(np.maximum(values, 0) ** POWER - floor**POWER, 0) ** (1 / POWER))


def chance_of_full(relative: Numbers) -> Numbers:
    """Return how likely a part that reads ``relative`` is full: normal around 1 against uniform below."""
    off = (relative - 1) / FULL_SPREAD
    full = FULL_PRIOR * np.exp(-0.5 * off**2) / (FULL_SPREAD * sqrt(2 * np.pi))
    return np.asarray(full / (full + (1 - FULL_PRIOR)))


def occupancy(relative: Numbers) -> Numbers:
    """Return the expected occupancy of parts that read ``relative`` in [0, 1]: P + (1 − P) · relative.

    Parts are full much more often than 0.95 full, so what reads close to 1 most likely is 1.
    """
    chance = chance_of_full(relative)
    return np.asarray(chance + (1 - chance) * relative)


def standard_error(relative: Numbers, noise: float) -> Numbers:
    """Return the standard error of `occupancy`.

    Parameters
    ----------
    relative : ndarray
        Relative readings in [0, 1].
    noise : float
        Noise floor relative to full scale.
    """
    chance = chance_of_full(relative)
    partial = (RELATIVE_ERROR * relative) ** 2 + (NOISE_ERROR * noise) ** 2 + LEAST_ERROR**2
    either = chance * (1 - chance) * (1 - relative) ** 2
    return np.asarray(np.sqrt((1 - chance) * partial + either + LEAST_ERROR**2))


def noise_floor(dilated: Array) -> float:
    """Return the median local maximum of noise, from values of which most are of solvent.

    The mode of the positive local maxima, so that content does not matter; 0 where there is none.

    Parameters
    ----------
    dilated : ndarray of float32
        Local maxima where the noise is as reconstructed: not in the box's corners, nor what a mask made flat.
    """
    values = dilated[dilated > 0]
    if values.size < LEAST_VOXELS:
        return 0.0
    # Three times the lower quartile lies well above the mode where at least half is solvent.
    high = 3.0 * float(np.quantile(values, 0.25))
    counts, edges = np.histogram(values, bins=200, range=(0.0, high))
    at = int(smooth_curve(counts.astype(float), 6.0).argmax())
    return FLOOR_OF_MEDIAN * MEDIAN_OF_MODE * float(edges[at] + edges[at + 1]) / 2


def averaged_logs(
    data: Array,
    dilated: Array,
    floor: float,
    sigma: tuple[float, ...],
    surroundings: Surroundings | None = None,
) -> Array:
    """Return ln of `above_floor` at the places inside density, averaged over their neighbours.

    Parameters
    ----------
    data, dilated : ndarray of float32, same shape
        The low-passed map and its local maxima.
    floor : float
        From `noise_floor`.
    sigma : tuple of float
        Of the Gaussian average, in voxels.
    surroundings : Surroundings, optional
        On the same grid.
    """
    strong = dilated[dilated > 2 * floor]
    if strong.size < LEAST_VOXELS:
        return np.empty(0, dtype=np.float32)
    least = max(ABOVE_FLOOR * floor, floor + LEAST_SHARE * (float(np.quantile(strong, 0.99)) - floor))
    inside = (data > np.float32(CORE) * dilated) & (dilated > np.float32(least))
    if not inside.any():
        return np.empty(0, dtype=np.float32)
    factors = None if surroundings is None else surroundings.planes(0, len(data), data.shape[1:])
    # Only the box around the density takes part.
    sides = [np.any(inside, axis=tuple(k for k in range(3) if k != axis)) for axis in range(3)]
    part = tuple(_span(np.asarray(side)) for side in sides)
    inside, dilated = inside[part], dilated[part]
    raised = above_floor(np.where(inside, dilated, np.float32(2 * least)), floor)
    if factors is not None:
        raised = raised * factors[part]
    logs = np.log(raised).astype(np.float32) * inside
    weight = smooth_volume(inside.astype(np.float32), sigma, 2.5)
    total = smooth_volume(logs, sigma, 2.5)
    return np.asarray(total[inside] / weight[inside])


def _span(used: npt.NDArray[np.bool_]) -> slice:
    at = np.flatnonzero(used)
    return slice(int(at[0]), int(at[-1]) + 1)


def fit_full(logs: Array) -> tuple[float, float, tuple[tuple[float, float], ...]]:
    """Find full scale: the value that parts gather around at the upper end.

    Relative to full scale F, a share w of the places is normal around 1 with `SPREAD`, the rest uniform
    between `LEAST_SHARE` and 1, a few are `OUTLIERS` up to 2. F and w maximise likelihood times prior of w.

    Parameters
    ----------
    logs : ndarray
        From `averaged_logs`.

    Returns
    -------
    full : float
        F.
    share : float
        w.
    others : tuple of pairs
        What F may be instead: ratio to F, and how likely.
    """
    top = float(np.quantile(logs, 0.999)) + 0.1
    edges = np.linspace(top - SPAN, top, 101)
    counts = np.histogram(logs, edges)[0].astype(float)
    h = counts / max(counts.sum(), 1.0)
    candidates = np.exp(np.linspace(top - SPAN + 1.2, top, 80))
    shares = np.linspace(0.05, 1, 20)
    relative = np.exp(edges)[None] / candidates[:, None]
    normal = np.diff(normal_cdf((relative - 1) / SPREAD), axis=1)
    below = np.diff(np.clip(relative, LEAST_SHARE, 1), axis=1) / (1 - LEAST_SHARE)
    above = np.diff(np.clip(relative, 1, 2), axis=1)
    chance = shares[:, None] * normal[:, None] + (1 - shares[:, None]) * below[:, None]
    chance = (1 - OUTLIERS) * chance + OUTLIERS * above[:, None] + 1e-7
    fit = PLACES * np.log(chance) @ h + FULL_SHARE_PRIOR * np.log(shares)
    best = fit.max(axis=1)
    at = int(best.argmax())
    weight = smooth_curve(
        np.exp(TRUST * (best - best[at])), FULL_SCALE_ERROR / log(candidates[1] / candidates[0])
    )
    weight /= weight.sum()
    others = tuple(
        (float(f / candidates[at]), float(w)) for f, w in zip(candidates, weight, strict=True) if w > 1e-3
    )
    return float(candidates[at]), float(shares[fit[at].argmax()]), others


def calibrate(
    data: Array,
    dilated: Array,
    spacing: tuple[float, ...],
    *,
    strides: tuple[int, int, int] = (1, 1, 1),
    solvent: npt.NDArray[np.bool_] | None = None,
    floor: float | None = None,
    masked: bool = False,
) -> Calibration | None:
    """Find noise floor and full scale.

    Parameters
    ----------
    data, dilated : ndarray of float32, same shape
        Low-passed map and its local maxima, perhaps on every n-th voxel only.
    spacing : tuple of float
        Å between them along each axis.
    strides : tuple of int
        Voxels of the map between them along each axis.
    solvent : ndarray of bool, optional
        Where noise is as reconstructed: not what a mask made flat.
    floor : float, optional
        Noise floor as half-maps have it; for where the solvent shows clearly less noise. (Otherwise its own
        is the better one: it also holds what content leaves there.)
    masked : bool
        The solvent is not believed at all where ``floor`` is known.

    Returns
    -------
    Calibration or None
        None where there is too little density above the noise.
    """
    zero = noise_floor(dilated if solvent is None else dilated[solvent])
    from_halves = floor is not None and (masked or floor > CLEARLY_MORE * zero)
    if floor is not None and from_halves:
        zero = floor
    content = (data > np.float32(CORE) * dilated) & (dilated > np.float32(ABOVE_FLOOR * zero))
    near = surroundings_of(content, spacing)
    logs = averaged_logs(data, dilated, zero, tuple(SMOOTHING / a for a in spacing), near)
    if logs.size < LEAST_VOXELS // 10 or not float(logs.max()) > log(1e-30):
        return None
    above, share, others = fit_full(logs)
    off = np.array([[log(ratio), chance] for ratio, chance in others])
    error = float(np.sqrt((off[:, 1] * off[:, 0] ** 2).sum()))
    full = (above**POWER + zero**POWER) ** (1 / POWER)
    if near is not None:
        # Full scale was found without: there is nothing to take off where density is.
        readings = above_floor(dilated, zero).astype(np.float32)
        near = near.times(own_shares(readings, data, spacing)).on_finer(strides)
    return Calibration(zero, full, error, share, from_halves, others, near)
