"""What is there in each class: from a folder, files or maps to occupancies, components and regions."""

from __future__ import annotations

import logging
import tempfile
import uuid
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from math import prod
from pathlib import Path
from typing import Any, cast

from occupy.ensemble.alignment import pose_notices
from occupy.ensemble.components import Component, find_components, soft_mask
from occupy.ensemble.execution import Execution, Executor, LocalExecutor, MemoryStorage, Storage
from occupy.ensemble.members import Member, working_grid
from occupy.ensemble.pipeline import ClassEstimate, SetEstimate, compare_members
from occupy.ensemble.summary import component_regions, read_set
from occupy.errors import InputError, Notice
from occupy.inputs import open_inputs
from occupy.io.mapset import ClassMap, MapSet
from occupy.model import AtomicModel
from occupy.numerics.parallel import available_cores
from occupy.regions.joint import JointRegions, fit_regions_of_set, not_fitted, with_joint
from occupy.regions.region import Region
from occupy.regions.table import OccupancyTable
from occupy.report.set_record import set_numbers, set_record
from occupy.result import MapResult, Result, estimate
from occupy.settings import Settings
from occupy.volume import LazyMap, Progress, Volume

log = logging.getLogger(__name__)


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
        from occupy.ensemble.members import resampled

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


@dataclass(frozen=True, eq=False, repr=False)
class ClassesResult(Result):
    """What is there in each class of a set.

    Attributes
    ----------
    estimate : SetEstimate
        All numbers, on the working grid.
    components : tuple of Component
        Parts that come and go as one.
    parts : tuple of Region
        What was read: the regions given, then the components.
    table : OccupancyTable or None
        What the regions read in every class; None where there are none.
    joint : mapping of str to JointRegions
        Class → joint fit of the regions; nothing where no model was given.
    warnings : tuple of Notice
        See `notices`.
    found : MapSet or None
        The files the maps are of; None where they were in memory.
    asked : mapping
        What was asked for.
    """

    estimate: SetEstimate
    components: tuple[Component, ...] = ()
    parts: tuple[Region, ...] = ()
    table: OccupancyTable | None = None
    joint: Mapping[str, JointRegions] = field(default_factory=dict)
    warnings: tuple[Notice, ...] = ()
    found: MapSet | None = None
    asked: Mapping[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the classes, in order."""
        return self.estimate.names

    @property
    def settings(self) -> Mapping[str, Any]:
        """What was asked for; what was chosen is among the numbers."""
        return self.asked

    @property
    def notices(self) -> tuple[Notice, ...]:
        """What makes the result doubtful: about the set, classes left out, resolution, alignment."""
        return self.warnings

    @cached_property
    def maps(self) -> Mapping[str, Mapping[str, LazyMap]]:
        """Class → ``occupancy``, ``relative`` and ``uncertainty`` → lazy map."""
        return {name: self.estimate.maps_of_class(k) for k, name in enumerate(self.names)}

    @cached_property
    def of_set(self) -> Mapping[str, LazyMap]:
        """Soft masks of the components."""
        est = self.estimate
        return {c.name: est.on_grid(soft_mask(est, c.mask)) for c in self.components}

    @property
    def numbers(self) -> Mapping[str, Any]:
        """Every number found of the whole set, with units in the names."""
        return set_numbers(self.estimate)

    def record(self) -> dict[str, Any]:
        """Return the record as plain values; it names no files before `save` wrote them."""
        return set_record(
            self.found,
            self.estimate,
            self.components,
            of_classes={},
            outputs={},
            options=self.settings,
            inputs={},
            notices=self.notices,
            command=(),
        )

    def save(self, folder: str | Path) -> Path:
        """Write everything into a folder, as `occupy classes` does; return the folder.

        Maps that were in memory can't be named in a record: save them as files and estimate those.
        """
        if self.found is None:
            raise InputError("the maps of this set are in memory; write them as files and estimate those")
        from occupy.report.set_record import asked_of, begin
        from occupy.report.set_results import SetOutput, write_set

        folder = Path(folder)
        paths = [entry.path for entry in self.found.maps if entry.name in self.names]
        begun = asked_of(paths, self.settings)
        begin(folder, begun)
        given = self.parts[: len(self.parts) - len(self.components)]
        output = SetOutput(
            self.found, begun, self.settings, notices=self.notices, regions=given, joint=self.joint
        )
        write_set(folder, self.estimate, self.components, output, Execution())
        return folder

    def of_class(self, name: str | int) -> ClassEstimate:
        """Return what a class shows, by name or position, on the working grid's content box."""
        return self.estimate.of_class(self._index(name))

    def occupancy(self, name: str | int) -> Volume:
        """Return the occupancy of a class on the grid of the maps."""
        return self._volume(name, "occupancy")

    def uncertainty(self, name: str | int) -> Volume:
        """Return the standard error of `occupancy`."""
        return self._volume(name, "uncertainty")

    def _index(self, name: str | int) -> int:
        if isinstance(name, int):
            return range(len(self.names))[name]
        if name not in self.names:
            raise KeyError(f"no class {name!r}; there are {', '.join(self.names[:8])}")
        return self.names.index(name)

    def _volume(self, name: str | int, what: str) -> Volume:
        known = self.names[self._index(name)]
        return self.maps[known][what].volume(f"{known}_{what}")


def compare_classes(
    members: Sequence[Member], execution: Execution, *, lowpass: float | None = None, components: bool = True
) -> ClassesResult:
    """Estimate a set, check how its classes are aligned, and find what comes and goes.

    Parameters
    ----------
    members : sequence of Member
        The maps.
    execution : Execution
        Where the work runs and arrays are kept.
    lowpass : float, optional
        Å: the resolution to compare at, instead of that of the maps.
    components : bool
        Look for parts that come and go as one.

    Returns
    -------
    ClassesResult
        Without regions and table; see `estimate_classes`.
    """
    est = compare_members(members, execution, lowpass)
    notices = (*est.notices, *pose_notices(est.scaled, est.names, est.weights, execution))
    execution.report("components", 0, 0)
    return ClassesResult(est, find_components(est) if components else (), warnings=notices)


Source = str | Path | Sequence[str | Path] | Sequence[Member] | Mapping[str, Volume]


def estimate_classes(
    maps: Source,
    *,
    regions: Sequence[Region] = (),
    model: AtomicModel | None = None,
    lowpass: float | None = None,
    voxel_size: float | None = None,
    resample: bool = False,
    components: bool = True,
    threads: int | None = None,
    scratch: Path | None = None,
    progress: Progress | None = None,
) -> ClassesResult | MapResult:
    """Find what is there in each class of an experiment, and how sure that is.

    Parameters
    ----------
    maps : path-like, sequence or mapping
        A job folder, ``*_model.star`` or several files, as `occupy classes` takes them; or name → `Volume`;
        or members, for maps with known shares or signal-to-noise ratios.
    regions : sequence of Region
        Regions to read besides the components, on the grid of the maps.
    model : AtomicModel, optional
        The model that the regions are parts of: occupancies are those of its joint fit to all maps.
    lowpass : float, optional
        Å: the resolution to compare at, instead of that of the maps.
    voxel_size : float, optional
        Å, in place of the headers' of files.
    resample : bool
        Bring files on another grid onto that of the first.
    components : bool
        Look for parts that come and go as one.
    threads : int, optional
        Maps worked on at a time. The result does not depend on it.
    scratch : path-like, optional
        Folder for arrays of large sets, which lie on disk as long as the result is in use [default: the
        system's temporary folder].
    progress : callable, optional
        ``progress(stage, done, total)``.

    Returns
    -------
    ClassesResult or MapResult
        Its notices warn, classes that are not aligned among it. Of one map there is nothing
        to compare: the result is that of `estimate`.

    Raises
    ------
    InputError
        Where fewer than two maps hold anything, or grids differ.
    """
    _check_options(lowpass, threads)
    single = _only_map(maps)
    if single is not None:
        return _one_map(single, lowpass, voxel_size, threads, progress)
    members, notices, source = _members(maps, voxel_size, resample)
    asked = {"lowpass": lowpass, "resample": resample, "components": components, "voxel_size": voxel_size}
    folder = scratch or Path(tempfile.gettempdir()) / f"occupy-{uuid.uuid4().hex}"
    with ExitStack() as stack:
        execution = stack.enter_context(
            execution_for(
                [], members[0].read, folder, progress or (lambda *_: None), lowpass=lowpass, threads=threads
            )
        )
        found = compare_classes(members, execution, lowpass=lowpass, components=components)
        est = found.estimate
        wanted = (*regions, *component_regions(est, found.components))
        table = read_set(est, wanted, execution) if wanted else None
        joint, doubts = _joint_fit(members, model, regions)
        if table is not None and joint:
            table = with_joint(table, joint)
        result = replace(
            found,
            parts=wanted,
            table=table,
            joint=joint,
            warnings=(*notices, *doubts, *found.notices),
            found=source,
            asked=asked,
        )
        # Arrays may lie on disk: they go with the last that uses them.
        weakref.finalize(est, stack.pop_all().close)
    for notice in result.notices:
        log.warning("%s", notice.text)
    return result


def _joint_fit(
    members: Sequence[Member], model: AtomicModel | None, regions: Sequence[Region]
) -> tuple[dict[str, JointRegions], list[Notice]]:
    """Fit a model's regions to all maps; or say why they are only read."""
    if model is None or not regions:
        return {}, []
    fits = fit_regions_of_set({member.name: member.read for member in members}, model, regions)
    if isinstance(fits, str):
        return {}, [not_fitted(fits)]
    return fits, next(iter(fits.values())).notices


def _check_options(lowpass: object, threads: object) -> None:
    if lowpass is not None and (isinstance(lowpass, bool) or not isinstance(lowpass, (int, float))):
        raise TypeError(f"lowpass must be a number, not {lowpass!r}")
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int)):
        raise TypeError(f"threads must be a whole number, not {threads!r}")
    if isinstance(threads, int) and threads < 1:
        raise InputError(f"threads must be at least 1, not {threads}")


