"""What is around each place, and what that does to its local maximum.

Inside a particle local maxima of a low-passed map are higher than at its surface, for the same occupancy:
what is missing around a surface is missing from its low frequencies too. And beside strong density nothing
reads like something: the strong density is within reach. See docs/explanation/estimator.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from occupy.numerics.coarse import interpolated_planes
from occupy.numerics.smoothing import smooth_volume

Array = npt.NDArray[np.float32]

# Both chosen on the tuning half of benchmarks/accuracy and on the RELION maps.
REACH = 25.0
"""Standard deviation in Å of the Gaussian with which content is averaged."""
POWER = 0.17
"""Local maxima rise with this power of the content around them."""
COARSER = 2
"""Of the places at which local maxima are looked at, every n-th is enough here."""
LEAST, MOST = 0.2, 3.0
"""Range of the content around a place, relative to the mean, within which that is believed."""

# These on crowded maps of the tuning half's models too: domains of which a third is absent.
BESIDE = 5.0
"""Standard deviation in Å of the Gaussian over which a reading is compared with those beside it."""
BORROWED = 0.5
"""A reading below this share of those beside it is taken to be partly theirs."""
LEAST_LEFT = 0.05
"""Share of a reading that is left to it at least."""


@dataclass(frozen=True, eq=False)
class Surroundings:
    """Factors that take a local maximum to what it would be in average surroundings, by itself.

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

    def within(self, start: tuple[int, int, int]) -> Surroundings:
        """Return the same for a part of the map that begins at this voxel."""
        return replace(self, start=start)

    def on_finer(self, strides: tuple[int, int, int]) -> Surroundings:
        """Return the same for a grid of which this one's has every n-th voxel."""
        a, b = self.strides, strides
        return Surroundings(self.factors, (a[0] * b[0], a[1] * b[1], a[2] * b[2]))

    def times(self, factors: Array) -> Surroundings:
        """Return these with other factors on top, which are given for every voxel of this one's grid."""
        own = self.planes(0, len(factors), factors.shape[1:])
        return Surroundings(own * factors, (1, 1, 1))

    def planes(self, start: int, stop: int, shape: tuple[int, ...]) -> Array:
        """Return the factors at planes ``start`` to ``stop`` of a map of these rows and columns.

        The result is this thread's scratch array: use it before the next call.
        """
        z, y, x = self.start
        return interpolated_planes(self.factors, self.strides, start, stop, shape, (-z, -y, -x))


def surroundings_of(content: npt.NDArray[np.bool_], spacing: tuple[float, ...]) -> Surroundings | None:
    """Measure how much content is around each place.

    Parameters
    ----------
    content : ndarray of bool
        Where there is content.
    spacing : tuple of float
        Å between the places along each axis.

    Returns
    -------
    Surroundings or None
        For the grid of ``content``; factors whose mean logarithm over it is 0. None without content.
    """
    coarse = content[::COARSER, ::COARSER, ::COARSER]
    if not coarse.any():
        return None
    sigma = tuple(REACH / (COARSER * a) for a in spacing)
    around = smooth_volume(coarse.astype(np.float32), sigma, 3.0, empty=True)
    logs = np.log(np.maximum(around, 1e-6))
    logs = np.clip(logs - float(logs[coarse].mean()), np.log(LEAST), np.log(MOST))
    factors = np.exp(-POWER * logs).astype(np.float32)
    return Surroundings(factors, (COARSER,) * 3)


def own_shares(readings: Array, density: Array, spacing: tuple[float, ...]) -> Array:
    """Return the share of each reading that is its own, and not borrowed from stronger density beside it.

    With m the mean of the readings around, weighted by the density there, a reading r below b·m becomes
    r − (b·m − r): one step of van Cittert's iteration, towards b·m instead of m, so that what matter of
    unlike density reads stays (nucleic acid beside protein). Where nothing lies the weights are 0: full
    density beside emptiness loses nothing, an absent part beside full ones does.

    Parameters
    ----------
    readings : ndarray of float32
        Local maxima above the noise floor, not negative.
    density : ndarray of float32, same shape
        The low-passed map.
    spacing : tuple of float
        Å between the places along each axis.

    Returns
    -------
    ndarray of float32, same shape
        From `LEAST_LEFT` to 1.

    References
    ----------
    P. H. van Cittert, Z. Phys. 69, 298 (1931).
    """
    sigma = tuple(BESIDE / a for a in spacing)
    weight = np.maximum(density, 0)
    highest = float(weight.max())
    if not highest > 0:
        return np.ones_like(readings)
    weight = np.maximum(weight, np.float32(1e-6 * highest))
    total = smooth_volume(weight, sigma, 3.0, empty=True)
    beside = smooth_volume(readings * weight, sigma, 3.0, empty=True) / total
    missing = np.maximum(np.float32(BORROWED) * beside - readings, 0)
    # A reading of 0 with nothing beside it lacks nothing.
    tiny = np.float32(1e-6 * max(float(readings.max()), 1e-30))
    shares = 1 - missing / np.maximum(readings, tiny)
    return np.asarray(np.maximum(shares, np.float32(LEAST_LEFT)), dtype=np.float32)
