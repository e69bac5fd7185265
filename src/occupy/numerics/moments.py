"""Smallest and largest value, mean and spread of an array, part by part, for the header of a map."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from occupy.numerics.parallel import VOXELS_IN_CACHE, scratch

Moments = tuple[int, float, float, float, float]


def moments_of_parts(flat: npt.NDArray[np.float32]) -> list[Moments]:
    """Return count, minimum, maximum, mean and sum of squared deviations from it, for each part.

    For the same bytes with any number of cores the caller keeps the linear algebra library on one thread.
    """
    parts = []
    with np.errstate(invalid="ignore", over="ignore"):  # infinite values have no deviation
        for start in range(0, flat.size, VOXELS_IN_CACHE):
            part = flat[start : start + VOXELS_IN_CACHE]
            low, high, mean = float(part.min()), float(part.max()), float(part.mean())
            squares = float(np.dot(part, part)) - part.size * mean**2
            if not 0.1 * part.size * mean**2 < squares < math.inf:
                mean, squares = _centred_moments(part, mean)
            parts.append((part.size, low, high, mean, max(squares, 0.0)))
    return parts


def _centred_moments(part: npt.NDArray[np.float32], guess: float) -> tuple[float, float]:
    """Return mean and sum of squared deviations where the mean is large beside them."""
    # Differences from a float32 next to the mean are exact, and small.
    pivot = np.float32(guess)
    centred = np.subtract(part, pivot, out=scratch("centred", part.shape))
    rest = float(centred.mean())
    squares = float(np.dot(centred, centred)) - part.size * rest**2
    if math.isfinite(squares):
        return float(pivot) + rest, squares
    wide = part.astype(np.float64)
    mean = float(wide.mean())
    wide -= mean
    return mean, float(np.dot(wide, wide))
