"""Particles in classes; how far runs agree on these, and how far they would by chance."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Reals = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Partition:
    """The class of every particle in one run.

    Attributes
    ----------
    name : str
        Of the run.
    classes : tuple of int
        Numbers of its K classes, as the run counts them.
    labels : ndarray of int64, shape (N,), read-only
        For each entry the index of its class in `classes`.
    certainty : ndarray of float64, shape (N,), or None
        Probability of that class, as the run states it.
    overstated : float or None
        By what the logarithms of its odds are known to be too large.
    """

    name: str
    classes: tuple[int, ...]
    labels: Integers
    certainty: Reals | None = None
    overstated: float | None = None

    def __post_init__(self) -> None:
        labels = np.array(self.labels, dtype=np.int64)
        if labels.ndim != 1 or (labels.size and not 0 <= labels.min() <= labels.max() < len(self.classes)):
            raise ValueError(f"{self.name}: labels should be indices of {len(self.classes)} classes")
        labels.flags.writeable = False
        object.__setattr__(self, "labels", labels)
        if self.certainty is not None:
            certainty = np.clip(np.array(self.certainty, dtype=np.float64), 0.0, 1.0)
            if certainty.shape != labels.shape:
                raise ValueError(f"{self.name}: {len(certainty)} probabilities of {len(labels)} particles")
            certainty.flags.writeable = False
            object.__setattr__(self, "certainty", certainty)

    @property
    def sizes(self) -> Integers:
        """Number of entries in each class, shape (K,)."""
        return np.bincount(self.labels, minlength=len(self.classes))

    @classmethod
    def of(cls, name: str, numbers: npt.ArrayLike, certainty: npt.ArrayLike | None = None) -> Partition:
        """Return the partition that class numbers, one per entry, make; classes nobody is in do not exist."""
        classes, labels = np.unique(np.asarray(numbers, dtype=np.int64), return_inverse=True)
        known = None if certainty is None else np.asarray(certainty, dtype=np.float64)
        return cls(name, tuple(classes.tolist()), labels, known)


@dataclass(frozen=True, eq=False)
class Entries:
    """Which entries of a file are views of one particle, as after symmetry expansion.

    Attributes
    ----------
    particle : ndarray of int64, shape (N,)
        Index of the particle of each entry, from 0.
    count : int
        Number of particles.
    """

    particle: Integers
    count: int

    @property
    def expanded(self) -> bool:
        """Whether any particle has more than one entry."""
        return self.count < len(self.particle)

    @classmethod
    def of(cls, keys: Sequence[Any] | npt.NDArray[Any]) -> Entries:
        """Return which entries have the same key: those of one particle."""
        names, particle = np.unique(np.asarray(keys), return_inverse=True)
        return cls(particle.astype(np.int64), len(names))


def share_error(member: npt.NDArray[Any], of: Entries) -> float:
    """Return the standard error of the mean of a value per entry, counted in particles.

    Entries of one particle share its image, so they are no further evidence: the error is that of the sum of
    each particle's deviations from the mean (the linearised variance of a ratio; Cochran, Sampling
    Techniques, 1977, section 9A).

    Parameters
    ----------
    member : ndarray, shape (N,)
        The value, for example 1 where an entry is in a class.
    of : Entries
        Which entries are of which particle.
    """
    values = np.asarray(member, dtype=np.float64)
    if of.count < 2:
        return float("nan")
    sums = np.bincount(of.particle, values - values.mean(), minlength=of.count)
    return float(np.sqrt((sums**2).sum() * of.count / (of.count - 1)) / len(values))


def contingency(a: Integers, b: Integers, rows: int, columns: int) -> Integers:
    """Count entries in class i of one run and class j of the other, shape (rows, columns)."""
    return np.bincount(a * columns + b, minlength=rows * columns).reshape(rows, columns)


def rand_of(table: npt.NDArray[Any]) -> float:
    """Return the adjusted Rand index of a table of counts: 1 for the same partition, 0 expected by chance.

    Hubert & Arabie, J. Classif. 2, 193 (1985).
    """
    counts = np.asarray(table, dtype=np.float64)

    def pairs(n: Reals) -> float:
        return float((n * (n - 1) / 2).sum())

    together, rows, columns = pairs(counts), pairs(counts.sum(axis=1)), pairs(counts.sum(axis=0))
    chance = rows * columns / max(pairs(counts.sum(keepdims=True)), 1.0)
    most = (rows + columns) / 2
    return 1.0 if most == chance else (together - chance) / (most - chance)


def adjusted_rand(a: Sequence[Hashable], b: Sequence[Hashable]) -> float:
    """Return the adjusted Rand index of two partitions, given by the class of each particle."""
    if len(a) != len(b):
        raise ValueError(f"{len(a)} particles in one partition, {len(b)} in the other")
    if not len(a):
        return 1.0
    one, other = (np.unique(np.asarray(list(each)), return_inverse=True)[1] for each in (a, b))
    return rand_of(contingency(one, other, one.max() + 1, other.max() + 1))


def match(table: npt.NDArray[Any]) -> Integers:
    """For each row the column it is matched with, -1 where there are fewer columns.

    Of all ways to give each row a column of its own, the one with the most entries in common (the assignment
    problem). Rows left over are splits: their entries are in columns that belong to other rows.
    """
    from scipy.optimize import linear_sum_assignment

    found = np.full(len(table), -1, dtype=np.int64)
    rows, columns = linear_sum_assignment(-np.asarray(table, dtype=np.float64))
    found[rows] = columns
    return found


def class_agreement(table: npt.NDArray[Any], partner: Integers) -> Reals:
    """Agreement on membership of each row's class with its partner's, beyond chance, shape (rows,).

    Cohen's kappa (Educ. Psychol. Meas. 20, 37, 1960): 1 where both classes hold the same entries, 0 where
    they have no more in common than classes of their sizes have by chance. 0 for rows without a partner.
    """
    counts = np.asarray(table, dtype=np.float64)
    total, rows, columns = counts.sum(), counts.sum(axis=1), counts.sum(axis=0)
    common = counts[np.arange(len(counts)), partner]
    chance = rows * columns[partner] / max(total, 1)
    most = (rows + columns[partner]) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        # kappa = (observed - expected) / (1 - expected), with the four cells written out.
        kappa = (common - chance) / (most - chance)
    return np.where((partner < 0) | (most <= chance), 0.0, kappa)


@dataclass(frozen=True, eq=False)
class _PairAgreement:
    """Two runs compared.

    Attributes
    ----------
    first, second : int
        Indices of the runs.
    table : ndarray of int64, shape (K, L)
        Entries in class i of the first run and class j of the second.
    partner : ndarray of int64, shape (K,)
        Class of the second run that each of the first is matched with, or -1.
    index : float
        Adjusted Rand index.
    by_chance : (float, float)
        Mean and 95th percentile of that index for random partitions of the same sizes.
    p_value : float
        How often a random partition agrees as much.
    classes, class_p_values : ndarray of float64, shape (K,)
        Kappa of each class of the first run with its partner, and its p-value.
    """

    first: int
    second: int
    table: Integers
    partner: Integers
    index: float
    by_chance: tuple[float, float]
    p_value: float
    classes: Reals
    class_p_values: Reals


@dataclass(frozen=True, eq=False)
class Agreement:
    """Several runs compared.

    Attributes
    ----------
    pairs : tuple of PairAgreement
        Every run with every later one.
    index, p_value : float
        Mean adjusted Rand index of all pairs, and how often random partitions reach it.
    draws : int
        Number of random partitions; no p-value is below ``1 / (draws + 1)``.
    """

    pairs: tuple[_PairAgreement, ...]
    index: float
    p_value: float
    draws: int

    @classmethod
    def of(
        cls, runs: Sequence[Partition], of: Entries, *, draws: int | None = None, seed: int = 0
    ) -> Agreement:
        """Compare every run with every other, and with random partitions of the same sizes.

        Parameters
        ----------
        runs : sequence of Partition
            Two or more, of the same N entries.
        of : Entries
            Which entries are of one particle; these stay together in random partitions.
        draws : int, optional
            Number of random partitions; by default as many as take no more than some ten seconds.
        seed : int
            Of the random partitions.
        """
        if len(runs) < 2 or len({len(run.labels) for run in runs}) != 1:
            raise ValueError("agreement needs two runs or more, of the same particles")
        count = draws or _draws_for(len(of.particle), len(runs))
        pairs = list(combinations(range(len(runs)), 2))
        observed = [_table(runs, pair) for pair in pairs]
        partners = [match(table) for table in observed]
        index = [rand_of(table) for table in observed]
        random_index = np.empty((count, len(pairs)))
        random_classes: list[list[Reals]] = [[] for _ in pairs]
        orders = _shuffles(of, np.random.default_rng(seed))
        for draw in range(count):
            shuffled = [run.labels if i == 0 else run.labels[next(orders)] for i, run in enumerate(runs)]
            for n, (i, j) in enumerate(pairs):
                table = contingency(shuffled[i], shuffled[j], len(runs[i].classes), len(runs[j].classes))
                random_index[draw, n] = rand_of(table)
                # Matched anew each time: the best of many matches is above zero by chance too.
                random_classes[n].append(class_agreement(table, match(table)))
        found = tuple(
            _pair(pair, observed[n], partners[n], index[n], random_index[:, n], np.array(random_classes[n]))
            for n, pair in enumerate(pairs)
        )
        mean = float(np.mean(index))
        return cls(found, mean, _p_value(mean, random_index.mean(axis=1)), count)


def _p_value(observed: float, null: npt.ArrayLike) -> float:
    """Share of random values, with the observed one among them, that are at least as large.

    Under the null every rank is equally likely, so that the chance of a value of at most p is p (Phipson &
    Smyth, Stat. Appl. Genet. Mol. Biol. 9, 39, 2010).
    """
    values = np.asarray(null, dtype=np.float64)
    # A margin for sums in another order, which differ in their last digits.
    return float((1 + np.count_nonzero(values >= observed - 1e-12)) / (1 + len(values)))


def _shuffles(of: Entries, rng: np.random.Generator) -> Iterator[Integers]:
    """Yield random orders of entries in which those of one particle stay together, without end.

    Particles trade places with others that have as many entries.
    """
    order = np.argsort(of.particle, kind="stable")
    sizes = np.bincount(of.particle, minlength=of.count)
    begins = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    blocks = [order[begins[sizes == size][:, None] + np.arange(size)] for size in np.unique(sizes[sizes > 0])]
    while True:
        shuffled = np.empty(len(of.particle), dtype=np.int64)
        for block in blocks:
            shuffled[block] = block[rng.permutation(len(block))]
        yield shuffled


def _draws_for(entries: int, runs: int) -> int:
    """Return how many random partitions are worth their time: 999, fewer for millions of particles."""
    return int(np.clip(3e8 / (entries * max(runs * (runs - 1) // 2, 1)), 199, 999))


def _table(runs: Sequence[Partition], pair: tuple[int, int]) -> Integers:
    one, other = runs[pair[0]], runs[pair[1]]
    return contingency(one.labels, other.labels, len(one.classes), len(other.classes))


def _pair(
    pair: tuple[int, int], table: Integers, partner: Integers, index: float, null: Reals, null_classes: Reals
) -> _PairAgreement:
    classes = class_agreement(table, partner)
    chances = [_p_value(value, null_classes[:, k]) for k, value in enumerate(classes.tolist())]
    by_chance = float(null.mean()), float(np.quantile(null, 0.95))
    return _PairAgreement(
        *pair, table, partner, index, by_chance, _p_value(index, null), classes, np.array(chances)
    )


def merged_rows(table: npt.NDArray[Any]) -> dict[int, tuple[int, ...]]:
    """Return columns into which two or more rows go with most of their entries: column → rows.

    Seen from the columns it is a split. Classes of more than half of all entries take most of anything: a
    row counts only where the column has more of it than by chance.
    """
    counts = np.asarray(table, dtype=np.float64)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    expected = counts.sum(axis=0) / max(counts.sum(), 1)
    goes = (share > 0.5) & (share > expected + 0.5 * (1 - expected) * (expected > 0.5))
    return {
        int(column): tuple(np.flatnonzero(goes[:, column]).tolist())
        for column in np.flatnonzero(goes.sum(axis=0) > 1)
    }
