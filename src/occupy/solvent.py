"""A Gaussian model of the solvent, fitted to the main peak of the map's histogram."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from occupy.checks import MapFacts
from occupy.errors import InputError
from occupy.numerics.histogram import Histogram, fit_gaussian, gaussian, two_histograms, value_range
from occupy.options import short_repr
from occupy.resolve import ResolvedSettings

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
        inside = expected_solvent(self.region, mean, sigma)
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
    middle = float(np.median(sample)) if sample.size else 0.0
    spread = 1.4826 * float(np.median(np.abs(sample - np.float32(middle)))) if sample.size else 0.0
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


def expected_solvent(counted: Histogram, mean: float, sigma: float, reach: float = 1.0) -> float:
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
