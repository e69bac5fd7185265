"""Command lines written for OccuPy 0.1.13: the same flags with the same meaning."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from occupy.cli.options import app, command
from occupy.errors import InputError
from occupy.settings import Output, Reading, Settings, option

_SHARE: dict[str, Any] = {"min": 0.0, "max": 1.0}


def _old(default: Any, *flags: str, like: str = "", **limits: Any) -> Any:
    """Describe a flag of the older program: what it assumed without it, and which setting it is like."""
    about = {f.name: f.metadata["help"] for f in fields(Settings)}
    return option(default, about.get(like, ""), flags=flags, show_default=True, **limits)


@dataclass(frozen=True)
class _OldSettings:
    """Settings of the older program, under the names they have here."""

    resolution: float = _old(0.0, "-r", "--resolution", like="resolution", min=0.0)
    amplify: float = _old(1.0, "-am", "--amplify", like="amplify", min=1.0)
    attenuate: float = _old(1.0, "-at", "--attenuate", like="attenuate", min=1.0)
    sigmoid: float = _old(1.0, "--sigmoid", like="sigmoid", min=1.0)
    pivot: float = _old(0.01, "--pivot", like="pivot", min=0.01, max=0.99)
    tau: float | None = _old(None, "-t", "--tau", like="tau", **_SHARE)
    kernel_size: int | None = _old(None, "--kernel-size", like="kernel_size")
    kernel_radius: float | None = _old(None, "--kernel-radius", like="kernel_radius")
    tile_size: int | None = _old(None, "--tile-size", like="tile_size")
    lowpass: float | None = _old(None, "-lp", "--lowpass", like="lowpass")
    lowpass_output: float | None = _old(None, "--lowpass-output", like="lowpass_output")
    exclude_solvent: bool = _old(False, "--exclude-solvent/--retain-solvent", like="exclude_solvent")
    max_box: int = _old(256, "--max-box", like="max_box")
    hedge: int | None = _old(None, "--hedge-confidence", like="hedge")
    scale_limit: float = _old(0.05, "--scale-limit", like="scale_limit", **_SHARE)
    recalibrate: bool = _old(False, "--nlrc/--no-nlrc", like="recalibrate")
    match_histogram: bool = _old(False, "--hist-match/--no-hist-match", like="match_histogram")
    naive: bool = _old(False, "--S0/--SW", like="naive")
    # These two are said the other way round here, so their descriptions would mislead.
    mode: bool = _old(False, "--occupancy/--raw-scale", "--lp-scale/--raw-scale")
    use_confidence: bool = _old(False, "--omit-confidence/--no-omit-confidence")


@dataclass(frozen=True)
class _OldOptions:
    """What else the older program could be told."""

    solvent_mask: Path | None = _old(None, "--solvent-def")
    target_mask: Path | None = _old(None, "--target-mask")
    plot: bool = _old(False, "--plot/--no-plot")
    intermediate: bool = _old(False, "--save-all-maps/--no-save-all-maps")
    quiet: bool = _old(False, "--quiet")
    minimum_scale: float = _old(0.2, "--min-vis-scale", **_SHARE)


@dataclass(frozen=True)
class _OldFiles:
    """Where the older program read and wrote."""

    input_map: str | None = _old(None, "-i", "--input-map")
    emdb: str | None = _old(None, "--emdb", "--emdb-id")
    output: Path | None = _old(None, "-o", "--output", "--output-map")
    beside: bool = _old(False, "--keep-output-path/--no-keep-output-path")
    show: bool = _old(False, "--show-chimerax/--no-show-chimerax")
    # Understood and without effect: the script is always written, and messages are as for every command.
    chimerax: bool = _old(True, "--chimerax/--no-chimerax")
    silent: bool = _old(False, "--chimerax-silent/--no-chimerax-silent")
    verbose: bool = _old(False, "--verbose")
    debug: bool = _old(False, "--debug")


def _settings_of_old(old: _OldSettings) -> Settings:
    """Return the settings that mean what the flags of the older program meant.

    There, the scale of the raw map was the default, a power of 1 meant no modification, boxes beyond 256
    were reduced, and the estimator was the published one.
    """
    asked = asdict(old)
    for power in ("amplify", "attenuate", "sigmoid"):
        asked[power] = asked[power] if asked[power] > 1 else None
    asked |= {
        "estimator": "nlf",
        "mode": "occupancy" if asked["mode"] else "resolution",
        "use_confidence": not asked["use_confidence"],
        "resolution": asked["resolution"] or None,
        "tau": asked["tau"] or None,
        "hedge": float(asked["hedge"] or 1),
    }
    return Settings(**asked)


def _with_old_tile(settings: Settings, shape: tuple[int, int, int]) -> Settings:
    """Set the tile the older command line used unless told otherwise: ⌊N/20⌋ voxels of the working grid."""
    if settings.tile_size is not None:
        return settings
    side = min(max(shape), settings.max_box or max(shape)) // 20
    return replace(settings, tile_size=max(1, side))


def _show_in_chimerax(script: Path) -> None:
    """Open a script in ChimeraX; InputError where ChimeraX is not installed."""
    program = shutil.which("chimerax") or shutil.which("ChimeraX")
    if program is None:
        raise InputError(f"ChimeraX was not found; install it or open {script} in it on another machine")
    # A list, not a shell line: the path may hold anything.
    subprocess.Popen([program, str(script)], start_new_session=True)


@command("legacy", app, hidden=True)
def _legacy(files: _OldFiles, old: _OldSettings, options: _OldOptions) -> None:
    """Understand the command line of OccuPy 0.1.13 (results go to a folder, under this program's names)."""
    if (files.input_map is None) == (files.emdb is None):
        raise InputError("give either a map (-i MAP) or an EMDB entry (--emdb ID)")
    script = _run(files, _settings_of_old(old), options)
    if files.show:
        _show_in_chimerax(script)


def _run(files: _OldFiles, settings: Settings, options: _OldOptions) -> Path:
    from occupy.cli.console import progress
    from occupy.cli.estimate import Job, find_map, output_folders, run_job, summarise

    quiet = options.quiet
    name = str(files.input_map)
    if files.emdb is not None:
        from occupy.io.emdb import normalise_entry_id

        name = normalise_entry_id(files.emdb)
    path, level = find_map(name, quiet)
    folder = output_folders([path], files.output)[0]
    if files.beside and files.output is None:
        folder = path.parent / folder
    reading = Reading(options.solvent_mask, options.target_mask)
    wanted = Output(options.plot, intermediate=options.intermediate, minimum_scale=options.minimum_scale)
    with progress(path.name, quiet) as report:
        job = Job(settings, reading, wanted, quiet)
        inputs = job.files(path).open(settings)
        job = replace(job, settings=_with_old_tile(settings, inputs.volume.shape))
        written = run_job(inputs, folder, job, level, report)
    summarise(written, job)
    return written.folder / written.files["chimerax"]
