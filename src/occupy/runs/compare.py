"""Several runs compared as a whole: agreement, reproducible classes, consensus, what never settles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import numpy.typing as npt

from occupy.runs.agreement import (
    Agreement,
    Entries,
    Integers,
    Partition,
    Reals,
    class_agreement,
    contingency,
    match,
    merged_rows,
    rand_of,
    share_error,
)

_DOUBT = 1e-4  # No run is surer than this of a particle: a probability of 1 would outvote all others.


@dataclass(frozen=True)
class Rules:
    """What counts as reproducible.

    Attributes
    ----------
    least_distinct : float
        Two classes are told apart where two runs agree, beyond chance, which of the two a particle is in:
        Cohen's kappa of at least this, over the particles that both runs have in one of them.
    settled : float
        A particle is settled where its class is at least this probable.
    overstated : float
        Temperature of what runs state alike, which no agreement shows, where a run's files do not tell it.
        Measured on runs of RELION (`docs/explanation/runs.md`).
    """

    least_distinct: float = 0.2
    settled: float = 0.5
    overstated: float = 1.75


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
        Most classes that any run has.
    too_sure : tuple of float
        For each run the temperature of its stated probabilities: 1 where they are taken as they are.
    """

    labels: Integers
    probability: Reals
    belongs: tuple[Integers, ...]
    distinct: Reals
    candidates: int
    too_sure: tuple[float, ...] = ()

    @property
    def count(self) -> int:
        """Number of reproducible classes; 1 where runs agree on nothing."""
        return len(self.distinct)

    @classmethod
    def of(cls, runs: Sequence[Partition], rules: Rules | None = None) -> Consensus:
        """Bring runs to one assignment, with only as many classes as they tell apart."""
        rules = rules or Rules()
        posterior = _start(runs)
        while True:
            posterior = _posterior(runs, posterior)
            belongs = [_belongs(run, posterior) for run in runs]
            distinct = _distinctness(runs, belongs, posterior.shape[1])
            alike = distinct < rules.least_distinct  # never on the diagonal, which is NaN
            if not alike.any():
                break
            # Of the pairs that runs do not tell apart, the one whose classes they take for each other most.
            similar = np.where(alike, _similarity(runs, posterior), -1)
            keep, gone = sorted(np.unravel_index(similar.argmax(), similar.shape))
            posterior[:, keep] += posterior[:, gone]
            posterior = np.delete(posterior, gone, axis=1)
        candidates = max(len(run.classes) for run in runs)
        alike_off = np.array([run.overstated or rules.overstated for run in runs])
        chance, too_sure = _pooled(runs, posterior, belongs, alike_off)
        order = np.argsort(-np.bincount(chance.argmax(axis=1), minlength=len(distinct)), kind="stable")
        chance, distinct = chance[:, order], distinct[np.ix_(order, order)]
        rank = np.argsort(order)
        return cls(
            chance.argmax(axis=1),
            chance.max(axis=1),
            tuple(rank[of] for of in belongs),
            distinct,
            candidates,
            tuple(too_sure.tolist()),
        )


def _start(runs: Sequence[Partition]) -> Reals:
    """Return what the two runs say that agree best, and doubt, shape (N, candidates).

    Candidates are the groups of particles that both have together: where one run has in one class what the
    other has in two, each of the two may be a class. Groups of less than 2 % of the particles are no
    candidates: their particles may be in any.
    """
    tables = {
        (i, j): contingency(runs[i].labels, runs[j].labels, len(runs[i].classes), len(runs[j].classes))
        for i, j in combinations(range(len(runs)), 2)
    }
    (one, other), table = max(tables.items(), key=lambda each: rand_of(each[1]))
    sizes = table.ravel()
    kept = np.flatnonzero(sizes >= max(0.02 * sizes.sum(), 1))
    candidate = np.full(len(sizes), -1)
    candidate[kept] = np.arange(len(kept))
    mine = candidate[runs[one].labels * table.shape[1] + runs[other].labels]
    start: Reals = np.full((len(mine), len(kept)), 0.2 / len(kept))
    start[np.flatnonzero(mine >= 0), mine[mine >= 0]] += 0.8
    return np.asarray(start / start.sum(axis=1, keepdims=True))