def _only_map(maps: Source) -> Volume | Path | None:
    """Return the map of a set of one."""
    if isinstance(maps, Mapping):
        return next(iter(maps.values())) if len(maps) == 1 else None
    if isinstance(maps, (str, Path)):
        return Path(maps) if Path(maps).is_file() and Path(maps).suffix != ".star" else None
    if len(maps) == 1 and isinstance(maps[0], (str, Path)):
        return _only_map(maps[0])
    return None


def _one_map(
    single: Volume | Path,
    lowpass: float | None,
    voxel_size: float | None,
    threads: int | None,
    progress: Progress | None,
) -> MapResult:
    settings = Settings(lowpass=lowpass, threads=threads)
    if isinstance(single, Volume):
        return estimate(single, settings, progress=progress)
    return estimate(open_inputs(single, settings, voxel_size=voxel_size), settings, progress=progress)


def _same(volume: Volume) -> Volume:
    return volume


def _members(
    maps: Source, voxel_size: float | None, resample: bool
) -> tuple[Sequence[Member], Sequence[Notice], MapSet | None]:
    """Return what `estimate_classes` was given as members, with what is to be said about it."""
    if isinstance(maps, Mapping):
        return [Member(name, partial(_same, volume)) for name, volume in maps.items()], [], None
    if not isinstance(maps, (str, Path)) and maps and isinstance(maps[0], Member):
        return cast(Sequence[Member], maps), [], None
    from occupy.io.sets import find_set

    found = find_set(
        cast(Sequence[str], [maps] if isinstance(maps, (str, Path)) else maps), count_particles=True
    )
    used, left = without_small(found)
    return members_of(used, voxel_size, resample=resample), [*found.notices, *left], found
