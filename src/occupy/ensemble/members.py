"""The maps of a set: how to read them, and how they come onto one working grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft
from scipy.ndimage import gaussian_filter, map_coordinates

from occupy import tuning
from occupy.ensemble.execution import Execution, Storage
from occupy.errors import InputError, Notice
from occupy.numerics.fourier import fourier_crop
from occupy.numerics.parallel import ordinary_unit
from occupy.regions.region import index_of
from occupy.settings import short_repr
from occupy.volume import Volume

Array = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.float64]
Triple = tuple[float, float, float]
Shape = tuple[int, int, int]


def resampled(volume: Volume, grid: Volume, planes: int = 8) -> Volume:
    """Return a map at the positions of another's voxels, interpolated linearly; 0 beyond its box.

    Parameters
    ----------
    volume : Volume
        The map. Where its voxels are finer it is smoothed first, so that nothing is aliased.
    grid : Volume
        Any map on the wanted grid. Both are placed as ChimeraX places them.
    planes : int
        Interpolated at a time.
    """
    ratio = [b / a for a, b in zip(sorted(volume.voxel_size), sorted(grid.voxel_size), strict=True)]
    data = volume.data
    if max(ratio) > 1.05:
        data = gaussian_filter(data, 0.42 * np.sqrt(max(ratio) ** 2 - 1), mode="nearest")
    out = np.empty(grid.shape, dtype=np.float32)
    for start in range(0, grid.shape[0], planes):
        part = out[start : start + planes]
        index = np.moveaxis(np.indices(part.shape), 0, -1).reshape(-1, 3).astype(np.float64)
        index[:, 0] += start
        where = index_of(volume, grid.position(index))
        part[...] = map_coordinates(data, where.T, order=1, mode="constant").reshape(part.shape)
    return grid.with_data(out, name=volume.name)


@dataclass(frozen=True, eq=False)
class Stack:
    """Maps on the working grid, Å per voxel along z, y, x, which hold anything, and their values' unit."""

    data: Storage
    voxel_size: Triple
    kept: tuple[int, ...]
    unit: float = 1.0

    def __len__(self) -> int:
        return len(self.kept)

    def __getitem__(self, k: int) -> Array:
        return self.data[self.kept[k]]


def working_grid(grid: Volume, lowpass: float | None = None) -> tuple[Shape, Triple]:
    """Return shape and voxel size (z, y, x) of the grid to work on: even sides that transform fast.

    Parameters
    ----------
    grid : Volume
        A map of the set.
    lowpass : float, optional
        Å: common resolution asked for; where it is finer than usual, so is the grid.
    """
    finest = 2 * max(grid.voxel_size)
    if lowpass is not None and not lowpass >= finest:
        raise InputError(f"--lowpass {lowpass:g} Å is finer than two voxels of the maps ({finest:.3g} Å)")
    usual = tuning.SET.finest
    wanted = tuning.SET.working_voxel * min(1.0, (lowpass or usual) / usual)
    # Maps may be stored in any order of axes; work is done along z, y, x.
    columns, rows, sections = grid.frame.axes
    of = {sections: 0, rows: 1, columns: 2}
    along = [of[axis] for axis in (3, 2, 1)]
    shape, voxel = [], []
    for i in along:
        n, a = grid.shape[i], grid.voxel_size[i]
        least = int(np.ceil(n * a / wanted))
        m = n if least >= n else _fast_even(least, n)
        shape.append(m)
        voxel.append(n * a / m)
    return (shape[0], shape[1], shape[2]), (voxel[0], voxel[1], voxel[2])


def _fast_even(least: int, most: int) -> int:
    """Return the next fast even length from `least` on, or `most`."""
    m = least + least % 2
    while m < most and scipy.fft.next_fast_len(m, real=True) != m:
        m += 2
    return min(m, most)


def _working_copy(volume: Volume, shape: Shape) -> Array:
    """Return a map's data in (z, y, x) order on the working grid."""
    data = volume.standard()
    if data.shape == shape:
        return np.array(data, dtype=np.float32)
    return fourier_crop(np.ascontiguousarray(data), shape)


@dataclass(frozen=True)
class Member:
    """One map of a set: its name, how to read it, and what is known of it.

    Attributes
    ----------
    name : str
    read : callable
        Returns the map; called once.
    weight : float or None
        Share of all particles.
    ssnr : sequence of float or None
        Spectral signal-to-noise ratio per shell, where the map was shrunk by it.
    """

    name: str
    read: Callable[[], Volume]
    weight: float | None = None
    ssnr: Sequence[float] | None = None

    __repr__ = short_repr


