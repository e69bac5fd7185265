"""`occupy regions` and `classes`: what chains, ligands or masks read in one map, or in each class."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from occupy.cli.console import Report, progress, say, warn, warn_of
from occupy.cli.estimate import Job
from occupy.cli.options import Folder, Run, app, command
from occupy.errors import InputError, Notice
from occupy.requests import RegionRequest, SetRequest
from occupy.settings import Modification, Output, Reading, Settings, names_of

if TYPE_CHECKING:
    from occupy.classes import ClassesResult
    from occupy.io.mapset import MapSet
    from occupy.regions.table import OccupancyTable
    from occupy.report.region_results import FoundRegions
    from occupy.report.set_results import SetOutput


@command(
    "regions",
    app,
    without=names_of(Modification)
    | {"bfactor", "hedge", "fdr"}
    | names_of(Reading) - {"neighbours", "voxel_size"}
    | names_of(Output) - {"report"},
    examples=(
        "occupy regions map.mrc --model model.cif --by ligand --report",
        "occupy regions occupy_map --model model.cif --regions parts.yaml",
    ),
)
def _regions(
    map: Annotated[
        str,
        typer.Argument(
            metavar="MAP", help="Map, EMDB entry, or the folder (or _occupy.json) of an earlier estimate."
        ),
    ],
    asked: RegionRequest,
    *,
    output: Folder = None,
    reading: Reading,
    wanted: Output,
    run: Run,
    settings: Settings,
) -> None:
    """Read the occupancy of chains, ligands or masks in a map."""
    from occupy.io.loop import drawn_notice
    from occupy.report.region_results import read_found, write_found

    job = Job(settings, reading, quiet=True)
    asked.check()
    drawn = [notice for notice in [drawn_notice(Path(map))] if notice is not None]
    with progress(Path(map).name, run.quiet) as report:
        if Path(map).is_dir() or map.endswith(".json"):
            if (job.settings, job.reading) != (Settings(), Reading()):
                raise InputError(
                    f"{map} is an earlier estimate, so its settings hold; map the map to estimate it anew"
                )
            path, found, folder = _earlier(Path(map), asked, output)
        else:
            path, found, folder = _estimated(map, asked, output, job, report)
        report("reading regions", 0, 0)
        table, notices = read_found(path, found)
        notices = [*drawn, *notices]
        report("writing", 0, 0)
        files = write_found(path, folder, found, table, notices, page=wanted.report, command=sys.argv)
    _summarise_regions(table, files, folder, notices, run.quiet)


def _earlier(result: Path, asked: RegionRequest, output: Path | None) -> tuple[Path, FoundRegions, Path]:
    """Return the record of an earlier estimate, the regions on its grid, and where to write."""
    from occupy.report.record import find_record, read_input, read_output, read_record
    from occupy.report.region_results import find_regions, with_fit

    path = find_record(result)
    record = read_record(path)
    grid = read_output(path, record, "scale")
    found = find_regions(asked, grid)
    if found.model is not None and not asked.by_reading:
        found = with_fit(found, read_input(record, grid))
    return path, found, output or path.parent


def _estimated(
    name: str, asked: RegionRequest, output: Path | None, job: Job, report: Report
) -> tuple[Path, FoundRegions, Path]:
    """Estimate a map into the folder, once its regions are known to be good."""
    from occupy.cli.estimate import find_map, output_folders, run_job
    from occupy.report.region_results import find_regions, with_fit

    path, level = find_map(name, quiet=True)
    report("reading", 0, 0)
    inputs = job.files(path).open(job.settings)
    found = find_regions(asked, inputs.volume, job.reading.voxel_size)
    report("fitting the model", 0, 0)
    found = with_fit(found, inputs.volume)
    folder = output_folders([path], output)[0]
    written = run_job(inputs, folder, job, level, report)
    return folder / written.files["record"], found, folder


def _summarise_regions(
    table: OccupancyTable, files: Mapping[str, str], folder: Path, notices: Sequence[Notice], quiet: bool
) -> None:
    import numpy as np

    from occupy.report.tables import cell_text

    warn_of(notices, quiet)
    shown = 8
    values, errors = table.values[:, 0], table.errors[:, 0]
    full = int((values >= 0.9).sum())
    say(f"{table.maps[0]}: {len(values)} regions, {full} of them at 0.9 or above; the lowest:", quiet)
    order = np.argsort(values, kind="stable")
    width = max(len(table.regions[i]) for i in order[:shown])
    for i in order[:shown]:
        say(f"  {table.regions[i]:<{width}}  {cell_text(float(values[i]), float(errors[i]))}", quiet)
    say(f"  all of them             {folder / files['tsv']}", quiet)
    if "model_script" in files:
        say(f"  look at them with       chimerax {folder / files['model_script']}", quiet)
    if "report" in files:
        say(f"  report                  {folder / files['report']}", quiet)


@command(
    "classes",
    app,
    examples=(
        "occupy classes Class3D/job012 --model model.cif --report",
        "occupy classes map1.mrc map2.mrc --masks 'masks/*.mrc' --compare 1 2",
    ),
)
def _classes(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="model.star, optimiser.star, job folder (RELION, cryoSPARC, cryoDRGN), or maps.",
        ),
    ],
    regions: RegionRequest,
    *,
    output: Folder = None,
    asked: SetRequest,
    run: Run,
) -> None:
    """Estimate what is there in each class, and how sure that is."""
    from occupy.inputs import members_of, without_small
    from occupy.io.sets import find_set
    from occupy.report.region_results import fit_members, regions_of_set
    from occupy.report.set_record import earlier_run, request_of
    from occupy.report.set_results import SetOutput

    found = find_set(inputs, count_particles=True)
    say("\n".join(found.describe()), run.quiet)
    used, left = without_small(found)
    warn_of((*found.notices, *left), run.quiet)
    compare = asked.compare and (used.named(asked.compare[0]), used.named(asked.compare[1]))
    folder = output or Path(f"occupy_{found.stem}")
    of_regions = regions.options if regions.models or regions.masks else {}
    of_regions |= {"by_reading": True} if regions.by_reading else {}
    begun = request_of([entry.path for entry in used.maps], asked.options | of_regions)
    state, why = earlier_run(folder, begun) if asked.resume else ("none", "")
    if state == "done":
        say(f"done already, in {folder}", run.quiet)
        return
    if why:
        warn(f"{folder}: {why}", run.quiet)
    made = regions_of_set(regions, used.maps[0].path, asked.voxel_size)
    joint, warnings = fit_members(made, members_of(used, asked.voxel_size, resample=asked.resample))
    warn_of(warnings, run.quiet)
    extras = SetOutput(
        found=found,
        begun=begun,
        options=replace(asked, compare=compare).options | of_regions,
        notices=(*found.notices, *left, *warnings),
        command=tuple(sys.argv),
        joint=joint,
        compare=compare,
        keep=state == "begun",
        page=asked.report,
        voxel_size=asked.voxel_size,
    )
    if made is not None:
        extras = replace(extras, regions=made.regions, model=made.model, inputs=made.inputs)
    _compare(used, folder, asked, extras, run.quiet)


def _compare(used: MapSet, folder: Path, asked: SetRequest, extras: SetOutput, quiet: bool) -> None:
    """Estimate, write and tell."""
    from occupy.classes import compare_classes
    from occupy.inputs import execution_for, members_of
    from occupy.io.mrc import read_map
    from occupy.report.set_results import write_set

    paths = [entry.path for entry in used.maps]
    with (
        progress(extras.found.stem, quiet) as report,
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
        extras = replace(extras, notices=(*extras.notices, *result.notices))
        table, files, removed = write_set(folder, result.estimate, result.components, extras, execution)
    warn_of(result.notices, quiet)
    _summarise(result, table, files, folder, asked.components, quiet)
    if removed:
        say(f"  removed, of an earlier run: {', '.join(removed)}", quiet)


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
    say("\n".join(_matrix(table, rows)), quiet)
    if (left := len(table.regions) - len(rows)) > 0:
        say(f"  … and {left} more regions", quiet)


def _matrix(table: OccupancyTable, rows: Sequence[int], across: int = 80) -> list[str]:
    """Return lines with every map by its name, in as many blocks as a screen of ``across`` takes."""
    from occupy.report.tables import cell_text, short_names

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
