"""A map and where it lies in space, and maps that are computed when they are wanted."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from occupy.errors import Notice
from occupy.numerics.parallel import for_each_slab, large_empty, one_blas_thread, planes_per_slab, slabs
from occupy.numerics.resampling import Refiner

Triple = tuple[float, float, float]
IntTriple = tuple[int, int, int]
Array = npt.NDArray[np.float32]
Stream = Iterator[tuple[int, int, Array]]
Consume = Callable[[str, int, int, Array], None]
Progress = Callable[[str, int, int], None]


def _read_only(array: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    view = array.view()
    view.flags.writeable = False
    return view


def _numbers(values: Triple, between: str) -> str:
    """Return three lengths for people: once where they are the same."""
    words = [f"{value:.4g}" for value in values]
    return words[0] if len(set(words)) == 1 else between.join(words)


def _grid_text(grid: Grid) -> str:
    """Return name, size and voxel size of a map, along x, y, z of its file."""
    size = " × ".join(str(n) for n in grid.shape[::-1])
    return f"{grid.name!r}: {size} voxels of {_numbers(grid.voxel_size[::-1], ' × ')} Å"


@dataclass(frozen=True)
class Frame:
    """Where a map lies in space and how its file describes it; carried from input to output untouched.

    Attributes
    ----------
    axes : tuple of int
        Which of x, y, z (1, 2, 3) runs along columns, rows and sections (MAPC, MAPR, MAPS).
    cell : tuple of float
        Cell lengths x, y, z in Å.
    angles : tuple of float
        Cell angles in degrees.
    sampling : tuple of int
        Grid points per cell along x, y, z (MX, MY, MZ).
    nstart : tuple of int
        Index of the first column, row and section.
    origin : tuple of float
        Position in Å (x, y, z) of the map's first voxel, as used by most programs; zero where unused.
    space_group : int
        0 or 1 for one volume, 401 and above for a stack of volumes.
    labels : tuple of str
        Text labels of the file.
    extended_type : bytes
        Kind of extended header.
    extended : bytes
        Extended header.
    """

    axes: IntTriple = (1, 2, 3)
    cell: Triple = (1.0, 1.0, 1.0)
    angles: Triple = (90.0, 90.0, 90.0)
    sampling: IntTriple = (1, 1, 1)
    nstart: IntTriple = (0, 0, 0)
    origin: Triple = (0.0, 0.0, 0.0)
    space_group: int = 1
    labels: tuple[str, ...] = ()
    extended_type: bytes = b""
    extended: bytes = b""

    def __repr__(self) -> str:
        axes = "".join("xyz"[axis - 1] if axis in (1, 2, 3) else "?" for axis in self.axes)
        return f"<Frame: axes {axes}, first voxel {self.nstart}, origin {_numbers(self.origin, ', ')} Å>"


@dataclass(frozen=True, eq=False)
class Volume:
    """An immutable map.

    Attributes
    ----------
    data : ndarray of float32, shape (sections, rows, columns)
        Values in the order of the file, read-only. With the usual axis order this is (z, y, x); maps with
        permuted axes stay as they are, so that results can be written back voxel for voxel.
    voxel_size : tuple of float
        Å per voxel along the axes of ``data`` (sections, rows, columns).
    frame : Frame
        Position, cell and file axis order.
    name : str
        For messages and output names.
    notices : tuple of Notice
        What was doubtful about the file.
    """

    data: npt.NDArray[np.float32]
    voxel_size: Triple
    frame: Frame = field(default_factory=Frame)
    name: str = "map"
    notices: tuple[Notice, ...] = ()

    def __repr__(self) -> str:
        return f"<Volume {_grid_text(self)}>"

    def __post_init__(self) -> None:
        if not isinstance(self.data, np.ndarray):
            raise TypeError(f"a map's data must be an array, not {type(self.data).__name__}")
        if self.data.ndim != 3:
            raise ValueError(f"a map has three dimensions, not {self.data.ndim}")
        if len(self.voxel_size) != 3 or not all(np.isfinite(a) and a > 0 for a in self.voxel_size):
            raise ValueError(f"voxel size must be three positive numbers in Å, not {self.voxel_size}")
        data = np.ascontiguousarray(self.data, dtype=np.float32)
        object.__setattr__(self, "data", _read_only(data))
        object.__setattr__(self, "voxel_size", tuple(float(a) for a in self.voxel_size))
        if self.frame == Frame():
            # Nothing was said about the cell: it is the box.
            sampling = data.shape[::-1]
            cell = tuple(n * a for n, a in zip(sampling, self.voxel_size[::-1], strict=True))
            object.__setattr__(self, "frame", replace(self.frame, cell=cell, sampling=sampling))

    @classmethod
    def from_array(cls, data: npt.NDArray[Any], voxel_size: float | Triple, name: str = "map") -> Volume:
        """Make a volume at the coordinate origin from an array (z, y, x) and a voxel size in Å."""
        size = (voxel_size,) * 3 if isinstance(voxel_size, (int, float)) else tuple(voxel_size)
        array = np.asarray(data)
        if array.ndim != 3:
            raise ValueError(f"a map has three dimensions, not {array.ndim}")
        return cls(array, (float(size[0]), float(size[1]), float(size[2])), name=name)

    @property
    def shape(self) -> IntTriple:
        """Number of sections, rows and columns."""
        return int(self.data.shape[0]), int(self.data.shape[1]), int(self.data.shape[2])

    def with_data(self, data: npt.NDArray[Any], name: str | None = None) -> Volume:
        """Return other values on the same grid."""
        if data.shape != self.data.shape:
            raise ValueError(f"data of shape {data.shape} do not fit a map of shape {self.data.shape}")
        return replace(self, data=data, name=self.name if name is None else name)

    def same_grid(self, other: Volume) -> bool:
        """Tell whether both have the same number of voxels, voxel sizes (to 1 %) and axis order."""
        return (
            self.shape == other.shape
            and self.frame.axes == other.frame.axes
            and bool(np.allclose(self.voxel_size, other.voxel_size, rtol=0.01))
        )

    def position(self, index: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return where voxels lie in space, as ChimeraX places them.

        Parameters
        ----------
        index : array_like, shape (..., 3)
            Indices into ``data`` (section, row, column), fractions allowed.

        Returns
        -------
        ndarray, shape (..., 3)
            x, y, z in Å. The ORIGIN record counts where it is not zero, otherwise NSTART does. Values that
            can't be meant (so large that voxels could not be told apart, or more than ten boxes away) are
            taken as not set.
        """
        points = np.asarray(index, dtype=np.float64)
        out = np.empty(points.shape)
        by_start, nstart = not self._origin_counts(), self._usable_nstart()
        for position, axis in enumerate(self.frame.axes):  # columns, rows, sections
            along = 2 - position
            first = nstart[position] if by_start else 0
            shift = 0.0 if by_start else self.frame.origin[axis - 1]
            out[..., axis - 1] = (points[..., along] + first) * self.voxel_size[along] + shift
        return out

    def _origin_counts(self) -> bool:
        """Tell whether ORIGIN is set, and to something that single precision can add a voxel to."""
        origin = np.array(self.frame.origin, dtype=np.float32)
        with np.errstate(over="ignore"):
            apart = origin + np.array(self.spacing, dtype=np.float32) != origin
        return bool(np.any(origin) and np.all(apart))

    def _usable_nstart(self) -> IntTriple:
        """Return NSTART, or zeros where it lies more than ten boxes away and was hardly set."""
        limit = 10 * max(*self.frame.sampling, *self.shape)
        return self.frame.nstart if all(abs(n) <= limit for n in self.frame.nstart) else (0, 0, 0)

    @property
    def spacing(self) -> Triple:
        """Å per voxel along x, y, z, whatever the file's axis order."""
        sections, rows, columns = self.voxel_size
        along = dict(zip(self.frame.axes, (columns, rows, sections), strict=True))
        return along[1], along[2], along[3]

    def standard(self) -> npt.NDArray[np.float32]:
        """Return the data as a view in (z, y, x) order, whatever the file's axis order."""
        columns, rows, sections = self.frame.axes
        along = {sections: 0, rows: 1, columns: 2}
        return self.data.transpose(along[3], along[2], along[1])