def _confusion(run: Partition, posterior: Reals) -> Reals:
    """Chance of each class of a run given the consensus class, shape (K, classes of the run)."""
    count = posterior.shape[1]
    sums = 0.5 + np.stack(
        [np.bincount(run.labels, posterior[:, z], minlength=len(run.classes)) for z in range(count)]
    )
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


def _similarity(runs: Sequence[Partition], posterior: Reals) -> Reals:
    """Return how alike runs treat the particles of every two classes (Bhattacharyya), shape (K, K)."""
    roots = [np.sqrt(_confusion(run, posterior)) for run in runs]
    return np.asarray(np.mean([root @ root.T for root in roots], axis=0))


def _belongs(run: Partition, posterior: Reals) -> Integers:
    """Consensus class of each class of a run: matched one to one, the rest to where most of it is."""
    mass = np.stack(
        [np.bincount(run.labels, column, minlength=len(run.classes)) for column in posterior.T], axis=1
    )
    partner = match(mass)
    return np.where(partner < 0, mass.argmax(axis=1), partner)


def _distinctness(runs: Sequence[Partition], belongs: Sequence[Integers], count: int) -> Reals:
    """How well runs tell each pair of consensus classes apart, shape (K, K); NaN on the diagonal.

    Cohen's kappa over the particles that both of two runs have in one of the two classes: 1 where the runs
    always agree which, 0 where they agree no more than by chance. Of all pairs of runs the one that agrees
    best: what two runs find is there, also where a third one failed.
    """
    labels = [of[run.labels] for run, of in zip(runs, belongs, strict=True)]
    tables = [contingency(a, b, count, count) for a, b in combinations(labels, 2)]
    found = np.full((count, count), np.nan)
    for y, z in combinations(range(count), 2):
        pair = np.array([y, z])
        among = [table[np.ix_(pair, pair)] for table in tables]
        found[y, z] = found[z, y] = max(class_agreement(each, np.arange(2))[0] for each in among)
    return found


def _pooled(
    runs: Sequence[Partition], posterior: Reals, belongs: Sequence[Integers], overstated: Reals
) -> tuple[Reals, Reals]:
    """Return the probability of each consensus class for each particle, from what runs state and agree on.

    Runs see the same images, so that what an image leaves open is in what each of them states, and is not
    less for being said several times: the logarithms of stated probabilities are averaged, not added. What
    runs disagree in comes from the noise of each one's maps. It makes each state more than it knows; by how
    much is the temperature t at which its probabilities predict the labels of another run best, of the one
    it agrees with best. With the log-odds of a run off by noise of variance v, t² = 1 + cv (the usual
    approximation of a logistic function averaged over a normal distribution: Spiegelhalter & Lauritzen,
    Networks 20, 579, 1990). In the mean, runs have weights w proportional to 1/t² (a run that failed hardly
    counts), and it is off by the sum of w²v. What runs are off by alike can't be seen in this way: the mean
    square of `overstated`, one for each run, stands for it in place of the 1.

    A run that has two classes in one says nothing of which of the two a particle is in: the mean of a pair's
    log-odds is over the runs that tell them apart. The pairs of K classes give K scores by least squares.

    Returns
    -------
    chance : ndarray of float64, shape (N, K)
        The probabilities.
    too_sure : ndarray of float64, shape (runs,)
        The temperature of each run: 1 where its stated probabilities are taken as they are.
    """
    count = posterior.shape[1]
    if count == 1:
        return np.ones((len(posterior), 1)), np.ones(len(runs))
    held = [_classes_for(run, of, posterior) for run, of in zip(runs, belongs, strict=True)]
    stated = [np.log(_stated(run, where)) for run, where in zip(runs, held, strict=True)]
    labels = [of[run.labels] for run, of in zip(runs, belongs, strict=True)]
    others = [labels[:i] + labels[i + 1 :] for i in range(len(labels))]
    too_sure = np.array(
        [min(_temperature(mine, other) for other in each) for mine, each in zip(stated, others, strict=True)]
    )
    score = np.zeros((len(posterior), count))
    for y, z in combinations(range(count), 2):
        tells = [not np.array_equal(where[:, y], where[:, z]) for where in held]
        weights = too_sure**-2.0 * tells
        weights /= max(weights.sum(), 1e-12)
        together = np.sqrt((weights * overstated**2 + weights**2 * (too_sure**2 - 1)).sum() or 1)
        odds = sum(w * (each[:, y] - each[:, z]) for w, each in zip(weights, stated, strict=True)) / together
        score[:, y] += odds / count
        score[:, z] -= odds / count
    return _softmax(score), too_sure


