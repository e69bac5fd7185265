"""What full parts and nothing read in a map, and how sure that is: the scale of the calibrated estimator.

Pure numbers: local maxima in, a `Calibration` out. See docs/explanation/estimator.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import log

import numpy as np
import numpy.typing as npt

from occupy import tuning
from occupy.numerics.parallel import scratch
from occupy.numerics.smoothing import normal_cdf, smooth_curve, smooth_volume
from occupy.statistics.context import LocalContext, leakage_factors, local_context
from occupy.statistics.interval import STANDARD_ERRORS_95
from occupy.statistics.noise import mode_of_maxima, with_noise, without_noise
from occupy.statistics.posterior import chance_of_full, posterior_error, posterior_mean

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

    def within(self, start: tuple[int, int, int]) -> Calibration:
        """Return the same for a part of the map that begins at this voxel."""
        if self.context is None:
            return self
        return replace(self, context=self.context.within(start))

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
        for ratio, chance in self.others:
            other = np.minimum(unit / ratio, 1.0)
            sums += chance * (
                (occupancy(other) - occupancy(unit)) ** 2 + _standard_error(other, self.noise) ** 2
            )
        # Nothing between 0 and 1 has a standard deviation above one half.
        error = np.minimum(np.interp(steps, occupancy(unit), tuning.MAP.error_scale * np.sqrt(sums)), 0.5)
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
            Number of the first plane; without it the local context is taken to be average.
        """
        np.multiply(dilated, np.float32(1 / (_TOP * self.full)), out=out)
        np.clip(out, 0.0, 1.0, out=out)
        _look_up(self._tables[0], out, out)
        if first is not None and self.context is not None:
            out *= self.context.planes(first, first + len(out), out.shape[1:])
        return _look_up(self._tables[1], out, out)

    def of_value(self, value: float) -> float:
        """Return the occupancy that one local maximum reads in average local context."""
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


def occupancy(relative: Numbers) -> Numbers:
    """Return the expected occupancy of parts that read ``relative`` in [0, 1]."""
    return posterior_mean(relative, _chance(relative))


def _chance(relative: Numbers) -> Numbers:
    return chance_of_full(relative, tuning.MAP.full_spread, tuning.MAP.full_prior)


def _standard_error(relative: Numbers, noise: float) -> Numbers:
    """Return the standard error of `occupancy`.

    Parameters
    ----------
    relative : ndarray
        Relative readings in [0, 1].
    noise : float
        Noise floor relative to full scale.
    """
    t = tuning.MAP
    partial = np.sqrt((t.relative_error * relative) ** 2 + (t.noise_error * noise) ** 2 + t.least_error**2)
    return np.hypot(posterior_error(relative, _chance(relative), partial), t.least_error)


def noise_floor(dilated: Array) -> float:
    """Return the median local maximum of noise, from values of which most are of solvent.

    From the mode of the positive local maxima, so that content does not matter; 0 where there is none.

    Parameters
    ----------
    dilated : ndarray of float32
        Local maxima where the noise is as reconstructed: not in the box's corners, nor what a mask made flat.
    """
    return tuning.MAP.floor_of_mode * mode_of_maxima(dilated)


