"""What a fully occupied part reads, and how readings near it are taken."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d

Array = npt.NDArray[np.float32]

NEAR_DENSITY = 0.15
"""A voxel counts where the map reaches this share of its neighbourhood's maximum: not in the halo around."""

CONTENT = 0.2
"""… and where that maximum reaches this share of the highest (99.5 %)."""

BANDWIDTH = 0.08
"""Smoothing of the histogram of logarithms."""

HIGH_ENOUGH = 0.35
"""A peak counts as that of full material from this share of the highest peak on."""

REGION_SPREAD = 0.5
"""Spread of whole regions as a share of the spread of voxels above the peak …"""

NEAR_PEAK = 0.7
"""… and, where that is more, …"""

SPREAD_BELOW = 0.8
"""… this share of the spread of those between that share of the peak and the peak."""

FULL_BEFOREHAND = 0.8
"""Probability of a part to be full before it was looked at; partial parts are equally likely anywhere …"""

LESS_WHERE_DIFFERENT = 0.2
"""… and so much less for one that surely differs between classes: what comes and goes is seldom full."""


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
    inside: npt.NDArray[np.bool_] = (density > NEAR_DENSITY * reading) & (reading > CONTENT * high)
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
    smooth = gaussian_filter1d(counts.astype(np.float64), BANDWIDTH / step)
    inner = smooth[1:-1]
    peaks = 1 + np.flatnonzero((inner >= smooth[:-2]) & (inner > smooth[2:]))
    if not peaks.size:
        return FullLevel(float(np.exp(np.median(logs))), 0.1)
    peak = int(peaks[smooth[peaks] > HIGH_ENOUGH * smooth[peaks].max()][-1])
    beyond = np.flatnonzero(smooth[peak:] <= smooth[peak] / 2)
    half_width = (int(beyond[0]) if beyond.size else len(smooth) - 1 - peak) * step
    above = np.sqrt(max((half_width / 1.177) ** 2 - BANDWIDTH**2, 0.02**2))
    spread = max(REGION_SPREAD * above, SPREAD_BELOW * _spread_below(logs - centres[peak]))
    return FullLevel(float(np.exp(centres[peak])), float(np.clip(spread, 0.04, 0.16)))


def _spread_below(logs: npt.NDArray[np.floating]) -> float:
    """Return the spread of those near a peak (at 0) that lie below it: full material of unlike kinds."""
    below = logs[(logs > np.log(NEAR_PEAK)) & (logs < 0)]
    return float(np.sqrt(np.mean(below**2))) if below.size else 0.0


def probably_full(reading: Array, spread: float, differs: Array | float = 0.0) -> Array:
    """Return the probability that a part is full, given what it reads relative to full.

    Full parts read 1 with a relative standard deviation; partial parts are equally likely anywhere from 0
    to 1. Readings above 1 are taken like 1.

    Parameters
    ----------
    reading : ndarray
    spread : float
    differs : ndarray or float
        How sure it is that the part differs between classes, 0 to 1.
    """
    before = FULL_BEFOREHAND - LESS_WHERE_DIFFERENT * differs
    below = np.minimum(reading - 1, 0) / np.float32(spread)
    full = before / (spread * np.sqrt(2 * np.pi)) * np.exp(-0.5 * below**2)
    return np.asarray(full / (full + (1 - before)), dtype=np.float32)


def pulled(reading: Array, spread: float, differs: Array | float = 0.0) -> tuple[Array, Array]:
    """Return the expected occupancy given a reading relative to full, and its standard deviation.

    With P the probability to be full, the expectation is P + (1 − P) min(reading, 1). Its variance is that
    of the two cases: 0 when full, (spread × reading)² when partial, and that between them.
    """
    p = probably_full(reading, spread, differs)
    partial = np.clip(reading, 0, 1)
    expected = p + (1 - p) * partial
    variance = (1 - p) * (spread * partial) ** 2 + p * (1 - p) * (1 - partial) ** 2
    return expected, np.sqrt(variance)
