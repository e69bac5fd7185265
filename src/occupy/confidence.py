"""Confidence that a voxel is content and not solvent: one minus the local false discovery rate."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from occupy.checks import MapFacts
from occupy.errors import Notice
from occupy.numerics.histogram import bin_index
from occupy.options import short_repr
from occupy.scale import FullScale
from occupy.solvent import SolventModel, expected_solvent


@dataclass(frozen=True)
class ConfidenceCurve:
    """Confidence as a function of the low-passed map's value, as a table with equal steps.

    Attributes
    ----------
    low, high : float
        Values at the table's ends; beyond them its first and last entries hold.
    table : ndarray of float32
        Confidence per step, rising from 0 to 1.
    """

    low: float
    high: float
    table: npt.NDArray[np.float32]

    __repr__ = short_repr

    def __call__(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the confidence of voxels with these values (float32, same shape)."""
        # Most of a box lies below the first value with any confidence.
        out = np.zeros(values.shape, dtype=np.float32)
        above = np.flatnonzero(values >= np.float32(self._first_value))
        index = bin_index(values.reshape(-1)[above], self.low, self.high, len(self.table))
        out.reshape(-1)[above] = self.table.take(index, mode="clip")
        return out

    @cached_property
    def _first_value(self) -> float:
        """A value below which every voxel has confidence zero."""
        step = (self.high - self.low) / len(self.table)
        # A step less, so that rounding in the look-up cannot matter.
        return self.low + (int(np.argmax(self.table > 0)) - 1) * step

    def crossing(self, level: float = 0.5) -> float:
        """Return the lowest value whose confidence reaches ``level`` (``high`` where none does)."""
        reached = np.flatnonzero(self.table >= level)
        step = (self.high - self.low) / len(self.table)
        return self.high if len(reached) == 0 else self.low + float(reached[0]) * step