class Grid(Protocol):
    """What has the voxels, the place in space and the name of a map: `Volume`, `LazyMap`."""

    @property
    def shape(self) -> IntTriple:
        """Number of sections, rows and columns."""

    @property
    def voxel_size(self) -> Triple:
        """Å per voxel along sections, rows, columns."""

    @property
    def frame(self) -> Frame:
        """Position, cell and file axis order."""

    @property
    def name(self) -> str:
        """For messages and output names."""


@dataclass(frozen=True, eq=False)
class LazyMap:
    """A map that is computed, or read, when it is wanted: some planes at a time, or whole.

    One of ``make``, ``stream`` and ``whole`` says how. All may be called from several threads.

    Attributes
    ----------
    shape, voxel_size, frame, name
        As of a `Volume`.
    make : callable, optional
        ``make(start, stop, *slabs)`` returns planes ``start`` to ``stop``, given the same planes of all
        ``sources``. They are valid until it is called again in the same thread.
    stream : callable, optional
        ``stream(start, stop)`` yields first plane, plane after the last, and planes, valid until the next
        step; for maps whose planes share work with their neighbours'.
    whole : callable, optional
        ``whole()`` returns all planes, for maps that can't be had in parts.
    sources : tuple of LazyMap
        Maps on the same grid that planes are made of.
    needs : tuple of LazyMap
        Maps, on any grid, that ``make`` wants the ``data`` of.
    finish : callable, optional
        ``finish(data)`` returns what all planes together are turned into at the end.
    threads : int
        How many may work on it.
    """

    shape: IntTriple
    voxel_size: Triple
    frame: Frame
    name: str = "map"
    make: Callable[..., Array] | None = None
    stream: Callable[[int, int], Stream] | None = None
    whole: Callable[[], Array] | None = None
    sources: tuple[LazyMap, ...] = ()
    needs: tuple[LazyMap, ...] = ()
    finish: Callable[[Array], Array] | None = None
    threads: int = 1

    def __repr__(self) -> str:
        return f"<LazyMap {_grid_text(self)}{'' if self.is_known else ', not computed yet'}>"

    @classmethod
    def on(cls, grid: Grid, make: Callable[..., Array] | None = None, **how: Any) -> LazyMap:
        """Make a lazy map on the grid of another, with its name."""
        return cls(grid.shape, grid.voxel_size, grid.frame, how.pop("name", grid.name), make, **how)

    @classmethod
    def of(cls, volume: Volume) -> LazyMap:
        """Return a map in memory as a lazy one."""
        return cls.on(volume, whole=lambda: volume.data)

    @property
    def is_known(self) -> bool:
        """Whether `data` was computed already."""
        return "data" in vars(self)

    @cached_property
    def data(self) -> Array:
        """All values, read-only; computed once."""
        if self.whole is not None:
            return _read_only(np.asarray(self.whole(), dtype=np.float32))
        found = large_empty(self.shape)

        def keep(_: str, start: int, stop: int, planes: Array) -> None:
            found[start:stop] = planes

        compute_planes({self.name: self}, keep)
        return _read_only(found)

    def planes(self, start: int, stop: int) -> Array:
        """Return planes ``start`` to ``stop``."""
        if self.is_known or self.whole is not None or self.finish is not None:
            return self.data[start:stop]
        _prepare([self])
        walk = _in_slabs([self], start, stop)
        return np.concatenate([np.array(slab[self]) for _, _, slab in walk])

    def volume(self, name: str | None = None) -> Volume:
        """Return the map with all its values."""
        return Volume(self.data, self.voxel_size, self.frame, self.name if name is None else name)


