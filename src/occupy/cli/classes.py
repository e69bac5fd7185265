"""`occupy classes`: what is there in each class of an experiment."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from occupy.cli.console import progress, say, warn, warn_of
from occupy.errors import InputError, Notice
from occupy.requests import RegionRequest, SetRequest

if TYPE_CHECKING:
    from occupy.classes import ClassesResult
    from occupy.io.mapset import MapSet
    from occupy.regions.joint import JointRegions
    from occupy.regions.table import OccupancyTable
    from occupy.report.region_results import FoundRegions
    from occupy.report.set_results import SetOutput


def estimate_classes(
    inputs: Sequence[str], output: Path | None, regions: RegionRequest, asked: SetRequest, quiet: bool
) -> None:
    """Find a set, say what it is, estimate it, write everything and print a summary."""
    from occupy.io.sets import find_set
    from occupy.report.set_record import asked_of, is_complete, what_changed
    from occupy.report.set_results import SetOutput
    from occupy.set_inputs import without_small

    found = find_set(inputs, count_particles=True)
    for line in found.describe():
        say(line, quiet)
    used, left = without_small(found)
    warn_of((*found.notices, *left), quiet)
    named = replace(asked, compare=None if asked.compare is None else _pair(used, asked.compare))
    folder = output or Path(f"occupy_{_stem(found)}")
    of_regions = regions.options if regions.models or regions.masks else {}
    of_regions |= {"by_reading": True} if regions.by_reading else {}
    begun = asked_of([entry.path for entry in used.maps], asked.options | of_regions)
    keep = asked.resume and _goes_on(begun, folder, quiet)
    if keep and is_complete(folder):
        reason = what_changed(folder)
        if reason is None:
            say(f"done already, in {folder}", quiet)
            return
        warn(f"{folder}: starting anew, as {reason}", quiet)
        keep = False
    made = _regions(used, regions, asked)
    joint, warnings = _fitted(made, used, asked)
    warn_of(warnings, quiet)
    extras = SetOutput(
        found=found,
        begun=begun,
        options=named.options | of_regions,
        notices=(*found.notices, *left, *warnings),
        command=tuple(sys.argv),
        joint=joint,
        compare=named.compare,
        keep=keep,
        page=asked.report,
        voxel_size=asked.voxel_size,
    )
    if made is not None:
        extras = replace(extras, regions=made.regions, model=made.model, inputs=made.inputs)
    _compare(used, folder, asked, extras, quiet)


def _compare(used: MapSet, folder: Path, asked: SetRequest, extras: SetOutput, quiet: bool) -> None:
    """Estimate, write and tell."""
    from occupy.classes import compare_classes
    from occupy.io.mrc import read_map
    from occupy.report.set_record import begin
    from occupy.report.set_results import write_set
    from occupy.set_inputs import execution_for, members_of

    paths = [entry.path for entry in used.maps]
    with (
        progress(_stem(extras.found), quiet) as report,
        execution_for(
            paths,
            lambda: read_map(paths[0], voxel_size=asked.voxel_size),
            folder,
            report,
            lowpass=asked.lowpass,
            threads=asked.threads,
            scheduler=asked.scheduler,
            tell=lambda text: say(text, quiet),
        ) as execution,
    ):
        members = members_of(used, asked.voxel_size, resample=asked.resample)
        result = compare_classes(members, execution, lowpass=asked.lowpass, components=asked.components)
        removed = begin(folder, extras.begun, old=None if extras.keep else _kept_files(used))
        extras = replace(extras, notices=(*extras.notices, *result.notices))
        table, files = write_set(folder, result.estimate, result.components, extras, execution)
    warn_of(result.notices, quiet)
    _summarise(result, table, files, folder, asked.components, quiet)
    if stale := [name for name in removed if not (folder / name).exists()]:
        say(f"  removed, of an earlier run: {', '.join(stale)}", quiet)


def _kept_files(used: MapSet) -> list[str]:
    """Return the files that a run which goes on with another leaves alone."""
    from occupy.report.set_results import names_of_maps

    named = names_of_maps([entry.name for entry in used.maps])
    return [file for files in named.values() for file in files.values()]


def _goes_on(begun: dict[str, Any], folder: Path, quiet: bool) -> bool:
    """Tell whether the results in a folder are an earlier run's that was asked for the same."""
    from occupy.report.set_record import has_started, started_alike

    alike = started_alike(folder, begun)
    if not alike and has_started(folder):
        warn(f"{folder}: nothing to go on from (other maps or options); starting anew", quiet)
    return alike


