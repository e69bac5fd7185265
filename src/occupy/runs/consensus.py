"""One assignment from several runs: which classes all of them find, and how sure each particle's is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from occupy.runs.agreement import contingency, match, rand_of
from occupy.runs.partition import Integers, Partition, Reals


@dataclass(frozen=True)
class Rules:
    """What counts as reproducible.

    Attributes
    ----------
    least_distinct : float
        Two classes are told apart where runs agree, beyond chance, which of the two a particle is in: Cohen's
        kappa of at least this, over the particles that both runs have in one of them.
    settled : float
        A particle is settled where its class is at least this probable.
    """

    least_distinct: float = 0.2
    settled: float = 0.5


@dataclass(frozen=True, eq=False)
class Consensus:
    """What the runs say together.

    Attributes
    ----------
    labels : ndarray of int64, shape (N,)
        Index of each particle's class, the largest class first.
    probability : ndarray of float64, shape (N,)
        Of that class.
    belongs : tuple of ndarray of int64
        For each run, the consensus class of each of its classes.
    distinct : ndarray of float64, shape (K, K)
        How well runs tell each pair of classes apart (kappa); NaN on the diagonal.
    candidates : int
        Classes there were before those that runs do not tell apart were put together.
    """

    labels: Integers
    probability: Reals
    belongs: tuple[Integers, ...]
    distinct: Reals
    candidates: int

    @property
    def count(self) -> int:
        """Number of reproducible classes; 1 where runs agree on nothing."""
        return len(self.distinct)


def _pivot(runs: Sequence[Partition]) -> int:
    """Index of the run that agrees most with the others."""
    index = np.zeros((len(runs), len(runs)))
    for i, j in combinations(range(len(runs)), 2):
        one, other = runs[i], runs[j]
        table = contingency(one.labels, other.labels, len(one.classes), len(other.classes))
        index[i, j] = index[j, i] = rand_of(table)
    return int(index.sum(axis=1).argmax())


def _start(runs: Sequence[Partition]) -> Reals:
    """Return what the run says that agrees most with the others, and doubt, shape (N, its classes)."""
    pivot = runs[_pivot(runs)]
    start: Reals = np.full((len(pivot.labels), len(pivot.classes)), 0.2 / len(pivot.classes))
    start[np.arange(len(pivot.labels)), pivot.labels] += 0.8
    return start


def _confusion(run: Partition, posterior: Reals) -> Reals:
    """Chance of each class of a run given the consensus class, shape (K, classes of the run)."""
    count = posterior.shape[1]
    sums = np.stack(
        [np.bincount(run.labels, posterior[:, z], minlength=len(run.classes)) for z in range(count)]
    )
    sums += 0.5
    return np.asarray(sums / sums.sum(axis=1, keepdims=True))


def _evidence(run: Partition, confusion: Reals) -> Reals:
    """Log-likelihood of what a run says of each particle, per consensus class, shape (N, K)."""
    chance = confusion[:, run.labels].T
    if run.certainty is not None and len(run.classes) > 1:
        sure = np.clip(run.certainty, 1 / len(run.classes), 1.0)[:, None]
        chance = sure * chance + (1 - sure) * (1 - chance) / (len(run.classes) - 1)
    return np.log(np.maximum(chance, 1e-12))


def _posterior(runs: Sequence[Partition], start: Reals, rounds: int = 30) -> Reals:
    posterior = start
    for _ in range(rounds):
        weight = np.log(np.maximum(posterior.mean(axis=0), 1e-12))
        total = sum(_evidence(run, _confusion(run, posterior)) for run in runs)
        posterior = _softmax(weight + total)
    return posterior


def _softmax(values: Reals) -> Reals:
    e = np.exp(values - values.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def _belongs(run: Partition, posterior: Reals) -> Integers:
    """Consensus class of each class of a run: matched one to one, the rest to where most of it is."""
    mass = np.stack(
        [np.bincount(run.labels, column, minlength=len(run.classes)) for column in posterior.T], axis=1
    )
    partner = match(mass)
    return np.where(partner < 0, mass.argmax(axis=1), partner)


def distinctness(runs: Sequence[Partition], belongs: Sequence[Integers], count: int) -> Reals:
    """How well runs tell each pair of consensus classes apart, shape (K, K); NaN on the diagonal.

    Cohen's kappa over the particles that both of two runs have in one of the two classes: 1 where the runs
    always agree which, 0 where they agree no more than by chance; the mean over all pairs of runs.
    """
    labels = [of[run.labels] for run, of in zip(runs, belongs, strict=True)]
    tables = [contingency(a, b, count, count) for a, b in combinations(labels, 2)]
    found = np.full((count, count), np.nan)
    for y, z in combinations(range(count), 2):
        pair = np.array([y, z])
        found[y, z] = found[z, y] = np.mean([_kappa(table[np.ix_(pair, pair)]) for table in tables])
    return found


def _kappa(table: npt.NDArray[np.int64]) -> float:
    """Cohen's kappa of a table of two classes; 0 where either run has one of them only."""
    n = table.astype(np.float64)
    chance = (n.sum(axis=1) * n.sum(axis=0)).sum() / max(n.sum() ** 2, 1)
    observed = np.trace(n) / max(n.sum(), 1)
    return float((observed - chance) / (1 - chance)) if chance < 1 else 0.0


def consensus(runs: Sequence[Partition], rules: Rules | None = None) -> Consensus:
    """Bring runs to one assignment, with only as many classes as they tell apart."""
    rules = rules or Rules()
    posterior = _start(runs)
    candidates = posterior.shape[1]
    while True:
        posterior = _posterior(runs, posterior)
        belongs = [_belongs(run, posterior) for run in runs]
        distinct = distinctness(runs, belongs, posterior.shape[1])
        if posterior.shape[1] == 1 or np.nanmin(distinct) >= rules.least_distinct:
            break
        keep, gone = sorted(np.unravel_index(np.nanargmin(distinct), distinct.shape))
        posterior[:, keep] += posterior[:, gone]
        posterior = np.delete(posterior, gone, axis=1)
    order = np.argsort(-posterior.sum(axis=0), kind="stable")
    posterior, distinct = posterior[:, order], distinct[np.ix_(order, order)]
    rank = np.argsort(order)
    return Consensus(
        posterior.argmax(axis=1), posterior.max(axis=1), tuple(rank[b] for b in belongs), distinct, candidates
    )


def candidate_distinctness(runs: Sequence[Partition]) -> float:
    """How well runs tell those two of their classes apart that they tell apart best; 0 where there is one."""
    posterior = _posterior(runs, _start(runs))
    found = distinctness(runs, [_belongs(run, posterior) for run in runs], posterior.shape[1])
    return float(np.nanmax(found)) if len(found) > 1 else 0.0
