"""What density of neighbours adds to a reading, through low-pass and local maximum."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from occupy.numerics.smoothing import smooth_volume

Array = npt.NDArray[np.float32]
Smoother = Callable[[Array, Sequence[float]], Array]


def _smoothed(data: Array, sigma: Sequence[float]) -> Array:
    """Return a Gaussian average without SciPy; nothing lies outside the map."""
    return smooth_volume(data, tuple(sigma), 3.0, empty=True)


@dataclass(frozen=True, eq=False)
class Neighbourhood:
    """Averages over what lies around each voxel, weighted by density.

    Attributes
    ----------
    weight : ndarray of float32, shape (nz, ny, nx)
        Density or power of every voxel, positive.
    total : ndarray of float32, same shape
        ``weight`` smoothed.
    sigma : tuple of float
        Of the Gaussian, in voxels.
    smooth : callable
        Gaussian average; SciPy's is twice as fast where its import does not matter.
    """

    weight: Array
    total: Array
    sigma: tuple[float, ...]
    smooth: Smoother = _smoothed

    @classmethod
    def of(cls, density: Array, sigma: Sequence[float], smooth: Smoother = _smoothed) -> Neighbourhood:
        """Neighbourhood of a map of density or power; nothing lies outside the map."""
        highest = float(density.max())
        # Emptiness weighs next to nothing, but something: a mean around it must be a number.
        floor = np.float32(1e-6 * highest if highest > 0 else 1.0)
        weight = np.maximum(density, floor)
        total = np.maximum(smooth(weight, sigma), floor * np.float32(1e-6))
        return cls(weight, total, tuple(sigma), smooth)

    def mean(self, values: Array) -> Array:
        """Weighted mean around each voxel."""
        return np.asarray(self.smooth(self.weight * values, self.sigma) / self.total)

    def spread(self, values: Array) -> Array:
        """Weighted standard deviation around each voxel."""
        mean = self.mean(values)
        return np.asarray(np.sqrt(np.maximum(self.mean(values**2) - mean**2, 0)))


def without_leakage(values: Array, around: Neighbourhood, share: float = 1.0) -> Array:
    """Return readings without what leaks in from their neighbours: one step of van Cittert's iteration.

    With m the mean around, r becomes r + (r − b·m), and 0 at least.

    Parameters
    ----------
    values : ndarray of float32, shape (nz, ny, nx)
        Readings r, not negative: of the same units everywhere.
    around : Neighbourhood
        Where their density lies. Where nothing lies the weights are 0: full density beside emptiness loses
        nothing, an absent part beside full ones does.
    share : float
        b. Below 1 what matter of unlike density reads stays (nucleic acid beside protein).
        With 1 a mean of 1 over classes stays 1.

    References
    ----------
    P. H. van Cittert, Z. Phys. 69, 298 (1931).
    """
    change = values - np.float32(share) * around.mean(values)
    return np.asarray(np.maximum(values + change, 0))
