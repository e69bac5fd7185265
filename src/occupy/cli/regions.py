"""`occupy regions`: what chains, residues, ligands or masks read in one map."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from occupy.cli.console import Report, progress, say, warn_of
from occupy.cli.estimate import Job
from occupy.errors import InputError, Notice
from occupy.requests import RegionRequest
from occupy.settings import Reading, Settings

if TYPE_CHECKING:
    from occupy.regions.table import OccupancyTable
    from occupy.report.region_results import FoundRegions


def read_map_regions(
    name: str, asked: RegionRequest, output: Path | None, job: Job, page: bool, quiet: bool
) -> None:
    """Estimate a map (or take an earlier estimate), read its regions, write everything, print a summary."""
    from occupy.io.loop import drawn_notice
    from occupy.report.region_results import read_found, write_found

    asked.check()
    drawn = [notice for notice in [drawn_notice(Path(name))] if notice is not None]
    with progress(Path(name).name, quiet) as report:
        if Path(name).is_dir() or name.endswith(".json"):
            if (job.settings, job.reading) != (Settings(), Reading()):
                raise InputError(
                    f"{name} is an earlier estimate, so its settings hold; name the map to estimate it anew"
                )
            path, found, folder = _earlier(Path(name), asked, output)
        else:
            path, found, folder = _estimated(name, asked, output, job, report)
        report("reading regions", 0, 0)
        table, notices = read_found(path, found)
        notices = [*drawn, *notices]
        report("writing", 0, 0)
        files = write_found(path, folder, found, table, notices, page=page, command=sys.argv)
    _summarise(table, files, folder, notices, quiet)


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
    from occupy.cli.estimate import find_map, output_folders, run
    from occupy.report.region_results import find_regions, with_fit

    path, level = find_map(name, quiet=True)
    report("reading", 0, 0)
    inputs = job.files(path).open(job.settings)
    found = find_regions(asked, inputs.volume, job.reading.voxel_size)
    report("fitting the model", 0, 0)
    found = with_fit(found, inputs.volume)
    folder = output_folders([path], output)[0]
    written = run(inputs, folder, job, level, report)
    return folder / written.files["record"], found, folder


def _summarise(
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
