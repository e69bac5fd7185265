"""What the classes of a classification share, and what is each one's own: arrays only.

Every class map u_k is a noisy copy of the shared map plus the class's own part. The shared map is the mean
of all classes, weighted by what RELION knows about each of them, so it is as good as the consensus. The own
part is the difference from it, kept place by place and band by band as far as it stands out of the noise:

    own_k = Σ_bands w d,   w = max(0, 1 − N/E),

where E is the local power of the difference d and N the noise's mean power: the Wiener weight with the local
signal power estimated by E − N.

Maps are held as half-complex spectra (see `occupy.numerics.spectra`) of a small even grid over the same
extent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from occupy.numerics.spectra import Real, Spectrum, even_size, map_of, radii, resize, spectrum_of


@dataclass(frozen=True)
class _LoopNumbers:
    """Numbers of what is done in RELION's loop."""

    least_factor: float = 0.02
    """Shells of which RELION's prior left less than this are not scaled up further."""
    coarsest: float = 30.0
    """Å; the first band holds everything coarser: the size of a domain. Narrower bands hold too few
    independent values per window to tell signal from noise."""
    band_ratio: float = 1.5
    """Ratio of a band's resolution limits."""
    narrowest_window: float = 8.0
    """Å; least standard deviation of the Gaussian window of the local power."""
    window_ratio: float = 0.35
    """Standard deviation of the window relative to a band's finer resolution limit."""
    least_freedom: float = 16.0
    """With a budget of fewer degrees of freedom a class gets no part of its own: it has too few particles."""
    noise_quantile: float = 0.25
    """Level of the quantile from which the noise is told: the rest of the sphere may hold differences."""
    least_share: float = 0.5
    """Of an even share of the particles: the budget of a class is not smaller than this one's."""
    least_agreement: float = 0.5
    """A result that correlates less with RELION's map is not that map with less noise: something is wrong."""
    most_amplitude: float = 3.0
    """… nor is one in which RELION's map is stronger by this factor, or weaker."""
    most_weights: int = 3_000_000
    """Weights read from a file; of larger ones every second, third … row is enough for means over shells."""
    kept_iterations: int = 3
    """Earlier iterations of a class that stay on disk, for runs that are continued."""
    smallest_share: float = 0.05
    """A class with a smaller share of an even split than this is called empty."""
    least_energy: float = 2.5
    """Energy of an own part per particle, in units of the noise, below which it is not called significant: on
    simulated homogeneous particles it stayed below this, on heterogeneous ones it was above."""


LOOP = _LoopNumbers()


def on_shells(values: Real, m: int) -> npt.NDArray[np.float32]:
    """Spread values per shell over the spectrum of an m³ map; zero beyond the last shell."""
    padded = np.append(values, 0).astype(np.float32)
    return np.asarray(padded[np.minimum(np.rint(radii(m)).astype(np.intp), len(values))])


@dataclass(frozen=True)
class ClassSpectrum:
    """One class as RELION reconstructed it.

    Attributes
    ----------
    spectrum : ndarray of complex64
        Of its map, on a small grid (see the module).
    weight : ndarray, shape (shells,)
        Mean over each shell of Σ p CTF²/σ²: the inverse variance of a coefficient.
    factor : ndarray, shape (shells,)
        What RELION's prior left of the signal, in [0, 1]: mean of W / (W + 1/(T τ²)).
    """

    spectrum: npt.NDArray[np.complex64]
    weight: npt.NDArray[np.float32]
    factor: npt.NDArray[np.float32]

    def unshrunk(self, m: int) -> Spectrum:
        """Return a class's spectrum on the grid m³ with the prior's factor divided out."""
        factor = np.maximum(self.factor, LOOP.least_factor)
        return np.asarray(resize(self.spectrum, m) / _divisors_on_shells(factor, m))


@dataclass(frozen=True)
class _SharedPart:
    """What the classes share.

    Attributes
    ----------
    mean : ndarray of complex
        Spectrum of the weighted mean of the classes, free of RELION's prior.
    factor : ndarray, shape (shells,)
        The prior's factor for all particles together.
    weight : ndarray, shape (shells,)
        Sum of the classes' weights.
    """

    mean: Spectrum
    factor: npt.NDArray[np.float32]
    weight: npt.NDArray[np.float32]


def _divisors_on_shells(values: Real, m: int) -> npt.NDArray[np.float32]:
    """Spread divisors over a spectrum, 1 beyond the last shell."""
    spread = on_shells(values, m)
    spread[spread == 0] = 1
    return spread


