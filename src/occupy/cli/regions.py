"""`occupy regions`: what chains, residues, ligands or masks read in one map."""

from __future__ import annotations

import glob
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from occupy.cli.console import Report, progress, say, warn
from occupy.cli.estimate import Job
from occupy.errors import InputError, Notice
from occupy.settings import Settings

if TYPE_CHECKING:
    from occupy.regions.joint import JointRegions
    from occupy.regions.region import Region
    from occupy.regions.table import OccupancyTable
    from occupy.report.set_results import ModelFiles
    from occupy.volume import Volume

_SHOWN = 8


@dataclass(frozen=True)
class Asked:
    """Which regions the user wants."""

    models: tuple[Path, ...] = ()
    by: str | None = None
    selections: Path | None = None
    masks: tuple[str, ...] = ()
    by_reading: bool = False

    def check(self) -> None:
        """Raise InputError where this makes no regions, or two answers to one question."""
        if not self.models and not self.masks:
            raise InputError("no regions: give --model (with --by or --regions), --masks, or both")
        if self.by is not None and self.selections is not None:
            raise InputError("give either --by or --regions, not both")
        if not self.models and (self.by is not None or self.selections is not None):
            raise InputError("--by and --regions need a --model")

    @property
    def options(self) -> dict[str, Any]:
        """Return it as plain values, for the record."""
        by = self.by or ("chain" if self.models and self.selections is None else None)
        return {"by": by, "masks": list(self.masks)}


@dataclass(frozen=True)
class Found:
    """The regions on one grid, the model some are made of, and the files behind them."""

    regions: tuple[Region, ...]
    model: ModelFiles | None
    inputs: Mapping[str, Any]
    joint: JointRegions | str | None = None
    """Joint fit of the regions, why there is none, or None where none was asked for."""


def mask_files(patterns: Sequence[str]) -> list[Path]:
    """Return the files that names, folders and patterns stand for, in natural order."""
    from occupy.io.mapset import maps_in, natural

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


def find_regions(asked: Asked, volume: Volume, voxel_size: float | None = None) -> Found:
    """Make the regions asked for on the grid of a map."""
    from occupy.io.checksum import reading
    from occupy.io.models import read_model
    from occupy.io.mrc import read_map
    from occupy.io.tables import read_selections
    from occupy.regions.region import regions_of_masks, regions_of_model
    from occupy.report.set_results import ModelFiles

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
    files = None if model is None else ModelFiles(model, regions, asked.models)
    return Found(regions, files, inputs)


def with_fit(found: Found, asked: Asked, volume: Volume | str) -> Found:
    """Add the joint fit of a model's regions to a map, or the reason why they can't be fitted."""
    if found.model is None or asked.by_reading:
        return found
    if isinstance(volume, str):
        return replace(found, joint=volume)
    from occupy.regions.joint import fit_regions

    try:
        return replace(found, joint=fit_regions(volume, found.model.model, found.regions))
    except InputError as error:
        advice = "--by-reading reads the local scale at its atoms all the same"
        raise InputError(f"{error} ({advice})") from error


def read_map_regions(
    name: str,
    asked: Asked,
    settings: Settings,
    output: Path | None,
    *,
    voxel_size: float | None = None,
    neighbours: bool = True,
    page: bool = False,
    quiet: bool = False,
) -> None:
    """Estimate a map (or take an earlier estimate), read its regions, write everything, print a summary."""
    asked.check()
    with progress(Path(name).name, quiet) as report:
        if Path(name).is_dir() or name.endswith(".json"):
            if settings != Settings() or voxel_size is not None or not neighbours:
                raise InputError(
                    f"{name} is an earlier estimate, so its settings hold; name the map to estimate it anew"
                )
            path, found, folder = _earlier(Path(name), asked, output)
        else:
            job = Job(voxel_size=voxel_size, neighbours=neighbours, quiet=True)
            path, found, folder = _estimated(name, asked, settings, output, job, report)
        report("reading regions", 0, 0)
        table, notices = _read(path, found)
        report("writing", 0, 0)
        files = _write(path, folder, table, found, asked, notices, page)
    _summarise(table, files, folder, notices, quiet)


def _earlier(result: Path, asked: Asked, output: Path | None) -> tuple[Path, Found, Path]:
    """Return the record of an earlier estimate, the regions on its grid, and where to write."""
    from occupy.report.record import find_record, read_input, read_output, read_record

    path = find_record(result)
    record = read_record(path)
    grid = read_output(path, record, "scale")
    found = find_regions(asked, grid)
    if found.model is not None and not asked.by_reading:
        found = with_fit(found, asked, read_input(record, grid))
    return path, found, output or path.parent


