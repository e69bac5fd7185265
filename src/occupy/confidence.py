"""The solvent, as a Gaussian fitted to the histogram's main peak, and confidence that a voxel is content.

Confidence is one minus the local false discovery rate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from occupy.checks import MapFacts
from occupy.errors import InputError, Notice
from occupy.numerics.histogram import (
    Histogram,
    bin_index,
    fit_gaussian,
    gaussian,
    two_histograms,
    value_range,
)
from occupy.numerics.smoothing import quantile
from occupy.resolve import ResolvedSettings
from occupy.scale import FullScale
from occupy.settings import short_repr

BINS = 1000
Region = Callable[[int, int], npt.NDArray[np.bool_]]
Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class SolventModel:
    """Values of solvent voxels: ``height · exp(−(v − mean)²/2 sigma²)`` per unit of value.

    Attributes
    ----------
    mean, sigma, height : float
        The Gaussian, fitted to the density of ``region``.
    region : Histogram
        Values inside the inscribed ellipsoid, or on the solvent side of a mask.
    everything : Histogram
        Values of the whole box, same bins.
    one_sided : bool
        Whether the region is the solvent side of a mask, and so holds no content.
    misfit : float
        Area between the Gaussian and the histogram below mean + sigma, relative to the Gaussian's area
        there; near 0 for Gaussian solvent.
    beyond : tuple of int
        Voxels of the region and of the whole box above the histograms' range.
    partly_flat : bool
        Whether the rest of the box holds voxels that a mask made equal.
    """

    mean: float
    sigma: float
    height: float
    region: Histogram
    everything: Histogram
    misfit: float
    one_sided: bool = False
    beyond: tuple[int, int] = (0, 0)
    partly_flat: bool = False

    __repr__ = short_repr

    def density(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the solvent's share of the histogram at ``values``."""
        return gaussian(values, self.height, self.mean, self.sigma)

    def truncated_null(self, reach: float = 1.0) -> tuple[float, float, float]:
        """Fit the solvent's Gaussian by likelihood to the values below its upper flank only.

        Content lies above the solvent, so what is below mean + ``reach`` · sigma is nearly all solvent. Its
        values are a Gaussian cut off there; mean and sigma are found by maximum likelihood of the cut-off
        Gaussian, with the cut moved along until it no longer moves.

        Parameters
        ----------
        reach : float, default 1
            Where to cut, in sigma above the mean.

        Returns
        -------
        mean, sigma : float
            The Gaussian.
        share : float
            Share of the region's voxels that it accounts for, at most 1.

        References
        ----------
        Efron, Large-Scale Inference (2010), section 6.3: maximum likelihood estimation of the empirical null.
        """
        from scipy.optimize import minimize

        x, counts = self.region.centres, self.region.counts.astype(np.float64)
        mean, sigma = self.mean, max(self.sigma, self.region.width)
        # In units of sigma, as the search begins and ends with steps of a size of its own.
        search = {"initial_simplex": [[0.0, 0.0], [0.1, 0.0], [0.0, 0.1]], "xatol": 1e-5, "fatol": 1e-9}
        for _ in range(10):
            below = x <= mean + reach * sigma
            weights = counts[below] / max(counts[below].sum(), 1.0)
            # Cut where a bin ends: half a bin more or less would move the mean.
            cut = self.region.low + np.count_nonzero(below) * self.region.width
            given = (x[below] - mean) / sigma, weights, (cut - mean) / sigma
            moved, growth = minimize(_cut_off_loss, [0.0, 0.0], given, method="Nelder-Mead", options=search).x
            mean, sigma = float(mean + moved * sigma), float(sigma * np.exp(growth))
            if abs(moved) + abs(growth) < 1e-3:
                break
        inside = _expected_solvent(self.region, mean, sigma)
        return mean, sigma, float(min(1.0, inside / (counts.sum() + self.beyond[0])))


def inscribed_ellipsoid(shape: tuple[int, int, int]) -> Region:
    """Return the region within the ellipsoid that touches the box's faces (a sphere in a cubic box)."""
    z, y, x = (((np.arange(n) - n / 2) / (n / 2)) ** 2 for n in shape)
    in_plane = (y[:, None] + x).astype(np.float32)
    # A little beyond 1: float32 must not lose the voxels that lie exactly on the ellipsoid.
    left = (1 + 1e-6 - z).astype(np.float32)[:, None, None]

    def inside(start: int, stop: int) -> npt.NDArray[np.bool_]:
        return np.asarray(in_plane <= left[start:stop])

    return inside


def _solvent_side(
    data: npt.NDArray[np.float32], mask: npt.NDArray[np.floating], limit: float = 0.9
) -> Region:
    """Return the side of a mask, thresholded at ``limit``, where the map varies less.

    So a mask of the solvent and a mask of the content both work.
    """
    if mask.shape != data.shape:
        raise InputError(f"the solvent mask is {mask.shape} voxels, the map {data.shape}")
    above = mask >= limit
    count = int(np.count_nonzero(above))
    if min(count, above.size - count) < 100:
        raise InputError(
            f"the solvent mask has {count} of {above.size} voxels above {limit}: one side is too small to fit"
        )
    use = above if data[above].var() < data[~above].var() else ~above
    return lambda start, stop: use[start:stop]


def _both(first: Region, second: Region) -> Region:
    """Return the common part of two regions."""
    return lambda start, stop: first(start, stop) & second(start, stop)


