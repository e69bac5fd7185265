"""The chance to be full, mean and error of an occupancy, and its interval: one convention for everything."""

from __future__ import annotations

from math import pi, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

STANDARD_ERRORS_95 = 1.959964
"""Half a 95 % interval in standard errors; see docs/explanation/tuning.md for its measured coverage."""


def interval_95(value: float, error: float, low: float = 0.0, high: float = 1.0) -> tuple[float, float]:
    """95 % interval of a value within bounds: value ± 1.96 standard errors, cut off at the bounds."""
    reach = STANDARD_ERRORS_95 * error
    return max(low, value - reach), min(high, value + reach)


Values = npt.NDArray[Any]


def chance_of_full(reading: Values, spread: float, prior: Values | float) -> Values:
    """Posterior probability that a part is full.

    Readings of full parts are normal around 1, those of partial parts uniform from 0 to 1. What reads more
    than 1 is taken like 1.

    Parameters
    ----------
    reading : ndarray
        Relative to full.
    spread : float
        Standard deviation of the readings of full parts.
    prior : ndarray or float
        Probability to be full before the part is looked at.
    """
    below = np.minimum(reading - 1, 0) / np.float32(spread)
    full = prior / (spread * sqrt(2 * pi)) * np.exp(-0.5 * below**2)
    return np.asarray(full / (full + (1 - prior)))


def posterior_mean(reading: Values, chance: Values) -> Values:
    """Return the expected occupancy, P + (1 − P) · reading, with the chance P to be full.

    Parts are full much more often than 0.95 full, so what reads close to 1 most likely is 1.
    """
    return np.asarray(chance + (1 - chance) * np.clip(reading, 0, 1))


def posterior_error(reading: Values, chance: Values, partial_error: Values | float) -> Values:
    """Return the standard deviation of the occupancy that has `posterior_mean`.

    Parameters
    ----------
    reading : ndarray
        Relative to full; at most 1 counts.
    chance : ndarray
        From `chance_of_full`.
    partial_error : ndarray or float
        Standard error of a partial part's reading; a full part's occupancy is 1 without error.
    """
    partial = np.clip(reading, 0, 1)
    variance = (1 - chance) * partial_error**2 + chance * (1 - chance) * (1 - partial) ** 2
    return np.asarray(np.sqrt(variance))
