"""The maps of a set as members of an estimate, and what they are worked on with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

from occupy.ensemble.execution import Execution, Executor, LocalExecutor, MemoryStorage, Storage
from occupy.ensemble.members import Member, resampled, working_grid
from occupy.errors import InputError, Notice
from occupy.io.mapset import ClassMap, MapSet
from occupy.numerics.parallel import available_cores
from occupy.volume import Progress, Volume


@dataclass(frozen=True)
class _Limits:
    """What is left out of a set, and how much of the machine it may take.

    Attributes
    ----------
    few_particles : int
        Classes of fewer are left out …
    least_share : float
        … and those with a smaller share of all particles, where only that is known.
    in_memory : int
        Numbers that all maps may hold together before they are kept on disk (256 MiB of them).
    per_thread : int
        Arrays of the working grid that a thread needs at a time …
    for_threads : int
        … and bytes that all threads may take together, unless the user says how many there are to be.
    most_threads : int
        By default.
    """

    few_particles: int = 50
    least_share: float = 0.002
    in_memory: int = 1 << 26
    per_thread: int = 16
    for_threads: int = 1 << 30
    most_threads: int = 8


LIMITS = _Limits()


@dataclass(frozen=True)
class _MapFile:
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
        return resampled(volume, grid)


@contextmanager
def execution_for(
    maps: Sequence[Path],
    grid: Callable[[], Volume],
    folder: Path,
    report: Progress,
    *,
    lowpass: float | None = None,
    threads: int | None = None,
    scheduler: str | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Iterator[Execution]:
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
    lowpass : float, optional
        Å: common resolution asked for.
    threads : int, optional
        By default as many as there are processors, up to eight and as far as memory goes.
    scheduler : str, optional
        Address of a Dask scheduler.
    tell : callable
        Is told what is waited for.
    """
    from occupy.io.cluster import SCRATCH, scratch_storage

    with ExitStack() as stack:
        files = stack.enter_context(scratch_storage(folder))
        if scheduler is not None:
            from occupy.io.cluster import cluster

            seen = [maps[0], maps[-1]]
            executor: Executor = stack.enter_context(
                cluster(scheduler, seen, folder.absolute() / SCRATCH, tell)
            )
        else:
            executor = LocalExecutor(threads or _usual_threads(grid(), lowpass))

        def storage(count: int, shape: tuple[int, int, int]) -> Storage:
            if scheduler is None and count * prod(shape) <= LIMITS.in_memory:
                return MemoryStorage(count, shape)
            return files(count, shape)

        yield Execution(executor, storage, report)


def _usual_threads(grid: Volume, lowpass: float | None = None) -> int:
    """Return how many maps are worked on at a time."""
    shape, _ = working_grid(grid, lowpass)
    return max(
        1,
        min(
            available_cores(),
            LIMITS.most_threads,
            LIMITS.for_threads // (4 * LIMITS.per_thread * prod(shape)),
        ),
    )


def without_small(found: MapSet) -> tuple[MapSet, list[Notice]]:
    """Leave out classes that hold a handful of particles, and say which."""
    particles = sum(entry.particles or 0 for entry in found.maps)
    out = [entry for entry in found.maps if _is_small(entry, particles)]
    if not out:
        return found, []
    kept = tuple(entry for entry in found.maps if entry not in out)
    shares = (f"{e.particles} particles" if e.weight is None else f"{100 * e.weight:.2g} %" for e in out)
    names = ", ".join(f"{e.name} ({share})" for e, share in zip(out, shares, strict=True))
    if len(kept) < 2:
        raise InputError(
            f"{found.source}: fewer than two classes hold {LIMITS.few_particles} particles or more "
            f"({names} do not)"
        )
    text = f"left out, as they hold too few particles: {names}"
    return replace(found, maps=kept), [Notice("small-class", text)]


def _is_small(entry: ClassMap, particles: int) -> bool:
    """Tell whether a class holds too little, given the number of particles of all (0 where unknown)."""
    # A map is a sum over all particles by their probabilities: its soft share counts.
    if entry.weight is None:
        return entry.particles is not None and entry.particles < LIMITS.few_particles
    if particles:
        return entry.weight * particles < LIMITS.few_particles
    return entry.weight < LIMITS.least_share


def members_of(used: MapSet, voxel_size: float | None = None, *, resample: bool = False) -> list[Member]:
    """Return the maps of a set as members of an estimate.

    Parameters
    ----------
    used : MapSet
        From `occupy.io.sets.find_set`.
    voxel_size : float, optional
        Å, in place of the headers'.
    resample : bool
        Bring maps on another grid onto that of the first.
    """
    onto = used.maps[0].path.absolute() if resample else None
    return [
        # Interpolation changes what the source said of the shells.
        Member(e.name, _MapFile(e.path.absolute(), voxel_size, onto), e.weight, None if onto else e.ssnr)
        for e in used.maps
    ]