def answer_in(products: Collection[str]) -> str:
    """Name the product that says what is there: the occupancy, or of what states none the local scale."""
    return "occupancy" if "occupancy" in products or "scale" not in products else "scale"


def frame_of_box(grid: Grid, first: Triple) -> Frame:
    """Return the frame of a grid that begins at a place (x, y, z in Å), with the grid itself as its cell."""
    count, size = (dict(zip(grid.frame.axes, of[::-1], strict=True)) for of in (grid.shape, grid.voxel_size))
    sampling = int(count[1]), int(count[2]), int(count[3])
    cell = count[1] * size[1], count[2] * size[2], count[3] * size[3]
    return replace(grid.frame, cell=cell, sampling=sampling, nstart=(0, 0, 0), origin=first)


def on_finer_grid(coarse: LazyMap, grid: Grid) -> LazyMap:
    """Return a map interpolated to a finer grid over the same extent; the map itself where that is its."""
    if coarse.shape == grid.shape:
        return coarse
    finer = Refiner(coarse.shape, grid.shape, lambda z: coarse.planes(z, z + 1)[0])
    # Planes that share work with their neighbours' are made together and kept, others when they are wanted.
    shared = tuple(lazy for lazy in _with_sources([coarse]) if lazy.make is None)
    return LazyMap.on(grid, finer.planes, needs=shared, threads=coarse.threads)