def _estimated(
    name: str,
    asked: Asked,
    settings: Settings,
    output: Path | None,
    job: Job,
    report: Report,
) -> tuple[Path, Found, Path]:
    """Estimate a map into the folder, once its regions are known to be good."""
    from occupy.cli.estimate import find_map, output_folders, run

    path, level = find_map(name, quiet=True)
    report("reading", 0, 0)
    inputs = job.files(path).open(settings)
    found = find_regions(asked, inputs.volume, job.voxel_size)
    report("fitting the model", 0, 0)
    found = with_fit(found, asked, inputs.volume)
    folder = output_folders([path], output)[0]
    written = run(inputs, settings, folder, job, level, report)
    return folder / written.files["record"], found, folder


def _read(path: Path, found: Found) -> tuple[OccupancyTable, list[Notice]]:
    """Read the regions in the scale of an estimate; with its uncertainty where the estimate wrote one."""
    from occupy.regions.table import read_regions
    from occupy.report.record import number_in, reach_95, read_output, read_record

    record = read_record(path)
    scale = read_output(path, record, "scale")
    uncertainty = None
    if "uncertainty" in record["outputs"]:
        uncertainty = read_output(path, record, "uncertainty").data
    name = path.name.removesuffix("_occupy.json")
    try:
        lowpass = float(record["settings"]["lowpass"])
        reach = reach_95(record["numbers"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: the record is damaged: it lacks the low-pass or the calibration"
        ) from error
    pairs: Iterator[tuple[str, Any]] = iter([(name, (scale.data, uncertainty))])
    table = read_regions(
        found.regions,
        pairs,
        scale,
        resolution=lowpass,
        common_error=True,
        kind="scale",
        reach_95=reach,
    )
    notices = [Notice(n["code"], n["text"]) for n in record["notices"]]
    if isinstance(found.joint, str):
        text = f"occupancies are local scales read at the atoms, not a joint fit: {found.joint}"
        notices.append(Notice("no-joint-fit", text))
    lowest = 0.0 if record["settings"].get("recalibrate") else number_in(record, "lowest_confident_scale")
    notices += _doubts(table, lowest)
    if found.joint is None or isinstance(found.joint, str):
        return table, notices
    from occupy.regions.joint import with_joint

    return with_joint(table, found.joint), notices


def _doubts(table: OccupancyTable, lowest: float) -> list[Notice]:
    below = int((table.values[:, 0] <= lowest).sum())
    if 2 * below <= len(table.regions):
        return []
    text = f"{below} of {len(table.regions)} regions read no more than solvent ({lowest:.2f})"
    return [Notice("regions-in-solvent", f"{text}: do they lie in the map's frame?")]


def _write(
    path: Path,
    folder: Path,
    table: OccupancyTable,
    found: Found,
    asked: Asked,
    notices: Sequence[Notice],
    page: bool,
) -> dict[str, str]:
    from occupy.io.atomic import write_text
    from occupy.report.record import read_record, to_json
    from occupy.report.region_page import write_region_report
    from occupy.report.region_record import file_of, region_record
    from occupy.report.set_results import write_set_tables

    name = table.maps[0]
    stem = f"{name}_regions"
    record = folder / f"{stem}.json"
    html = folder / f"{stem}_report.html"
    # Record and report of an earlier run must not vouch for files that are about to replace its own.
    for old in (record, html):
        old.unlink(missing_ok=True)
    notes = [notice.text for notice in notices]
    files = write_set_tables(folder, table, stem=stem, model=found.model, notes=notes)
    if page:
        files["report"] = html.name
    estimated = read_record(path)
    about = region_record(
        table,
        found.regions,
        inputs={"map": estimated["inputs"]["map"], "estimate": file_of(path), **found.inputs},
        options={**asked.options, "by_reading": asked.by_reading, "report": page},
        outputs=files | {"record": record.name},
        notices=notices,
        command=sys.argv,
    )
    if found.joint is not None and not isinstance(found.joint, str):
        from occupy.regions.joint import joint_record

        about["joint_fit"] = joint_record(found.joint, table)
    if page:
        write_region_report(html, about, estimated, table, path)
    write_text(record, to_json(about))
    return files | {"record": record.name}


def _summarise(
    table: OccupancyTable, files: Mapping[str, str], folder: Path, notices: Sequence[Notice], quiet: bool
) -> None:
    import numpy as np

    from occupy.report.tables import cell_text

    for notice in notices:
        warn(notice.text, quiet)
    values, errors = table.values[:, 0], table.errors[:, 0]
    full = int((values >= 0.9).sum())
    say(f"{table.maps[0]}: {len(values)} regions, {full} of them at 0.9 or above; the lowest:", quiet)
    order = np.argsort(values, kind="stable")
    width = max(len(table.regions[i]) for i in order[:_SHOWN])
    for i in order[:_SHOWN]:
        say(f"  {table.regions[i]:<{width}}  {cell_text(float(values[i]), float(errors[i]))}", quiet)
    say(f"  all of them             {folder / files['tsv']}", quiet)
    if "model_script" in files:
        say(f"  look at them with       chimerax {folder / files['model_script']}", quiet)
    if "report" in files:
        say(f"  report                  {folder / files['report']}", quiet)
