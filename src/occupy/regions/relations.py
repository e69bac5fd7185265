"""How regions and maps of a table go together: who comes with whom, which maps are alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from occupy.regions.table import OccupancyTable

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
