"""What is there in each class: from a folder, files or maps to occupancies, components and regions."""

from __future__ import annotations

import logging
import tempfile
import uuid
import weakref
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, cast

from occupy.ensemble.comparison import pose_notices
from occupy.ensemble.components import Component, component_regions, find_components, read_set, soft_mask
from occupy.ensemble.execution import Execution
from occupy.ensemble.members import Member
from occupy.ensemble.pipeline import ClassEstimate, SetEstimate, compare_members
from occupy.errors import InputError, Notice
from occupy.inputs import execution_for, members_of, open_inputs, without_small
from occupy.io.mapset import MapSet
from occupy.model import AtomicModel
from occupy.regions.joint import JointRegions, fit_regions_of_set, not_fitted, with_joint
from occupy.regions.region import Region
from occupy.regions.table import OccupancyTable
from occupy.report.set_record import set_numbers, set_record
from occupy.result import MapResult, Result, estimate
from occupy.settings import Settings
from occupy.volume import LazyMap, Progress, Volume

log = logging.getLogger(__name__)


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
        from occupy.report.set_record import request_of
        from occupy.report.set_results import SetOutput, write_set

        folder = Path(folder)
        paths = [entry.path for entry in self.found.maps if entry.name in self.names]
        begun = request_of(paths, self.settings)
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
        joint, warnings = _joint_fit(members, model, regions)
        if table is not None and joint:
            table = with_joint(table, joint)
        result = replace(
            found,
            parts=wanted,
            table=table,
            joint=joint,
            warnings=(*notices, *warnings, *found.notices),
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
