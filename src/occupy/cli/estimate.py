"""`occupy estimate`: one map or many, each into its own folder."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from occupy.cli.console import Report, fail, progress, say, warn
from occupy.errors import InputError, OccupyError
from occupy.settings import Settings

if TYPE_CHECKING:
    from occupy.report.results import Written
    from occupy.volume import Volume


@dataclass(frozen=True)
class Job:
    """What to do with every map of a run, besides the settings."""

    solvent_mask: Path | None = None
    target_mask: Path | None = None
    voxel_size: float | None = None
    plot: bool = False
    intermediate: bool = False
    quiet: bool = False
    resume: bool = False
    level: float | None = None
    minimum_scale: float = 0.2


def output_folders(maps: list[Path], output: Path | None) -> list[Path]:
    """Return one folder per map.

    One map: ``output`` itself, or ``occupy_<stem>``. Several: ``<output>/<stem>``, or ``occupy_<stem>``
    each; maps of the same name get their folder's name in front.
    """
    from occupy.io.mrc import map_stem

    stems = [map_stem(path) for path in maps]
    names = [
        f"{path.resolve().parent.name}_{stem}" if stems.count(stem) > 1 else stem
        for path, stem in zip(maps, stems, strict=True)
    ]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(
            f"two maps would be written to the same folder ({twice}); run them one by one with -o"
        )
    if output is not None and len(maps) == 1:
        return [output]
    return [Path(f"occupy_{name}") if output is None else output / name for name in names]


def find_map(name: str, quiet: bool) -> tuple[Path, float | None]:
    """Return the file behind a path or an EMDB entry, and the entry's contour level if known."""
    path = Path(name)
    if path.exists() or not _is_entry(name):
        return path, None
    from occupy.io.emdb import fetch

    with progress(name, quiet) as report:
        entry = fetch(name, progress=lambda label, done, total: report(label, done, total or 0))
    return entry.map_path, entry.contour_level


def _is_entry(name: str) -> bool:
    # The module behind it imports urllib and ssl: only looked at for names that can be an entry.
    if not name.lower().startswith("emd"):
        return False
    from occupy.io.emdb import looks_like_entry_id

    return looks_like_entry_id(name)


def estimate_all(names: list[str], settings: Settings, output: Path | None, job: Job) -> int:
    """Estimate every map; return how many failed. One that fails does not stop the others."""
    if len(names) == 1:
        path, level = find_map(names[0], job.quiet)
        _estimate_one(path, settings, output_folders([path], output)[0], job, level)
        return 0
    found = [(name, *_find_quietly(name, job)) for name in names]
    paths = [path for _, path, _ in found if path is not None]
    folders = dict(zip(paths, output_folders(paths, output), strict=True))
    failures = [name for name, path, _ in found if path is None]
    with progress("maps", job.quiet) as report:
        for number, (name, source, level) in enumerate(found):
            report(name, number, len(found))
            if source is None:
                continue
            try:
                _estimate_one(source, settings, folders[source], job, level, title=None)
            except OccupyError as error:
                fail(f"{error}")
                failures.append(name)
    if failures:
        fail(f"{len(failures)} of {len(names)} maps failed: {', '.join(failures)}")
    return len(failures)


def _find_quietly(name: str, job: Job) -> tuple[Path | None, float | None]:
    try:
        return find_map(name, job.quiet)
    except OccupyError as error:
        fail(str(error))
        return None, None


def _estimate_one(
    path: Path, settings: Settings, folder: Path, job: Job, level: float | None, title: str | None = "map"
) -> None:
    from occupy.io.mrc import map_stem, read_map

    if job.resume and already_done(path, settings, folder, job):
        say(f"{path}: done already, in {folder}", job.quiet)
        return
    # Within a run over many maps the bar counts maps; a bar of its own would fight with it.
    with progress(map_stem(path), job.quiet or title is None) as report:
        report("reading", 0, 0)
        volume = read_map(path, voxel_size=job.voxel_size)
        written = run(volume, path, settings, folder, job, level, report)
    summarise(written, job)


def run(
    volume: Volume,
    path: Path,
    settings: Settings,
    folder: Path,
    job: Job,
    level: float | None,
    report: Report,
) -> Written:
    """Estimate one map that has been read and write its results."""
    from occupy.io.mrc import read_map
    from occupy.pipeline import estimate
    from occupy.report.results import write_results

    masks = {"solvent_mask": job.solvent_mask, "target_mask": job.target_mask}
    read = {role: read_map(mask) for role, mask in masks.items() if mask is not None}
    est = estimate(
        volume,
        settings,
        solvent_mask=read.get("solvent_mask"),
        target_mask=read.get("target_mask"),
        progress=report,
    )
    inputs = {"map": (volume, path)} | {role: (mask, masks[role] or path) for role, mask in read.items()}
    return write_results(
        est,
        settings,
        folder,
        inputs=inputs,
        command=sys.argv,
        intermediate=job.intermediate,
        plot=job.plot,
        level=level if job.level is None else job.level,
        minimum_scale=job.minimum_scale,
        progress=report,
    )


def summarise(written: Written, job: Job) -> None:
    """Print what was found and where it is."""
    for notice in written.record["notices"]:
        warn(notice["text"], job.quiet)
    if job.quiet:
        return
    from occupy.report.text import number_lines

    say(Path(written.record["inputs"]["map"]["path"]).name)
    for line in number_lines(written.record["numbers"]):
        say("  " + line)
    say(f"  look at it with         chimerax {written.folder / written.files['chimerax']}")


def already_done(path: Path, settings: Settings, folder: Path, job: Job) -> bool:
    """Tell whether a folder holds the complete results of the same file with the same settings."""
    from occupy.io.mrc import map_stem
    from occupy.report.record import read_record, sha256_of

    try:
        record = read_record(folder / f"{map_stem(path)}_occupy.json")
        same = record["settings_asked"] == asdict(settings) and record["inputs"]["map"][
            "sha256"
        ] == sha256_of(path)
        present = all((folder / name).exists() for name in record["outputs"].values())
    except (OccupyError, OSError, KeyError):
        return False
    wanted = job.plot <= any(key.endswith("_picture") for key in record["outputs"])
    return bool(same and present and wanted)
