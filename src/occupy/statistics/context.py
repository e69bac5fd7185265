"""Local context: density around each place, and what that does to its local maximum.

Beside strong density nothing reads like something: the strong density is within reach. At the flank of its
own density a part reads less than where it is densest, and at the rim of a particle less than in its midst.
And what density of neighbours adds to it, through low-pass and local maximum, leaks into a reading. See
docs/explanation/estimator.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from occupy.numerics.parallel import planes_per_slab, scratch, slabs
from occupy.numerics.resampling import block_means, interpolated_planes
from occupy.numerics.smoothing import quantile, smooth_volume


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


Array = npt.NDArray[np.float32]
Smoother = Callable[[Array, Sequence[float]], Array]

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
    around = np.empty(density.shape, dtype=np.float32)
    for first, last in slabs(len(density), planes_per_slab(density.shape)):
        around[first:last] = interpolated_planes(
            coarse, (2, 2, 2), first, last, density.shape[1:], (0.5, 0.5, 0.5)
        )
    around /= quantile(around[inside], 0.5)
    np.maximum(around, np.float32(0.1), out=around)
    return np.power(around, np.float32(-power), out=around)


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