def _stem(found: MapSet) -> str:
    source = found.source
    return source.name.removesuffix(".star").removesuffix("_model").removesuffix("_optimiser") or "set"


def _pair(used: MapSet, names: tuple[str, str]) -> tuple[str, str]:
    return _named(used, names[0]), _named(used, names[1])


def _named(found: MapSet, text: str) -> str:
    """Return the name of the class that a name or a number means."""
    names = [entry.name for entry in found.maps]
    if text in names:
        return text
    by_number = [entry.name for entry in found.maps if text.isdecimal() and entry.number == int(text)]
    if len(by_number) == 1:
        return by_number[0]
    raise InputError(f"--compare {text}: no such class; there are {', '.join(names[:8])}")


def _regions(used: MapSet, regions: RegionRequest, asked: SetRequest) -> FoundRegions | None:
    """Make the regions asked for, before any work is done; None where none were."""
    if not regions.models and not regions.masks:
        if regions.by is not None or regions.selections is not None:
            raise InputError("--by and --regions need a --model")
        return None
    from occupy.io.mrc import read_map
    from occupy.report.region_results import find_regions

    return find_regions(regions, read_map(used.maps[0].path, voxel_size=asked.voxel_size), asked.voxel_size)


def _fitted(
    made: FoundRegions | None, used: MapSet, asked: SetRequest
) -> tuple[Mapping[str, JointRegions], list[Notice]]:
    """Fit the model's regions in all classes together; or say why they are read."""
    if made is None or made.model is None or made.asked.by_reading:
        return {}, []
    from occupy.regions.joint import not_fitted
    from occupy.report.region_results import fits_of
    from occupy.set_inputs import members_of

    members = members_of(used, asked.voxel_size, resample=asked.resample)
    fits = fits_of(made, {member.name: member.read for member in members})
    if isinstance(fits, str):
        return {}, [not_fitted(fits)]
    return fits, next(iter(fits.values())).notices


def _summarise(
    result: ClassesResult,
    table: OccupancyTable | None,
    files: dict[str, Any],
    folder: Path,
    components: bool,
    quiet: bool,
) -> None:
    est = result.estimate
    say(f"compared at {est.scaled.resolution:.1f} Å; {len(est.names)} classes", quiet)
    if result.components:
        say(f"{len(result.components)} parts come and go between the classes:", quiet)
    elif components:
        say("no part differs between the classes by more than noise", quiet)
    if table is not None:
        _say_table(table, [c.name for c in result.components], quiet)
        say(f"  all regions             {folder / files['tsv']}", quiet)
    say(f"  look at it with         chimerax {folder / files['classes_script']}", quiet)
    if "report" in files:
        say(f"  report                  {folder / files['report']}", quiet)


def _say_table(table: OccupancyTable, components: Sequence[str], quiet: bool) -> None:
    """Print the regions that differ most, components first."""
    import numpy as np

    shown = 10
    spread = np.nanmax(table.values, axis=1) - np.nanmin(table.values, axis=1)
    order = [i for i in np.argsort(-spread, kind="stable") if table.regions[i] not in components]
    rows = [table.regions.index(name) for name in components[:shown]] + order[:shown]
    for line in _matrix(table, rows):
        say(line, quiet)
    if (left := len(table.regions) - len(rows)) > 0:
        say(f"  … and {left} more regions", quiet)


def _matrix(table: OccupancyTable, rows: Sequence[int], across: int = 80) -> list[str]:
    """Return lines with every map by its name, in as many blocks as a screen of ``across`` takes."""
    from occupy.report.tables import cell_text
    from occupy.report.text import short_names

    cells = [
        [name, *(cell_text(float(table.values[i, c]), float(table.errors[i, c])) for i in rows)]
        for c, name in enumerate(short_names(table.maps))
    ]
    widths = [max(len(cell) for cell in column) for column in cells]
    first = ["", *(table.regions[i] for i in rows)]
    width = max(len(name) for name in first)
    lines, start = [], 0
    while start < len(cells):
        stop, used = start, 2 + width
        while stop < len(cells) and (stop == start or used + 2 + widths[stop] <= across):
            used += 2 + widths[stop]
            stop += 1
        for k, name in enumerate(first):
            shown = (f"{cells[c][k]:>{widths[c]}}" for c in range(start, stop))
            lines.append(f"  {name:<{width}}  " + "  ".join(shown))
        start = stop
    return lines
