"""Local context: content around each place, and what that does to its local maximum.

Inside a particle local maxima of a low-passed map are higher than at its surface, for the same occupancy:
what is missing around a surface is missing from its low frequencies too. And beside strong density nothing
reads like something: the strong density is within reach. See docs/explanation/estimator.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from occupy.numerics.resampling import interpolated_planes
from occupy.numerics.smoothing import smooth_volume
from occupy.statistics.leakage import Neighbourhood, without_leakage

Array = npt.NDArray[np.float32]

COARSER = 2
"""Of the places at which local maxima are looked at, every n-th is enough here."""


@dataclass(frozen=True, eq=False)
class LocalContext:
    """Factors that take a local maximum to what it would be in average context, by itself.

    Attributes
    ----------
    factors : ndarray of float32, shape (nz', ny', nx')
        On every n-th voxel along each axis.
    strides : tuple of int
        n.
    start : tuple of int
        First voxel of the part of the map that is asked about.
    """

    factors: Array
    strides: tuple[int, int, int]
    start: tuple[int, int, int] = (0, 0, 0)

    def within(self, start: tuple[int, int, int]) -> LocalContext:
        """Return the same for a part of the map that begins at this voxel."""
        return replace(self, start=start)

    def on_finer(self, strides: tuple[int, int, int]) -> LocalContext:
        """Return the same for a grid of which this one's has every n-th voxel."""
        a, b = self.strides, strides
        return LocalContext(self.factors, (a[0] * b[0], a[1] * b[1], a[2] * b[2]))

    def times(self, factors: Array) -> LocalContext:
        """Return these with other factors on top, which are given for every voxel of this one's grid."""
        own = self.planes(0, len(factors), factors.shape[1:])
        return LocalContext(own * factors, (1, 1, 1))

    def planes(self, start: int, stop: int, shape: tuple[int, ...]) -> Array:
        """Return the factors at planes ``start`` to ``stop`` of a map of these rows and columns.

        The result is this thread's scratch array: use it before the next call.
        """
        z, y, x = self.start
        return interpolated_planes(self.factors, self.strides, start, stop, shape, (-z, -y, -x))


def local_context(
    content: npt.NDArray[np.bool_],
    spacing: tuple[float, ...],
    reach: float,
    power: float,
    bounds: tuple[float, float],
) -> LocalContext | None:
    """Measure how much content is around each place.

    Parameters
    ----------
    content : ndarray of bool
        Where there is content.
    spacing : tuple of float
        Å between the places along each axis.
    reach : float
        Standard deviation in Å of the Gaussian with which content is averaged.
    power : float
        Local maxima rise with this power of the content around them.
    bounds : tuple of float
        Least and most content around a place, relative to the mean, that counts.

    Returns
    -------
    LocalContext or None
        For the grid of ``content``; factors whose mean logarithm over it is 0. None without content.
    """
    coarse = content[::COARSER, ::COARSER, ::COARSER]
    if not coarse.any():
        return None
    sigma = tuple(reach / (COARSER * a) for a in spacing)
    around = smooth_volume(coarse.astype(np.float32), sigma, 3.0, empty=True)
    logs = np.log(np.maximum(around, 1e-6))
    logs = np.clip(logs - float(logs[coarse].mean()), np.log(bounds[0]), np.log(bounds[1]))
    factors = np.exp(-power * logs).astype(np.float32)
    return LocalContext(factors, (COARSER,) * 3)


def leakage_factors(readings: Array, density: Array, sigma: tuple[float, ...], share: float) -> Array:
    """Factors that take from each reading what leaks in from stronger density beside it.

    Parameters
    ----------
    readings : ndarray of float32
        Local maxima without noise, not negative.
    density : ndarray of float32, same shape
        The low-passed map.
    sigma : tuple of float
        How far density reaches along each axis, in places.
    share : float
        As for `occupy.statistics.leakage.without_leakage`: what reads more than this share stays.

    Returns
    -------
    ndarray of float32, same shape
        From 0 to 1.
    """
    if not float(density.max()) > 0:
        return np.ones_like(readings)
    left = without_leakage(readings, Neighbourhood.of(density, sigma), share, only_weaker=True)
    # A reading of 0 with nothing beside it lacks nothing.
    nothing = readings <= np.float32(1e-6 * max(float(readings.max()), 1e-30))
    return np.where(nothing, np.float32(1), left / np.where(nothing, np.float32(1), readings))
