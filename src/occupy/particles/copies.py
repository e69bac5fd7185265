"""How many copies of a part a particle has, and whether neighbours come together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import comb, expit

from occupy.particles.covariance import Spread
from occupy.particles.evidence import Evidence
from occupy.particles.presence import alone

Array = npt.NDArray[np.float64]

_FOLDS, _ROUNDS = 8, 300
_PAIRS = np.array([0, 1, 1, 2])
"""Whether neither, one or both of a pair are there: of the four combinations, which is which."""


@dataclass(frozen=True, eq=False)
class Copies:
    """Copies of a part over the particles.

    Attributes
    ----------
    names : tuple of str, length n
        The part and its copies.
    shares, shares_error : ndarray of float64, shape (n + 1,)
        Share of the particles that have none, one, … all of them.
    together, together_error : float
        Share of pairs of neighbours of which both are there.
    ratio, ratio_error : float
        That, over what it were if neighbours did not know of each other: the square of the occupancy. Above 1
        they come together, below 1 they exclude each other.
    """

    names: tuple[str, ...]
    shares: Array
    shares_error: Array
    together: float
    together_error: float
    ratio: float
    ratio_error: float


def presence_alone(evidence: Evidence, spread: Spread, part: int, level: float) -> Array:
    """Probability of a part in each image, were it there in half of them; all others are marginalised."""
    gradient, curvature = alone(evidence, spread, part)
    mean = float(evidence.amplitudes[part])
    ahead = gradient * level + curvature * (level * mean - level**2 / 2)
    return np.asarray(expit(ahead))


def neighbours(centres_xyz: Array) -> list[tuple[int, int]]:
    """Pairs of places (n, 3) that are as near to each other as any, or nearly."""
    first, second = np.triu_indices(len(centres_xyz), 1)
    away = np.linalg.norm(centres_xyz[first] - centres_xyz[second], axis=1)
    # Copies up to 1.2 times as far apart as the nearest ones are neighbours.
    near = away <= 1.2 * away.min()
    return list(zip(first[near].tolist(), second[near].tolist(), strict=True))


def count_copies(names: Sequence[str], chance: Array, pairs: Sequence[tuple[int, int]]) -> Copies:
    """Estimate how many copies particles have, and how often both of two neighbours are there.

    Parameters
    ----------
    names : sequence of str, length n
        The part and its copies.
    chance : ndarray of float64, shape (P, n)
        Of each copy in each particle, from `presence_alone`.
    pairs : sequence of (int, int)
        Copies that are neighbours.
    """
    ahead = _counts(chance) / comb(chance.shape[1], np.arange(chance.shape[1] + 1))
    of_pairs = np.stack([_of_pair(chance[:, one], chance[:, other]) for one, other in pairs], axis=1)
    fold = np.arange(len(chance)) % _FOLDS

    def both(rows: npt.NDArray[np.bool_]) -> tuple[Array, Array]:
        shares = _fit(ahead[rows], np.arange(ahead.shape[1]))
        joint = _fit(of_pairs[rows].reshape(-1, 4), _PAIRS)
        mean = joint[3] + joint[1]
        return shares, np.array([joint[3], joint[3] / max(mean**2, 1e-9)])

    shares, pair = both(np.ones(len(chance), dtype=bool))
    folds = [both(fold != k) for k in range(_FOLDS)]
    errors, pair_errors = (
        np.sqrt((_FOLDS - 1) * np.var([each[k] for each in folds], axis=0)) for k in (0, 1)
    )
    return Copies(
        tuple(names), shares, errors, float(pair[0]), float(pair_errors[0]), float(pair[1]),
        float(pair_errors[1]),
    )  # fmt: skip


def _counts(chance: Array) -> Array:
    """Probability of 0, 1, … n copies where each is there with a chance of its own: (P, n + 1)."""
    out = np.zeros((len(chance), chance.shape[1] + 1))
    out[:, 0] = 1
    for copy in chance.T:
        out[:, 1:] = out[:, 1:] * (1 - copy[:, None]) + out[:, :-1] * copy[:, None]
        out[:, 0] *= 1 - copy
    return out


def _of_pair(one: Array, other: Array) -> Array:
    """Likelihood of neither, the first, the second and both: (P, 4)."""
    return np.stack([(1 - one) * (1 - other), one * (1 - other), (1 - one) * other, one * other], axis=1)


def _fit(likelihood: Array, kind: npt.NDArray[np.int64]) -> Array:
    """Fit shares of what may be (K,) to likelihoods (N, K); those of one kind have the same share."""
    shares = np.full(len(kind), 1 / len(kind))
    same = (kind[:, None] == kind) / np.bincount(kind)[kind]
    for _ in range(_ROUNDS):
        found = likelihood * shares
        shares = same @ (found / found.sum(axis=1, keepdims=True)).mean(axis=0)
    return shares
