"""Which combinations of parts exist: a mixture over presence bits, fitted by expectation-maximisation."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from occupy.particles.evidence import Evidence, symmetric

Array = npt.NDArray[np.float64]
Bits = npt.NDArray[np.bool_]

_LEVEL_ERROR = 0.1
"""Relative standard deviation, between parts, of the amplitude at full presence: the model's B-factors and
densities are not exact. Parts that are told apart in single images find their own: on relion_50s 0.84
to 1.03 of the full one. How much the result depends on it was not measured."""

_FOLDS = 8
"""Jackknife groups for errors of correlations."""

_ROUNDS, _CYCLES = 40, 12
_TRIES, _SHARE = 6, 0.02
"""Candidates that may fail before the search ends; population that a new state starts with."""


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


def _log_likelihoods(evidence: Evidence, rows: slice, bits: Bits, levels: Array) -> Array:
    """Log-likelihood of images in each state, up to a constant per image: (n, S)."""
    away = bits * levels - evidence.amplitudes
    first, second = np.triu_indices(evidence.parts)
    products = away[:, first] * away[:, second] * np.where(first == second, 0.5, 1.0)
    return np.asarray(evidence.gradient[rows] @ away.T - evidence.curvature[rows] @ products.T)


def responsibilities(evidence: Evidence, rows: slice, mixture: Mixture) -> tuple[Array, Array]:
    """Posterior probability of each state, (n, S), and log-likelihood of each image, (n,)."""
    with np.errstate(divide="ignore"):
        joint = _log_likelihoods(evidence, rows, mixture.bits, mixture.levels) + np.log(mixture.weights)
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
        for rows in evidence.pieces():
            found, likelihood = responsibilities(evidence, rows, mixture)
            weights += found.sum(axis=0)
            # Σ over images and states, states first: the products are of N × S with S × C (C + 1) / 2.
            normal += np.einsum("sk,sk->k", found.T @ evidence.curvature[rows], pairs)
            right += np.einsum("sk,sk->k", found.T @ evidence.onto[rows], bits)
            total += float(likelihood.sum())
        levels = _levels(evidence.share * normal, evidence.share * right, level)
        mixture = Mixture(mixture.bits, weights / weights.sum(), levels, total)
    return mixture


def _levels(normal: Array, right: Array, level: Array) -> Array:
    """Levels by least squares, with the prior that they are as expected."""
    full = symmetric(normal[None], len(level))[0]
    precision = 1 / (_LEVEL_ERROR * level) ** 2
    return np.asarray(np.linalg.solve(full + np.diag(precision), right + precision * level))


def find_states(evidence: Evidence, varying: Bits, level: Array, covariance: Array) -> Mixture:
    """Find the states that are needed to explain the images.

    A state is added where the mixture gains by it (directional derivative of the log-likelihood; Lindsay,
    Ann. Statist. 11, 86, 1983), and stays if the log-likelihood gains more than ½ ln N, and ln 2 per varying
    part for having been chosen among so many (extended Bayesian information criterion; Chen & Chen,
    Biometrika 95, 759, 2008).

    Parameters
    ----------
    evidence : Evidence
        Of N images.
    varying : ndarray of bool, shape (C,)
        Parts that may be absent; all others always are there.
    level : ndarray of float64, shape (C,)
        Expected amplitude of each part where it is present.
    covariance : ndarray of float64, shape (C, C)
        Of amplitudes over the particles: parts that vary together are tried together.
    """
    whole = np.ones((1, evidence.parts), dtype=bool)
    mixture = Mixture(whole, np.ones(1), level.copy())
    if not varying.any():
        return fit_weights(evidence, mixture, level, 2)
    groups = _groups(varying, covariance)
    particles = evidence.share * len(evidence)
    penalty = (0.5 * float(np.log(particles)) + float(np.log(2)) * int(varying.sum())) / evidence.share
    for _ in range(_CYCLES):
        before = {each.tobytes() for each in mixture.bits}
        candidates = np.unique(np.concatenate([mixture.bits, _candidates(mixture.bits, groups)]), axis=0)
        chosen = _Search(evidence, candidates, mixture.levels, penalty).run(mixture)
        mixture = fit_weights(evidence, chosen, level, 8)
        if {each.tobytes() for each in mixture.bits} == before:
            break
    return _sorted(fit_weights(evidence, mixture, level))


def _groups(varying: Bits, covariance: Array) -> Bits:
    """Sort parts into sets that may come together: each alone, and branches of a tree of correlations."""
    where = np.flatnonzero(varying)
    single = np.eye(len(varying), dtype=bool)[where]
    if len(where) < 2:
        return single
    from scipy.cluster.hierarchy import linkage

    block = covariance[np.ix_(where, where)]
    deviation = np.sqrt(np.maximum(np.diag(block), 1e-12))
    distance = 1 - block / np.outer(deviation, deviation)
    tree = linkage(np.maximum(distance[np.triu_indices(len(where), 1)], 0), "average")
    members: list[Bits] = list(single)
    for one, other in tree[:, :2].astype(int).tolist():
        members.append(members[one] | members[other])
    return np.stack(members)


def _candidates(bits: Bits, groups: Bits) -> Bits:
    """All combinations of few varying parts, or what is one step away from states that are there.

    A step takes a group off, puts it there, turns it round, or leaves what two states have in common.
    """
    where = np.flatnonzero(groups.any(axis=0))
    # Of more parts not every combination is a candidate, but those one step away from one that is there.
    if len(where) <= 8:
        numbers = np.arange(2 ** len(where))
        every = np.full((len(numbers), groups.shape[1]), True)
        every[:, where] = (numbers[:, None] >> np.arange(len(where)) & 1) == 0
        return every
    one, other = bits[:, None], groups[None]
    found = [one ^ other, one | other, one & ~other, one & bits[None]]
    return np.concatenate([each.reshape(-1, bits.shape[1]) for each in found])


@dataclass(frozen=True, eq=False)
class _Search:
    """Which of some candidates explain the images, at fixed levels."""

    evidence: Evidence
    bits: Bits
    levels: Array
    penalty: float

    def run(self, start: Mixture) -> Mixture:
        """Add states one by one while the likelihood gains, then leave out what it does not need."""
        ratios = self.ratios()
        known = {each.tobytes(): i for i, each in enumerate(self.bits)}
        chosen = [known[each.tobytes()] for each in start.bits]
        weights, total = _populations(ratios[:, chosen], start.weights)
        chosen, weights, total = self._fewer(ratios, chosen, weights, total)
        refused: set[int] = set()
        while len(refused) < _TRIES:
            slope = (ratios / (ratios[:, chosen] @ weights)[:, None]).mean(axis=0)
            slope[[*chosen, *refused]] = 0
            best = int(slope.argmax())
            if slope[best] <= 1:
                break
            more = np.append(weights * (1 - _SHARE), _SHARE)
            more, gained = _populations(ratios[:, [*chosen, best]], more)
            if gained < total + self.penalty:
                refused.add(best)
                continue
            chosen, weights, total = self._fewer(ratios, [*chosen, best], more, gained)
        return Mixture(self.bits[chosen], weights, self.levels)

    def ratios(self) -> Array:
        """Likelihood of each image in each candidate, over that in the best of them: (N, candidates)."""
        out = np.empty((len(self.evidence), len(self.bits)))
        for rows in self.evidence.pieces():
            value = _log_likelihoods(self.evidence, rows, self.bits, self.levels)
            # The exponential of less would be 0, and a state with it could never come back.
            out[rows] = np.exp(np.maximum(value - value.max(axis=1, keepdims=True), -600))
        return out

    def _fewer(
        self, ratios: Array, chosen: list[int], weights: Array, total: float
    ) -> tuple[list[int], Array, float]:
        """Leave out states, the rarest first, whose loss costs less than the penalty."""
        for state in [chosen[i] for i in np.argsort(weights, kind="stable")]:
            others = [each for each in chosen if each != state]
            if not others:
                break
            kept = weights[[chosen.index(each) for each in others]]
            fewer, lost = _populations(ratios[:, others], np.maximum(kept, 1e-12) / max(kept.sum(), 1e-12))
            if lost > total - self.penalty:
                chosen, weights, total = others, fewer, lost
        return chosen, weights, total


def _populations(ratios: Array, weights: Array, rounds: int = 60) -> tuple[Array, float]:
    """Fit populations of states (S,) to likelihoods (N, S); return them and the log-likelihood."""
    total = ratios @ weights
    for _ in range(rounds):
        weights = weights * (ratios / total[:, None]).mean(axis=0)
        total = ratios @ weights
    return weights / weights.sum(), float(np.log(total).sum())


def _sorted(mixture: Mixture) -> Mixture:
    order = np.argsort(-mixture.weights, kind="stable")
    return replace(mixture, bits=mixture.bits[order], weights=mixture.weights[order])


def presence_correlations(evidence: Evidence, mixture: Mixture) -> tuple[Array, Array]:
    """Correlation of presence between parts over the particles, and its jackknife error.

    Parameters
    ----------
    evidence : Evidence
        Of N images.
    mixture : Mixture
        From `find_states`.

    Returns
    -------
    correlation, error : ndarray of float64, shape (C, C)
        nan for parts that all states have.
    """
    ratios = _Search(evidence, mixture.bits, mixture.levels, 0.0).ratios()
    number = (np.arange(len(evidence)) if evidence.particle is None else evidence.particle) % _FOLDS
    folds = [
        _correlation(mixture.bits, _populations(ratios[number != k], mixture.weights)[0])
        for k in range(_FOLDS)
    ]
    error = np.sqrt((_FOLDS - 1) * np.var(folds, axis=0))
    return _correlation(mixture.bits, mixture.weights), error


def _correlation(bits: Bits, weights: Array) -> Array:
    away = bits - weights @ bits
    covariance = (weights[:, None] * away).T @ away
    deviation = np.sqrt(np.diag(covariance))
    deviation[deviation < 1e-6] = np.nan
    return np.asarray(covariance / np.outer(deviation, deviation))


def mixture_errors(evidence: Evidence, mixture: Mixture, level: Array, images: int) -> Array:
    """Covariance of the populations, as far as levels are uncertain too: (S, S).

    The inverse of the information (outer product of the scores) of populations and levels together. This is
    the variance for another sample of particles; what choosing them adds is part of it. Where entries belong
    to one particle, their scores are added first (sandwich).

    Parameters
    ----------
    evidence : Evidence
        Of some images.
    mixture : Mixture
        Populations and levels.
    level : ndarray of float64, shape (C,)
        Expected amplitude of each part where it is present.
    images : int
        How many entries there are in all.
    """
    count, parts = len(mixture.weights), evidence.parts
    if count == 1:
        return np.zeros((1, 1))
    bits = mixture.bits.astype(np.float64)
    first, second = np.triu_indices(parts)
    pairs = bits[:, first] * bits[:, second]
    # Populations sum to 1: all but the first are free.
    free = np.zeros((count + parts, count - 1 + parts))
    free[0, : count - 1] = -1
    free[1:] = np.eye(count - 1 + parts)
    scores = np.empty((len(evidence), count - 1 + parts))
    for rows in evidence.pieces():
        found = responsibilities(evidence, rows, mixture)[0]
        curved = symmetric((found @ pairs) * evidence.curvature[rows], parts) @ mixture.levels
        slopes = (found @ bits) * evidence.onto[rows] - curved
        scores[rows] = np.concatenate([found / mixture.weights - 1, slopes], axis=1) @ free
    prior = np.zeros((count - 1 + parts,) * 2)
    prior[count - 1 :, count - 1 :] = np.diag(1 / (_LEVEL_ERROR * level) ** 2)
    information, variance = (
        images / len(evidence) * each.T @ each + weight * prior
        for each, weight in (
            (scores, 1 / evidence.share),
            (evidence.per_particle(scores), 1 / evidence.share**2),
        )
    )
    inverse = np.linalg.pinv(information)
    return np.asarray((free @ inverse @ variance @ inverse @ free.T)[:count, :count])
