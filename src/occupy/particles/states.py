"""Which combinations of parts exist: a mixture over presence bits, fitted by expectation-maximisation."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from occupy.particles.evidence import Evidence

Array = npt.NDArray[np.float64]
Bits = npt.NDArray[np.bool_]

LEVEL_ERROR = 0.1
"""Relative standard deviation, between parts, of the amplitude at full presence: the model's B-factors and
densities are not exact. Parts that are told apart in single images find their own: on relion_50s 0.84
to 1.03 of the full one. How much the result depends on it was not measured."""

ALL_COMBINATIONS = 8
"""Up to this many varying parts, every combination is tried; beyond, those one part away from one that is
there."""

FOLDS = 8
"""Jackknife groups for errors of correlations."""

_PIECE = 2048
_ROUNDS = 40
_CYCLES = 12


@dataclass(frozen=True, eq=False)
class Mixture:
    """States and their populations.

    Attributes
    ----------
    bits : ndarray of bool, shape (S, C)
        Which parts each state has.
    weights : ndarray of float64, shape (S,)
        Populations; their sum is 1.
    levels : ndarray of float64, shape (C,)
        Amplitude of each part where it is present.
    log_likelihood : float
        Of all images, up to a constant.
    """

    bits: Bits
    weights: Array
    levels: Array
    log_likelihood: float = -np.inf

    @property
    def occupancy(self) -> Array:
        """Share of particles that have each part."""
        return np.asarray(self.weights @ self.bits)


def log_likelihoods(evidence: Evidence, rows: slice, bits: Bits, levels: Array) -> Array:
    """Log-likelihood of images in each state, up to a constant per image: (n, S)."""
    away = bits * levels - evidence.amplitudes
    first, second = np.triu_indices(evidence.parts)
    products = away[:, first] * away[:, second] * np.where(first == second, 0.5, 1.0)
    return np.asarray(evidence.gradient[rows] @ away.T - evidence.curvature[rows] @ products.T)


def responsibilities(evidence: Evidence, rows: slice, mixture: Mixture) -> tuple[Array, Array]:
    """Posterior probability of each state, (n, S), and log-likelihood of each image, (n,)."""
    with np.errstate(divide="ignore"):
        joint = log_likelihoods(evidence, rows, mixture.bits, mixture.levels) + np.log(mixture.weights)
    top = joint.max(axis=1)
    found = np.exp(joint - top[:, None])
    total = found.sum(axis=1)
    return found / total[:, None], top + np.log(total)


def fit_weights(evidence: Evidence, mixture: Mixture, level: Array, rounds: int = _ROUNDS) -> Mixture:
    """Fit populations and levels of given states.

    Parameters
    ----------
    evidence : Evidence
        Of N images.
    mixture : Mixture
        Where to start.
    level : ndarray of float64, shape (C,)
        What levels are expected to be.
    rounds : int
        Steps of expectation-maximisation.
    """
    bits = mixture.bits.astype(np.float64)
    upper = np.triu_indices(evidence.parts)
    pairs = bits[:, upper[0]] * bits[:, upper[1]]
    for _ in range(rounds):
        weights, total = np.zeros(len(bits)), 0.0
        normal, right = np.zeros(len(upper[0])), np.zeros(evidence.parts)
        for begin in range(0, len(evidence), _PIECE):
            rows = slice(begin, begin + _PIECE)
            found, likelihood = responsibilities(evidence, rows, mixture)
            curvature = evidence.curvature[rows].astype(np.float64)
            onto = evidence.gradient[rows] + evidence.matrices(rows) @ evidence.amplitudes
            weights += found.sum(axis=0)
            normal += ((found @ pairs) * curvature).sum(axis=0)
            right += ((found @ bits) * onto).sum(axis=0)
            total += float(likelihood.sum())
        levels = _levels(normal, right, level)
        mixture = Mixture(mixture.bits, weights / weights.sum(), levels, total)
    return mixture


def _levels(normal: Array, right: Array, level: Array) -> Array:
    """Levels by least squares, with the prior that they are as expected."""
    full = np.zeros((len(level),) * 2)
    full[np.triu_indices(len(level))] = normal
    full += np.triu(full, 1).T
    precision = 1 / (LEVEL_ERROR * level) ** 2
    return np.asarray(np.linalg.solve(full + np.diag(precision), right + precision * level))


def find_states(evidence: Evidence, varying: Bits, level: Array) -> Mixture:
    """Find the states that are needed to explain the images.

    A state is added where the mixture gains by it (directional derivative of the log-likelihood; Lindsay,
    Ann. Statist. 11, 86, 1983), and left out where the log-likelihood loses less than ½ ln N (Bayesian
    information criterion).

    Parameters
    ----------
    evidence : Evidence
        Of N images.
    varying : ndarray of bool, shape (C,)
        Parts that may be absent; all others always are there.
    level : ndarray of float64, shape (C,)
        Expected amplitude of each part where it is present.
    """
    whole = np.ones((1, evidence.parts), dtype=bool)
    mixture = Mixture(whole, np.ones(1), level.copy())
    if not varying.any():
        return fit_weights(evidence, mixture, level, 2)
    mixture = _started(varying, level)
    for _ in range(_CYCLES):
        mixture = fit_weights(evidence, mixture, level)
        fresh = _gaining(evidence, mixture, varying)
        pruned = _pruned(evidence, mixture, level)
        if not len(fresh) and len(pruned.bits) == len(mixture.bits):
            break
        bits = np.concatenate([pruned.bits, fresh])
        share = 0.02 * np.ones(len(fresh))
        weights = np.concatenate([pruned.weights * (1 - min(0.5, share.sum())), share])
        mixture = Mixture(bits, weights / weights.sum(), pruned.levels)
    return _sorted(fit_weights(evidence, _pruned(evidence, mixture, level), level))


def _combinations(varying: Bits) -> Bits:
    where = np.flatnonzero(varying)
    numbers = np.arange(2 ** len(where))
    bits = np.ones((len(numbers), len(varying)), dtype=bool)
    bits[:, where] = (numbers[:, None] >> np.arange(len(where)) & 1) == 0
    return bits


def _started(varying: Bits, level: Array) -> Mixture:
    """All combinations of few varying parts, or everything and everything less one of many."""
    if varying.sum() <= ALL_COMBINATIONS:
        bits = _combinations(varying)
    else:
        less_one = ~np.eye(len(varying), dtype=bool)[varying]
        bits = np.concatenate([np.ones((1, len(varying)), dtype=bool), less_one])
    return Mixture(bits, np.full(len(bits), 1 / len(bits)), level.copy())


def _gaining(evidence: Evidence, mixture: Mixture, varying: Bits) -> Bits:
    """States one part away from present ones that would raise the likelihood, the best few of them."""
    if varying.sum() <= ALL_COMBINATIONS:
        return np.zeros((0, len(varying)), dtype=bool)
    flips = (mixture.bits[:, None, :] ^ np.eye(len(varying), dtype=bool)[None, varying]).reshape(
        -1, len(varying)
    )
    known = {each.tobytes() for each in mixture.bits}
    flips = np.array([each for each in np.unique(flips, axis=0) if each.tobytes() not in known])
    gain = np.zeros(len(flips))
    for begin in range(0, len(evidence), _PIECE):
        rows = slice(begin, begin + _PIECE)
        likelihood = responsibilities(evidence, rows, mixture)[1]
        gain += np.exp(
            np.minimum(log_likelihoods(evidence, rows, flips, mixture.levels) - likelihood[:, None], 50)
        ).sum(axis=0)
    order = np.argsort(-gain, kind="stable")[:4]
    return np.asarray(flips[order][gain[order] > 1.01 * len(evidence)])


def _pruned(evidence: Evidence, mixture: Mixture, level: Array) -> Mixture:
    """Leave out states that explain nothing the others do not."""
    keep = mixture.weights * len(evidence) > 1
    mixture = Mixture(mixture.bits[keep], mixture.weights[keep] / mixture.weights[keep].sum(), mixture.levels)
    penalty = 0.5 * float(np.log(len(evidence)))
    return _dropped(evidence, mixture, level, penalty)


def _dropped(evidence: Evidence, mixture: Mixture, level: Array, penalty: float) -> Mixture:
    """Try to leave out each state, the rarest first."""
    best = fit_weights(evidence, mixture, level, 4)
    for state in mixture.bits[np.argsort(mixture.weights, kind="stable")]:
        others = (best.bits != state).any(axis=1)
        if others.sum() < 1 or others.all():
            continue
        weights = best.weights[others] / best.weights[others].sum()
        fewer = fit_weights(evidence, replace(best, bits=best.bits[others], weights=weights), level, 6)
        if fewer.log_likelihood > best.log_likelihood - penalty:
            best = fewer
    return best


def _sorted(mixture: Mixture) -> Mixture:
    order = np.argsort(-mixture.weights, kind="stable")
    return replace(mixture, bits=mixture.bits[order], weights=mixture.weights[order])


def presence_correlations(evidence: Evidence, mixture: Mixture, level: Array) -> tuple[Array, Array]:
    """Correlation of presence between parts over the particles, and its jackknife error.

    Parameters
    ----------
    evidence : Evidence
        Of N images.
    mixture : Mixture
        From `find_states`.
    level : ndarray of float64, shape (C,)
        Expected amplitudes.

    Returns
    -------
    correlation, error : ndarray of float64, shape (C, C)
        nan for parts that all states have.
    """
    number = np.arange(len(evidence)) % FOLDS
    folds = [
        _correlation(fit_weights(evidence.of(np.flatnonzero(number != k)), mixture, level, 10))
        for k in range(FOLDS)
    ]
    return _correlation(mixture), np.sqrt((FOLDS - 1) * np.var(folds, axis=0))


def _correlation(mixture: Mixture) -> Array:
    away = mixture.bits - mixture.occupancy
    covariance = (mixture.weights[:, None] * away).T @ away
    deviation = np.sqrt(np.diag(covariance))
    deviation[deviation < 1e-6] = np.nan
    return np.asarray(covariance / np.outer(deviation, deviation))
