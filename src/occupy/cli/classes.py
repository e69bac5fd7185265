"""`occupy classes`: what is there in each class of an experiment."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from occupy.cli.console import Report, progress, say, warn
from occupy.cli.regions import Asked, Found, find_regions
from occupy.errors import InputError

if TYPE_CHECKING:
    from occupy.ensemble.components import Component
    from occupy.ensemble.execution import Execution
    from occupy.ensemble.pipeline import SetEstimate
    from occupy.io.mapset import MapSet
    from occupy.regions.region import Region
    from occupy.regions.table import OccupancyTable
    from occupy.volume import Volume

_SHOWN = 10


@dataclass(frozen=True)
class ClassesJob:
    """What to do with a set."""

    regions: Asked
    lowpass: float | None = None
    resample: bool = False
    discover: bool = True
    compare: tuple[str, str] | None = None
    voxel_size: float | None = None
    resume: bool = False
    quiet: bool = False
    report: bool = False
    threads: int | None = None
    scheduler: str | None = None

    @property
    def options(self) -> dict[str, Any]:
        """Return what results depend on as plain values, for the record."""
        return {
            "lowpass": self.lowpass,
            "resample": self.resample,
            "components": self.discover,
            "compare": None if self.compare is None else list(self.compare),
            "voxel_size": self.voxel_size,
            "report": self.report,
            **(self.regions.options if self.regions.models or self.regions.masks else {}),
        }


def estimate_classes(inputs: Sequence[str], output: Path | None, job: ClassesJob) -> None:
    """Find a set, say what it is, estimate it, write everything and print a summary."""
    from occupy.classes import compare_classes, members_of, without_small
    from occupy.io.sets import find_set
    from occupy.report.set_folder import SetOutput, write_set
    from occupy.report.set_progress import begin, is_complete, what_changed

    found = find_set(inputs, count_particles=True)
    for line in found.describe():
        say(line, job.quiet)
    notices = list(found.notices)
    used, left = without_small(found)
    for notice in notices + left:
        warn(notice.text, job.quiet)
    compare = None if job.compare is None else (_named(used, job.compare[0]), _named(used, job.compare[1]))
    folder = output or Path(f"occupy_{_stem(found)}")
    asked = _asked(used, job)
    keep = _goes_on(asked, folder, job)
    if keep and is_complete(folder):
        if (reason := what_changed(folder)) is None:
            say(f"done already, in {folder}", job.quiet)
            return
        warn(f"{folder}: starting anew, as {reason}", job.quiet)
        keep = False
    regions = _regions(used, job)
    with progress(_stem(found), job.quiet) as report, _means(used, job, folder, report) as execution:
        members = members_of(used, job.voxel_size, resample=job.resample)
        result = compare_classes(members, execution, lowpass=job.lowpass, components=job.discover)
        removed = begin(folder, asked, old=None if keep else _kept_files(used))
        est, components = result.estimate, result.components
        extras = SetOutput(
            found=found,
            begun=asked,
            options=replace(job, compare=compare).options,
            notices=(*notices, *left, *result.notices),
            command=tuple(sys.argv),
            regions=() if regions is None else regions.regions,
            model=None if regions is None else regions.model,
            inputs={} if regions is None else regions.inputs,
            compare=compare,
            keep=keep,
            page=job.report,
            voxel_size=job.voxel_size,
        )
        table, files = write_set(folder, est, components, extras, execution)
        for notice in result.notices:
            warn(notice.text, job.quiet)
        _summarise(est, components, table, files, folder, job)
        if stale := [name for name in removed if not (folder / name).exists()]:
            say(f"  removed, of an earlier run: {', '.join(stale)}", job.quiet)


def regions_table(used: MapSet, regions: Sequence[Region], job: ClassesJob, scratch: Path) -> OccupancyTable:
    """Estimate a set and read regions in it; nothing is written, but for scratch files of large sets."""
    from occupy.classes import members_of
    from occupy.ensemble.pipeline import compare_members
    from occupy.ensemble.summary import read_set

    with _means(used, job, scratch, lambda *_: None) as execution:
        members = members_of(used, job.voxel_size, resample=job.resample)
        est = compare_members(members, execution, job.lowpass)
        return read_set(est, regions, execution)


def regions_of_set(used: MapSet, job: ClassesJob) -> Found | None:
    """Make the regions asked for on the grid of a set; None where none were asked for."""
    return _regions(used, job)


def _asked(used: MapSet, job: ClassesJob) -> dict[str, Any]:
    from occupy.report.set_progress import asked_of

    return asked_of([entry.path for entry in used.maps], job.options)


def _kept_files(used: MapSet) -> list[str]:
    """Return the files that a run which goes on with another leaves alone."""
    from occupy.report.set_maps import names_of_maps

    named = names_of_maps([entry.name for entry in used.maps])
    return [file for files in named.values() for file in files.values()]


def _goes_on(asked: dict[str, Any], folder: Path, job: ClassesJob) -> bool:
    """Tell whether the results in a folder are an earlier run's that was asked for the same."""
    from occupy.report.set_progress import has_started, started_alike

    if not job.resume:
        return False
    alike = started_alike(folder, asked)
    if not alike and has_started(folder):
        warn(f"{folder}: nothing to go on from (other maps or options); starting anew", job.quiet)
    return alike


