"""Regions of one map: those asked for on its grid, what they read, and the files that say so."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from occupy.ensemble.members import Member
from occupy.errors import InputError, Notice
from occupy.io.atomic import write_text
from occupy.io.checksum import reading
from occupy.io.mapset import maps_in, natural
from occupy.io.mrc import read_map
from occupy.regions.joint import JointRegions, fit_regions_of_set, not_fitted, with_joint
from occupy.regions.region import Region, regions_of_masks, regions_of_model
from occupy.regions.table import OccupancyTable, read_regions
from occupy.report.estimate_page import write_region_report
from occupy.report.record import (
    file_of,
    number_in,
    opening,
    reach_95,
    read_output,
    read_record,
    to_json,
)
from occupy.report.refinement import ModelFiles
from occupy.report.set_results import write_set_tables
from occupy.requests import RegionRequest
from occupy.volume import Volume, answer_in


@dataclass(frozen=True)
class FoundRegions:
    """The regions on one grid, the model some are made of, and the files behind them.

    Attributes
    ----------
    asked : RegionRequest
        What was asked for.
    regions : tuple of Region
        All of them.
    model : ModelFiles or None
        The model, where there is one.
    inputs : mapping
        Files that were read, for the record.
    joint : JointRegions or str, optional
        Joint fit of the regions, why there is none, or None where none was asked for.
    """

    asked: RegionRequest
    regions: tuple[Region, ...]
    model: ModelFiles | None
    inputs: Mapping[str, Any]
    joint: JointRegions | str | None = None


def mask_files(patterns: Sequence[str]) -> list[Path]:
    """Return the files that names, folders and patterns stand for, in natural order."""
    found: list[Path] = []
    for pattern in patterns:
        path = Path(pattern)
        if path.is_dir():
            matches = maps_in(path)
        elif path.exists():
            matches = [path]
        else:
            matches = [Path(name) for name in glob.glob(pattern, recursive=True)]  # noqa: PTH207
        if not matches:
            raise InputError(f"no mask matches {pattern!r}")
        found += sorted(matches, key=natural)
    return list(dict.fromkeys(found))


def find_regions(asked: RegionRequest, volume: Volume, voxel_size: float | None = None) -> FoundRegions:
    """Make the regions asked for on the grid of a map."""
    from occupy.io.models import read_model
    from occupy.io.tables import read_selections

    asked.check()
    regions: tuple[Region, ...] = ()
    inputs: dict[str, Any] = {}
    model = None
    with ExitStack() as stack:
        # What other libraries read must be by the end what its checksum was taken of.
        if asked.models:
            by: Any = asked.by or "chain"
            inputs["model"] = [stack.enter_context(reading(path)) for path in asked.models]
            if asked.selections is not None:
                inputs["regions"] = stack.enter_context(reading(asked.selections))
            named = None if asked.selections is None else read_selections(asked.selections)
            model = read_model(asked.models)
            regions = regions_of_model(model, volume, by, selections=named)
        if asked.masks:
            paths = mask_files(asked.masks)
            inputs["masks"] = [stack.enter_context(reading(path)) for path in paths]
            regions += regions_of_masks((read_map(p, voxel_size=voxel_size) for p in paths), volume)
    files = None if model is None else ModelFiles(model, regions, asked.models, asked.alternatives)
    return FoundRegions(asked, regions, files, inputs)


def regions_of_set(asked: RegionRequest, first: Path, voxel_size: float | None) -> FoundRegions | None:
    """Make the regions asked for on the grid of a set's first map; None where none were."""
    if asked.models or asked.masks:
        return find_regions(asked, read_map(first, voxel_size=voxel_size), voxel_size)
    if asked.by is not None or asked.selections is not None:
        raise InputError("--by and --regions need a --model")
    return None


def fit_members(
    found: FoundRegions | None, members: Sequence[Member]
) -> tuple[Mapping[str, JointRegions], list[Notice]]:
    """Fit a model's regions in all maps of a set together; or say why they are read."""
    if found is None or found.model is None or found.asked.by_reading:
        return {}, []
    fits = _fits_of(found, {member.name: member.read for member in members})
    if isinstance(fits, str):
        return {}, [not_fitted(fits)]
    return fits, next(iter(fits.values())).notices


def with_fit(found: FoundRegions, volume: Volume | str) -> FoundRegions:
    """Add the joint fit of a model's regions to a map, or the reason why they can't be fitted."""
    if found.model is None or found.asked.by_reading:
        return found
    if isinstance(volume, str):
        return replace(found, joint=volume)
    fits = _fits_of(found, {"map": lambda: volume})
    return replace(found, joint=fits if isinstance(fits, str) else fits["map"])


def _fits_of(found: FoundRegions, maps: Mapping[str, Callable[[], Volume]]) -> dict[str, JointRegions] | str:
    """Return the joint fit of a model's regions to each of several maps, or why they can't be fitted.

    Parameters
    ----------
    found : FoundRegions
        With a model.
    maps : mapping of str to callable
        Name → what reads the map.
    """
    if found.model is None:
        return "there is no model"
    try:
        return fit_regions_of_set(maps, found.model.model, found.regions, found.asked.alternatives)
    except InputError as error:
        advice = "--by-reading reads the map at its atoms all the same"
        raise InputError(f"{error} ({advice})") from error


