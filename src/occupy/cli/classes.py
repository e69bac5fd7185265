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
from occupy.cli.set_work import MapFile, means_for
from occupy.errors import InputError, Notice

if TYPE_CHECKING:
    from occupy.ensemble.components import Component
    from occupy.ensemble.passes import Means
    from occupy.ensemble.pipeline import Member, SetEstimate
    from occupy.io.mapset import ClassMap, MapSet
    from occupy.regions.region import Region
    from occupy.regions.table import OccupancyTable
    from occupy.volume import Volume

FEW_PARTICLES = 50
"""Classes of fewer particles are left out."""

LEAST_SHARE = 0.002
"""… and those with a smaller share of all particles, where only that is known."""

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
    from occupy.io.sets import find_set
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
    with progress(_stem(found), job.quiet) as report, _means(used, job, folder, report) as means:
        est = _estimated(used, job, means)
        more = _doubts(est, means)
        removed = begin(folder, asked, old=None if keep else _kept_files(used))
        report("components", 0, 0)
        components = _components(est) if job.discover else ()
        table, files = _write(
            found,
            used,
            est,
            components,
            regions,
            folder,
            replace(job, compare=compare, resume=keep),
            notices + left + more,
            means,
            asked,
        )
        for notice in more:
            warn(notice.text, job.quiet)
        _summarise(est, components, table, files, folder, job)
        if stale := [name for name in removed if not (folder / name).exists()]:
            say(f"  removed, of an earlier run: {', '.join(stale)}", job.quiet)


def regions_table(used: MapSet, regions: Sequence[Region], job: ClassesJob, scratch: Path) -> OccupancyTable:
    """Estimate a set and read regions in it; nothing is written, but for scratch files of large sets."""
    from occupy.ensemble.reading import read_set

    with _means(used, job, scratch, lambda *_: None) as means:
        return read_set(_estimated(used, job, means), regions, means)


def regions_of_set(used: MapSet, job: ClassesJob) -> Found | None:
    """Make the regions asked for on the grid of a set; None where none were asked for."""
    return _regions(used, job)


def without_small(found: MapSet) -> tuple[MapSet, list[Notice]]:
    """Leave out classes that hold a handful of particles, and say which."""
    particles = sum(entry.particles or 0 for entry in found.maps)

    def small(entry: ClassMap) -> bool:
        # A map is a sum over all particles by their probabilities: its soft share counts.
        if entry.weight is not None:
            return entry.weight * particles < FEW_PARTICLES if particles else entry.weight < LEAST_SHARE
        return entry.particles is not None and entry.particles < FEW_PARTICLES

    out = [entry for entry in found.maps if small(entry)]
    if not out:
        return found, []
    kept = tuple(entry for entry in found.maps if entry not in out)
    names = ", ".join(
        f"{e.name} ({100 * e.weight:.2g} %)"
        if e.weight is not None
        else f"{e.name} ({e.particles} particles)"
        for e in out
    )
    if len(kept) < 2:
        raise InputError(
            f"{found.source}: fewer than two classes hold {FEW_PARTICLES} particles or more ({names} do not)"
        )
    return replace(found, maps=kept), [
        Notice("small-class", f"left out, as they hold too few particles: {names}")
    ]


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
def _means(used: MapSet, job: ClassesJob, folder: Path, report: Report) -> Iterator[Means]:
    with means_for(
        [entry.path for entry in used.maps],
        lambda: _grid(used, job),
        folder,
        report,
        threads=job.threads,
        scheduler=job.scheduler,
        tell=lambda text: say(text, job.quiet),
    ) as means:
        yield means


def _estimated(used: MapSet, job: ClassesJob, means: Means) -> SetEstimate:
    from occupy.ensemble.pipeline import Member, estimate_set

    onto = used.maps[0].path.absolute() if job.resample else None
    members: list[Member] = [
        # Interpolation changes what the source said of the shells.
        Member(e.name, MapFile(e.path.absolute(), job.voxel_size, onto), e.weight, None if onto else e.ssnr)
        for e in used.maps
    ]
    return estimate_set(members, lowpass=job.lowpass, room=means.room, pool=means.pool, progress=means.report)


def _doubts(est: SetEstimate, means: Means) -> list[Notice]:
    from occupy.ensemble.alignment import pose_notices

    return [*est.notices, *pose_notices(est.ground, est.names, est.weights, means)]