def shared_part(classes: Sequence[ClassSpectrum], m: int) -> _SharedPart:
    """Average classes by their weights, shell by shell.

    Parameters
    ----------
    classes : sequence of ClassSpectrum
        All with the same number of shells.
    m : int
        Grid to work on.
    """
    weights = np.array([one.weight for one in classes], dtype=np.float64)
    factors = np.maximum([one.factor for one in classes], LOOP.least_factor)
    total = weights.sum(axis=0)
    safe = np.maximum(total, 1e-30)
    mean = sum(
        one.unshrunk(m) * on_shells(weight / safe, m) for one, weight in zip(classes, weights, strict=True)
    )
    prior = (weights * (1 - factors) / factors).mean(axis=0)
    factor = np.where(total > 0, total / np.maximum(total + prior, 1e-30), 0)
    return _SharedPart(np.asarray(mean), factor.astype(np.float32), total.astype(np.float32))


@dataclass(frozen=True)
class _Bands:
    """Resolution bands for a box.

    Attributes
    ----------
    edges : tuple of float
        Cut-offs in shells, rising; band i lies between edges i − 1 and i, the first begins at zero.
    windows : tuple of float
        Standard deviation of each band's window, as a fraction of the box.
    """

    edges: tuple[float, ...]
    windows: tuple[float, ...]


def choose_bands(box_length: float, finest: float) -> _Bands:
    """Choose bands for a box of ``box_length`` Å with content up to ``finest`` Å."""
    limits = [max(LOOP.coarsest, finest)]
    while limits[-1] > finest * 1.2:
        limits.append(max(finest, limits[-1] / LOOP.band_ratio))
    windows = [max(LOOP.narrowest_window, LOOP.window_ratio * limit) for limit in limits]
    return _Bands(tuple(box_length / d for d in limits), tuple(w / box_length for w in windows))


def _below(edge: float, m: int) -> npt.NDArray[np.float32]:
    """Return a soft low-pass: 1 up to half a shell below the edge, 0 from one and a half above."""
    return np.asarray(np.clip((np.float32(edge + 1.5) - radii(m)) / np.float32(1.5), 0, 1))


@dataclass(frozen=True)
class SpecificPart:
    """What is a class's own.

    Attributes
    ----------
    spectrum : ndarray of complex
        Of the part kept, on the grid of the difference.
    share : float
        Its standard deviation relative to that of the whole difference: how much was kept.
    strength : float
        By what N was multiplied, so that the budget holds.
    freedom : float
        Degrees of freedom kept: Σ w over independent values.
    energy : float
        Power of the part kept in units of the noise, summed over independent values.
    weights : tuple of float
        Mean of w over the sphere, per band.
    """

    spectrum: Spectrum
    share: float
    strength: float
    freedom: float
    energy: float
    weights: tuple[float, ...]

    @classmethod
    def of(
        cls,
        difference: Spectrum,
        noise: Real,
        bands: _Bands,
        radius: float,
        budget: float,
        strength: float = 1.0,
    ) -> SpecificPart:
        """Keep what of a difference stands out of its noise.

        Parameters
        ----------
        difference : ndarray of complex, (m, m, m // 2 + 1)
            Spectrum of class minus shared part.
        noise : ndarray, shape (shells,)
            Relative variance of its noise per shell; the scale is told from the difference itself.
        bands : _Bands
            Where to cut.
        radius : float
            Of the sphere that holds the particle, as a fraction of the box; noise is told from within.
        budget : float
            Degrees of freedom that may be kept; the noise is multiplied by what this takes.
        strength : float, default 1
            Least value of that multiplier.
        """
        m = len(difference)
        parts = [_band(difference, noise, bands, i, radius) for i in range(len(bands.edges))]
        strength = _strength_for(parts, budget, strength)
        total = np.zeros_like(difference)
        weights = []
        kept = whole = energy = 0.0
        for part in parts:
            d = part.values * part.weight(strength)
            weights.append(part.mean_weight(strength))
            inside = d[part.ball]
            power = float(np.mean(inside**2))
            kept += power
            whole += float(np.mean(part.values[part.ball] ** 2))
            energy += part.freedom * power / part.noise
            total += resize(spectrum_of(d), m)
        freedom = sum(part.freedom * w for part, w in zip(parts, weights, strict=True))
        share = (kept / whole) ** 0.5 if whole > 0 else 0.0
        return cls(total, share, strength, freedom, energy, tuple(weights))


def _strength_for(parts: Sequence[_LocalPower], budget: float, least: float) -> float:
    """Return the least multiplier of the noise with which no more than ``budget`` is kept."""

    def kept(strength: float) -> float:
        return sum(part.freedom * part.mean_weight(strength) for part in parts)

    if budget < LOOP.least_freedom:
        return float("inf")
    if kept(least) <= budget:
        return least
    low, high = least, 2 * least
    while kept(high) > budget and high < 1e6:
        low, high = high, 2 * high
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if kept(middle) > budget else (low, middle)
    return high