@dataclass(frozen=True, eq=False)
class OnGrid:
    """What belongs to a grid; it is sent to other processes without the values of the grid's map."""

    grid: Volume

    def __getstate__(self) -> dict[str, Any]:
        blank = (self.grid.shape, self.grid.voxel_size, self.grid.frame, self.grid.name)
        return self.__dict__ | {"grid": blank}

    def __setstate__(self, state: dict[str, Any]) -> None:
        shape, *rest = state["grid"]
        self.__dict__.update(state, grid=Volume(np.zeros(shape, dtype=np.float32), *rest))


def read_members(
    members: Sequence[Member], execution: Execution, lowpass: float | None
) -> tuple[Volume, Stack, list[Notice]]:
    """Read every map once, onto the working grid; leave out the empty ones."""
    if not members:
        raise InputError("0 of 0 maps hold anything; a set needs at least two")
    grid = members[0].read()
    shape, voxel = working_grid(grid, lowpass)
    storage = execution.storage(len(members), shape)
    unit = _unit_of(members, grid)
    first = _keep_one(grid, members[0].name, storage, 0, unit)
    reading = _Reading(grid, tuple(members), storage, unit)
    rest = execution.each("reading", _read_one, reading, len(members) - 1)
    spans = [first, *rest]
    kept = tuple(i for i, span in enumerate(spans) if span > 0)
    if len(kept) < 2:
        raise InputError(f"{len(kept)} of {len(members)} maps hold anything; a set needs at least two")
    _check_span(max(spans), unit)
    empty = [member.name for i, member in enumerate(members) if i not in kept]
    notices = [Notice("empty-class", f"left out, as nothing is in it: {name}") for name in empty]
    return grid, Stack(storage, voxel, kept, unit), notices


@dataclass(frozen=True, eq=False)
class _Reading(OnGrid):
    """What reading a map needs: a map on the grid they must be on, all of them, and where to."""

    members: tuple[Member, ...]
    storage: Storage
    unit: float


def _read_one(shared: _Reading, i: int) -> float:
    """Read the map after map ``i``; return the span of its values."""
    member = shared.members[i + 1]
    volume = member.read()
    _check_grid(volume, shared.grid, member.name, shared.members[0].name)
    return _keep_one(volume, member.name, shared.storage, i + 1, shared.unit)


def _unit_of(members: Sequence[Member], grid: Volume) -> float:
    """Return the power of two in which to measure the maps: that of the first that holds anything."""
    spans = (float(np.ptp((grid if i == 0 else each.read()).data)) for i, each in enumerate(members))
    unit = ordinary_unit(next((span for span in spans if span > 0), 0.0))
    # Beyond this the input's own values are not safe in 32 bits.
    return unit if 2.0**-100 <= unit <= 2.0**100 else 1.0


def _keep_one(volume: Volume, name: str, storage: Storage, k: int, unit: float) -> float:
    span = float(np.ptp(volume.data))
    # Small ones may be all that an empty class holds: the largest of all maps decides there.
    _check_span(max(span, unit), unit)
    if unit != 1:
        volume = volume.with_data(volume.data * np.float32(1 / unit))
    data = _working_copy(volume, storage.shape)
    if not np.isfinite(data).all():
        raise InputError(f"{name} holds values that are not numbers")
    storage[k] = data
    return span


def _check_span(span: float, unit: float) -> None:
    if ordinary_unit(span / unit) != 1:
        raise InputError(
            f"the values of these maps span {span:.2g}, which 32-bit numbers can't be compared in; "
            f"multiply all of them by about {1 / span:.0e} first"
        )


def _check_grid(volume: Volume, grid: Volume, name: str, first: str) -> None:
    if not volume.same_grid(grid):
        raise InputError(
            f"{name} is {_box(volume)}, {first} is {_box(grid)}: resample one of them (--resample does)"
        )


def _box(volume: Volume) -> str:
    size = " × ".join(str(n) for n in volume.shape[::-1])
    return f"{size} voxels of {volume.voxel_size[0]:.4g} Å"


def shares_of(given: Sequence[float | None]) -> Numbers:
    """Return shares with a sum of 1; equal ones where any is unknown or all are zero."""
    known = [w for w in given if w is not None and w >= 0]
    if len(known) < len(given) or sum(known) <= 0:
        return np.full(len(given), 1 / len(given))
    # A class that is said to hold no particles has a map all the same: it counts, if next to nothing.
    w = np.maximum(np.array(known, dtype=np.float64), 1e-3 * max(known))
    return np.asarray(w / w.sum())
