"""What maps read at a place, or along a line, in Å."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

import numpy as np
import numpy.typing as npt
from scipy.ndimage import map_coordinates

from occupy.errors import InputError
from occupy.options import short_repr
from occupy.regions.region import index_of
from occupy.volume import LazyMap, Volume

Numbers = npt.NDArray[np.float64]


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
