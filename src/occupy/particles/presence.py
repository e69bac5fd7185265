"""Whether a part is there in all particles or in some: a unimodal amplitude against present-or-absent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp

from occupy.particles.evidence import Evidence, Spread, symmetric

Array = npt.NDArray[np.float64]
Bits = npt.NDArray[np.bool_]

_SURELY = 5.0
"""Log-likelihood by which present-or-absent must win. On the benchmark most parts that vary win by
30 to 1000; parts that do not are between -21 and 15, and are told by `_LEAST_SPREAD`."""

_COMMON_ERROR = 0.02
"""Relative error of a part's amplitude by model and poses where fewer than three parts are always there
(scatter of such parts on pol2 and the homogeneous set: 0.005 to 0.009)."""

_LEAST_SPREAD = 0.05
"""Relative variance of amplitudes below which a part counts as always there: what a part that is absent in
5 % of the particles has. On the benchmark parts that are always there have 0.001 to 0.05, up to 0.12 where
they are small; these have no gain."""

_LOW = 0.9
"""Parts that cannot be told apart in single images count as varying below this occupancy, if significant."""

_ROUNDS = 60


@dataclass(frozen=True, eq=False)
class Levels:
    """Which parts vary, and what amplitude full presence has.

    Attributes
    ----------
    gain : ndarray of float64, shape (C,)
        Log-likelihood of present-or-absent over a normal distribution of amplitudes.
    relative_variance : ndarray of float64, shape (C,)
        Of each part's amplitude over the particles, images' noise taken off.
    varying : ndarray of bool, shape (C,)
        Parts that are absent in some particles.
    full : float
        Amplitude of a part that is always there.
    common_error : float
        Relative error of amplitudes that more images do not reduce.
    standard_error : ndarray of float64, shape (C,)
        Of each part's mean amplitude by the images' noise.
    present : ndarray of float64, shape (C,)
        Amplitude of each part where it is present, by itself.
    unclear : ndarray of bool, shape (C,)
        Parts whose amplitude surely varies widely, but not between absent and present.
    """

    gain: Array
    relative_variance: Array
    varying: Bits
    full: float
    common_error: float
    standard_error: Array
    present: Array
    unclear: Bits


def find_levels(evidence: Evidence, spread: Spread) -> Levels:
    """Tell parts that vary from parts that are always there, and find the latter's amplitude."""
    # Entries of one particle are no further evidence.
    gains = np.array([_gains(evidence, spread, part) for part in range(evidence.parts)])
    gain, wider = evidence.part_shares * gains.T[:2]
    information = symmetric(evidence.curvature.sum(axis=0, dtype=np.float64)[None], evidence.parts)[0]
    errors = np.sqrt(np.diag(np.linalg.inv(information)) / evidence.part_shares)
    amplitudes = evidence.amplitudes
    relative = np.diag(spread.covariance) / amplitudes**2
    clear = (gain > _SURELY) & (relative > _LEAST_SPREAD)
    # A part that is absent in a quarter of the particles has a relative variance of 0.3: it varies, if that
    # is sure, even where images are too few or too noisy to tell present-or-absent from a normal
    # distribution.
    wide = (wider > _SURELY) & (relative > 0.3)
    clear |= wide & (gain > 0)
    sizeable = ~(clear | wide) if not (clear | wide).all() else amplitudes >= _LOW * amplitudes.max()
    # A median: small parts that are often absent, and that no single image tells of, must not lower it.
    middle = _weighted_median(amplitudes[sizeable], 1 / errors[sizeable] ** 2)
    constant = sizeable & (amplitudes >= _LOW * middle)
    full, common = _common_level(amplitudes[constant], errors[constant])
    significant = full - amplitudes > 3 * np.hypot(errors, common * full)
    varying = clear | ((amplitudes < _LOW * full) & significant)
    return Levels(gain, relative, varying, full, common, errors, gains[:, 2], wide & ~varying)


def _weighted_median(values: Array, weights: Array) -> float:
    order = np.argsort(values, kind="stable")
    share = np.cumsum(weights[order]) / weights.sum()
    return float(values[order][np.searchsorted(share, 0.5)])


def _common_level(amplitudes: Array, errors: Array) -> tuple[float, float]:
    """Weighted mean of amplitudes, and their relative scatter beyond their errors (DerSimonian-Laird)."""
    weights = 1 / errors**2
    mean = float(weights @ amplitudes / weights.sum())
    if len(amplitudes) < 3:
        return mean, _COMMON_ERROR
    excess = float(weights @ (amplitudes - mean) ** 2) - (len(amplitudes) - 1)
    scatter = max(0.0, excess / float(weights.sum() - (weights**2).sum() / weights.sum()))
    weights = 1 / (errors**2 + scatter)
    mean = float(weights @ amplitudes / weights.sum())
    return mean, max(float(np.sqrt(scatter)) / mean, _COMMON_ERROR / 4)