def _stem(found: MapSet) -> str:
    source = found.source
    return source.name.removesuffix(".star").removesuffix("_model").removesuffix("_optimiser") or "set"


def _named(found: MapSet, text: str) -> str:
    """Return the name of the class that a name or a number means."""
    names = [entry.name for entry in found.maps]
    if text in names:
        return text
    by_number = [entry.name for entry in found.maps if text.isdecimal() and entry.number == int(text)]
    if len(by_number) == 1:
        return by_number[0]
    raise InputError(f"--compare {text}: no such class; there are {', '.join(names[:8])}")


def _grid(used: MapSet, job: ClassesJob) -> Volume:
    from occupy.io.mrc import read_map

    return read_map(used.maps[0].path, voxel_size=job.voxel_size)


def _regions(used: MapSet, job: ClassesJob) -> Found | None:
    """Make the regions asked for, before any work is done."""
    if not job.regions.models and not job.regions.masks:
        if job.regions.by is not None or job.regions.selections is not None:
            raise InputError("--by and --regions need a --model")
        return None
    return find_regions(job.regions, _grid(used, job), job.voxel_size)


@contextmanager
def _means(used: MapSet, job: ClassesJob, folder: Path, report: Report) -> Iterator[Execution]:
    from occupy.classes import execution_for

    with execution_for(
        [entry.path for entry in used.maps],
        lambda: _grid(used, job),
        folder,
        report,
        lowpass=job.lowpass,
        threads=job.threads,
        scheduler=job.scheduler,
        tell=lambda text: say(text, job.quiet),
    ) as execution:
        yield execution


def _summarise(
    est: SetEstimate,
    components: Sequence[Component],
    table: OccupancyTable | None,
    files: dict[str, Any],
    folder: Path,
    job: ClassesJob,
) -> None:
    quiet = job.quiet
    say(f"compared at {est.scaled.resolution:.1f} Å; {len(est.names)} classes", quiet)
    if components:
        say(f"{len(components)} parts come and go between the classes:", quiet)
    elif job.discover:
        say("no part differs between the classes by more than noise", quiet)
    if table is not None:
        _say_table(table, [c.name for c in components], quiet)
        say(f"  all regions             {folder / files['tsv']}", quiet)
    say(f"  look at it with         chimerax {folder / files['classes_script']}", quiet)
    if "report" in files:
        say(f"  report                  {folder / files['report']}", quiet)


def _say_table(table: OccupancyTable, components: Sequence[str], quiet: bool) -> None:
    """Print the regions that differ most, components first."""
    import numpy as np

    from occupy.report.tables import cell_text

    spread = np.nanmax(table.values, axis=1) - np.nanmin(table.values, axis=1)
    order = [i for i in np.argsort(-spread, kind="stable") if table.regions[i] not in components]
    rows = [table.regions.index(name) for name in components[:_SHOWN]] + order[:_SHOWN]
    columns = range(min(len(table.maps), 6))
    width = max(len(table.regions[i]) for i in rows)
    say(f"  {'':<{width}}  " + "  ".join(f"{table.maps[c][-12:]:>12}" for c in columns), quiet)
    for i in rows:
        cells = [cell_text(float(table.values[i, c]), float(table.errors[i, c])) for c in columns]
        say(f"  {table.regions[i]:<{width}}  " + "  ".join(f"{cell:>12}" for cell in cells), quiet)
