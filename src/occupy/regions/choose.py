"""What a table of regions tells: which classes have one, how sure that is, and which regions go together."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from occupy.errors import InputError
from occupy.regions.table import OccupancyTable
from occupy.requests import ClassSelection

Flags = npt.NDArray[np.bool_]


class Verdict(NamedTuple):
    """What a condition says of each of M maps; each of shape (M,).

    ``chosen`` is by the value alone; ``surely`` and ``surely_not`` by the 95 % interval, so that a map may
    be neither.
    """

    chosen: Flags
    surely: Flags
    surely_not: Flags

    @property
    def undecided(self) -> Flags:
        """Maps whose 95 % interval holds the threshold, or whose error is not known."""
        return ~(self.surely | self.surely_not)


@dataclass(frozen=True)
class _Limit:
    """A region is present to at least, or at most, so much.

    Attributes
    ----------
    region : str
        Name of a region of the table.
    threshold : float
        Occupancy.
    present : bool
        Whether the region has to be at or above the threshold, or at or below it.
    """

    region: str
    threshold: float
    present: bool = True

    def __str__(self) -> str:
        name = self.region if re.fullmatch(r"[^\s()<>=\"']+", self.region) else f'"{self.region}"'
        return f"{name} {'>=' if self.present else '<='} {self.threshold:g}"

    def limits(self) -> Iterator[_Limit]:
        """Yield the limits it is made of: itself."""
        yield self

    def verdict(self, table: OccupancyTable) -> Verdict:
        """Tell which maps fulfil it; InputError where the table has no such region."""
        if self.region not in table.regions:
            raise InputError(_unknown(self.region, table.regions))
        row = table.regions.index(self.region)
        sign = 1.0 if self.present else -1.0
        # NaN compares as false: a value that is not known is neither chosen nor sure.
        above = sign * (table.values[row] - self.threshold)
        margin = table.reach_95 * table.errors[row]
        return Verdict(above >= 0, above > margin, -above > margin)


@dataclass(frozen=True)
class _Joined:
    """Several conditions, all (``and``) or any (``or``) of which have to hold."""

    parts: tuple[Condition, ...]
    every: bool

    def __str__(self) -> str:
        word = " and " if self.every else " or "
        return word.join(f"({part})" if isinstance(part, _Joined) else str(part) for part in self.parts)

    def limits(self) -> Iterator[_Limit]:
        """Yield the limits it is made of."""
        for part in self.parts:
            yield from part.limits()

    def verdict(self, table: OccupancyTable) -> Verdict:
        """Tell which maps fulfil it; one part that surely fails settles an ``and`` (and so on)."""
        chosen, surely, surely_not = zip(*(part.verdict(table) for part in self.parts), strict=True)
        both, either = np.logical_and.reduce, np.logical_or.reduce
        if self.every:
            return Verdict(both(chosen), both(surely), either(surely_not))
        return Verdict(either(chosen), either(surely), both(surely_not))


Condition = _Limit | _Joined


def _unknown(region: str, regions: Sequence[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(region, regions, 3, 0.5)
    hint = f"did you mean {', '.join(close)}?" if close else f"it has {', '.join(regions[:6])} …"
    return f"the table has no region {region!r}; {hint}"


def _joined(parts: Sequence[Condition], every: bool) -> Condition:
    """Join conditions with ``and`` or ``or``; one alone stays as it is."""
    return parts[0] if len(parts) == 1 else _Joined(tuple(parts), every)


_TOKEN = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)'|(>=|<=|[<>()])|([^\s()<>="']+))""")


