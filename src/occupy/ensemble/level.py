"""What a fully occupied part reads in a set: the uppermost high peak."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d

from occupy import tuning

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class FullLevel:
    """What full material reads.

    Attributes
    ----------
    value : float
        In the units of the map.
    spread : float
        Relative standard deviation of the readings of full regions.
    """

    value: float
    spread: float


def content_of(reading: Array, density: Array) -> npt.NDArray[np.bool_]:
    """Return the voxels that lie in content, away from its halo."""
    high = float(np.quantile(reading, 0.995))
    inside: npt.NDArray[np.bool_] = (density > tuning.SET.core * reading) & (
        reading > tuning.SET.content * high
    )
    return inside


def full_level(values: npt.NDArray[np.floating]) -> FullLevel:
    """Find the uppermost high peak of readings within content: that of full material.

    Parameters
    ----------
    values : ndarray
        Positive readings of the best class at every voxel of the content.
    """
    logs = np.log(np.maximum(values, 1e-30))
    top = float(logs.max())
    counts, edges = np.histogram(logs, bins=400, range=(top - 3, top + 0.3))
    centres = (edges[1:] + edges[:-1]) / 2
    step = float(centres[1] - centres[0])
    smooth = gaussian_filter1d(counts.astype(np.float64), tuning.SET.bandwidth / step)
    inner = smooth[1:-1]
    peaks = 1 + np.flatnonzero((inner >= smooth[:-2]) & (inner > smooth[2:]))
    if not peaks.size:
        return FullLevel(float(np.exp(np.median(logs))), 0.1)
    peak = int(peaks[smooth[peaks] > tuning.SET.full_peak * smooth[peaks].max()][-1])
    beyond = np.flatnonzero(smooth[peak:] <= smooth[peak] / 2)
    half_width = (int(beyond[0]) if beyond.size else len(smooth) - 1 - peak) * step
    above = np.sqrt(max((half_width / 1.177) ** 2 - tuning.SET.bandwidth**2, 0.02**2))
    spread = max(
        tuning.SET.region_spread * above, tuning.SET.spread_below * _spread_below(logs - centres[peak])
    )
    return FullLevel(float(np.exp(centres[peak])), float(np.clip(spread, 0.04, 0.16)))


def _spread_below(logs: npt.NDArray[np.floating]) -> float:
    """Return the spread of those near a peak (at 0) that lie below it: full material of unlike kinds."""
    below = logs[(logs > np.log(tuning.SET.near_peak)) & (logs < 0)]
    return float(np.sqrt(np.mean(below**2))) if below.size else 0.0
