"""How regions and maps of a table go together: who comes with whom, which maps are alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from occupy.regions.table import OccupancyTable

Numbers = npt.NDArray[np.float64]

LEAST_RANGE = 0.1
"""Regions whose occupancy differs by less between all maps say nothing about what they come with."""

LEVEL = 0.05
"""Share of false ones among the pairs called significant."""

LEAST_MAPS = 4
"""With three maps the correlation of one pair has one degree of freedom: 0.997 would be needed."""

# Sorting the branches of a tree takes time with the cube of its leaves.
_SORTED_LEAVES = 600


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


def correlations(table: OccupancyTable) -> Correlation:
    """Correlate the regions of a table over its maps.

    Every map counts once, whatever its weight. Regions that vary by less than 0.1, or (where errors are
    known) by no more than their errors, are left out: their correlations would be those of noise. p assumes
    that maps are independent draws, which classes of one experiment are not quite; read it as a guide.
    """
    values = table.values
    spread = np.where(np.isfinite(values).all(1), np.ptp(values, axis=1), 0)
    noise = np.nan_to_num(np.mean(np.square(table.errors), axis=1))
    varies = (spread >= LEAST_RANGE) & (np.var(values, axis=1) > noise)
    names = tuple(name for name, keep in zip(table.regions, varies, strict=True) if keep)
    constant = tuple(name for name, keep in zip(table.regions, varies, strict=True) if not keep)
    maps = len(table.maps)
    r = np.atleast_2d(np.corrcoef(values[varies])) if len(names) > 1 else np.ones((len(names),) * 2)
    r = np.clip(r, -1, 1)
    p = _probability(r, maps)
    return Correlation(names, r, p, _significant(p), maps, constant)


def _probability(r: Numbers, maps: int) -> Numbers:
    from scipy.special import stdtr

    if maps < LEAST_MAPS:
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


def tree_of(rows: npt.ArrayLike) -> Tree:
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
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import pdist

    data = _filled(np.array(rows, dtype=np.float64))
    if len(data) < 2:
        return Tree(np.empty((0, 4)), np.arange(len(data)))
    distance = pdist(data) / np.sqrt(max(1, data.shape[1]))
    merges = linkage(distance, "average", optimal_ordering=len(data) <= _SORTED_LEAVES)
    return Tree(merges, leaves_list(merges).astype(np.intp))


def _filled(data: Numbers) -> Numbers:
    known = np.isfinite(data)
    count = known.sum(1)
    mean = np.where(known, data, 0).sum(1) / np.maximum(count, 1)
    return np.asarray(np.where(known, data, mean[:, None]))


def tree_of_correlation(r: npt.ArrayLike) -> Tree:
    """Cluster regions by 1 − r: what comes together lies together, what excludes each other apart."""
    from scipy.cluster.hierarchy import leaves_list, linkage

    matrix = np.asarray(r, dtype=np.float64)
    if len(matrix) < 2:
        return Tree(np.empty((0, 4)), np.arange(len(matrix)))
    distance = np.maximum(1 - matrix[np.triu_indices(len(matrix), 1)], 0)
    merges = linkage(distance, "average", optimal_ordering=len(matrix) <= _SORTED_LEAVES)
    return Tree(merges, leaves_list(merges).astype(np.intp))


def pairs(found: Correlation, most: int = 5) -> tuple[list[tuple[str, str, float]], ...]:
    """Return the strongest significant pairs: those that come together, and those that exclude each other."""
    upper = np.triu(found.significant, 1)
    rows, columns = np.nonzero(upper)
    every = [
        (found.regions[a], found.regions[b], float(found.r[a, b])) for a, b in zip(rows, columns, strict=True)
    ]
    with_, without = ([e for e in every if e[2] > 0], [e for e in every if e[2] < 0])
    return sorted(with_, key=lambda e: -e[2])[:most], sorted(without, key=lambda e: e[2])[:most]