def read_found(path: Path, found: FoundRegions) -> tuple[OccupancyTable, list[Notice]]:
    """Read regions in the occupancy of an estimate, with its uncertainty; in its scale where it has none.

    Parameters
    ----------
    path : Path
        Record of the estimate.
    found : FoundRegions
        On its grid.

    Returns
    -------
    table : OccupancyTable
        One column; of the joint fit where there is one.
    notices : list of Notice
        Those of the estimate, and what is doubtful about the regions.
    """
    record = read_record(path)
    notices = [Notice(n["code"], n["text"]) for n in record["notices"]]
    lowest = 0.0 if record["settings"].get("recalibrate") else number_in(record, "lowest_confident_scale")
    table, warnings = judged(_table(path, record, found.regions), found, lowest)
    return table, notices + warnings


def judged(table: OccupancyTable, found: FoundRegions, lowest: float) -> tuple[OccupancyTable, list[Notice]]:
    """Put the joint fit, where there is one, in the place of what was read, and say what is doubtful.

    Parameters
    ----------
    table : OccupancyTable
        Local scale of the regions, one column.
    found : FoundRegions
        With their fit.
    lowest : float
        What solvent reads.
    """
    notices = [not_fitted(found.joint)] if isinstance(found.joint, str) else []
    notices += _warnings(table, lowest)
    if isinstance(found.joint, JointRegions):
        return with_joint(table, found.joint), notices + found.joint.notices
    return table, notices


def _table(path: Path, record: Mapping[str, Any], regions: Sequence[Region]) -> OccupancyTable:
    what = answer_in(record["outputs"])
    values = read_output(path, record, what)
    uncertainty = None
    if "uncertainty" in record["outputs"]:
        uncertainty = read_output(path, record, "uncertainty").data
    try:
        lowpass = float(record["settings"]["lowpass"])
        reach = reach_95(record["numbers"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: the record is damaged: it lacks the low-pass or the calibration"
        ) from error
    name = path.name.removesuffix("_occupy.json")
    maps: Iterator[tuple[str, Any]] = iter([(name, (values.data, uncertainty))])
    return read_regions(
        regions, maps, values, resolution=lowpass, common_error=True, kind=what, reach_95=reach
    )


def _warnings(table: OccupancyTable, lowest: float) -> list[Notice]:
    below = int((table.values[:, 0] <= lowest).sum())
    if 2 * below <= len(table.regions):
        return []
    text = f"{below} of {len(table.regions)} regions read no more than solvent ({lowest:.2f})"
    return [Notice("regions-in-solvent", f"{text}: do they lie in the map's frame?")]


def write_found(
    path: Path,
    folder: Path,
    found: FoundRegions,
    table: OccupancyTable,
    notices: Sequence[Notice],
    *,
    page: bool,
    command: Sequence[str],
) -> dict[str, str]:
    """Write tables, figures, scripts, the page where wanted, and the record; return what → file name.

    Parameters
    ----------
    path : Path
        Record of the estimate.
    folder : Path
        Where to write.
    found, table, notices
        From `find_regions` and `read_found`.
    page : bool
        Write a page with everything.
    command : sequence of str
        Command line, for the record.
    """
    stem = f"{table.maps[0]}_regions"
    record = folder / f"{stem}.json"
    html = folder / f"{stem}_report.html"
    # Record and report of an earlier run must not vouch for files that are about to replace its own.
    for old in (record, html):
        old.unlink(missing_ok=True)
    notes = [notice.text for notice in notices]
    residual = found.joint.residual if isinstance(found.joint, JointRegions) else None
    files = write_set_tables(folder, table, stem=stem, model=found.model, notes=notes, residual=residual)
    if page:
        files["report"] = html.name
    estimated = read_record(path)
    about = _region_record(
        table,
        found.regions,
        inputs={"map": estimated["inputs"]["map"], "estimate": file_of(path), **found.inputs},
        options={**found.asked.options, "by_reading": found.asked.by_reading, "report": page},
        outputs=files | {"record": record.name},
        notices=notices,
        command=command,
    )
    if isinstance(found.joint, JointRegions):
        about["joint_fit"] = found.joint.record(table)
    if page:
        write_region_report(html, about, estimated, table, path)
    write_text(record, to_json(about))
    return files | {"record": record.name}


def _region_record(
    table: OccupancyTable,
    regions: Sequence[Region],
    *,
    inputs: Mapping[str, Any],
    options: Mapping[str, Any],
    outputs: Mapping[str, str],
    notices: Sequence[Notice] = (),
    command: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the record of a table of occupancies as plain values.

    Parameters
    ----------
    table : OccupancyTable
        What was read.
    regions : sequence of Region
        In the order of the table's rows.
    inputs : mapping
        Role → description of a file, or list of them.
    options : mapping
        What was asked for.
    outputs : mapping
        Product → file name within the folder of the record.
    notices : sequence of Notice
        What is doubtful.
    command : sequence of str
        The command line.
    """
    return {
        **opening(command, "regions"),
        "inputs": dict(inputs),
        "options": dict(options),
        "values": table.kind,
        "interval_95_in_standard_errors": table.reach_95,
        "maps": [
            {"name": name, "share_of_particles": float(weight)}
            for name, weight in zip(table.maps, table.weights, strict=True)
        ],
        "regions": [
            {
                "name": region.name,
                "kind": region.kind,
                "voxels": len(region.voxels),
                "independent_voxels": round(float(independent), 2),
                "residues": len(region.residues),
            }
            for region, independent in zip(regions, table.independent, strict=True)
        ],
        "median_of_each_map": [float(v) for v in np.nanmedian(table.values, axis=0)],
        "notices": [asdict(notice) for notice in notices],
        "outputs": dict(outputs),
    }
