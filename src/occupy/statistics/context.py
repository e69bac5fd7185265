"""Local context: density around each place, and what that does to its local maximum.

Beside strong density nothing reads like something: the strong density is within reach. At the flank of its
own density a part reads less than where it is densest, and at the rim of a particle less than in its midst.
See docs/explanation/estimator.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from occupy.numerics.parallel import scratch
from occupy.numerics.resampling import block_means, interpolated_planes
from occupy.numerics.smoothing import smooth_volume
from occupy.statistics.leakage import Neighbourhood

Array = npt.NDArray[np.float32]

# Fine enough that look-ups need no interpolation.
_STEPS = 1 << 16


@dataclass(frozen=True, eq=False)
class LocalContext:
    """Mean reading around each place, weighted by density, and how crowded the places are.

    Attributes
    ----------
    around : ndarray of float32, shape (nz', ny', nx')
        Means on every n-th voxel along each axis, in the units of the readings.
    gain : ndarray of float32, same shape
        What readings are multiplied by, as density far around makes them larger; from `crowding_gain`.
    strides : tuple of int
        n.
    share : float
        What reads less than this share of the mean is partly its neighbours'.
    """

    around: Array
    gain: Array
    strides: tuple[int, int, int]
    share: float

    @classmethod
    def of(
        cls,
        readings: Array,
        density: Array,
        gain: Array,
        sigma: tuple[float, ...],
        strides: tuple[int, int, int],
        share: float,
    ) -> LocalContext:
        """Measure it at every n-th voxel.

        Parameters
        ----------
        readings : ndarray of float32
            Local maxima without noise there, not negative.
        density : ndarray of float32, same shape
            The low-passed map there.
        gain : ndarray of float32, same shape
            From `crowding_gain`.
        sigma : tuple of float
            Gaussian over which the mean is taken, in these places.
        strides : tuple of int
            Voxels between the places.
        share : float
            See `_mended`.
        """
        return cls(Neighbourhood.of(density, sigma).mean(readings * gain), gain, strides, share)

    def around_planes(self, start: int, stop: int, across: tuple[int, ...]) -> Array:
        """Return the mean around the voxels of some planes, positive; this thread's scratch array.

        Parameters
        ----------
        start, stop : int
            Planes.
        across : tuple of int
            Rows and columns.
        """
        found = interpolated_planes(self.around, self.strides, start, stop, across)
        return np.maximum(found, np.float32(1e-9), out=found)

    def levelled(self, readings: Array, first: int) -> Array:
        """Make readings comparable, whatever lies far around, in place.

        Parameters
        ----------
        readings : ndarray of float32, shape (planes, rows, columns)
            In the units of `around`, not negative.
        first : int
            Number of the first plane.
        """
        last, across = first + len(readings), readings.shape[1:]
        readings *= interpolated_planes(self.gain, self.strides, first, last, across)
        return readings

    @cached_property
    def _factors(self) -> Array:
        ratio = np.linspace(0, 1, _STEPS)[1:]
        return np.concatenate([[0], _mended(ratio, self.share) / ratio]).astype(np.float32)

    def mended(self, readings: Array, around: Array) -> Array:
        """Return readings without what leaks in, and with what their own density reads beside them.

        Place by place, on any grid: what is interpolated to a finer one is better mended there, as the
        reading of emptiness between strong density is bent, and means of it are too high.

        Parameters
        ----------
        readings : ndarray of float32
            From `levelled`.
        around : ndarray of float32, same shape
            From `around_planes`.
        """
        ratio = np.divide(readings, around, out=scratch("ratio", readings.shape))
        ratio *= np.float32(_STEPS - 1)
        steps = scratch("steps", readings.shape, np.intp)
        np.copyto(steps, ratio, casting="unsafe")
        # At and above the mean around, the factor is 1.
        return np.asarray(readings * self._factors.take(steps, out=ratio, mode="clip"))


def crowding_gain(
    density: Array, inside: npt.NDArray[np.bool_], sigma: tuple[float, ...], power: float
) -> Array:
    """Return the factors that make readings in the midst of a particle comparable to those at its rim.

    What lies far around adds to a reading (and poses are less well known to the rim): it grows with a small
    power of the mean density there. Relative to the median of the places inside; nowhere more than if ten
    times less density were around.

    Parameters
    ----------
    density : ndarray of float32, shape (nz, ny, nx)
        Low-passed map.
    inside : ndarray of bool, same shape
        Places inside density; at least one.
    sigma : tuple of float
        Gaussian over which density is averaged, in voxels: many of them, so blocks of two are averaged first.
    power : float
        Of the mean density.
    """
    coarse = smooth_volume(
        block_means(np.maximum(density, np.float32(0)), (2, 2, 2)), tuple(s / 2 for s in sigma), 2.5
    )
    around = interpolated_planes(coarse, (2, 2, 2), 0, len(density), density.shape[1:], (0.5, 0.5, 0.5))
    around /= np.median(around[inside])
    np.maximum(around, np.float32(0.1), out=around)
    return np.asarray(around ** np.float32(-power))


def _mended(ratio: npt.NDArray[np.float64], share: float, flank: float = 0.2) -> npt.NDArray[np.float64]:
    """Return what a reading becomes, both relative to the mean around it.

    What reads less than a share b of the mean around it is mostly its neighbours': it loses twice what it
    reads less, as by two of van Cittert's steps, r becoming 3r − 2b. What reads more, but less than the mean,
    lies at the flank of density of its own kind, and is given that mean; in between the one goes over into
    the other.

    Parameters
    ----------
    ratio : ndarray
        Reading relative to the mean, 0 to 1.
    share : float
        b, below 1 − ``flank``.
    flank : float
        So much above the share all is given.

    References
    ----------
    P. H. van Cittert, Z. Phys. 69, 298 (1931).
    """
    given = np.clip((ratio - share) / flank, 0, 1)
    own = np.maximum(ratio, 1e-9) ** (1 - given)
    return np.where(ratio < share, np.maximum(3 * ratio - 2 * share, 0), own)
