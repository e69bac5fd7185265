"""The estimators to compare: plain functions from a map (and its halves, if there are any) to occupancies.

To try another one, write such a function and add it to `ESTIMATORS`. It must not look at the truth, at the
model, or at which map it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from occupy import Settings, Volume
from occupy.numerics.morphology import ball_widths, dilate
from occupy.pipeline import Estimate, estimate

Halves = tuple[Volume, Volume] | None


@dataclass(frozen=True)
class Reading:
    """What an estimator says.

    Attributes
    ----------
    occupancy : (nz, ny, nx) float32 array
        0 to 1.
    error : such an array, optional
        Standard error at each voxel.
    """

    occupancy: NDArray[np.float32]
    error: NDArray[np.float32] | None = None


Estimator = Callable[[Volume, Halves], Reading]


def with_settings(volume: Volume, _: Halves, settings: Settings) -> Reading:
    """Run the program with some settings."""
    est = estimate(volume, settings)
    return Reading(est.occupancy, est.uncertainty)


def with_halves(volume: Volume, halves: Halves, settings: Settings) -> Reading:
    """Run the program with the half-maps where there are some."""
    est = estimate(volume, settings, half_maps=halves)
    return Reading(est.occupancy, est.uncertainty)


def dilated(est: Estimate) -> NDArray[np.float32]:
    """Return the local maximum of the low-passed map, before anything is made of it."""
    return dilate(est.working_map, ball_widths(est.settings.kernel_radius, est.settings.kernel_size))


LEAST_PEAK = 0.05
"""Height of a peak that counts, relative to the largest one; of 0.02 to 0.3 the best on the tuning half."""


def upper_mode(values: NDArray[np.float32]) -> float:
    """Return the highest value at which the smoothed histogram has a peak of at least `LEAST_PEAK`."""
    counts, edges = np.histogram(values, bins=100)
    smooth = gaussian_filter1d(counts.astype(float), 2.0, mode="constant")
    inner = smooth[1:-1]
    peaks = 1 + np.flatnonzero(
        (inner >= smooth[:-2]) & (inner > smooth[2:]) & (inner > LEAST_PEAK * smooth.max())
    )
    at = int(peaks[-1]) if peaks.size else int(smooth.argmax())
    return float(edges[at] + edges[at + 1]) / 2


def with_upper_mode(volume: Volume, _: Halves, settings: Settings) -> Reading:
    """Take the upper mode over confident voxels for full scale, instead of a tile."""
    est = estimate(volume, settings)
    local = dilated(est)
    confident = local[local > est.curve.crossing(0.5)]
    full = upper_mode(confident) if confident.size > 1000 else est.full_scale.value
    return Reading(np.clip(local / np.float32(full), 0, 1))


ESTIMATORS: Mapping[str, Estimator] = {
    "default": partial(with_settings, settings=Settings()),
    "default, with half-maps": partial(with_halves, settings=Settings()),
    "local": partial(with_settings, settings=Settings(estimator="local")),
    "nlf, 12-voxel tile": partial(with_settings, settings=Settings(estimator="nlf", tile_size=12)),
    "tile 30 Å": partial(with_settings, settings=Settings(tile_size="30A")),
    "tile 60 Å": partial(with_settings, settings=Settings(tile_size="60A")),
    "upper mode": partial(with_upper_mode, settings=Settings(estimator="local")),
}
DEFAULT = "default"