class _Words:
    """The words of an expression, taken one by one."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.words: list[tuple[str, bool]] = []  # text, and whether it was quoted
        at = 0
        while text[at:].strip():
            match = _TOKEN.match(text, at)
            if match is None:
                raise self.wrong(f"cannot read {text[at:].strip()[:20]!r}")
            quoted = match[1] is not None or match[2] is not None
            self.words.append((next(part for part in match.groups() if part is not None), quoted))
            at = match.end()

    def wrong(self, what: str) -> InputError:
        return InputError(
            f"condition {self.text!r}: {what}; write for example 'L17 >= 0.7 and (CP <= 0.3 or ST <= 0.3)'"
        )

    def take(self, *expected: str) -> str | None:
        """Take the next word if it is one of these, in lower case; None otherwise."""
        if self.words and not self.words[0][1] and self.words[0][0].lower() in expected:
            return self.words.pop(0)[0].lower()
        return None

    def any(self, what: str) -> str:
        if not self.words:
            raise self.wrong(f"{what} is missing at the end")
        return self.words.pop(0)[0]


def _parse_condition(text: str) -> Condition:
    """Read a condition such as ``L17 >= 0.7 and (CP <= 0.3 or "ruvB ring" > 0.5)``.

    ``and`` binds more tightly than ``or``; names with spaces or brackets stand in quotes; ``>`` and ``>=``
    mean the same, since occupancies are measured; ``ge`` and ``le`` are for where a shell would take the
    signs for its own.

    Raises
    ------
    InputError
        Where it can't be read.
    """
    words = _Words(text)
    found = _any_of(words)
    if words.words:
        raise words.wrong(f"what is {words.words[0][0]!r}?")
    return found


def _any_of(words: _Words) -> Condition:
    parts = [_all_of(words)]
    while words.take("or"):
        parts.append(_all_of(words))
    return _joined(parts, every=False)


def _all_of(words: _Words) -> Condition:
    parts = [_one(words)]
    while words.take("and"):
        parts.append(_one(words))
    return _joined(parts, every=True)


def _one(words: _Words) -> Condition:
    if words.take("("):
        found = _any_of(words)
        if not words.take(")"):
            raise words.wrong("a bracket is not closed")
        return found
    region = words.any("a region")
    sign = words.take(">=", "<=", ">", "<", "ge", "le")
    if sign is None:
        raise words.wrong(f"after {region!r} there should be >= or <=")
    return _Limit(region, _threshold_of(words.any("a number")), sign in (">=", ">", "ge"))


def _threshold_of(text: str | float) -> float:
    """Return an occupancy as a threshold; InputError where it is not between 0 and 1."""
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not 0 <= value <= 1:
        raise InputError(f"an occupancy between 0 and 1 is wanted as threshold, not {text!r}")
    return value


def condition_of(wish: ClassSelection) -> Condition:
    """Return what is wished for as one condition; InputError where it is none, or two at a time."""
    simple = bool(wish.region) or wish.any or wish.present is not None or wish.absent is not None
    if wish.where is not None:
        if simple:
            raise InputError("give either --where, or --region with --present or --absent")
        return _parse_condition(wish.where)
    if not wish.region:
        raise InputError("which region? give --region NAME with --present or --absent, or --where")
    if (wish.present is None) == (wish.absent is None):
        raise InputError(
            "give either --present or --absent with --region; for mixtures --where 'L17 >= 0.7 and CP <= 0.3'"
        )
    present = wish.present is not None
    threshold = _threshold_of(wish.present if wish.present is not None else wish.absent or 0.0)
    return _joined([_Limit(region, threshold, present) for region in wish.region], every=not wish.any)


class _Expected(NamedTuple):
    """Mean occupancies of a selection; each of shape (R,). Errors are NaN where not known."""

    selected: npt.NDArray[np.float64]
    selected_error: npt.NDArray[np.float64]
    rest: npt.NDArray[np.float64]


def expected_composition(table: OccupancyTable, chosen: Flags, counts: Mapping[str, float]) -> _Expected:
    """Return what regions should read in the particles of the chosen maps, and in the others.

    Parameters
    ----------
    table : OccupancyTable
        Occupancy of R regions in M maps.
    chosen : ndarray of bool, shape (M,)
        Which maps.
    counts : mapping of str to float
        Map → number of its particles (or its share of them).

    Returns
    -------
    Expected
        Means weighted by counts; NaN where there are no particles. Errors are those of fully correlated
        values, Σ n e / Σ n: what is wrong in one class (the common grey scale) is wrong in all.
    """
    weights = np.array([counts[name] for name in table.maps], dtype=np.float64)

    def mean(values: npt.NDArray[np.float64], which: Flags) -> npt.NDArray[np.float64]:
        used = np.where(which, weights, 0.0)
        if used.sum() == 0:
            return np.full(len(table.regions), np.nan)
        return np.asarray(np.where(used > 0, values * used, 0.0).sum(axis=1) / used.sum())

    return _Expected(mean(table.values, chosen), mean(table.errors, chosen), mean(table.values, ~chosen))


Numbers = npt.NDArray[np.float64]

LEVEL = 0.05
"""Share of false ones among the pairs called significant."""


@dataclass(frozen=True, eq=False)
class Tree:
    """A hierarchical clustering (average linkage).

    Attributes
    ----------
    merges : ndarray, shape (n − 1, 4)
        As scipy's linkage: two nodes, their distance, number of leaves.
    order : ndarray of int, shape (n,)
        Leaves from one end to the other.
    """

    merges: Numbers
    order: npt.NDArray[np.intp]

    @classmethod
    def of(cls, rows: npt.ArrayLike) -> Tree:
        """Cluster rows by the root of their mean squared difference; unknown values take the row's mean.

        Parameters
        ----------
        rows : array_like, shape (n, k)
            One item per row.

        Returns
        -------
        Tree
            Up to 600 leaves are in optimal order (neighbours as alike as the tree allows).
        """
        from scipy.spatial.distance import pdist

        data = np.array(rows, dtype=np.float64)
        known = np.isfinite(data)
        mean = np.where(known, data, 0).sum(1) / np.maximum(known.sum(1), 1)
        data = np.where(known, data, mean[:, None])
        return _tree(len(data), pdist(data) / np.sqrt(max(1, data.shape[1])))

    @classmethod
    def of_correlation(cls, r: npt.ArrayLike) -> Tree:
        """Cluster regions by 1 − r: what comes together lies together, what excludes each other apart."""
        matrix = np.asarray(r, dtype=np.float64)
        return _tree(len(matrix), np.maximum(1 - matrix[np.triu_indices(len(matrix), 1)], 0))


@dataclass(frozen=True, eq=False)
class Correlation:
    """Correlation between regions over the maps of a set.

    Attributes
    ----------
    regions : tuple of str
        The K regions that vary.
    r, p : ndarray, shape (K, K)
        Pearson's coefficient and the two-sided probability of one as large by chance (NaN with fewer than
        four maps).
    significant : ndarray of bool, shape (K, K)
        Pairs that stand out, at a false discovery rate of 5 % (Benjamini & Hochberg 1995).
    maps : int
        Number of maps.
    constant : tuple of str
        Regions left out because they hardly vary, or were not read in every map.
    """

    regions: tuple[str, ...]
    r: Numbers
    p: Numbers
    significant: npt.NDArray[np.bool_]
    maps: int
    constant: tuple[str, ...]

    @property
    def needed(self) -> float:
        """Return the least |r| at which a single pair has p < 0.05; NaN with fewer than three maps."""
        from scipy.special import stdtrit

        if self.maps < 3:
            return float("nan")
        t = float(stdtrit(self.maps - 2, 1 - LEVEL / 2))
        return float(t / np.sqrt(self.maps - 2 + t**2))

    @classmethod
    def of(cls, table: OccupancyTable) -> Correlation:
        """Correlate the regions of a table over its maps.

        Every map counts once, whatever its weight. Regions that vary by less than 0.1, or (where errors are
        known) by no more than their errors, are left out: their correlations would be those of noise. p
        assumes that maps are independent draws, which classes of one experiment are not quite; read it as a
        guide.
        """
        values = table.values
        spread = np.where(np.isfinite(values).all(1), np.ptp(values, axis=1), 0)
        noise = np.nan_to_num(np.mean(np.square(table.errors), axis=1))
        varies = (spread >= 0.1) & (np.var(values, axis=1) > noise)
        names = tuple(name for name, keep in zip(table.regions, varies, strict=True) if keep)
        constant = tuple(name for name, keep in zip(table.regions, varies, strict=True) if not keep)
        maps = len(table.maps)
        r = np.atleast_2d(np.corrcoef(values[varies])) if len(names) > 1 else np.ones((len(names),) * 2)
        r = np.clip(r, -1, 1)
        p = _probability(r, maps)
        return cls(names, r, p, _significant(p), maps, constant)

    def pairs(self, most: int = 5) -> tuple[list[tuple[str, str, float]], ...]:
        """Return the strongest significant pairs: those that come together, those that exclude each other."""
        upper = np.triu(self.significant, 1)
        rows, columns = np.nonzero(upper)
        every = [
            (self.regions[a], self.regions[b], float(self.r[a, b]))
            for a, b in zip(rows, columns, strict=True)
        ]
        with_, without = ([e for e in every if e[2] > 0], [e for e in every if e[2] < 0])
        return sorted(with_, key=lambda e: -e[2])[:most], sorted(without, key=lambda e: e[2])[:most]


def _probability(r: Numbers, maps: int) -> Numbers:
    from scipy.special import stdtr

    # With three maps the correlation of a pair has one degree of freedom: 0.997 would be needed.
    if maps < 4:
        return np.full(r.shape, np.nan)
    with np.errstate(divide="ignore"):
        t = np.abs(r) * np.sqrt((maps - 2) / np.maximum(1 - r**2, 0))
    return np.asarray(2 * stdtr(maps - 2, -t))


def _significant(p: Numbers) -> npt.NDArray[np.bool_]:
    """Return which pairs stand out, by Benjamini and Hochberg's step-up procedure."""
    out = np.zeros(p.shape, dtype=bool)
    upper = np.triu_indices(len(p), 1)
    tests = p[upper]
    if not len(tests) or np.isnan(tests).any():
        return out
    ranked = np.sort(tests)
    below = np.flatnonzero(ranked <= LEVEL * np.arange(1, len(ranked) + 1) / len(ranked))
    if len(below):
        out[upper] = tests <= ranked[below[-1]]
    return out | out.T


def _tree(leaves: int, distance: Numbers) -> Tree:
    from scipy.cluster.hierarchy import leaves_list, linkage

    if leaves < 2:
        return Tree(np.empty((0, 4)), np.arange(leaves))
    # Sorting the branches takes time with the cube of the leaves.
    merges = linkage(distance, "average", optimal_ordering=leaves <= 600)
    return Tree(merges, leaves_list(merges).astype(np.intp))
