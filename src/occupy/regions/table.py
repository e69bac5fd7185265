"""What regions, places and lines read in maps: values with standard errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from math import ceil, sqrt
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from occupy.errors import InputError
from occupy.regions.region import Region, index_of
from occupy.settings import short_repr
from occupy.statistics.posterior import STANDARD_ERRORS_95
from occupy.volume import LazyMap, Volume

Numbers = npt.NDArray[np.float64]


class Reading(NamedTuple):
    """What one region reads in one map: value, standard error (NaN where unknown)."""

    value: float
    error: float


@dataclass(frozen=True, eq=False)
class Beside:
    """What stands beside occupancies that a joint fit found.

    Attributes
    ----------
    values, errors : ndarray of float64, shape (R, M)
        Occupancy that the map reads in the regions, and its standard error.
    low, high : ndarray of float64, shape (R, M)
        95 % interval of the occupancy.
    notes : tuple of tuples of str, R of M each
        Where both differ beyond their errors, with the likely reason; else empty.
    """

    values: Numbers
    errors: Numbers
    low: Numbers
    high: Numbers
    notes: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, eq=False)
class OccupancyTable:
    """Occupancy of regions in maps. Unknown numbers are NaN.

    Attributes
    ----------
    regions, maps : tuple of str
        Names of the R regions and M maps, each unique.
    values, errors : ndarray of float64, shape (R, M), read-only
        Occupancy and its standard error.
    voxels, independent : ndarray of float64, shape (R,), read-only
        Voxels of each region, and how many of them are independent.
    weights : ndarray of float64, shape (M,), read-only
        Share of all particles that each map stands for.
    kind : str
        What the values are: ``occupancy``, ``relative`` (to the best map at each place) or ``scale``.
    reach_95 : float
        Half a 95 % interval, in standard errors; where ``beside`` is given, its interval counts.
    beside : Beside, optional
        Where the occupancies are of a joint fit: what the map reads.
    """

    regions: tuple[str, ...]
    maps: tuple[str, ...]
    values: Numbers
    errors: Numbers
    voxels: Numbers
    independent: Numbers
    weights: Numbers
    kind: str = "occupancy"
    reach_95: float = STANDARD_ERRORS_95
    beside: Beside | None = None

    def __post_init__(self) -> None:
        rows, columns = len(self.regions), len(self.maps)
        for name, shape in (
            ("values", (rows, columns)),
            ("errors", (rows, columns)),
            ("voxels", (rows,)),
            ("independent", (rows,)),
            ("weights", (columns,)),
        ):
            array = np.array(getattr(self, name), dtype=np.float64)
            if array.shape != shape:
                raise ValueError(
                    f"{name} of shape {array.shape} in a table of {rows} regions, {columns} maps"
                )
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        for what, names in (("region", self.regions), ("map", self.maps)):
            if len(set(names)) < len(names):
                twice = next(name for name in names if names.count(name) > 1)
                raise InputError(f"two {what}s of a table are called {twice}")

    def __repr__(self) -> str:
        return f"<OccupancyTable: {self.kind} of {len(self.regions)} regions in {len(self.maps)} maps>"

    def to_pandas(self) -> Any:
        """Return the table as a `pandas.DataFrame`, a row for each region and map.

        Columns: ``region``, ``map``, the values under the name of their kind (``occupancy``, ``relative`` or
        ``scale``), ``error``, ``low_95``, ``high_95``, ``voxels``, ``share``. Unknown numbers are NaN.
        ``.pivot(index="region", columns="map", values="occupancy")`` is the matrix.

        Raises
        ------
        InputError
            Where pandas is not installed.
        """
        try:
            frame = import_module("pandas").DataFrame
        except ModuleNotFoundError as error:
            raise InputError("to_pandas needs pandas, which is not installed: pip install pandas") from error
        rows, columns = self.values.shape
        return frame(
            {
                "region": np.repeat(np.array(self.regions, dtype=object), columns),
                "map": np.tile(np.array(self.maps, dtype=object), rows),
                self.kind: self.values.reshape(-1),
                "error": self.errors.reshape(-1),
                "low_95": self.low.reshape(-1),
                "high_95": self.high.reshape(-1),
                "voxels": np.repeat(self.voxels, columns),
                "share": np.tile(self.weights, rows),
            }
        )

    @property
    def low(self) -> Numbers:
        """Lower end of the 95 % interval, not below 0, shape (R, M)."""
        if self.beside is not None:
            return self.beside.low
        return np.asarray(np.maximum(self.values - self.reach_95 * self.errors, np.minimum(self.values, 0.0)))

    @property
    def high(self) -> Numbers:
        """Upper end of the 95 % interval, not above 1 (or the value), shape (R, M)."""
        if self.beside is not None:
            return self.beside.high
        return np.asarray(np.minimum(self.values + self.reach_95 * self.errors, np.maximum(self.values, 1.0)))

    def reading(self, region: str, map_name: str) -> Reading:
        """Return value and standard error of one region in one map; KeyError where there is none."""
        row, column = self._row(region), self._column(map_name)
        return Reading(float(self.values[row, column]), float(self.errors[row, column]))

    def of_map(self, name: str) -> dict[str, float]:
        """Return region → value in one map."""
        return dict(zip(self.regions, self.values[:, self._column(name)].tolist(), strict=True))

    def of_region(self, name: str) -> dict[str, float]:
        """Return map → value of one region."""
        return dict(zip(self.maps, self.values[self._row(name)].tolist(), strict=True))

    def _row(self, name: str) -> int:
        if name not in self.regions:
            raise KeyError(f"no region {name!r} in this table")
        return self.regions.index(name)

    def _column(self, name: str) -> int:
        if name not in self.maps:
            raise KeyError(f"no map {name!r} in this table")
        return self.maps.index(name)


def _independent_voxels(voxels: float, voxel_volume: float, cell: float) -> float:
    """Return how many independent values a region holds.

    A map whose details are no finer than d has about one independent value in each cube of side d.

    Parameters
    ----------
    voxels : float
        Number of voxels.
    voxel_volume : float
        Å³ per voxel.
    cell : float
        d in Å: resolution of the values, or their correlation length.

    Returns
    -------
    float
        At least 1 and at most the number of voxels.
    """
    return float(min(max(voxels * voxel_volume / cell**3, 1.0), max(voxels, 1)))


def _standard_error(uncertainty: npt.NDArray[Any], independent: float, systematic: float) -> float:
    """Return the standard error of a region's value: √(mean(u²)/n + systematic²).

    Parameters
    ----------
    uncertainty : ndarray
        Standard error u of each voxel of the region.
    independent : float
        n, from `_independent_voxels`.
    systematic : float
        What does not average out: error common to all voxels of a region.
    """
    mean = float(np.mean(np.square(uncertainty, dtype=np.float64)))
    return sqrt(mean / independent + systematic**2)


def read_regions(
    regions: Sequence[Region],
    maps: Mapping[str, Any] | Iterable[tuple[str, Any]],
    volume: Volume,
    *,
    resolution: float,
    systematic: float = 0.0,
    common_error: bool = False,
    weights: Sequence[float] | Mapping[str, float] | None = None,
    kind: str = "occupancy",
    reach_95: float = STANDARD_ERRORS_95,
) -> OccupancyTable:
    """Read every region in every map: the median over its voxels.

    Parameters
    ----------
    regions : sequence of Region
        On the grid of the maps.
    maps : mapping or iterable of pairs
        Name → values, or name → (values, uncertainty or None), all arrays of the grid's shape (or `Volume`);
        uncertainty is a standard error per voxel. Taken one at a time, so an iterable may make them as it
        goes.
    volume : Volume
        Any map on the grid.
    resolution : float
        Å: how far apart voxels must be to be independent.
    systematic : float
        Part of the standard error that does not average out over a region.
    common_error : bool
        The uncertainty of neighbouring voxels is one error that they share: it does not average out.
    weights : sequence or mapping, optional
        Share of all particles per map, in the order of the maps or by name.
    kind : str
        What the values are.
    reach_95 : float
        Half a 95 % interval, in standard errors.

    Returns
    -------
    OccupancyTable
        Errors are NaN for maps without uncertainty.
    """
    if not regions:
        raise InputError("no regions to read")
    if not (np.isfinite(resolution) and resolution > 0):
        raise InputError(f"the resolution must be a positive length in Å, not {resolution}")
    voxel_volume = float(np.prod(volume.voxel_size))
    independent = [_independent_voxels(len(r.voxels), voxel_volume, resolution) for r in regions]
    names, values, errors = [], [], []
    for name, given in maps.items() if isinstance(maps, Mapping) else maps:
        data, uncertainty = given if isinstance(given, tuple) else (given, None)
        flat = _flat(data, volume, name)
        spread = None if uncertainty is None else _flat(uncertainty, volume, f"uncertainty of {name}")
        names.append(str(name))
        values.append([float(np.median(flat[r.voxels])) if len(r.voxels) else np.nan for r in regions])
        errors.append(
            [
                np.nan
                if spread is None or not len(r.voxels)
                else _standard_error(spread[r.voxels], 1.0 if common_error else n, systematic)
                for r, n in zip(regions, independent, strict=True)
            ]
        )
    if not names:
        raise InputError("no maps to read regions in")
    return OccupancyTable(
        tuple(region.name for region in regions),
        tuple(names),
        np.array(values).T,
        np.array(errors).T,
        np.array([len(region.voxels) for region in regions], dtype=np.float64),
        np.array(independent),
        _weights(weights, names),
        kind,
        reach_95,
    )


def joined(tables: Sequence[OccupancyTable]) -> OccupancyTable:
    """Return one table of the maps of several, which are of the same regions.

    Parameters
    ----------
    tables : sequence of OccupancyTable
        At least one.
    """
    first = tables[0]
    alike = {(table.regions, table.kind, table.reach_95) for table in tables}
    if len(alike) > 1:
        raise ValueError("tables of other regions, kinds or intervals can't be joined")
    return OccupancyTable(
        first.regions,
        tuple(name for table in tables for name in table.maps),
        np.concatenate([table.values for table in tables], axis=1),
        np.concatenate([table.errors for table in tables], axis=1),
        first.voxels,
        first.independent,
        np.concatenate([table.weights for table in tables]),
        first.kind,
        first.reach_95,
    )


def _flat(data: Any, volume: Volume, name: str) -> npt.NDArray[Any]:
    array = np.asarray(data.data if isinstance(data, Volume) else data)
    if array.shape != volume.shape:
        raise InputError(
            f"{name} is {array.shape[::-1]} voxels, the regions are on {volume.shape[::-1]} ({volume.name})"
        )
    return array.reshape(-1)


def _weights(given: Sequence[float] | Mapping[str, float] | None, names: Sequence[str]) -> Numbers:
    if given is None:
        return np.full(len(names), np.nan)
    if isinstance(given, Mapping):
        return np.array([given.get(name, np.nan) for name in names], dtype=np.float64)
    if len(given) != len(names):
        raise ValueError(f"{len(given)} weights for {len(names)} maps")
    return np.array(given, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Profile:
    """Values of a map along a straight line.

    Attributes
    ----------
    distance : ndarray of float64, shape (n,), read-only
        Å from the line's beginning.
    points : ndarray of float64, shape (n, 3), read-only
        x, y, z in Å.
    values, errors : ndarray of float64, shape (n,), read-only
        Scale, or occupancy, and its standard error; NaN where none is stated.
    """

    distance: Numbers
    points: Numbers
    values: Numbers
    errors: Numbers

    __repr__ = short_repr

    def __post_init__(self) -> None:
        for name in ("distance", "points", "values", "errors"):
            array = np.array(getattr(self, name), dtype=np.float64)
            array.flags.writeable = False
            object.__setattr__(self, name, array)


def _values_at(volume: Volume, points: npt.ArrayLike) -> Numbers:
    """Return values of a map at places, interpolated linearly between voxels.

    Parameters
    ----------
    volume : Volume
        The map, placed as ChimeraX places it.
    points : array_like, shape (n, 3)
        x, y, z in Å.

    Returns
    -------
    ndarray of float64, shape (n,)

    Raises
    ------
    InputError
        For a place outside of the map, that is more than half a voxel from its outermost voxels.
    """
    # Readings of regions need no SciPy.
    from scipy.ndimage import map_coordinates

    xyz = np.asarray(points, dtype=np.float64)
    if xyz.ndim != 2 or xyz.shape[1] != 3 or not np.isfinite(xyz).all():
        raise InputError(f"a place is three numbers x, y, z in Å, not {points!r}")
    where = index_of(volume, xyz)
    outside = ((where < -0.5) | (where > np.array(volume.shape) - 0.5)).any(axis=1)
    if outside.any():
        ends = volume.position(np.array([(0, 0, 0), np.array(volume.shape) - 1]))
        spans = (f"{name} {low:.1f} to {high:.1f}" for name, low, high in zip("xyz", *ends, strict=True))
        place = ", ".join(f"{value:.1f}" for value in xyz[outside][0])
        raise InputError(f"({place}) Å is outside of {volume.name}, which reaches from {', '.join(spans)} Å")
    found: Numbers = map_coordinates(volume.data, where.T, output=np.float64, order=1, mode="nearest")
    return found


def read_places(maps: Mapping[str, LazyMap], what: str, points: npt.ArrayLike) -> tuple[Numbers, Numbers]:
    """Return values at places, and their standard errors, NaN where the maps state none.

    Parameters
    ----------
    maps : mapping
        What there is of one map of a result → lazy map.
    what : str
        Which of them is read.
    points : array_like, shape (n, 3)
        x, y, z in Å.
    """
    values, errors = _values_at(maps[what].volume(), points), maps.get("uncertainty")
    return values, np.full_like(values, np.nan) if errors is None else _values_at(errors.volume(), points)


def points_between(a: npt.ArrayLike, b: npt.ArrayLike, step: float) -> Numbers:
    """Return places along a line, both ends included, evenly and at most ``step`` Å apart.

    Returns
    -------
    ndarray of float64, shape (n, 3)
        At least two.
    """
    ends = np.asarray([a, b], dtype=np.float64)
    if ends.shape != (2, 3) or not np.isfinite(ends).all():
        raise InputError(f"a line has two ends of three numbers x, y, z in Å, not {a!r} and {b!r}")
    if not (np.isfinite(step) and step > 0):
        raise InputError(f"the step along a line must be a positive length in Å, not {step!r}")
    length = float(np.linalg.norm(ends[1] - ends[0]))
    count = max(ceil(length / step - 1e-9), 1) + 1
    return np.linspace(ends[0], ends[1], count)