def _rise_monotonically(confidence: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Force a raw confidence to fall, ever more steeply, from the highest value down to zero.

    Going down, each value is at most the one before it and at most the straight continuation of the two
    before it; after the first zero all are zero. So a second rise towards negative values (where the
    Gaussian fits badly) can't be taken for content.
    """
    out = np.clip(confidence, 0.0, 1.0)
    out[-2:] = 1.0
    for i in range(len(out) - 3, -1, -1):
        out[i] = max(0.0, min(out[i], 2 * out[i + 1] - out[i + 2]))
        if out[i] == 0:
            out[:i] = 0
            break
    return out


def _rising_fit(values: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the non-decreasing sequence nearest to ``values`` in weighted least squares.

    Pool-adjacent-violators: neighbours in the wrong order are replaced by their weighted mean until none
    are left.
    """
    blocks: list[tuple[float, float, int]] = []
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        mean, total, count = value, weight, 1
        while blocks and blocks[-1][0] >= mean:
            before, more, number = blocks.pop()
            mean = (mean * total + before * more) / (total + more)
            total, count = total + more, count + number
        blocks.append((mean, total, count))
    return np.repeat([b[0] for b in blocks], [b[2] for b in blocks]).astype(np.float64)


def _one_minus_ratio(
    solvent: npt.NDArray[np.float64], density: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    ratio = np.divide(solvent, density, out=np.zeros_like(solvent), where=density > 0)
    return 1.0 - ratio


def confidence_curve(
    model: SolventModel, *, hedge: float = 1.0, published: bool = False, steps: int = 8192
) -> ConfidenceCurve:
    """Return 1 − g(v)/h(v), made monotone.

    Parameters
    ----------
    model : SolventModel
        The Gaussian g and the histogram h.
    hedge : float, default 1
        Power of the confidence: above 1, weak density is trusted less.
    published : bool, default False
        As observed of OccuPy 0.1.13: h is the histogram of the whole box although g was fitted to the
        region, g is taken at the lower edge of each bin, and voxels look up the bin below their own.
        Otherwise both come from the region, at the middles of the bins, interpolated in between; monotone
        by weighted regression from the solvent's mean on, and zero below it.
    steps : int
        Of the table, where it is not the published one.

    References
    ----------
    Efron, Large-Scale Inference (2010), ch. 5, for the local false discovery rate.
    """
    region = model.region
    if published:
        raw = _one_minus_ratio(model.density(region.edges[:-1]), model.everything.density)
        table = _rise_monotonically(np.concatenate([raw[:1], raw[:-1]]))
        return ConfidenceCurve(region.low, region.high, (table**hedge).astype(np.float32))
    # A region without content says what solvent looks like; how much content there is, the box says.
    counts = model.everything.counts if model.one_sided else region.counts
    h = counts.astype(np.float64)
    raw = _one_minus_ratio(model.density(region.centres) * region.counts.sum() * region.width, h)
    # Weighted by h, pooled bins get 1 − Σg/Σh. Empty bins weigh next to nothing and are content.
    weights = np.maximum(h, 1e-9 * h.max())
    first = int(np.searchsorted(region.centres, model.mean))
    coarse = np.zeros(len(raw))
    coarse[first:] = np.clip(_rising_fit(raw[first:], weights[first:]), 0.0, 1.0)
    step = (region.high - region.low) / steps
    fine = np.interp(region.low + (np.arange(steps) + 0.5) * step, region.centres, coarse)
    return ConfidenceCurve(region.low, region.high, (fine**hedge).astype(np.float32))


def fdr_threshold(model: SolventModel, rate: float) -> float:
    """Return the lowest value above which at most this share of the voxels is expected to be solvent.

    The expected number of solvent voxels above v, N · share · (1 − Φ((v − mean)/sigma)), divided by the
    number of voxels above v, is the false-discovery rate of the mask "map > v". Where it is above ``rate``
    for some higher value, lower ones don't count, so that the mask holds at every level.

    Voxels are those of the whole box, as the mask's are; where a mask made a part of the box equal, those of
    the region, as none of that part are above v.

    Parameters
    ----------
    model : SolventModel
        Its null is fitted anew by truncated likelihood.
    rate : float
        Between 0 and 1.

    Returns
    -------
    float
        In the units of the low-passed map; above all values where no threshold will do.

    References
    ----------
    Benjamini and Hochberg (1995); Efron, Large-Scale Inference (2010), ch. 4, for the rate of a tail.
    """
    from scipy.special import ndtr

    mean, sigma, _ = model.truncated_null()
    counted, beyond = (
        (model.region, model.beyond[0]) if model.partly_flat else (model.everything, model.beyond[1])
    )
    edges = counted.edges
    above = beyond + np.cumsum(counted.counts[::-1])[::-1].astype(np.float64)
    total = min(expected_solvent(counted, mean, sigma), float(above[0]))
    solvent = total * ndtr((mean - edges[:-1]) / sigma)
    found = solvent <= rate * above
    occupied = np.flatnonzero(above > 0)
    if occupied.size == 0 or not found[occupied[-1]]:
        return float(counted.high)
    # From the highest value down, as long as the rate holds.
    bad = np.flatnonzero(~found[: occupied[-1] + 1])
    return float(edges[bad[-1] + 1] if bad.size else edges[0])


def solvent_notices(
    solvent: SolventModel, curve: ConfidenceCurve, facts: MapFacts, full: FullScale
) -> list[Notice]:
    """Return what is doubtful about the solvent fit."""
    problem = None
    share = solvent.height * solvent.sigma * np.sqrt(2 * np.pi)
    crossing = curve.crossing(0.5)
    if solvent.sigma < 1.5 * solvent.region.width:
        problem = "the solvent has no width (flattened)"
    elif crossing > 0.5 * (facts.low + facts.high):
        problem = "the solvent peak reaches above the middle of the map's values"
    elif crossing > 0.6 * full.value:  # little of a partial map would be seen
        problem = f"content is told from solvent only above {crossing / full.value:.2f} of full scale"
    elif not np.isfinite(solvent.misfit):
        problem = "the values end at the solvent peak"
    elif solvent.misfit > 0.35:  # a Gaussian solvent leaves 2–10 %
        problem = f"the solvent is not Gaussian (misfit {solvent.misfit:.0%})"
    elif share < 0.15:
        problem = f"only {share:.0%} of the box looks like solvent"
    notices = []
    if problem is not None:
        advice = "do not trust the confidence; give an unmasked map, or --solvent-mask"
        notices.append(Notice("solvent-fit", f"bad solvent fit: {problem}; {advice}"))
    elif abs(solvent.mean) > max(2 * solvent.sigma, 0.05 * full.value):
        notices.append(
            Notice(
                "offset",
                f"the solvent lies at {solvent.mean:.3g} and not at 0, but the scale is relative to 0",
            )
        )
    return notices
