"""What full is among fitted parts, and what each part's occupancy is then, with its interval.

Nothing can be above full. The relative occupancies are a mixture: some parts are full, the others lie
anywhere between absent and full, at least one being full; each has the fit's error and, on top, an error of
the model, which is larger for smaller parts. Level, that error and the share of full parts are integrated
over a grid, so few parts or no clear level make wide intervals.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from occupy.model.density import Numbers

_MODEL_ERRORS = np.geomspace(0.003, 0.16, 12)
"""Standard deviations, relative to full, that the model's faults may cause in a part of `_USUAL_SIZE`."""
_USUAL_MODEL_ERROR, _MODEL_ERROR_SPREAD = 0.015, 0.8
"""Prior of these: log-normal. Judged on the tuning maps of both forward models together, where errors over
standard errors are .5 (the fitted model's own maps) to 1.1 (the other one's); 0.01 and 0.02 do as well."""
_USUAL_SIZE = 2000
"""Atoms. Errors of flexible or wrongly built pieces average out over larger parts, as one over the root of
the size: chains of 725 atoms at the rim of GroEL erred by .06 where those of 3840 erred by .015."""
_FULL_SHARES = np.array([0.1, 0.25, 0.4, 0.55, 0.7, 0.85])
"""Shares of parts that are full."""
_ABSENT_SHARE = 0.08
"""Chance that a part that is not full is absent altogether."""
PARTIAL_ERROR, PARTIAL_ERROR_OF_CLASSES = 0.01, 0.04
"""Standard deviation on top for parts that are not full: what they do to their neighbours' ice, and states in
which they lie elsewhere, is not modelled. The maps of a classification are sums by probability on top of
that, which is not what is counted. The values hardly depend on it."""
_LEVELS = 240
_STRAY = 1e-3
"""Chance that a part reads anything at all. With 0.01, one full part among a dozen alike, low ones counted as
the stray rather than as full."""
_DRAWS = 48
_POINTS = 501


@dataclass(frozen=True, eq=False)
class Level:
    """Full level and occupancies.

    Attributes
    ----------
    full, error : float
        Relative occupancy that is read as 1, and its standard error.
    model_error : float
        Standard deviation, relative to full, of what is neither noise nor occupancy, in a part of usual size.
    model_errors : ndarray, shape (parts,)
        The same of each part by its size.
    values, low, high : ndarray, shape (parts,)
        Posterior median of each part's occupancy and its 95 % interval.
    errors : ndarray, shape (parts,)
        Posterior standard deviation.
    chance_full : ndarray, shape (parts,)
        Posterior chance that a part is full.
    """

    full: float
    error: float
    model_error: float
    model_errors: Numbers
    values: Numbers
    errors: Numbers
    low: Numbers
    high: Numbers
    chance_full: Numbers


def _likelihoods(x: Numbers, error: Numbers, partial_error: float) -> tuple[Numbers, Numbers, Numbers]:
    """Return the density of a reading x (in full) of parts that are full, absent, and anywhere between."""
    full = norm.pdf((x - 1) / error) / error
    wide = np.hypot(error, partial_error)
    absent = norm.pdf(x / wide) / wide
    between = norm.cdf((1 - x) / wide) - norm.cdf(-x / wide)
    return full, absent, between


def _evidence(x: Numbers, error: Numbers, shares: Numbers, partial_error: float) -> Numbers:
    """Return the log density of readings x (levels, parts) for each share of full parts: (levels, shares).

    Given that at least one part is full; where all are, there is nothing to be given.
    """
    full, absent, between = _likelihoods(x, error, partial_error)
    partial = _ABSENT_SHARE * absent + (1 - _ABSENT_SHARE) * between
    out = np.zeros((len(x), len(shares)))
    for k, share in enumerate(shares):
        less = (1 - _STRAY) * (1 - share) * partial + _STRAY / 3
        any_full = np.log(less + (1 - _STRAY) * share * full).sum(axis=1)
        out[:, k] = any_full
        if share < 1:
            none_full = np.log(less).sum(axis=1)
            out[:, k] += np.log(np.maximum(-np.expm1(none_full - any_full), 1e-300))
            out[:, k] -= np.log(1 - (1 - share) ** x.shape[1])
    return out


