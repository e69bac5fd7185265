"""What noise adds to a local maximum."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from occupy.numerics.smoothing import quantile, smooth_curve


def without_noise(values: npt.NDArray[np.floating], floor: float, power: float) -> npt.NDArray[np.floating]:
    """Local maxima without what noise adds to them: (dᵖ − nᵖ)^(1/p), 0 below the floor.

    Parameters
    ----------
    values : ndarray
        Local maxima d.
    floor : float
        Local maximum n of pure noise, not negative.
    power : float
        p; 2 where signal and noise add up in quadrature, 1 where the maximum takes the best of both.
    """
    return np.asarray(np.maximum(np.maximum(values, 0) ** power - floor**power, 0) ** (1 / power))


def with_noise(value: float, floor: float, power: float) -> float:
    """Local maximum of a part that reads ``value`` without noise: the inverse of `without_noise`."""
    return float((value**power + floor**power) ** (1 / power))


def mode_of_maxima(maxima: npt.NDArray[np.float32]) -> float:
    """Commonest positive local maximum among values of which at least half are of solvent.

    A mode, so that content does not matter; 0 with fewer than 150 values.
    """
    values = maxima[maxima > 0]
    if values.size < 150:
        return 0.0
    # Three times the lower quartile lies well above the mode where at least half is solvent.
    high = 3.0 * quantile(values, 0.25)
    counts, edges = np.histogram(values, bins=200, range=(0.0, high))
    at = int(smooth_curve(counts.astype(float), 6.0).argmax())
    return float(edges[at] + edges[at + 1]) / 2
