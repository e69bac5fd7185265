"""What full is among fitted parts, and what each part's occupancy is then, with its interval.

Nothing can be above full. The relative occupancies are a mixture: some parts are full, the others lie
anywhere between absent and full; each has the fit's error and, on top, an error of the model that all parts
share in size. Level, that error and the share of full parts are integrated over a grid, so few parts or no
clear level make wide intervals.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from occupy.model.density import Numbers

MODEL_ERRORS = np.geomspace(0.005, 0.16, 11)
"""Standard deviations, relative to full, that the model's faults may cause."""
USUAL_MODEL_ERROR, MODEL_ERROR_SPREAD = 0.025, 0.8
"""Prior of these: log-normal. Of the maps looked at, 0.005 (noise alone) to 0.08 (loose RNA)."""
FULL_SHARES = np.array([0.1, 0.25, 0.4, 0.55, 0.7, 0.85])
"""Shares of parts that are full."""
ABSENT_SHARE = 0.08
"""Chance that a part that is not full is absent altogether."""
PARTIAL_ERROR = 0.02
"""Standard deviation on top for parts that are not full: what they do to their neighbours' ice, and states in
which they lie elsewhere, is not modelled. Judged on the RELION consensus, where intervals without it held for
0.81 of the partial parts; the values hardly depend on it."""
LEVELS = 240
STRAY = 1e-3
"""Chance that a part reads anything at all. With 0.01, one full part among a dozen alike, low ones counted as
the stray rather than as full."""
DRAWS = 48
POINTS = 501


@dataclass(frozen=True, eq=False)
class Level:
    """Full level and occupancies.

    Attributes
    ----------
    full, error : float
        Relative occupancy that is read as 1, and its standard error.
    model_error : float
        Standard deviation, relative to full, of what is neither noise nor occupancy.
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
    values: Numbers
    errors: Numbers
    low: Numbers
    high: Numbers
    chance_full: Numbers


def likelihoods(x: Numbers, error: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """Return the density of a reading x (in full) of parts that are full, absent, and anywhere between."""
    full = norm.pdf((x - 1) / error) / error
    wide = np.hypot(error, PARTIAL_ERROR)
    absent = norm.pdf(x / wide) / wide
    between = norm.cdf((1 - x) / wide) - norm.cdf(-x / wide)
    return full, absent, between


def _posterior(
    occupancy: Numbers, errors: Numbers, shares: Numbers
) -> tuple[Numbers, npt.NDArray[np.float64]]:
    """Return the grid's levels and the posterior over (level, model error, share of full)."""
    top = float(np.max(occupancy))
    levels = np.linspace(0.45 * top, 1.35 * top, LEVELS)
    x = occupancy / levels[:, None]
    log = np.zeros((LEVELS, len(MODEL_ERRORS), len(shares)))
    prior = -0.5 * (np.log(MODEL_ERRORS / USUAL_MODEL_ERROR) / MODEL_ERROR_SPREAD) ** 2
    for j, extra in enumerate(MODEL_ERRORS):
        full, absent, between = likelihoods(x, np.hypot(errors / levels[:, None], extra))
        partial = ABSENT_SHARE * absent + (1 - ABSENT_SHARE) * between
        for k, share in enumerate(shares):
            each = (1 - STRAY) * (share * full + (1 - share) * partial) + STRAY / 3
            # In units of the level the density of what was read is multiplied by 1/level.
            log[:, j, k] = np.log(each).sum(axis=1) - len(occupancy) * np.log(levels) + prior[j]
    weight = np.exp(log - log.max())
    return levels, weight / weight.sum()


def level_of(occupancy: Numbers, errors: Numbers, use: npt.NDArray[np.bool_] | None = None) -> Level:
    """Find the full level of relative occupancies and judge each part by it.

    Parameters
    ----------
    occupancy, errors : (parts,) arrays
        From the fit, with standard errors from noise.
    use : (parts,) array of bool, optional
        Parts that may say what full is; all by default.
    """
    chosen = np.ones(len(occupancy), dtype=bool) if use is None or not use.any() else use
    # One part alone has nothing to be compared with: it is what full is.
    shares = FULL_SHARES if chosen.sum() > 1 else np.ones(1)
    levels, weight = _posterior(occupancy[chosen], errors[chosen], shares)
    over_levels = weight.sum(axis=(1, 2))
    full = float(over_levels @ levels)
    error = float(np.sqrt(over_levels @ (levels - full) ** 2))
    model_error = float(np.exp(weight.sum(axis=(0, 2)) @ np.log(MODEL_ERRORS)))
    # Systematic draws from the grid: the same for the same input.
    flat = np.cumsum(weight.reshape(-1))
    at = np.unravel_index(np.searchsorted(flat, (np.arange(DRAWS) + 0.5) / DRAWS), weight.shape)
    grid = np.linspace(0.0, 1.0, POINTS)
    mass = np.zeros((len(occupancy), POINTS))
    chance = np.zeros(len(occupancy))
    for level, extra, share in zip(levels[at[0]], MODEL_ERRORS[at[1]], shares[at[2]], strict=True):
        x, spread = occupancy / level, np.hypot(errors / level, extra)
        is_full, absent, between = likelihoods(x, spread)
        spikes = np.stack([share * is_full, (1 - share) * ABSENT_SHARE * absent])
        wide = np.hypot(spread, PARTIAL_ERROR)[:, None]
        body = norm.pdf((grid - x[:, None]) / wide)
        body *= ((1 - share) * (1 - ABSENT_SHARE) * between / np.maximum(body.sum(axis=1), 1e-300))[:, None]
        total = np.maximum(spikes.sum(axis=0) + body.sum(axis=1), 1e-300)
        mass += body / total[:, None]
        mass[:, -1] += spikes[0] / total
        mass[:, 0] += spikes[1] / total
        chance += spikes[0] / total
    mass = np.maximum(mass, 1e-300)
    mass /= mass.sum(axis=1, keepdims=True)
    cumulative = np.cumsum(mass, axis=1)
    low, middle, high = (grid[(cumulative < q).sum(axis=1).clip(max=POINTS - 1)] for q in (0.025, 0.5, 0.975))
    mean = mass @ grid
    spread = np.sqrt(np.maximum(mass @ grid**2 - mean**2, 0))
    return Level(full, error, model_error, middle, spread, low, high, chance / DRAWS)