def _posterior(
    occupancy: Numbers, errors: Numbers, factors: Numbers, shares: Numbers, partial_error: float
) -> tuple[Numbers, Numbers]:
    """Return the grid's levels and the posterior over (level, model error, share of full)."""
    top = float(np.max(occupancy))
    levels = np.linspace(0.45 * top, 1.35 * top, _LEVELS)
    x, noise = occupancy / levels[:, None], errors / levels[:, None]
    prior = -0.5 * (np.log(_MODEL_ERRORS / _USUAL_MODEL_ERROR) / _MODEL_ERROR_SPREAD) ** 2
    log = np.stack(
        [_evidence(x, np.hypot(noise, extra * factors), shares, partial_error) for extra in _MODEL_ERRORS], 1
    )
    # In units of the level the density of what was read is multiplied by 1/level.
    log += prior[:, None] - len(occupancy) * np.log(levels)[:, None, None]
    weight = np.exp(log - log.max())
    return levels, weight / weight.sum()


def _mass(
    x: Numbers, error: Numbers, share: float, grid: Numbers, partial_error: float
) -> tuple[Numbers, Numbers]:
    """Return the posterior of each part's occupancy on a grid from 0 to 1, and its chance to be full."""
    full, absent, between = _likelihoods(x, error, partial_error)
    full, absent = share * full, (1 - share) * _ABSENT_SHARE * absent
    wide = np.hypot(error, partial_error)[:, None]
    mass = norm.pdf((grid - x[:, None]) / wide)
    strength = (1 - share) * (1 - _ABSENT_SHARE) * between / np.maximum(mass.sum(axis=1), 1e-300)
    mass *= strength[:, None]
    mass[:, -1] += full
    mass[:, 0] += absent
    total = np.maximum(mass.sum(axis=1), 1e-300)
    return mass / total[:, None], full / total


def level_of(
    occupancy: Numbers,
    errors: Numbers,
    use: npt.NDArray[np.bool_] | None = None,
    sizes: Numbers | None = None,
    partial_error: float = PARTIAL_ERROR,
) -> Level:
    """Find the full level of relative occupancies and judge each part by it.

    Parameters
    ----------
    occupancy, errors : (parts,) arrays
        From the fit, with standard errors from noise.
    use : (parts,) array of bool, optional
        Parts that may say what full is; all by default.
    sizes : (parts,) array, optional
        Atoms of each part; by default all are of usual size.
    partial_error : float
        Standard deviation on top for parts that are not full.
    """
    chosen = np.ones(len(occupancy), dtype=bool) if use is None or not use.any() else use
    factors = np.ones(len(occupancy))
    if sizes is not None:
        factors = np.clip(np.sqrt(_USUAL_SIZE / np.maximum(sizes, 1)), 0.3, 4.0)
    # One part alone has nothing to be compared with: it is what full is.
    shares = _FULL_SHARES if chosen.sum() > 1 else np.ones(1)
    levels, weight = _posterior(occupancy[chosen], errors[chosen], factors[chosen], shares, partial_error)
    over_levels = weight.sum(axis=(1, 2))
    full = float(over_levels @ levels)
    error = float(np.sqrt(over_levels @ (levels - full) ** 2))
    model_error = float(np.exp(weight.sum(axis=(0, 2)) @ np.log(_MODEL_ERRORS)))
    # Systematic draws from the grid: the same for the same input.
    flat = np.cumsum(weight.reshape(-1))
    at = np.unravel_index(np.searchsorted(flat, (np.arange(_DRAWS) + 0.5) / _DRAWS), weight.shape)
    grid = np.linspace(0.0, 1.0, _POINTS)
    mass = np.full((len(occupancy), _POINTS), 1e-300)
    chance = np.zeros(len(occupancy))
    for level, extra, share in zip(levels[at[0]], _MODEL_ERRORS[at[1]], shares[at[2]], strict=True):
        each, is_full = _mass(
            occupancy / level, np.hypot(errors / level, extra * factors), float(share), grid, partial_error
        )
        mass, chance = mass + each, chance + is_full
    mass /= mass.sum(axis=1, keepdims=True)
    cumulative = np.cumsum(mass, axis=1)
    low, middle, high = (
        grid[(cumulative < q).sum(axis=1).clip(max=_POINTS - 1)] for q in (0.025, 0.5, 0.975)
    )
    mean = mass @ grid
    spread = np.sqrt(np.maximum(mass @ grid**2 - mean**2, 0))
    own = model_error * factors
    return Level(full, error, model_error, own, middle, spread, low, high, chance / _DRAWS)
