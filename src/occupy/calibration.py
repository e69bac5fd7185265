"""What full parts and nothing read in a map, and how sure that is: the scale of the calibrated estimator.

Pure numbers: local maxima in, a `Calibration` out. See docs/explanation/estimator.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import log

import numpy as np
import numpy.typing as npt

from occupy import tuning
from occupy.numerics.parallel import scratch
from occupy.numerics.smoothing import quantile, smooth_curve, smooth_volume
from occupy.statistics.context import LocalContext, crowding_gain
from occupy.statistics.noise import mode_of_maxima, with_noise, without_noise
from occupy.statistics.posterior import STANDARD_ERRORS_95, chance_of_full, posterior_error, posterior_mean

Array = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.float64]

# Fine enough that look-ups need no interpolation.
_STEPS = 1 << 16
_COARSE = 1025
# Above this many full scales everything reads 1, whatever the local context.
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
    context : LocalContext or None
        What makes local maxima comparable inside, at the surface and beside strong density; ``full`` is for
        average local context.
    """

    floor: float
    full: float
    error: float
    share: float
    from_halves: bool = False
    others: tuple[tuple[float, float], ...] = ((1.0, 1.0),)
    context: LocalContext | None = None

    @property
    def chance_of_full(self) -> float:
        """Chance that a part of this map is full before it is looked at: the share of places that read so."""
        return min(tuning.MAP.most_full, self.share)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the map value that is read as 1; ± 1.96 standard errors of its logarithm."""
        factor = float(np.exp(STANDARD_ERRORS_95 * self.error))
        return self.full / factor, self.full * factor

    @property
    def noise(self) -> float:
        """Noise floor relative to full scale."""
        return self.floor / self.full

    @property
    def other_level(self) -> float | None:
        """Full scale that explains the map nearly as well, relative to ``full``; None where there is none."""
        ratio, chance = np.array(self.others).T
        ends = np.concatenate([[0.0], chance, [0.0]])
        peaks = np.flatnonzero((chance >= ends[:-2]) & (chance > ends[2:]))
        # The peak of the level that was taken lies at 1, a few steps of the candidates off at most.
        least = tuning.MAP.ambiguous * float(chance.max())
        second = [k for k in peaks if abs(log(ratio[k])) > log(1.15) and chance[k] >= least]
        return float(ratio[max(second, key=lambda k: chance[k])]) if second else None

    def is_content(self, data: Array, dilated: Array) -> npt.NDArray[np.bool_]:
        """Tell where low-passed map and local maxima are surely of content."""
        least = max(2 * self.floor, 0.3 * self.full)
        return np.asarray((data > np.float32(tuning.MAP.core) * dilated) & (dilated > np.float32(least)))

    @cached_property
    def _tables(self) -> tuple[Array, Array, Array]:
        """Relative height, occupancy and standard error.

        Per step of the local maximum (0 to `_TOP` full scales), of the relative height, of the occupancy.
        """
        steps = np.linspace(0.0, 1.0, _STEPS)
        power = tuning.SHARED.noise_power
        relative = without_noise(_TOP * steps, self.noise, power) / without_noise(
            np.ones(1), self.noise, power
        )
        sums = np.zeros(_COARSE)
        unit = np.linspace(0.0, 1.0, _COARSE)
        prior = self.chance_of_full
        value = occupancy(unit, self.noise, prior)
        for ratio, chance in self.others:
            other = np.minimum(unit / ratio, 1.0)
            sums += chance * (
                (occupancy(other, self.noise, prior) - value) ** 2
                + _standard_error(other, self.noise, prior) ** 2
            )
        # Nothing between 0 and 1 has a standard deviation above one half.
        error = np.minimum(np.interp(steps, value, tuning.MAP.error_scale * np.sqrt(sums)), 0.5)
        value = occupancy(steps, self.noise, prior)
        value[0] = 0.0
        return relative.astype(np.float32), value.astype(np.float32), error.astype(np.float32)

    def readings_of(self, dilated: Array, out: Array, first: int | None = None) -> Array:
        """Return what local maxima read relative to full scale, neighbours and all.

        Parameters
        ----------
        dilated : ndarray of float32
            Local maxima.
        out : ndarray of float32, same shape
            Where to put the result.
        first : int, optional
            Number of the first plane; without it the local context is taken to be average.
        """
        np.multiply(dilated, np.float32(1 / (_TOP * self.full)), out=out)
        np.clip(out, 0.0, 1.0, out=out)
        _look_up(self._tables[0], out, out)
        return out if first is None or self.context is None else self.context.levelled(out, first)

    def scale_of(self, readings: Array, around: Array | None = None) -> Array:
        """Return the scale, linear in the occupancy and at most 1, where the map reads so.

        Parameters
        ----------
        readings : ndarray of float32
            From `readings_of`, perhaps interpolated.
        around : ndarray of float32, same shape, optional
            Mean reading around; without it nothing is taken off for neighbours.
        """
        if around is not None and self.context is not None:
            readings = self.context.mended(readings, around)
        return np.minimum(readings, np.float32(1))

    def of_value(self, value: float) -> float:
        """Return the scale that one local maximum reads in average local context."""
        values = np.array([value], dtype=np.float32)
        return float(self.scale_of(self.readings_of(values, values))[0])

    def occupancy_of(self, scale: Array) -> Array:
        """Return the posterior mean of the occupancy where the map reads this scale (float32, same shape)."""
        return _look_up(self._tables[1], scale)

    def uncertainty_of(self, occupancy: Array) -> Array:
        """Return the standard error of an occupancy (float32, same shape)."""
        return _look_up(self._tables[2], occupancy)


def _look_up(table: Array, unit: Array, out: Array | None = None) -> Array:
    index = scratch("steps", unit.shape, np.intp)
    steps = np.multiply(unit, np.float32(len(table) - 1), out=scratch("unit", unit.shape))
    steps += np.float32(0.5)
    np.copyto(index, steps, casting="unsafe")
    return np.asarray(table.take(index, mode="clip", out=out))


def occupancy(relative: Numbers, noise: float, prior: float) -> Numbers:
    """Return the expected occupancy of parts that read ``relative`` in [0, 1].

    Parameters
    ----------
    relative : ndarray
        Relative readings.
    noise : float
        Noise floor relative to full scale.
    prior : float
        Chance that a part is full before it is looked at.
    """
    return posterior_mean(relative, _chance(relative, noise, prior))


def _chance(relative: Numbers, noise: float, prior: float) -> Numbers:
    t = tuning.MAP
    # The more of a map reads nearly full, the likelier is what reads a little less full as well.
    spread = max(float(np.hypot(t.full_spread * prior, t.noise_error * noise)), t.least_error)
    return chance_of_full(relative, spread, prior)


def _standard_error(relative: Numbers, noise: float, prior: float) -> Numbers:
    """Return the standard error of `occupancy`.

    Parameters
    ----------
    relative : ndarray
        Relative readings in [0, 1].
    noise : float
        Noise floor relative to full scale.
    prior : float
        As for `occupancy`.
    """
    t = tuning.MAP
    partial = np.sqrt((t.relative_error * relative) ** 2 + (t.noise_error * noise) ** 2 + t.least_error**2)
    return np.hypot(posterior_error(relative, _chance(relative, noise, prior), partial), t.least_error)


def noise_floor(dilated: Array) -> float:
    """Return the median local maximum of noise, from values of which most are of solvent.

    From the mode of the positive local maxima, so that content does not matter; 0 where there is none.

    Parameters
    ----------
    dilated : ndarray of float32
        Local maxima where the noise is as reconstructed: not in the box's corners, nor what a mask made flat.
    """
    return tuning.MAP.floor_of_mode * mode_of_maxima(dilated)


def _content_places(data: Array, dilated: Array, floor: float) -> npt.NDArray[np.bool_] | None:
    """Return which places lie inside density well above the noise; None where there are too few.

    Parameters
    ----------
    data, dilated : ndarray of float32, same shape
        The low-passed map and its local maxima.
    floor : float
        From `noise_floor`.
    """
    t = tuning.MAP
    strong = dilated[dilated > 2 * floor]
    if strong.size < t.least_places:
        return None
    least = max(t.above_floor * floor, floor + t.least_share * (quantile(strong, 0.99) - floor))
    inside = np.asarray((data > np.float32(t.core) * dilated) & (dilated > np.float32(least)))
    return inside if np.count_nonzero(inside) >= t.least_places // 10 else None


def _averaged_logs(readings: Array, inside: npt.NDArray[np.bool_], sigma: tuple[float, ...]) -> Array:
    """Return ln of readings at the places inside density, averaged over their neighbours.

    Parameters
    ----------
    readings : ndarray of float32, shape (nz, ny, nx)
        Local maxima without noise; positive inside.
    inside : ndarray of bool, same shape
        From `_content_places`.
    sigma : tuple of float
        Of the Gaussian average, in voxels.
    """
    # Only the box around the density takes part.
    sides = [np.any(inside, axis=tuple(k for k in range(3) if k != axis)) for axis in range(3)]
    part = tuple(_span(np.asarray(side)) for side in sides)
    inside, readings = inside[part], readings[part]
    logs = np.log(np.where(inside, readings, np.float32(1)))
    weight = smooth_volume(inside.astype(np.float32), sigma, 2.5)
    total = smooth_volume(logs, sigma, 2.5)
    return np.asarray(total[inside] / weight[inside])


def _span(used: npt.NDArray[np.bool_]) -> slice:
    at = np.flatnonzero(used)
    return slice(int(at[0]), int(at[-1]) + 1)


def _full_level(logs: Array) -> tuple[float, float, tuple[tuple[float, float], ...]]:
    """Find full scale from what can't be above it: the upper edge of what parts read.

    Nothing is more than full, so the highest readings over part-sized neighbourhoods are of full parts,
    however few these are. Full scale is the mean of those close below the highest, but for a few outliers:
    the closer the fewer places read nearly full, as what lies below then is rather partial than full.

    Parameters
    ----------
    logs : ndarray
        From `_averaged_logs`.

    Returns
    -------
    full : float
        Full scale.
    share : float
        Share of the places that read nearly full.
    others : tuple of pairs
        What full scale may be instead: ratio to it, and how likely.
    """
    t = tuning.MAP
    high = quantile(logs, t.edge)
    share = 0.5
    for _ in range(2):
        close = logs[logs > high + log(1 - t.below_edge * (0.5 + share))]
        level = float(np.log(np.exp(close.astype(np.float64)).mean()))
        share = float(np.count_nonzero(logs > level + log(1 - t.nearly_full)) / logs.size)
    off = np.linspace(-3, 3, 25)
    chance = np.exp(-0.5 * off**2)
    crowd = _crowd(logs, level)
    lower = 0.0 if crowd is None else crowd[1]
    chance *= (1 - lower) / chance.sum()
    others = [(float(np.exp(t.level_error * k)), float(w)) for k, w in zip(off, chance, strict=True)]
    if crowd is not None:
        others.insert(0, (float(np.exp(crowd[0] - level)), lower))
    return float(np.exp(level)), share, tuple(others)


def _crowd(logs: Array, level: float) -> tuple[float, float] | None:
    """Logarithm of a clear second level below, that most places gather around, and its chance."""
    t = tuning.MAP
    counts, edges = np.histogram(logs, np.linspace(level - t.span, level + 0.4, 101))
    curve = smooth_curve(counts.astype(float), 2.0)
    at = int(curve.argmax())
    place = float(edges[at] + edges[at + 1]) / 2
    near = float(np.count_nonzero(np.abs(logs - place) < log(1 + t.nearly_full / 2)) / logs.size)
    if level - place < t.crowd_below or near < t.crowd_share:
        return None
    return place, t.crowd_chance


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
        The solvent's own floor is not used at all where ``floor`` is known.

    Returns
    -------
    Calibration or None
        None where there is too little density above the noise.
    """
    t = tuning.MAP
    zero = noise_floor(dilated if solvent is None else dilated[solvent])
    from_halves = floor is not None and (masked or floor > t.halves_over_solvent * zero)
    if floor is not None and from_halves:
        zero = floor
    inside = _content_places(data, dilated, zero)
    if inside is None:
        return None
    readings = without_noise(dilated, zero, tuning.SHARED.noise_power).astype(np.float32)

    def voxels(length: float) -> tuple[float, ...]:
        return tuple(length / a for a in spacing)

    gain = crowding_gain(data, inside, voxels(t.crowding_reach), t.crowding_power)
    above, share, others = _full_level(_averaged_logs(readings * gain, inside, voxels(t.averaging)))
    off = np.array([[log(ratio), chance] for ratio, chance in others])
    error = float(np.sqrt((off[:, 1] * off[:, 0] ** 2).sum()))
    # Relative to full scale, as readings are there.
    readings /= np.float32(above)
    context = LocalContext.of(readings, data, gain, voxels(t.leakage_reach), strides, t.leakage_share)
    return Calibration(
        zero,
        with_noise(above, zero, tuning.SHARED.noise_power),
        error,
        share,
        from_halves,
        others,
        context,
    )
