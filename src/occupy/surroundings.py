"""How much content is around each place, and what that does to its local maximum.

Inside a particle local maxima of a low-passed map are higher than at its surface, for the same occupancy:
what is missing around a surface is missing from its low frequencies too. See docs/explanation/estimator.md.
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


@dataclass(frozen=True, eq=False)
class Surroundings:
    """Factors that take a local maximum to what it would be in average surroundings.

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