def _classes_for(run: Partition, belongs: Integers, posterior: Reals) -> npt.NDArray[np.bool_]:
    """Return which of a run's classes hold each consensus class, shape (classes of the run, K).

    A consensus class that a run has no class for is in the one that holds most of it.
    """
    held = np.arange(posterior.shape[1]) == belongs[:, None]
    empty = ~held.any(axis=0)
    held[_confusion(run, posterior).argmax(axis=1)[empty], np.flatnonzero(empty)] = True
    return np.asarray(held)


def _stated(run: Partition, held: npt.NDArray[np.bool_]) -> Reals:
    """Return the probability of each consensus class as a run states it, shape (N, K).

    What is left of a particle's probability is spread evenly over the run's other classes: no more is known
    of them.
    """
    classes = len(run.classes)
    sure = np.ones(len(run.labels)) if run.certainty is None else run.certainty
    sure = np.clip(sure, 1 / classes, 1 - _DOUBT)
    own = np.tile(((1 - sure) / max(classes - 1, 1))[:, None], (1, classes))
    own[np.arange(len(sure)), run.labels] = sure
    found = np.maximum(own @ held, _DOUBT / classes)
    return np.asarray(found / found.sum(axis=1, keepdims=True))


def _temperature(stated: Reals, labels: Integers) -> float:
    """Return by what logarithms of stated probabilities are divided to predict another run's labels best."""
    from scipy.optimize import minimize_scalar

    rows = np.arange(len(stated))

    def loss(log_temperature: float) -> float:
        chance = _softmax(stated / np.exp(log_temperature))
        return -float(np.log(chance[rows, labels] + 1e-12).mean())

    # Never below 1: that runs agree does not tell that an image is clearer than each of them says.
    return float(np.exp(minimize_scalar(loss, bounds=(0.0, 4.0), method="bounded").x))


def _candidate_distinctness(runs: Sequence[Partition]) -> float:
    """How well runs tell those two of their classes apart that they tell apart best; 0 where there is one."""
    posterior = _posterior(runs, _start(runs))
    found = _distinctness(runs, [_belongs(run, posterior) for run in runs], posterior.shape[1])
    return float(np.nanmax(found)) if len(found) > 1 else 0.0


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

    def class_summaries(self) -> list[ClassSummary]:
        """One summary per class of the consensus."""
        found, count = self.consensus, self.consensus.count
        kappas, found_in = _kappas(_mapped(self), found.labels, count)
        out = []
        for z in range(count):
            mine = found.labels == z
            others = np.delete(found.distinct[z], z)
            members = tuple(
                tuple(run.classes[k] for k in np.flatnonzero(of == z))
                for run, of in zip(self.runs, found.belongs, strict=True)
            )
            out.append(
                ClassSummary(
                    z + 1,
                    int(mine.sum()),
                    float(mine.mean()),
                    share_error(mine, self.entries),
                    float(kappas[z]),
                    int(found_in[z]),
                    float(others.min()) if len(others) else float("nan"),
                    float(found.probability[mine].mean()) if mine.any() else float("nan"),
                    int((mine & self.settled).sum()),
                    members,
                )
            )
        return out

    def merges(self) -> list[_Merge]:
        """Return what one run has in several classes and another in one."""
        found = []
        for pair in self.agreement.pairs:
            for table, a, b in (
                (pair.table, pair.first, pair.second),
                (pair.table.T, pair.second, pair.first),
            ):
                for column, rows in merged_rows(table).items():
                    classes = tuple(self.runs[a].classes[row] for row in rows)
                    found.append(_Merge(a, b, classes, self.runs[b].classes[column]))
        return found


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
        without = Agreement.of(*homogeneous, draws=draws)
        rules = replace(
            rules, least_distinct=max(rules.least_distinct, _candidate_distinctness(homogeneous[0]))
        )
    found = Agreement.of(runs, entries, draws=draws)
    return Comparison(tuple(runs), entries, found, Consensus.of(runs, rules), rules, without)


def _mapped(comparison: Comparison) -> list[np.ndarray]:
    """For each run, the consensus class that each entry's class belongs to."""
    belongs = comparison.consensus.belongs
    return [of[run.labels] for run, of in zip(comparison.runs, belongs, strict=True)]


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