def _histogram_range(
    data: npt.NDArray[np.float32], *, published: bool, threads: int = 1, region: Region | None = None
) -> tuple[float, float]:
    """Return the value range of the histogram.

    The published one is the map's own. Otherwise it is cut at 12 (below) and 40 (above) robust standard
    deviations around the median (of the region, where one is given), so that a few hot voxels don't press
    the solvent into one bin.
    """
    low, high = value_range(data, threads=threads)
    if published:
        return low, high
    # 60 000 voxels are enough for a median.
    step = max(1, round((data.size / 60_000) ** (1 / 3)))
    sample = data[::step, ::step, ::step]
    if region is not None:
        planes = range(0, len(data), step)
        sample = sample[np.stack([region(z, z + 1)[0, ::step, ::step] for z in planes])]
    if not sample.size:
        return low, high
    middle = quantile(sample, 0.5)
    spread = 1.4826 * quantile(np.abs(sample - np.float32(middle)), 0.5)
    if spread <= 0:
        return low, high
    return max(low, middle - 12 * spread), min(high, middle + 40 * spread)


def _cut_off_loss(
    q: npt.NDArray[np.float64], values: npt.NDArray[np.float64], weights: npt.NDArray[np.float64], cut: float
) -> float:
    """Return minus the mean log likelihood of a Gaussian (mean, ln sigma) cut off above ``cut``."""
    from scipy.special import log_ndtr

    sigma = np.exp(q[1])
    z = (values - q[0]) / sigma
    return float((weights * 0.5 * z**2).sum() + q[1] + log_ndtr((cut - q[0]) / sigma))


def _expected_solvent(counted: Histogram, mean: float, sigma: float, reach: float = 1.0) -> float:
    """Return the number of voxels of a Gaussian, from those below mean + ``reach`` · sigma."""
    from scipy.special import ndtr

    bins = np.count_nonzero(counted.centres <= mean + reach * sigma)
    cut = counted.low + bins * counted.width
    return float(counted.counts[:bins].sum() / ndtr((cut - mean) / sigma))


def _histograms(
    data: npt.NDArray[np.float32], region: Region, low: float, high: float, threads: int
) -> tuple[tuple[Histogram, Histogram], tuple[int, int]]:
    """Histogram the whole box and a region; what lies outside the range is left out, and counted above it."""
    width = (high - low) / BINS
    # One bin more at each end catches what lies outside.
    found = two_histograms(data, region, low - width, high + width, BINS + 2, threads=threads)
    first, last = (Histogram(low, high, h.counts[1:-1].copy()) for h in found)
    return (first, last), (int(found[1].counts[-1]), int(found[0].counts[-1]))


def _fit_solvent(
    data: npt.NDArray[np.float32],
    region: Region,
    *,
    one_sided: bool = False,
    published: bool = False,
    partly_flat: bool = False,
    threads: int = 1,
) -> SolventModel:
    """Fit a Gaussian to the main peak of the histogram of a region by least squares.

    Parameters
    ----------
    data : ndarray of float32, shape (sections, rows, columns)
        The low-passed map.
    region : callable
        ``region(start, stop)``: mask of planes; see `inscribed_ellipsoid` and `_solvent_side`.
    one_sided : bool, default False
        Whether the region is the solvent side of a mask.
    published : bool, default False
        Histogram over the full range of the map, with abscissae from its first to its last edge, as in
        the published program; otherwise the middles of the bins of a robust range.
    partly_flat : bool, default False
        Whether the region leaves out voxels that a mask made equal.
    threads : int, default 1
        Threads to use.
    """
    # What a mask made equal would make the spread look small, or none.
    low, high = _histogram_range(
        data, published=published, threads=threads, region=region if partly_flat else None
    )
    if not high > low:
        raise InputError(f"the map is constant ({low:.4g}): there is nothing to estimate")
    beyond = (0, 0)
    if published:
        everything, inside = two_histograms(data, region, low, high, BINS, threads=threads)
    else:
        (everything, inside), beyond = _histograms(data, region, low, high, threads)
    if not inside.counts.any():
        raise InputError("the region for the solvent fit holds no voxel")
    x = np.linspace(low, high, BINS) if published else inside.centres
    density = inside.density
    peak = int(density.argmax())
    above_half = np.flatnonzero(density > density[peak] / 2)
    width = max(1, int(above_half[-1] - above_half[0])) * inside.width / 2.355
    # The width at half height can span two peaks; then the main peak's own neighbourhood is the guess.
    start = (float(density[peak]), float(x[peak]), min(width, 0.1 * (high - low)))
    height, mean, sigma = fit_gaussian(x, density, start)
    fitted = gaussian(x, height, mean, sigma)
    left = x <= mean + sigma
    area = float(fitted[left].sum())
    misfit = float(np.abs(fitted - density)[left].sum()) / area if area > 0 else np.inf
    return SolventModel(mean, sigma, height, inside, everything, misfit, one_sided, beyond, partly_flat)


def solvent_of(
    low: Array, raw: Array, mask: Array | None, facts: MapFacts, settings: ResolvedSettings
) -> SolventModel:
    """Fit the solvent on one side of a mask, or inside the box without what another mask made equal."""
    region = inscribed_ellipsoid(settings.shape) if mask is None else _solvent_side(low, mask)
    flat = facts.masked and mask is None
    if flat:
        region = _without_flat(region, raw, facts.flat_value)
    return _fit_solvent(
        low,
        region,
        one_sided=mask is not None,
        published=settings.estimator == "nlf" and not flat,
        partly_flat=flat,
        threads=settings.threads,
    )


def _without_flat(region: Region, raw: Array, flat: float) -> Region:
    """Leave the voxels a mask has made equal out of a region, unless next to nothing would remain."""
    rest = _both(region, lambda start, stop: raw[start:stop] != np.float32(flat))
    left = sum(int(np.count_nonzero(rest(z, z + 1))) for z in range(len(raw)))
    return rest if left >= 0.01 * raw.size else region


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
    total = min(_expected_solvent(counted, mean, sigma), float(above[0]))
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