def in_stretches(lazy: LazyMap, *, planes: int = 24, most: int = 1 << 26) -> LazyMap:
    """Return a map of many voxels as one that is never whole in memory, for use in the order of its planes.

    Parameters
    ----------
    lazy : LazyMap
        A map of more than ``most`` voxels; a smaller one is returned as it is.
    planes : int
        Each thread makes so many at a time, and keeps them until it needs others.
    """
    if lazy.is_known or math.prod(lazy.shape) <= most:
        return lazy
    kept = threading.local()

    def make(start: int, stop: int) -> Array:
        first, stretch = getattr(kept, "stretch", (0, np.empty((0, 0, 0), dtype=np.float32)))
        if not first <= start <= stop <= first + len(stretch):
            first, stretch = start, lazy.planes(start, min(max(stop, start + planes), lazy.shape[0]))
            kept.stretch = first, stretch
        return stretch[start - first : stop - first]

    return LazyMap.on(lazy, make, threads=lazy.threads)


@dataclass(frozen=True, eq=False)
class _Slab:
    """Planes ``start`` to ``stop`` of several maps, each computed once."""

    start: int
    stop: int
    made: dict[LazyMap, Array]

    def __getitem__(self, lazy: LazyMap) -> Array:
        if lazy.is_known:
            return lazy.data[self.start : self.stop]
        if lazy not in self.made:
            self.made[lazy] = self._planes(lazy)
        return self.made[lazy]

    def _planes(self, lazy: LazyMap) -> Array:
        if lazy.make is not None:
            return lazy.make(self.start, self.stop, *(self[source] for source in lazy.sources))
        if lazy.stream is not None:
            return np.concatenate([part.copy() for _, _, part in lazy.stream(self.start, self.stop)])
        return lazy.data[self.start : self.stop]


def _with_sources(maps: Collection[LazyMap]) -> Iterator[LazyMap]:
    for lazy in maps:
        yield from _with_sources(lazy.sources)
        yield lazy


def _prepare(maps: Collection[LazyMap]) -> None:
    """Compute what threads share, before they start."""
    for lazy in _with_sources(maps):
        for needed in () if lazy.is_known else lazy.needs:
            _ = needed.data
        if lazy.whole is not None or (lazy.finish is not None and lazy not in maps):
            _ = lazy.data


def _in_slabs(maps: Collection[LazyMap], start: int, stop: int) -> Iterator[tuple[int, int, _Slab]]:
    """Walk through planes of several maps, in slabs that stay in cache from one map to the next."""
    streamed = (m for m in _with_sources(maps) if m.stream is not None and not m.is_known)
    lead = next(streamed, None)
    walk = iter([(start, stop, None)]) if lead is None or lead.stream is None else lead.stream(start, stop)
    thickness = planes_per_slab(next(iter(maps)).shape)
    for first, last, planes in walk:
        for low, high in slabs(last - first, thickness):
            made = {} if lead is None or planes is None else {lead: planes[low:high]}
            yield first + low, first + high, _Slab(first + low, first + high, made)


@one_blas_thread()
def compute_planes(maps: Mapping[str, LazyMap], consume: Consume, progress: Progress | None = None) -> None:
    """Compute maps on one grid together, what they share only once, and hand each slab on.

    Parameters
    ----------
    maps : mapping
        Name → map, at least one.
    consume : callable
        ``consume(name, start, stop, planes)``; called from several threads, each plane once, whole maps
        that are finished at the end last. What it wants to keep it must copy.
    progress : callable, optional
        ``progress("maps", planes done, planes)``.
    """
    every = list(maps.values())
    count, threads = every[0].shape[0], max(lazy.threads for lazy in every)
    late = {name: lazy for name, lazy in maps.items() if lazy.finish is not None and not lazy.is_known}
    unfinished = {name: large_empty(lazy.shape) for name, lazy in late.items()}
    _prepare(every)
    done = 0

    def work(start: int, stop: int) -> None:
        nonlocal done
        for first, last, slab in _in_slabs(every, start, stop):
            for name, lazy in maps.items():
                if name in late:
                    unfinished[name][first:last] = slab[lazy]
                else:
                    consume(name, first, last, slab[lazy])
            done += last - first
            if progress is not None:
                progress("maps", done, count)

    # One long stretch for each thread, as streams work the ends of a stretch twice.
    for_each_slab(work, count, -(-count // threads), threads)
    for name, lazy in late.items():
        assert lazy.finish is not None
        consume(name, 0, count, lazy.finish(unfinished.pop(name)))