def _components(est: SetEstimate) -> tuple[Component, ...]:
    from occupy.ensemble.components import find_components

    return find_components(est)


def _component_regions(est: SetEstimate, components: Sequence[Component]) -> tuple[Region, ...]:
    """Return components as regions on the grid of the maps."""
    import numpy as np

    from occupy.regions.region import Region

    out = []
    for component in components:
        slabs = [slab > 0.5 for _, slab in est.on_grid(component.mask.astype(np.float32))]
        inside = np.concatenate(slabs)
        out.append(Region(component.name, "component", np.flatnonzero(inside), inside.shape))
    return tuple(out)


def _write(
    found: MapSet,
    used: MapSet,
    est: SetEstimate,
    components: Sequence[Component],
    asked: Found | None,
    folder: Path,
    job: ClassesJob,
    notices: Sequence[Notice],
    means: Means,
    begun: dict[str, Any],
) -> tuple[OccupancyTable | None, dict[str, Any]]:
    from occupy.io.atomic import write_text
    from occupy.io.checksum import sha256_of, written
    from occupy.report.record import to_json
    from occupy.report.set_maps import write_class_maps, write_components
    from occupy.report.set_page import NAME as PAGE
    from occupy.report.set_page import write_set_report
    from occupy.report.set_progress import refuse_changed_maps, sweep
    from occupy.report.set_record import NAME, set_record
    from occupy.report.set_results import ModelFiles, write_class_scripts, write_set_tables

    # The report of an earlier run must not vouch for files that are about to replace its own.
    (folder / PAGE).unlink(missing_ok=True)
    regions = (() if asked is None else asked.regions) + _component_regions(est, components)
    made = write_class_maps(folder, est, keep=job.resume, regions=regions, means=means)
    of_classes, table = made.of_classes, made.table
    files: dict[str, Any] = {**made.of_set, **write_components(folder, est, components)}
    if table is not None:
        model = None if asked is None or asked.model is None else asked.model
        model = None if model is None else ModelFiles(model.model, regions, model.paths)
        files |= write_set_tables(folder, table, model=model, notes=[n.text for n in notices])
    paths = {entry.name: entry.path for entry in used.maps}
    shown = {name: (paths[name], folder / of_classes[name]["occupancy"]) for name in est.names}
    files |= write_class_scripts(
        folder,
        shown,
        level=_level(est, paths),
        compare=job.compare,
        surface=folder / files["composite"],
        voxel_size=job.voxel_size,
        shares=_shares(used, est),
    )
    if job.report:
        files["report"] = PAGE
    record = set_record(
        found,
        est,
        components,
        of_classes=of_classes,
        outputs=files | {"record": NAME},
        options=job.options,
        inputs={} if asked is None else asked.inputs,
        notices=notices,
        command=sys.argv,
    )
    if job.report:
        means.report("report", 0, 0)
        write_set_report(folder, record, table)
    sweep(folder)
    for entry in record["maps"]:
        entry["sha256"] = sha256_of(paths[entry["name"]])
    refuse_changed_maps(begun, [entry.path for entry in used.maps])
    names = [name for name in files.values() if name not in made.sums]
    record["files"] = made.sums | {name: written(folder / name) for name in names}
    write_text(folder / NAME, to_json(record))
    return table, files


def _shares(used: MapSet, est: SetEstimate) -> dict[str, float]:
    """Return each class's share of the particles; nothing where the set does not say."""
    if any(entry.weight is None for entry in used.maps):
        return {}
    return {name: float(weight) for name, weight in zip(est.names, est.weights, strict=True)}


def _level(est: SetEstimate, paths: dict[str, Path]) -> float:
    """Return a level at which the first map's surface encloses about as much as the content of the set."""
    import numpy as np

    from occupy.io.mrc import read_map

    volume = read_map(paths[est.names[0]])
    content = est.content.sum() * float(np.prod(est.ground.voxel_size))
    share = min(0.6 * content / (volume.data.size * float(np.prod(volume.voxel_size))), 0.5)
    return float(np.quantile(volume.data, 1 - share))


def _summarise(
    est: SetEstimate,
    components: Sequence[Component],
    table: OccupancyTable | None,
    files: dict[str, Any],
    folder: Path,
    job: ClassesJob,
) -> None:
    quiet = job.quiet
    say(f"compared at {est.ground.resolution:.1f} Å; {len(est.names)} classes", quiet)
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
