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
    unsteady : float
        Relative variance, over the particles, of the amplitude of parts that are present, as far as these
        parts are not in all states and share it: poses are found without them, and where an image's pose is
        further off than others', all of them look weaker.
    log_likelihood : float
        Of all images, up to a constant.
    """

    bits: Bits
    weights: Array
    levels: Array
    # Learning starts from a tenth; from 0 it would never come away.
    unsteady: float = 0.1
    log_likelihood: float = -np.inf

    @property
    def occupancy(self) -> Array:
        """Share of particles that have each part."""
        return np.asarray(self.weights @ self.bits)


@dataclass(frozen=True, eq=False)
class _Terms:
    """Log-likelihood of n images in S states: a normal distribution of a common factor is integrated over.

    Attributes
    ----------
    value : ndarray of float64, shape (n, S)
        Log-likelihood, up to a constant per image.
    pull, stiff : ndarray of float64, shape (n, S)
        Gradient and curvature of the log-likelihood in the factor's deviation from 1.
    """

    value: Array
    pull: Array
    stiff: Array

    @classmethod
    def of(cls, evidence: Evidence, rows: slice, mixture: Mixture) -> _Terms:
        """Look at some images."""
        bits, first_second = mixture.bits, np.triu_indices(evidence.parts)
        here = bits * mixture.levels
        away, own = here - evidence.amplitudes, here * ~bits.all(axis=0)
        halves = np.where(first_second[0] == first_second[1], 0.5, 1.0)

        def through(one: Array, other: Array) -> Array:
            first, second = first_second
            products = one[:, first] * other[:, second] + one[:, second] * other[:, first]
            return np.asarray(evidence.curvature[rows] @ (products * halves).T)

        gradient, unsteady = evidence.gradient[rows], mixture.unsteady
        pull, stiff = gradient @ own.T - through(own, away), through(own, own)
        value = gradient @ away.T - through(away, away) / 2
        value += (unsteady * pull**2 / (1 + unsteady * stiff) - np.log1p(unsteady * stiff)) / 2
        return cls(value, pull, stiff)

    def factor(self, unsteady: float) -> tuple[Array, Array]:
        """Posterior mean and mean square of the factor's deviation from 1, (n, S) each."""
        left = unsteady / (1 + unsteady * self.stiff)
        return left * self.pull, (left * self.pull) ** 2 + left


def _posterior(terms: _Terms, weights: Array) -> tuple[Array, Array]:
    """Probability of each state, (n, S), and log-likelihood of each image, (n,)."""
    with np.errstate(divide="ignore"):
        joint = terms.value + np.log(weights)
    top = joint.max(axis=1)
    found = np.exp(joint - top[:, None])
    total = found.sum(axis=1)
    return found / total[:, None], top + np.log(total)


def responsibilities(evidence: Evidence, rows: slice, mixture: Mixture) -> tuple[Array, Array]:
    """Posterior probability of each state, (n, S), and log-likelihood of each image, (n,)."""
    return _posterior(_Terms.of(evidence, rows, mixture), mixture.weights)


def _with_factor(terms: _Terms, found: Array, unsteady: float) -> Array:
    """Probabilities times the mean of the factor's powers 0, 1 and 2: (3, n, S)."""
    mean, square = terms.factor(unsteady)
    return np.stack([found, found * (1 + mean), found * (1 + 2 * mean + square)])


