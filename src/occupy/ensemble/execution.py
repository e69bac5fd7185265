"""Where work on each map of a set runs (executor), and where arrays of each map are kept (storage).

The numerics say what is done with map k, as a function of what all maps share and of k, whose only effect is
to fill place k of a storage. Whether that runs here, in threads or on a cluster, and whether it is kept in
memory or in files, is decided elsewhere and does not change the answer: sums over maps are added up in a
fixed order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from occupy.volume import Progress

Array = npt.NDArray[np.float32]
Shape = tuple[int, int, int]
Arrays = tuple[npt.NDArray[Any], ...]
T = TypeVar("T")


class Storage(Protocol):
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
        """Give memory or files back."""


MakeStorage = Callable[[int, Shape], Storage]


class Executor(Protocol):
    """Runs per-map work."""

    @property
    def threads(self) -> int:
        """How many threads work that is not per map may use here."""

    def each(self, work: Callable[[Any, int], T], shared: Any, count: int) -> Iterator[T]:
        """Yield ``work(shared, k)`` for k from 0 to ``count`` − 1, in this order.

        ``work`` is a function of a module. It may be called again for a ``k`` whose result was lost, so doing
        it twice must be the same as doing it once.
        """


class MemoryStorage:
    """Arrays of each map in memory."""

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
class LocalExecutor:
    """Per-map work within this process, in threads: NumPy and SciPy free the interpreter in their loops."""

    threads: int = 1

    def each(self, work: Callable[[Any, int], T], shared: Any, count: int) -> Iterator[T]:
        """Yield the results in order; at most one more map than threads is under way."""
        if self.threads <= 1 or count <= 1:
            for k in range(count):
                yield work(shared, k)
            return
        waiting: deque[Future[T]] = deque()
        with ThreadPoolExecutor(self.threads) as executor:
            try:
                for k in range(count):
                    # More under way would hold as many results in memory.
                    if len(waiting) > self.threads:
                        yield waiting.popleft().result()
                    waiting.append(executor.submit(work, shared, k))
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()


@dataclass(frozen=True)
class Execution:
    """With what a set is worked on.

    Attributes
    ----------
    executor : Executor
        Runs what is done to each map.
    storage : callable
        ``storage(count, shape)`` makes a storage of one array per map.
    report : callable
        ``report(stage, done, total)``.
    parts : int
        Sums over maps are made of at most so many parts, however many maps there are.
    """

    executor: Executor = LocalExecutor()
    storage: MakeStorage = MemoryStorage
    report: Progress = lambda *_: None
    parts: int = 32

    def each(self, stage: str, work: Callable[[Any, int], T], shared: Any, count: int) -> Iterator[T]:
        """Yield ``work(shared, k)`` for each map, in order, and report."""
        self.report(stage, 0, count)
        for done, result in enumerate(self.executor.each(work, shared, count), start=1):
            self.report(stage, done, count)
            yield result

    def folded(
        self,
        stage: str,
        work: Callable[[Any, int], tuple[Arrays, T]],
        shared: Any,
        count: int,
        add: np.ufunc = np.add,
    ) -> tuple[Arrays, list[T]]:
        """Add arrays up over all maps.

        Parameters
        ----------
        stage : str
            For progress.
        work : callable
            ``work(shared, k)`` → new arrays of map ``k`` to be added up, and anything else to be kept.
        shared, count
            As in `Executor.each`.
        add : ufunc
            How: `numpy.add` or `numpy.maximum`.

        Returns
        -------
        arrays, kept
            Sums, the same bit for bit wherever the work runs, and what was kept, in order.
        """
        # Rounded up. It depends on the number of maps alone: so does the order of the additions.
        size = -(-count // self.parts)
        total: Arrays = ()
        kept: list[T] = []
        for arrays, items in self.each(stage, _part, (work, shared, count, size, add), -(-count // size)):
            total = _added(total, arrays, add)
            kept += items
        return total, kept


def _part(shared: tuple[Any, ...], part: int) -> tuple[Arrays, list[Any]]:
    work, given, count, size, add = shared
    total: Arrays = ()
    kept = []
    for k in range(part * size, min((part + 1) * size, count)):
        arrays, item = work(given, k)
        total = _added(total, arrays, add)
        kept.append(item)
    return total, kept


def _added(total: Arrays, more: Arrays, add: np.ufunc) -> Arrays:
    if not total:
        return more
    return tuple(add(a, b, out=a) for a, b in zip(total, more, strict=True))
