"""What a whole set shows: composite, mean occupancy, variability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from occupy.ensemble.pipeline import ClassEstimate, SetEstimate

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Summary:
    """What the whole set shows, on the content box of the working grid.

    Attributes
    ----------
    composite : ndarray
        What all classes share, at each place as strong as in the best class; map units.
    mean_occupancy : ndarray
        Occupancy averaged over the particles of all classes.
    variability : ndarray
        Standard deviation of the occupancy over the particles of all classes, where the classes differ by
        more than noise, otherwise 0.
    """

    composite: Array
    mean_occupancy: Array
    variability: Array

    def __post_init__(self) -> None:
        for array in (self.composite, self.mean_occupancy, self.variability):
            array.flags.writeable = False


def summary_terms(est: SetEstimate, k: int, found: ClassEstimate) -> tuple[Array, ...]:
    """Return what a class adds to the four sums that `summary_of` is made from."""
    w = np.float32(est.weights[k])
    # Least squares for the shared pattern P in m_k = r_k P.
    ratio = 1 + (est.ratios[k] - 1) * est.keep
    occupancy = w * found.occupancy
    return w * ratio * est.ground.maps[k], w * ratio**2, occupancy, occupancy * found.occupancy


def summary_of(est: SetEstimate, sums: Sequence[Array], differing: npt.NDArray[np.bool_]) -> Summary:
    """Make a summary from the sums over all classes of what `summary_terms` returns."""
    pattern, norm, mean, square = sums
    spread = np.sqrt(np.maximum(square - mean**2, 0)) * differing
    return Summary(est.best * pattern / (norm + np.float32(1e-6)), mean, spread)