def _by_power(bits: Bits) -> tuple[Array, Array]:
    """Parts of states (3, S, C), and pairs of parts (3, S, K), by the power of the factor they have."""
    first, second = np.triu_indices(bits.shape[1])
    scaled = np.asarray(~bits.all(axis=0), dtype=np.int64)
    power = np.arange(3)[:, None, None]
    pairs = (bits[:, first] & bits[:, second]) * (scaled[first] + scaled[second] == power)
    return bits * (scaled == power), pairs


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
    parts, pairs = _by_power(mixture.bits)
    for _ in range(rounds):
        weights, total = np.zeros(len(mixture.bits)), 0.0
        normal, right, unsteady = np.zeros(pairs.shape[2]), np.zeros(evidence.parts), np.zeros(2)
        for rows in evidence.pieces():
            terms = _Terms.of(evidence, rows, mixture)
            found, likelihood = _posterior(terms, mixture.weights)
            powers = _with_factor(terms, found, mixture.unsteady)
            weights += found.sum(axis=0)
            # Σ over images and states, states first: the products are of N × S with S × C (C + 1) / 2.
            normal += (np.tensordot(powers, evidence.curvature[rows], (1, 0)) * pairs).sum(axis=(0, 1))
            right += (np.tensordot(powers, evidence.onto[rows], (1, 0)) * parts).sum(axis=(0, 1))
            mean, square = terms.factor(mixture.unsteady)
            unsteady += (found * mean * terms.pull).sum(), (found * square * terms.stiff).sum()
            total += float(likelihood.sum())
        levels = _levels(evidence.share * normal, evidence.share * right, level)
        # As in factor analysis, the loading is what the deviation regresses on.
        ratio = float(unsteady[0] / unsteady[1]) if unsteady[1] > 0 else 1.0
        mixture = Mixture(mixture.bits, weights / weights.sum(), levels, mixture.unsteady * ratio**2, total)
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
        chosen = _Search(evidence, replace(mixture, bits=candidates), penalty).run(mixture)
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
    """Which of the states of a mixture explain the images, at its levels."""

    evidence: Evidence
    mixture: Mixture
    penalty: float

    def run(self, start: Mixture) -> Mixture:
        """Add states one by one while the likelihood gains, then leave out what it does not need."""
        ratios = self.ratios()
        bits = self.mixture.bits
        known = {each.tobytes(): i for i, each in enumerate(bits)}
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
        return replace(start, bits=bits[chosen], weights=weights)

    def ratios(self) -> Array:
        """Likelihood of each image in each candidate, over that in the best of them: (N, candidates)."""
        out = np.empty((len(self.evidence), len(self.mixture.bits)))
        for rows in self.evidence.pieces():
            value = _Terms.of(self.evidence, rows, self.mixture).value
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
    ratios = _Search(evidence, mixture, 0.0).ratios()
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
    """Covariance of the populations, as far as levels and their steadiness are uncertain too: (S, S).

    The inverse of the information (outer product of the scores) of all of them together. This is
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
    bits, pairs = _by_power(mixture.bits)
    # Populations sum to 1: all but the first are free.
    free = np.zeros((count + parts + 1, count + parts))
    free[0, : count - 1] = -1
    free[1:] = np.eye(count + parts)
    scores = np.empty((len(evidence), count + parts))
    for rows in evidence.pieces():
        terms = _Terms.of(evidence, rows, mixture)
        found = _posterior(terms, mixture.weights)[0]
        powers = _with_factor(terms, found, mixture.unsteady)
        within = np.tensordot(powers, pairs, ((0, 2), (0, 1))) * evidence.curvature[rows]
        slopes = np.tensordot(powers, bits, ((0, 2), (0, 1))) * evidence.onto[rows]
        slopes -= symmetric(within, parts) @ mixture.levels
        left = 1 / (1 + mixture.unsteady * terms.stiff)
        steady = (found * ((left * terms.pull) ** 2 - left * terms.stiff)).sum(axis=1, keepdims=True) / 2
        scores[rows] = np.concatenate([found / mixture.weights - 1, slopes, steady], axis=1) @ free
    prior = np.zeros((count + parts,) * 2)
    prior[count - 1 : -1, count - 1 : -1] = np.diag(1 / (_LEVEL_ERROR * level) ** 2)
    information, variance = (
        images / len(evidence) * each.T @ each + weight * prior
        for each, weight in (
            (scores, 1 / evidence.share),
            (evidence.per_particle(scores), 1 / evidence.share**2),
        )
    )
    inverse = np.linalg.pinv(information)
    return np.asarray((free @ inverse @ variance @ inverse @ free.T)[:count, :count])
