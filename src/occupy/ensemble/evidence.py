"""Which differences between classes are more than noise, and how much of them is kept.

Where classes truly agree their ratios still scatter: by noise, by small misalignments, by unequal fall-off.
How much is seen in the data: most places of most particles do not change, so the commonest scatter is that
of no difference (an empirical null, Efron, J. Am. Stat. Assoc. 99, 96, 2004).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d

from occupy import tuning

Numbers = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Null:
    """Scatter where classes agree.

    Attributes
    ----------
    level : float
        Commonest mean square of standardised differences, at least 1.
    width : float
        Standard deviation of its logarithm, from the side below.
    """

    level: float
    width: float

    def threshold(self, places: float) -> float:
        """Return the scatter that about one of so many independent places without difference exceeds."""
        from scipy.stats import norm

        return float(self.level * np.exp(norm.isf(1 / max(places, 2.0)) * self.width))


def null_of(scatter: Numbers) -> Null:
    """Find the lowest high peak of the logarithm of a scatter, and its width below.

    Parameters
    ----------
    scatter : ndarray
        Mean square of standardised differences at every place of the content.
    """
    logs = np.log(np.clip(scatter, 1e-3, 1e6))
    counts, edges = np.histogram(logs, bins=240, range=(np.log(1e-3), np.log(1e6)))
    centres = (edges[1:] + edges[:-1]) / 2
    smooth = gaussian_filter1d(
        counts.astype(np.float64), tuning.SET.null_bandwidth / (centres[1] - centres[0])
    )
    inner = smooth[1:-1]
    peaks = np.flatnonzero(
        (inner >= smooth[:-2]) & (inner > smooth[2:]) & (inner > tuning.SET.null_peak * smooth.max())
    )
    mode = float(centres[peaks[0] + 1]) if peaks.size else float(np.median(logs))
    below = logs[logs < mode]
    width = float(np.sqrt(np.mean((below - mode) ** 2))) if below.size else 0.3
    return Null(float(np.clip(np.exp(mode), 1.0, tuning.SET.most_null)), min(max(width, 0.1), 1.0))


def shrinkage_weight(scatter: Numbers, null: Null) -> npt.NDArray[np.float32]:
    """Return the share of each place's differences to keep: max(0, 1 − null/scatter) (James and Stein)."""
    return np.clip(1 - null.level / np.maximum(scatter, 1e-9), 0, 1).astype(np.float32)
