"""What consensus classes hold: occupancies of several runs brought together, or by single particles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from occupy.runs.agreement import Entries, Integers, Reals


@dataclass(frozen=True, eq=False)
class _CombinedOccupancies:
    """Occupancy of R regions in K consensus classes, from several runs.

    Attributes
    ----------
    values : ndarray of float64, shape (R, K)
        Mean over the runs.
    errors : ndarray of float64, shape (R, K)
        Standard error of one run's value, with what runs differ by in it: the root of `within` squared plus
        `between` squared.
    within : ndarray of float64, shape (R, K)
        Standard error that the runs state.
    between : ndarray of float64, shape (R, K)
        Standard deviation between the runs beyond that; 0 where they differ by no more than they state.
    runs : ndarray of int64, shape (K,)
        How many runs have the class.
    """

    values: Reals
    errors: Reals
    within: Reals
    between: Reals
    runs: Integers


def combine(
    values: Sequence[Reals],
    errors: Sequence[Reals],
    weights: Sequence[Reals],
    belongs: Sequence[Integers],
    count: int,
) -> _CombinedOccupancies:
    """Bring the occupancies of several runs to consensus classes, with the variance between runs.

    Runs over the same particles share most of their noise: their mean is hardly more certain than one of
    them. So the stated variance is kept as it is and not divided by the number of runs, and what runs
    differ by is added to it (DerSimonian & Laird, Control. Clin. Trials 7, 177, 1986, for the excess).

    Parameters
    ----------
    values, errors : sequence of ndarray, shape (R, classes of the run)
        One per run; errors may be NaN.
    weights : sequence of ndarray, shape (classes of the run,)
        Particles in each class, for classes of a run that are one class of the consensus.
    belongs : sequence of ndarray of int64, shape (classes of the run,)
        The consensus class of each.
    count : int
        Number of consensus classes.
    """
    regions = len(values[0])
    per_run = np.full((len(values), regions, count), np.nan)
    stated = np.full_like(per_run, np.nan)
    for i, (value, error, weight, of) in enumerate(zip(values, errors, weights, belongs, strict=True)):
        for z in range(count):
            mine = np.flatnonzero((of == z) & (weight > 0))
            if len(mine):
                share = weight[mine] / weight[mine].sum()
                per_run[i, :, z] = value[:, mine] @ share
                stated[i, :, z] = np.sqrt(error[:, mine] ** 2 @ share)
    there = np.isfinite(per_run)
    runs = there.any(axis=1).sum(axis=0)
    n = there.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(there, per_run, 0).sum(axis=0) / n
        within = np.sqrt(np.where(np.isfinite(stated), stated**2, 0).sum(axis=0) / n)
        spread = np.where(there, (per_run - mean) ** 2, 0).sum(axis=0) / (n - 1)
    between = np.sqrt(np.maximum(np.where(n > 1, spread - within**2, 0), 0))
    return _CombinedOccupancies(mean, np.sqrt(within**2 + between**2), within, between, runs)


def occupancy_by_images(
    presence: Reals, labels: Integers, count: int, of: Entries, rounds: int = 200
) -> tuple[Reals, Reals]:
    """Occupancy of every part in every class, from the probability that each particle has the part.

    Such a probability already leans to the part's occupancy in all particles; its odds are divided by that,
    and a class's own occupancy is the one that its particles make most likely (expectation maximisation).

    Parameters
    ----------
    presence : ndarray of float64, shape (N, C)
        Probability that a particle has a part.
    labels : ndarray of int64, shape (N,)
        Its class; negative where it has none.
    count : int
        Number of classes.
    of : Entries
        Which entries are of one particle; standard errors count particles.

    Returns
    -------
    values, errors : ndarray of float64, shape (C, count)
        NaN for classes without particles.
    """
    parts = presence.shape[1]
    values, errors = np.full((parts, count), np.nan), np.full((parts, count), np.nan)
    chance = np.clip(presence, 1e-6, 1 - 1e-6)
    overall = np.clip(chance.mean(axis=0), 1e-6, 1 - 1e-6)
    likely = chance / (1 - chance) * (1 - overall) / overall
    for k in range(count):
        mine = labels == k
        if not mine.any():
            continue
        ratio = likely[mine]
        share = overall.copy()
        for _ in range(rounds):
            share = np.clip((share * ratio / (share * ratio + 1 - share)).mean(axis=0), 1e-6, 1 - 1e-6)
        values[:, k] = share
        errors[:, k] = _errors(ratio, share, of.particle[mine])
    return values, errors


def _errors(ratio: Reals, share: Reals, particle: Integers) -> Reals:
    """Return standard errors of shares from the likelihood's curvature, entries of one particle added up."""
    score = (ratio - 1) / (share * ratio + 1 - share)
    information = (score**2).sum(axis=0)
    _, index = np.unique(particle, return_inverse=True)
    together = np.stack([np.bincount(index, column) for column in score.T], axis=1)
    # The sandwich: with one entry per particle it is 1 / information.
    variance = (together**2).sum(axis=0) / np.maximum(information, 1e-12) ** 2
    # Where every particle surely has a part, the likelihood is at its edge: at least what one particle tells.
    return np.asarray(np.minimum(np.sqrt(variance) + 1 / len(ratio), 0.5))


@dataclass(frozen=True, eq=False)
class Difference:
    """Where two classes differ most.

    Attributes
    ----------
    first, second : int
        Indices of the classes.
    part : int
        The part that differs most, in standard errors.
    difference, error : float
        Occupancy in the second minus that in the first, and its standard error.
    copies : bool
        Whether they differ in no part beyond errors.
    """

    first: int
    second: int
    part: int
    difference: float
    error: float
    copies: bool


def differences(
    values: Reals, errors: Reals, *, least: float = 0.05, chance: float = 0.05
) -> list[Difference]:
    """Compare every two classes part by part.

    Parameters
    ----------
    values, errors : ndarray, shape (C, K)
        Occupancy of each part in each class.
    least : float
        Smaller differences than this are not called real: occupancies have common errors of that size.
    chance : float
        Chance that two copies are told apart by any part (Bonferroni).
    """
    reach = NormalDist().inv_cdf(1 - chance / (2 * max(len(values), 1)))
    found = []
    for one, other in combinations(range(values.shape[1]), 2):
        difference = values[:, other] - values[:, one]
        error = np.hypot(errors[:, one], errors[:, other])
        if not np.isfinite(difference).any():
            continue
        strength = np.abs(difference) / np.maximum(error, 1e-6)
        beyond = (strength > reach) & (np.abs(difference) > least)
        ranked: npt.NDArray[np.float64] = np.where(np.isfinite(strength), strength + 1e3 * beyond, -1)
        part = int(ranked.argmax())
        found.append(
            Difference(one, other, part, float(difference[part]), float(error[part]), not bool(beyond.any()))
        )
    return found
