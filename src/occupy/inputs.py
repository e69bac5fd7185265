"""One opening of inputs for command line, viewer and Python: a map and all that is read with it, or a set.

What lies beside a map and changes its numbers (half-maps, found by their names) is taken here and nowhere
else, and whoever opens the map is told so by a notice, which also goes into the record.
The maps of a set become members, read when they are worked on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from occupy import pipeline
from occupy.ensemble.execution import Execution, Executor, LocalExecutor, MemoryStorage, Storage
from occupy.errors import InputError, Notice
from occupy.io.checksum import ReadFile
from occupy.io.mapset import ClassMap, MapSet, find_half_maps
from occupy.io.mrc import read_header, read_source
from occupy.numerics.parallel import available_cores
from occupy.pipeline import Estimate
from occupy.settings import Settings, short_repr
from occupy.volume import Progress, Volume

if TYPE_CHECKING:
    from occupy.ensemble.members import Member

Reader = Callable[..., tuple[Volume, ReadFile]]
HALVES = ("half_map_1", "half_map_2")


@dataclass(frozen=True)
class InputFiles:
    """Files an estimate is made of, as the user named them.

    Attributes
    ----------
    map : Path
        The map.
    half_maps : tuple of Path, optional
        Its independent halves.
    solvent_mask, target_mask : Path, optional
        See `occupy.estimate`.
    voxel_size : float, optional
        Å per voxel, in place of what the headers of all files say.
    neighbours : bool
        Whether half-maps that lie beside the map may be taken without being named.
    """

    map: Path
    half_maps: tuple[Path, Path] | None = None
    solvent_mask: Path | None = None
    target_mask: Path | None = None
    voxel_size: float | None = None
    neighbours: bool = True

    __repr__ = short_repr

    @classmethod
    def of_record(cls, record: Mapping[str, Any], source: Path, find: Callable[[str], Path]) -> InputFiles:
        """Return what a result was made of.

        Parameters
        ----------
        record : mapping
            Record of an estimate.
        source : Path
            Where its map is now.
        find : callable
            ``find(path)`` returns where another of its files is now.
        """
        roles = ("solvent_mask", "target_mask", *HALVES)
        named = {role: find(about["path"]) for role, about in record["inputs"].items() if role in roles}
        first, second = (named.pop(role, None) for role in HALVES)
        halves = None if first is None or second is None else (first, second)
        # Those that would be found again need not be named again.
        found = halves is not None and halves == find_half_maps(source)
        size = record["options"].get("voxel_size")
        return cls(source, None if found else halves, voxel_size=size, neighbours=found, **named)

    def beside(self, settings: Settings) -> tuple[Path, Path] | None:
        """Return half-maps that lie beside the map and may be taken; None where none are, or of no use."""
        if self.half_maps is not None or not self.neighbours or settings.chosen_estimator != "calibrated":
            return None
        return find_half_maps(self.map)

    def by_role(self, settings: Settings) -> dict[str, Path]:
        """Return the file of every role (``map``, ``solvent_mask``, ``half_map_1`` …) that would be read."""
        beside = self.beside(settings)
        if beside is not None and not self._fit(beside):
            beside = None
        pair = self.half_maps or beside or (None, None)
        roles = {
            "map": self.map,
            "solvent_mask": self.solvent_mask,
            "target_mask": self.target_mask,
            **dict(zip(HALVES, pair, strict=True)),
        }
        return {role: path for role, path in roles.items() if path is not None}

    def open(self, settings: Settings | None = None, read: Reader = read_source) -> Inputs:
        """Read everything; see `open_inputs`.

        Parameters
        ----------
        settings : Settings, optional
            Half-maps beside the map are taken only where the estimator has a use for them.
        read : callable, optional
            ``read(path, voxel_size=…)`` returns a `Volume` and the `ReadFile` it was read from.
        """
        settings = settings or Settings()
        try:
            files = self.by_role(settings)
            read_in = {role: read(path, voxel_size=self.voxel_size) for role, path in files.items()}
        except InputError as error:
            # Nobody has named these files, so how to do without them must be said.
            if any(path.name in str(error) for path in self.beside(settings) or ()):
                hint = "a half-map that lies beside the map; --no-neighbours leaves it out"
                raise type(error)(f"{error} ({hint})") from error
            raise
        volumes = {role: volume for role, (volume, _) in read_in.items()}
        volume = volumes["map"]
        notice = self._notice(files, settings)
        if notice is not None:
            volumes["map"] = replace(volume, notices=(*volume.notices, notice))
        return Inputs(self, volumes, {role: source for role, (_, source) in read_in.items()})

    def _fit(self, halves: tuple[Path, Path]) -> bool:
        """Tell whether half-maps have the map's number of voxels and order of axes, by their headers."""
        headers = [read_header(path) for path in (self.map, *halves)]
        return len({(header.shape, header.frame.axes) for header in headers}) == 1

    def _notice(self, files: Mapping[str, Path], settings: Settings) -> Notice | None:
        """Say what was taken, or found and left, without the user having named it."""
        beside = self.beside(settings)
        if beside is None:
            return None
        names = f"{beside[0].name} and {beside[1].name}"
        if HALVES[0] in files:
            text = f"the half-maps beside it are used, {names} (--no-neighbours leaves them out)"
        else:
            text = f"the half-maps beside it, {names}, are not on its grid; they are not used"
        return Notice("neighbours", f"{self.map.name}: {text}")


