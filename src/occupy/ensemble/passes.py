"""Passes over the maps of a set: where per-map work runs, and where per-map arrays are kept.

The numerics say what is done with map k, as a function of what all maps share and of k, whose only effect is
to fill place k of a shelf. Whether that runs here, in threads or on a cluster, and whether shelves are memory
or files, is decided elsewhere and does not change the answer: sums over maps are added up in a fixed order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Shape = tuple[int, int, int]
Progress = Callable[[str, int, int], None]
T = TypeVar("T")

PARTS = 32
"""Sums over maps are made of at most so many parts, however many maps there are."""


class Shelf(Protocol):
    """One float32 array of one shape per map, all of them at once possibly larger than memory."""

    shape: Shape

    def __len__(self) -> int:
        """Return the number of maps."""

    def __getitem__(self, k: int) -> Array:
        """Return the array of map ``k``, read-only."""

    def __setitem__(self, k: int, array: Array) -> None:
        """Keep the array of map ``k``."""

    def span(self, start: int, stop: int) -> Array:
        """Return voxels ``start`` to ``stop`` (of the flat array) of all maps, (K, stop − start), a copy."""

    def put_span(self, start: int, values: Array) -> None:
        """Keep voxels from ``start`` on of all maps."""

    def clear(self) -> None:
        """Give the room back."""


class Room(Protocol):
    """Makes shelves."""

    def __call__(self, count: int, shape: Shape) -> Shelf:
        """Return a shelf for so many maps."""


class Pool(Protocol):
    """Runs per-map work."""

    @property
    def threads(self) -> int:
        """How many threads work that is not per map may use here."""

    def each(self, work: Callable[[Any, int], T], shared: Any, count: int) -> Iterator[T]:
        """Yield ``work(shared, k)`` for k from 0 to ``count`` − 1, in this order.

        ``work`` is a function of a module. It may be called again for a ``k`` whose result was lost, so doing
        it twice must be the same as doing it once.
        """


class MemoryShelf:
    """A shelf in memory."""

    def __init__(self, count: int, shape: Shape) -> None:
        self.shape = shape
        self._data: Array = np.empty((count, *shape), dtype=np.float32)

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, k: int) -> Array:
        view: Array = self._data[k]
        view.flags.writeable = False
        return view

    def __setitem__(self, k: int, array: Array) -> None:
        self._data[k] = array

    def span(self, start: int, stop: int) -> Array:
        """Return voxels of all maps."""
        return self._data.reshape(len(self), -1)[:, start:stop].copy()

    def put_span(self, start: int, values: Array) -> None:
        """Keep voxels of all maps."""
        self._data.reshape(len(self), -1)[:, start : start + values.shape[1]] = values

    def clear(self) -> None:
        """Give the memory back."""
        self._data = np.empty((len(self), 0, 0, 0), dtype=np.float32)


@dataclass(frozen=True)
class LocalPool:
    """Per-map work within this process, in threads: NumPy and SciPy free the interpreter in their loops."""

    threads: int = 1

    def each(self, work: Callable[[Any, int], T], shared: Any, count: int) -> Iterator[T]:
        """Yield the results in order; at most one more map than threads is under way."""
        if self.threads <= 1 or count <= 1:
            for k in range(count):
                yield work(shared, k)
            return
        waiting: deque[Future[T]] = deque()
        with ThreadPoolExecutor(self.threads) as pool:
            try:
                for k in range(count):
                    if len(waiting) > self.threads:
                        yield waiting.popleft().result()
                    waiting.append(pool.submit(work, shared, k))
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()


@dataclass(frozen=True)
class Means:
    """With what a set is worked on: a pool, room for arrays, and whom to tell about progress."""

    pool: Pool = LocalPool()
    room: Room = MemoryShelf
    report: Progress = lambda *_: None

    def each(self, stage: str, work: Callable[[Any, int], T], shared: Any, count: int) -> Iterator[T]:
        """Yield ``work(shared, k)`` for each map, in order, and report."""
        self.report(stage, 0, count)
        for done, result in enumerate(self.pool.each(work, shared, count), start=1):
            self.report(stage, done, count)
            yield result

    def folded(
        self,
        stage: str,
        work: Callable[[Any, int], tuple[tuple[npt.NDArray[Any], ...], T]],
        shared: Any,
        count: int,
        add: np.ufunc = np.add,
    ) -> tuple[tuple[npt.NDArray[Any], ...], list[T]]:
        """Add arrays up over all maps.

        Parameters
        ----------
        stage : str
            For progress.
        work : callable
            ``work(shared, k)`` → new arrays of map ``k`` to be added up, and anything else to be kept.
        shared, count
            As in `Pool.each`.
        add : ufunc
            How: `numpy.add` or `numpy.maximum`.

        Returns
        -------
        arrays, kept
            Sums, the same bit for bit wherever the work runs, and what was kept, in order.
        """
        size = -(-count // PARTS)
        total: tuple[npt.NDArray[Any], ...] = ()
        kept: list[T] = []
        for arrays, items in self.each(stage, _part, (work, shared, count, size, add), -(-count // size)):
            total = _added(total, arrays, add)
            kept += items
        return total, kept


def _part(shared: tuple[Any, ...], part: int) -> tuple[tuple[npt.NDArray[Any], ...], list[Any]]:
    work, given, count, size, add = shared
    total: tuple[npt.NDArray[Any], ...] = ()
    kept = []
    for k in range(part * size, min((part + 1) * size, count)):
        arrays, item = work(given, k)
        total = _added(total, arrays, add)
        kept.append(item)
    return total, kept


def _added(
    total: tuple[npt.NDArray[Any], ...], more: tuple[npt.NDArray[Any], ...], add: np.ufunc
) -> tuple[npt.NDArray[Any], ...]:
    if not total:
        return more
    return tuple(add(a, b, out=a) for a, b in zip(total, more, strict=True))
