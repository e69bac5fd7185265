"""What a set of particles' occupancies are worth against the truth."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from occupy.particles.pipeline import ParticleOccupancy

LARGE = 30.0
"""kDa above which a part's occupancy counts."""

Bits = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.int64]


def area(value: npt.NDArray[np.float32], truth: Bits) -> float:
    """Area under the receiver operating characteristic; nan where there is one kind only."""
    positive, negative = int(truth.sum()), int((~truth).sum())
    if not positive or not negative:
        return float("nan")
    ranks = rankdata(value)
    return float((ranks[truth].sum() - positive * (positive + 1) / 2) / (positive * negative))


def rand_index(one: Labels, other: Labels) -> float:
    """Return the adjusted Rand index of two labellings; nan where either has one label."""
    table = np.zeros((one.max() + 1, other.max() + 1))
    np.add.at(table, (one, other), 1)

    def pairs(counts: npt.NDArray[np.float64]) -> float:
        return float((counts * (counts - 1) / 2).sum())

    rows, columns = pairs(table.sum(axis=1)), pairs(table.sum(axis=0))
    expected = rows * columns / (len(one) * (len(one) - 1) / 2)
    top = (rows + columns) / 2
    return (pairs(table) - expected) / (top - expected) if top > expected else float("nan")


def miscalibration(chance: npt.NDArray[np.float32], truth: Bits) -> float:
    """Mean difference between probability and frequency over ten bins, weighted with their size."""
    bins = np.minimum((chance * 10).astype(int), 9)
    total = 0.0
    for number in range(10):
        chosen = bins == number
        if chosen.any():
            total += chosen.mean() * abs(float(chance[chosen].mean()) - float(truth[chosen].mean()))
    return float(total)


def score(
    found: ParticleOccupancy, present: Bits, state: Labels, weight: npt.NDArray[np.float64]
) -> dict[str, str]:
    """Compare with the truth.

    Parameters
    ----------
    found : ParticleOccupancy
        The estimate.
    present : ndarray of bool, shape (states, C)
        Parts of each true state.
    state : ndarray of int, shape (N,)
        True state of each particle.
    weight : ndarray of float64, shape (C,)
        kDa.
    """
    bits = present[state]
    truth = bits.mean(axis=0)
    error = np.abs(found.occupancy - truth)
    low, high = found.interval()
    # A full part's interval ends at 1; rounding must not put the truth outside.
    inside = (truth >= low - 1e-9) & (truth <= high + 1e-9)
    large, partial = weight > LARGE, truth < 1
    auc = [area(found.presence[:, i], bits[:, i]) for i in np.flatnonzero(partial & found.levels.varying)]
    both = np.flatnonzero(partial & found.levels.varying)
    apart = float("nan")
    if len(both) > 1:
        apart = float(np.nanmax(np.abs(np.corrcoef(bits[:, both].T) - found.correlation[np.ix_(both, both)])))
    calibration = miscalibration(found.presence[:, both].ravel(), bits[:, both].ravel()) if len(both) else 0.0
    return {
        "mean": f"{error[large].mean():.3f}",
        "largest": f"{error[large].max():.3f}",
        "mean_all": f"{error.mean():.3f}",
        "largest_all": f"{error.max():.3f}",
        "inside": f"{int(inside.sum())}/{len(inside)}",
        "auc": " ".join(f"{value:.3f}" for value in auc),
        "correlation": f"{apart:.3f}",
        "calibration": f"{calibration:.3f}",
        "ari": f"{rand_index(found.state, state):.3f}",
        "missed": str(int((partial & ~found.levels.varying).sum())),
        "false": str(int((~partial & found.levels.varying).sum())),
    }