@dataclass(frozen=True, eq=False)
class Inputs:
    """A map and all that is read with it; from `open_inputs`.

    Attributes
    ----------
    asked : InputFiles
        What the user named.
    volumes : mapping
        Role → what was read, half-maps found beside the map included.
    sources : mapping
        Role → file it was read from, with the checksum of what was read.
    """

    asked: InputFiles
    volumes: Mapping[str, Volume] = field(repr=False)
    sources: Mapping[str, ReadFile] = field(repr=False)

    def __repr__(self) -> str:
        return f"<Inputs of {self.volume.name!r}: {', '.join(self.sources)}>"

    @property
    def files(self) -> dict[str, Path]:
        """Role → file that was read."""
        return {role: source.path for role, source in self.sources.items()}

    @property
    def volume(self) -> Volume:
        """The map."""
        return self.volumes["map"]

    @property
    def half_maps(self) -> tuple[Volume, Volume] | None:
        """Both half-maps, or None."""
        first, second = (self.volumes.get(role) for role in HALVES)
        return None if first is None or second is None else (first, second)

    @property
    def found(self) -> tuple[str, ...]:
        """Roles of the files that were taken without being named."""
        return HALVES if self.asked.half_maps is None and HALVES[0] in self.files else ()

    @property
    def by_role(self) -> dict[str, tuple[Volume, ReadFile | Path]]:
        """Volume and source of every role, as `occupy.report.results.write_results` takes them."""
        return {role: (self.volumes[role], source) for role, source in self.sources.items()}

    def estimate(self, settings: Settings | None = None, progress: Progress | None = None) -> Estimate:
        """Estimate the map with everything that was read for it."""
        try:
            return pipeline.estimate(
                self.volume,
                settings,
                solvent_mask=self.volumes.get("solvent_mask"),
                target_mask=self.volumes.get("target_mask"),
                half_maps=self.half_maps,
                progress=progress,
            )
        except InputError as error:
            # Of many maps, the user wants to know which one it is about.
            path = self.files["map"]
            raise InputError(str(error) if self.volume.name in str(error) else f"{path}: {error}") from error


def open_inputs(
    path: str | Path,
    settings: Settings | None = None,
    *,
    half_maps: tuple[str | Path, str | Path] | None = None,
    solvent_mask: str | Path | None = None,
    target_mask: str | Path | None = None,
    voxel_size: float | None = None,
    neighbours: bool = True,
) -> Inputs:
    """Read a map and what belongs to it as the command line does.

    Parameters
    ----------
    path : path-like
        The map.
    settings : Settings, optional
        Half-maps beside the map are taken only where the estimator has a use for them.
    half_maps : tuple of path-like, optional
        Independent halves of the map; by default those that lie beside it under the names that RELION,
        cryoSPARC or EMDB give them.
    solvent_mask, target_mask : path-like, optional
        See `estimate`.
    voxel_size : float, optional
        Å per voxel, in place of what the headers of all files say.
    neighbours : bool, default True
        Take half-maps that lie beside the map. Whether they are taken changes the numbers, so a notice of
        the map says it.

    Returns
    -------
    Inputs
        To hand to `estimate`, or look at.

    Raises
    ------
    InputError
        Where a file is missing or is no map.
    """
    halves = None if half_maps is None else (Path(half_maps[0]), Path(half_maps[1]))
    solvent, target = (None if mask is None else Path(mask) for mask in (solvent_mask, target_mask))
    return InputFiles(Path(path), halves, solvent, target, voxel_size, neighbours).open(settings)


def volume_of(data: npt.NDArray[Any], voxel_size: float | tuple[float, float, float] | None) -> Volume:
    """Return an array (z, y, x) as a map; InputError where it can't be one, or its voxel size is missing."""
    if voxel_size is None:
        raise InputError("an array does not say how large its voxels are: give voxel_size=… in Å")
    try:
        return Volume.from_array(data, voxel_size)
    except ValueError as error:
        raise InputError(str(error)) from error


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
    from occupy.ensemble.members import working_grid

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
    from occupy.ensemble.members import Member

    onto = used.maps[0].path.absolute() if resample else None
    return [
        # Interpolation changes what the source said of the shells.
        Member(e.name, _MapFile(e.path.absolute(), voxel_size, onto), e.weight, None if onto else e.ssnr)
        for e in used.maps
    ]
