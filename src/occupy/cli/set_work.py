"""With what a set is worked on: threads or a cluster, memory or scratch files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from occupy.cli.console import Report

if TYPE_CHECKING:
    from occupy.ensemble.passes import Means, Pool, Shelf
    from occupy.volume import Volume

IN_MEMORY = 1 << 26
"""Numbers (256 MiB of them) that all maps may hold together before they are kept on disk."""

PER_THREAD = 16
"""Arrays of the working grid that a thread needs at a time …"""

FOR_THREADS = 1 << 30
"""… and bytes that all threads may take together, unless the user says how many there are to be."""

MOST_THREADS = 8


@dataclass(frozen=True)
class MapFile:
    """Reads a map; can be sent to another process.

    Attributes
    ----------
    path : Path
    voxel_size : float or None
        Å, in place of the header's.
    onto : Path or None
        Map whose grid it is brought onto where it is on another.
    """

    path: Path
    voxel_size: float | None = None
    onto: Path | None = None

    def __call__(self) -> Volume:
        """Return the map."""
        from occupy.io.mrc import read_map

        volume = read_map(self.path, voxel_size=self.voxel_size)
        if self.onto is None:
            return volume
        grid = read_map(self.onto, voxel_size=self.voxel_size)
        if volume.same_grid(grid):
            return volume
        from occupy.ensemble.resample import resampled

        return resampled(volume, grid)


@contextmanager
def means_for(
    maps: Sequence[Path],
    grid: Callable[[], Volume],
    folder: Path,
    report: Report,
    *,
    threads: int | None = None,
    scheduler: str | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Iterator[Means]:
    """Give what a set is worked on with, and clean up afterwards.

    Parameters
    ----------
    maps : sequence of Path
        The set.
    grid : callable
        Returns a map of the set.
    folder : Path
        Of the results; scratch files lie in it.
    report : callable
        ``report(stage, done, total)``.
    threads : int, optional
        By default as many as there are processors, up to eight and as far as memory goes.
    scheduler : str, optional
        Address of a Dask scheduler.
    tell : callable
        Is told what is waited for.
    """
    from occupy.ensemble.passes import LocalPool, Means, MemoryShelf
    from occupy.io.shelves import SCRATCH, scratch

    with ExitStack() as stack:
        files = stack.enter_context(scratch(folder))
        if scheduler is not None:
            from occupy.io.cluster import cluster

            seen = [maps[0], maps[-1]]
            pool: Pool = stack.enter_context(cluster(scheduler, seen, folder.absolute() / SCRATCH, tell))
        else:
            pool = LocalPool(threads or usual_threads(grid()))

        def room(count: int, shape: tuple[int, int, int]) -> Shelf:
            if scheduler is None and count * prod(shape) <= IN_MEMORY:
                return MemoryShelf(count, shape)
            return files(count, shape)

        yield Means(pool, room, report)


def usual_threads(grid: Volume) -> int:
    """Return how many maps are worked on at a time."""
    from occupy.ensemble.ground import working_grid
    from occupy.numerics.parallel import available_cores

    shape, _ = working_grid(grid)
    return max(1, min(available_cores(), MOST_THREADS, FOR_THREADS // (4 * PER_THREAD * prod(shape))))
