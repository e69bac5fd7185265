"""Several runs compared as a whole: agreement, reproducible classes, consensus, what never settles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from occupy.runs.agreement import Agreement, agreement, class_agreement, contingency, merged_rows
from occupy.runs.consensus import Consensus, Rules, candidate_distinctness, consensus
from occupy.runs.partition import Entries, Integers, Partition, Reals, share_error


@dataclass(frozen=True, eq=False)
class Comparison:
    """What several runs of one set of particles say together.

    Attributes
    ----------
    runs : tuple of Partition
        The runs.
    entries : Entries
        Which entries are of one particle.
    agreement : Agreement
        Between the runs, and by chance.
    consensus : Consensus
        One assignment, with the classes that are reproducible.
    rules : Rules
        What counts as reproducible here.
    without : Agreement or None
        Agreement of runs on homogeneous particles, where such were given.
    """

    runs: tuple[Partition, ...]
    entries: Entries
    agreement: Agreement
    consensus: Consensus
    rules: Rules
    without: Agreement | None = None

    @property
    def settled(self) -> np.ndarray:
        """Whether each particle's class is probable enough, shape (N,)."""
        return np.asarray(self.consensus.probability >= self.rules.settled)


@dataclass(frozen=True)
class ClassSummary:
    """A class of the consensus.

    Attributes
    ----------
    number : int
        From 1, the largest first.
    entries : int
        Most probably in it.
    share, error : float
        Of all entries, with its standard error, counted in particles.
    agreement : float
        On membership between the two runs that agree best, beyond chance (Cohen's kappa).
    found_in : int
        Runs that have it: whose membership agrees with the consensus by kappa of 0.4 or more, a "moderate"
        agreement (Landis & Koch, Biometrics 33, 159, 1977).
    distinct : float
        From the class it is least told apart from; NaN where it is the only one.
    probability : float
        Mean over its entries.
    settled : int
        Entries that are settled in it.
    members : tuple of tuple of int
        For each run, the numbers of its classes that belong here.
    """

    number: int
    entries: int
    share: float
    error: float
    agreement: float
    found_in: int
    distinct: float
    probability: float
    settled: int
    members: tuple[tuple[int, ...], ...]


def compare(
    runs: Sequence[Partition],
    entries: Entries,
    *,
    rules: Rules | None = None,
    homogeneous: tuple[Sequence[Partition], Entries] | None = None,
    draws: int | None = None,
) -> Comparison:
    """Compare runs over the same entries.

    Parameters
    ----------
    runs : sequence of Partition
        Two or more.
    entries : Entries
        Which entries are of one particle.
    rules : Rules, optional
        What counts as reproducible.
    homogeneous : (sequence of Partition, Entries), optional
        Runs of the same settings on particles of one state: classes must be told apart better than those are.
    draws : int, optional
        Number of random partitions.
    """
    rules, without = rules or Rules(), None
    if homogeneous is not None:
        without = agreement(*homogeneous, draws=draws)
        rules = replace(
            rules, least_distinct=max(rules.least_distinct, candidate_distinctness(homogeneous[0]))
        )
    found = agreement(runs, entries, draws=draws)
    return Comparison(tuple(runs), entries, found, consensus(runs, rules), rules, without)


def mapped(comparison: Comparison) -> list[np.ndarray]:
    """For each run, the consensus class that each entry's class belongs to."""
    belongs = comparison.consensus.belongs
    return [of[run.labels] for run, of in zip(comparison.runs, belongs, strict=True)]


def class_summaries(comparison: Comparison) -> list[ClassSummary]:
    """One summary per class of the consensus."""
    found, count = comparison.consensus, comparison.consensus.count
    kappas, found_in = _kappas(mapped(comparison), found.labels, count)
    out = []
    for z in range(count):
        mine = found.labels == z
        others = np.delete(found.distinct[z], z)
        members = tuple(
            tuple(run.classes[k] for k in np.flatnonzero(of == z))
            for run, of in zip(comparison.runs, found.belongs, strict=True)
        )
        out.append(
            ClassSummary(
                z + 1,
                int(mine.sum()),
                float(mine.mean()),
                share_error(mine, comparison.entries),
                float(kappas[z]),
                int(found_in[z]),
                float(others.min()) if len(others) else float("nan"),
                float(found.probability[mine].mean()) if mine.any() else float("nan"),
                int((mine & comparison.settled).sum()),
                members,
            )
        )
    return out


def _kappas(labels: Sequence[np.ndarray], together: np.ndarray, count: int) -> tuple[Reals, Integers]:
    """Agreement of the best pair of runs on each consensus class, and how many runs have it, shape (K,)."""

    def kappas(a: np.ndarray, b: np.ndarray) -> Reals:
        return class_agreement(contingency(a, b, count, count), np.arange(count))

    best = np.max([kappas(a, b) for a, b in combinations(labels, 2)], axis=0)
    with_consensus = np.array([kappas(a, together) for a in labels])
    return np.asarray(best), np.asarray((with_consensus >= 0.4).sum(axis=0))


@dataclass(frozen=True)
class _Merge:
    """Classes of one run that are together in one class of another.

    Attributes
    ----------
    run, into : int
        Indices of the two runs.
    classes : tuple of int
        Numbers of the classes.
    one : int
        Number of the class that holds most of each of them.
    """

    run: int
    into: int
    classes: tuple[int, ...]
    one: int


def merges(comparison: Comparison) -> list[_Merge]:
    """Return what one run has in several classes and another in one."""
    found = []
    for pair in comparison.agreement.pairs:
        for table, a, b in ((pair.table, pair.first, pair.second), (pair.table.T, pair.second, pair.first)):
            for column, rows in merged_rows(table).items():
                classes = tuple(comparison.runs[a].classes[row] for row in rows)
                found.append(_Merge(a, b, classes, comparison.runs[b].classes[column]))
    return found
