"""Command lines written for OccuPy 0.1.13: the same flags with the same meaning."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from occupy.cli.options import parameter, with_parameters
from occupy.errors import InputError
from occupy.settings import Settings


@dataclass(frozen=True)
class OldFlag:
    """One flag of OccuPy 0.1.13 and what it is called here.

    Attributes
    ----------
    name : str
        The setting (of `Settings` or `Job`) it means, or what `legacy` itself looks at.
    flags : tuple of str
        How it is written.
    kind : type
        What it takes.
    default : object
        What the older program assumed without it.
    limits : dict
        Smallest and largest value.
    """

    name: str
    flags: tuple[str, ...]
    kind: Any
    default: Any = None
    limits: dict[str, Any] = field(default_factory=dict)


_LEAST_ONE, _SHARE = {"min": 1.0}, {"min": 0.0, "max": 1.0}
SETTINGS = (
    OldFlag("resolution", ("-r", "--resolution"), float, 0.0, {"min": 0.0}),
    OldFlag("amplify", ("-am", "--amplify"), float, 1.0, _LEAST_ONE),
    OldFlag("attenuate", ("-at", "--attenuate"), float, 1.0, _LEAST_ONE),
    OldFlag("sigmoid", ("--sigmoid",), float, 1.0, _LEAST_ONE),
    OldFlag("pivot", ("--pivot",), float, 0.01, {"min": 0.01, "max": 0.99}),
    OldFlag("tau", ("-t", "--tau"), float | None, None, _SHARE),
    OldFlag("kernel_size", ("--kernel-size",), int | None),
    OldFlag("kernel_radius", ("--kernel-radius",), float | None),
    OldFlag("tile_size", ("--tile-size",), int | None),
    OldFlag("lowpass", ("-lp", "--lowpass"), float | None),
    OldFlag("lowpass_output", ("--lowpass-output",), float | None),
    OldFlag("exclude_solvent", ("--exclude-solvent/--retain-solvent",), bool, False),
    OldFlag("max_box", ("--max-box",), int, 256),
    OldFlag("hedge", ("--hedge-confidence",), int | None),
    OldFlag("scale_limit", ("--scale-limit",), float, 0.05, _SHARE),
    OldFlag("recalibrate", ("--nlrc/--no-nlrc",), bool, False),
    OldFlag("match_histogram", ("--hist-match/--no-hist-match",), bool, False),
    OldFlag("naive", ("--S0/--SW",), bool, False),
    OldFlag("mode", ("--occupancy/--raw-scale", "--lp-scale/--raw-scale"), bool, False),
    OldFlag("use_confidence", ("--omit-confidence/--no-omit-confidence",), bool, False),
)
OPTIONS = (
    OldFlag("solvent_mask", ("--solvent-def",), Path | None),
    OldFlag("target_mask", ("--target-mask",), Path | None),
    OldFlag("plot", ("--plot/--no-plot",), bool, False),
    OldFlag("intermediate", ("--save-all-maps/--no-save-all-maps",), bool, False),
    OldFlag("quiet", ("--quiet",), bool, False),
    OldFlag("minimum_scale", ("--min-vis-scale",), float, 0.2, _SHARE),
)
OTHERS = (
    OldFlag("input_map", ("-i", "--input-map"), str | None),
    OldFlag("emdb", ("--emdb", "--emdb-id"), str | None),
    OldFlag("output", ("-o", "--output", "--output-map"), Path | None),
    OldFlag("beside", ("--keep-output-path/--no-keep-output-path",), bool, False),
    OldFlag("show", ("--show-chimerax/--no-show-chimerax",), bool, False),
    # Understood and without effect: the script is always written, and messages are as for every command.
    OldFlag("chimerax", ("--chimerax/--no-chimerax",), bool, True),
    OldFlag("silent", ("--chimerax-silent/--no-chimerax-silent",), bool, False),
    OldFlag("verbose", ("--verbose",), bool, False),
    OldFlag("debug", ("--debug",), bool, False),
)


def settings_of_old(given: Mapping[str, Any]) -> Settings:
    """Return the settings that mean what the flags of the older program meant.

    There, the scale of the raw map was the default, a power of 1 meant no modification, boxes beyond 256
    were reduced, and the estimator was the published one.
    """
    asked = {flag.name: given[flag.name] for flag in SETTINGS}
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


def with_old_tile(settings: Settings, shape: tuple[int, int, int]) -> Settings:
    """Set the tile the older command line used unless told otherwise: ⌊N/20⌋ voxels of the working grid."""
    if settings.tile_size is not None:
        return settings
    side = min(max(shape), settings.max_box or max(shape)) // 20
    return replace(settings, tile_size=max(1, side))


def show_in_chimerax(script: Path) -> None:
    """Open a script in ChimeraX; InputError where ChimeraX is not installed."""
    program = shutil.which("chimerax") or shutil.which("ChimeraX")
    if program is None:
        raise InputError(f"ChimeraX was not found; install it or open {script} in it on another machine")
    # A list, not a shell line: the path may hold anything.
    subprocess.Popen([program, str(script)], start_new_session=True)


def legacy(**given: Any) -> None:
    """Understand the command line of OccuPy 0.1.13 (results go to a folder, under this program's names)."""
    if (given["input_map"] is None) == (given["emdb"] is None):
        raise InputError("give either a map (-i MAP) or an EMDB entry (--emdb ID)")
    options = {flag.name: given[flag.name] for flag in OPTIONS}
    script = _run(
        given["input_map"], given["emdb"], settings_of_old(given), given["output"], given["beside"], options
    )
    if given["show"]:
        show_in_chimerax(script)


def _option(flag: OldFlag) -> Any:
    # These two are said the other way round here, so their descriptions would mislead.
    about = {f.name: f.metadata["help"] for f in fields(Settings) if f.name not in ("mode", "use_confidence")}
    return Annotated[flag.kind, typer.Option(*flag.flags, help=about.get(flag.name), **flag.limits)]


with_parameters(
    legacy, [parameter(flag.name, _option(flag), flag.default) for flag in (*OTHERS, *SETTINGS, *OPTIONS)]
)


def _entry(name: str) -> str:
    from occupy.io.emdb import normalise_entry_id

    return normalise_entry_id(name)


def _run(
    input_map: str | None,
    emdb: str | None,
    settings: Settings,
    output: Path | None,
    beside: bool,
    options: dict[str, Any],
) -> Path:
    from occupy.cli.console import progress
    from occupy.cli.estimate import Job, find_map, output_folders, run, summarise
    from occupy.io.mrc import read_source

    job = Job(**options)
    path, level = find_map(str(input_map) if emdb is None else _entry(emdb), job.quiet)
    folder = output_folders([path], output)[0]
    if beside and output is None:
        folder = path.parent / folder
    with progress(path.name, job.quiet) as report:
        volume, source = read_source(path)
        written = run(volume, source, with_old_tile(settings, volume.shape), folder, job, level, report)
    summarise(written, job)
    return written.folder / written.files["chimerax"]