def _averaged_logs(
    data: Array,
    dilated: Array,
    floor: float,
    sigma: tuple[float, ...],
    context: LocalContext | None = None,
) -> Array:
    """Return ln of local maxima without noise at the places inside density, averaged over their neighbours.

    Parameters
    ----------
    data, dilated : ndarray of float32, same shape
        The low-passed map and its local maxima.
    floor : float
        From `noise_floor`.
    sigma : tuple of float
        Of the Gaussian average, in voxels.
    context : LocalContext, optional
        On the same grid.
    """
    strong = dilated[dilated > 2 * floor]
    if strong.size < tuning.MAP.least_places:
        return np.empty(0, dtype=np.float32)
    least = max(
        tuning.MAP.above_floor * floor,
        floor + tuning.MAP.least_share * (float(np.quantile(strong, 0.99)) - floor),
    )
    inside = (data > np.float32(tuning.MAP.core) * dilated) & (dilated > np.float32(least))
    if not inside.any():
        return np.empty(0, dtype=np.float32)
    factors = None if context is None else context.planes(0, len(data), data.shape[1:])
    # Only the box around the density takes part.
    sides = [np.any(inside, axis=tuple(k for k in range(3) if k != axis)) for axis in range(3)]
    part = tuple(_span(np.asarray(side)) for side in sides)
    inside, dilated = inside[part], dilated[part]
    raised = without_noise(np.where(inside, dilated, np.float32(2 * least)), floor, tuning.SHARED.noise_power)
    if factors is not None:
        raised = raised * factors[part]
    logs = np.log(raised).astype(np.float32) * inside
    weight = smooth_volume(inside.astype(np.float32), sigma, 2.5)
    total = smooth_volume(logs, sigma, 2.5)
    return np.asarray(total[inside] / weight[inside])


def _span(used: npt.NDArray[np.bool_]) -> slice:
    at = np.flatnonzero(used)
    return slice(int(at[0]), int(at[-1]) + 1)


def _fit_full(logs: Array) -> tuple[float, float, tuple[tuple[float, float], ...]]:
    """Find full scale: the value that parts gather around at the upper end.

    Relative to full scale F, a share w of the places is normal around 1, the rest uniform below
    (from `MapTuning.least_share` on), a few read up to 2. F and w maximise likelihood times prior of w.

    Parameters
    ----------
    logs : ndarray
        From `_averaged_logs`.

    Returns
    -------
    full : float
        F.
    share : float
        w.
    others : tuple of pairs
        What F may be instead: ratio to F, and how likely.
    """
    t = tuning.MAP
    top = float(np.quantile(logs, 0.999)) + 0.1
    edges = np.linspace(top - t.span, top, 101)
    counts = np.histogram(logs, edges)[0].astype(float)
    h = counts / max(counts.sum(), 1.0)
    candidates = np.exp(np.linspace(top - t.span + 1.2, top, 80))
    shares = np.linspace(0.05, 1, 20)
    relative = np.exp(edges)[None] / candidates[:, None]
    normal = np.diff(normal_cdf((relative - 1) / t.full_places_spread), axis=1)
    below = np.diff(np.clip(relative, t.least_share, 1), axis=1) / (1 - t.least_share)
    above = np.diff(np.clip(relative, 1, 2), axis=1)
    chance = shares[:, None] * normal[:, None] + (1 - shares[:, None]) * below[:, None]
    chance = (1 - t.above_full) * chance + t.above_full * above[:, None] + 1e-7
    fit = t.places * np.log(chance) @ h + t.share_prior * np.log(shares)
    best = fit.max(axis=1)
    at = int(best.argmax())
    weight = smooth_curve(
        np.exp(t.level_trust * (best - best[at])), t.full_scale_error / log(candidates[1] / candidates[0])
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
    content = (data > np.float32(t.core) * dilated) & (dilated > np.float32(t.above_floor * zero))
    context = local_context(
        content, spacing, t.context_reach, t.context_power, (t.least_context, t.most_context)
    )
    logs = _averaged_logs(data, dilated, zero, tuple(t.averaging / a for a in spacing), context)
    if logs.size < t.least_places // 10 or not float(logs.max()) > log(1e-30):
        return None
    above, share, others = _fit_full(logs)
    off = np.array([[log(ratio), chance] for ratio, chance in others])
    error = t.error_scale * float(np.sqrt((off[:, 1] * off[:, 0] ** 2).sum()))
    if context is not None:
        # Full scale was found without: there is nothing to take off where density is.
        readings = without_noise(dilated, zero, tuning.SHARED.noise_power).astype(np.float32)
        sigma = tuple(t.leakage_reach / a for a in spacing)
        leakage = leakage_factors(readings, data, sigma, t.leakage_share)
        context = context.times(leakage).on_finer(strides)
    return Calibration(
        zero, with_noise(above, zero, tuning.SHARED.noise_power), error, share, from_halves, others, context
    )