def _band(difference: Spectrum, noise: Real, bands: _Bands, index: int, radius: float) -> _LocalPower:
    edge = bands.edges[index]
    grid = min(len(difference), even_size(int(3 * (edge + 2)) + 2))
    response = _below(edge, grid) - (_below(bands.edges[index - 1], grid) if index else 0)
    values = map_of(resize(difference, grid) * response)
    return _local_power(values, response**2, on_shells(noise, grid), bands.windows[index], radius)


@dataclass(frozen=True)
class _LocalPower:
    """Local evidence in one band.

    Attributes
    ----------
    values : ndarray of float32, shape (m, m, m)
        The band of the difference.
    local : ndarray of float32
        Its local power.
    noise : float
        The noise's mean power.
    freedom : float
        Independent values within the sphere.
    ball : ndarray of bool
        The sphere.
    """

    values: npt.NDArray[np.float32]
    local: npt.NDArray[np.float32]
    noise: float
    freedom: float
    ball: npt.NDArray[np.bool_]

    def weight(self, strength: float) -> npt.NDArray[np.float32]:
        """Return w = max(0, 1 − strength N/E) at every voxel."""
        return np.asarray(np.maximum(0, 1 - np.float32(strength * self.noise) / self.local), dtype=np.float32)

    def mean_weight(self, strength: float) -> float:
        """Return the mean of w over the sphere."""
        return float(np.maximum(0, 1 - strength * self.noise / self.local[self.ball]).mean())


def _local_power(
    values: npt.NDArray[np.float32], response: Real, variance: Real, window: float, radius: float
) -> _LocalPower:
    """Find the local power of a band of a difference, and its noise's.

    Parameters
    ----------
    values : ndarray of float32, shape (m, m, m)
        The band.
    response : ndarray, shape (m, m, m // 2 + 1)
        Squared transfer function of the band.
    variance : ndarray, shape (m, m, m // 2 + 1)
        Relative variance of the noise in the coefficients before the band was cut out.
    window, radius : float
        Of the Gaussian window and of the sphere, as fractions of the box.
    """
    m = len(values)
    transfer = np.exp(-2 * (np.pi * window * radii(m)) ** 2).astype(np.float32)
    local = np.fft.irfftn(np.fft.rfftn(values * values) * transfer, s=values.shape, axes=(0, 1, 2))
    local = np.maximum(local, 1e-30)
    ball = _sphere(m, radius)
    freedom = _degrees_of_freedom(response * variance, transfer)
    low = float(np.quantile(local[ball], LOOP.noise_quantile))
    noise = low / _chi_square_ratio(freedom, LOOP.noise_quantile)
    independent = float(response[..., 0].sum() + 2 * response[..., 1:].sum()) * float(ball.mean())
    return _LocalPower(values, local.astype(np.float32), max(noise, 1e-30), independent, ball)


@lru_cache(maxsize=8)
def _sphere(m: int, radius: float) -> npt.NDArray[np.bool_]:
    """Return the voxels of an m³ box within ``radius`` (fraction of the box) of the centre voxel."""
    x = (np.arange(m) - m // 2) / m
    inside = x[:, None, None] ** 2 + x[None, :, None] ** 2 + x**2 <= radius**2
    inside.setflags(write=False)
    return np.asarray(inside)


def _degrees_of_freedom(variance: Real, transfer: Real) -> float:
    """Return the χ² degrees of freedom of the local power of normal noise.

    Local power is G * d² with a normalised window G; its variance is 2 N² Σ c(r)² g(r), with c the noise's
    autocorrelation (c(0) = 1) and g that of the window: ν = 1 / Σ c² g.

    Parameters
    ----------
    variance : ndarray, half-complex layout
        Of the noise's coefficients, any scale.
    transfer : ndarray, half-complex layout
        Fourier transform of the window, 1 at the origin.
    """
    m = len(variance)
    shape = (m, m, m)
    correlation = np.fft.irfftn(variance, s=shape, axes=(0, 1, 2))
    if not correlation[0, 0, 0] > 0:
        return 1.0
    window = np.fft.irfftn(transfer**2, s=shape, axes=(0, 1, 2))
    spread = float(np.sum((correlation / correlation[0, 0, 0]) ** 2 * window))
    return float(1 / max(spread, 1e-6))


def _chi_square_ratio(freedom: float, level: float) -> float:
    """Return a quantile of χ² over its mean (Wilson & Hilferty, PNAS 17, 684, 1931)."""
    part = 2 / (9 * freedom)
    root = 1 - part + NormalDist().inv_cdf(level) * part**0.5
    return float(max(root, 0.05) ** 3)