def alone(evidence: Evidence, spread: Spread, part: int) -> tuple[Array, Array]:
    """Gradient and curvature of each image's log-likelihood in one part, all others marginalised."""
    others = spread.covariance.copy()
    others[part], others[:, part] = 0, 0
    gradient, curvature = np.empty(len(evidence)), np.empty(len(evidence))
    for rows in evidence.pieces():
        matrices = evidence.matrices(rows)
        ahead = np.eye(evidence.parts) + matrices @ others
        both = np.concatenate([matrices[:, :, part, None], evidence.gradient[rows, :, None]], axis=2)
        solved = np.linalg.solve(ahead, both)
        curvature[rows], gradient[rows] = solved[:, part, 0], solved[:, part, 1]
    return gradient, curvature


def _gains(evidence: Evidence, spread: Spread, part: int) -> tuple[float, float, float]:
    """Log-likelihood of present-or-absent over a normal distribution, of that over one amplitude; level."""
    amplitude = float(evidence.amplitudes[part])
    gradient, curvature = alone(evidence, spread, part)
    normal = _normal(gradient, curvature, amplitude)
    single = float(gradient.sum() ** 2 / (2 * curvature.sum()))
    total, _, away = _two_points(gradient, curvature, amplitude)
    return total - normal, normal - single, amplitude + away


def empty_images(evidence: Evidence) -> Bits:
    """Tell images without a particle: all parts together are absent or present, and absent in some.

    Returns
    -------
    ndarray of bool, shape (N,)
        Images that rather hold nothing; none where present-or-absent does not explain the amplitude of all
        parts together better than a normal distribution does, and than images of less contrast do.
    """
    amplitudes = evidence.amplitudes
    first, second = np.triu_indices(evidence.parts)
    products = amplitudes[first] * amplitudes[second] * np.where(first == second, 1.0, 2.0)
    gradient = evidence.gradient.astype(np.float64) @ amplitudes
    curvature = evidence.curvature.astype(np.float64) @ products
    total, chance, _ = _two_points(gradient, curvature, 1.0)
    # Few images whose poses are far off are not empty: any amplitude explains them nearly as well as 0.
    weaker = np.linspace(0.1, 0.9, 5)[:, None]
    low = logsumexp(-gradient * weaker - curvature * weaker**2 / 2, axis=0) - np.log(len(weaker))
    others = max(_normal(gradient, curvature, 1.0), _two_points(gradient, curvature, 1.0, low)[0])
    if evidence.share * (total - others) < _SURELY:
        return np.zeros(len(evidence), dtype=bool)
    return chance < 0.5


def _normal(gradient: Array, curvature: Array, amplitude: float) -> float:
    """Log-likelihood of normally distributed amplitudes with the best mean and variance."""
    mean, variance = 0.0, (0.2 * amplitude) ** 2
    for _ in range(_ROUNDS):
        left = variance / (1 + curvature * variance)
        found = mean + left * (gradient - curvature * mean)
        mean = float(found.mean())
        variance = float(((found - mean) ** 2 + left).mean())
    shifted = gradient - curvature * mean
    value = gradient * mean - curvature * mean**2 / 2
    value += shifted**2 * variance / (2 * (1 + curvature * variance)) - np.log1p(curvature * variance) / 2
    return float(value.sum())


def _two_points(
    gradient: Array, curvature: Array, amplitude: float, absent: Array | None = None
) -> tuple[float, Array, float]:
    """Fit a part that is absent (amplitude 0, or log-likelihoods given) or present in the best shares.

    Returns the log-likelihood, the probability of presence in each image, and by how much the best amplitude
    is above the mean one.
    """
    absent = -gradient * amplitude - curvature * amplitude**2 / 2 if absent is None else absent
    level, share, total, chance = 0.1 * amplitude, 0.8, -np.inf, np.ones_like(gradient)
    for _ in range(_ROUNDS):
        present = gradient * level - curvature * level**2 / 2
        top = np.maximum(absent, present)
        odds = share * np.exp(present - top), (1 - share) * np.exp(absent - top)
        total = float((top + np.log(odds[0] + odds[1])).sum())
        chance = odds[0] / (odds[0] + odds[1])
        share = float(np.clip(chance.mean(), 1e-6, 1 - 1e-6))
        level = float((chance @ gradient) / (chance @ curvature))
    return total, chance, level
