"""Command lines written for OccuPy 0.1.13: the same flags with the same meaning."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Annotated, Any

import typer

from occupy.errors import InputError
from occupy.settings import Settings

_Number = Annotated[float | None, typer.Option()]


def settings_of_old(
    *,
    resolution: float | None = None,
    amplify: float = 1.0,
    attenuate: float = 1.0,
    sigmoid: float = 1.0,
    pivot: float = 0.01,
    tau: float | None = None,
    kernel_size: int | None = None,
    kernel_radius: float | None = None,
    tile_size: int | None = None,
    lowpass: float | None = None,
    lowpass_output: float | None = None,
    exclude_solvent: bool = False,
    max_box: int = 256,
    hedge: int | None = None,
    scale_limit: float = 0.05,
    recalibrate: bool = False,
    match_histogram: bool = False,
    naive: bool = False,
    occupancy: bool = False,
    omit_confidence: bool = False,
) -> Settings:
    """Return the settings that mean what these flags of the older program meant.

    There, the scale of the raw map was the default, a power of 1 meant no modification, boxes beyond 256
    were reduced, and the estimator was the published one.
    """
    return Settings(
        mode="occupancy" if occupancy else "resolution",
        estimator="nlf",
        resolution=resolution or None,
        lowpass=lowpass,
        kernel_size=kernel_size,
        kernel_radius=kernel_radius,
        tau=tau,
        tile_size=tile_size,
        naive=naive,
        recalibrate=recalibrate,
        hedge=float(hedge or 1),
        scale_limit=scale_limit,
        amplify=amplify if amplify > 1 else None,
        attenuate=attenuate if attenuate > 1 else None,
        sigmoid=sigmoid if sigmoid > 1 else None,
        pivot=pivot,
        exclude_solvent=exclude_solvent,
        use_confidence=not omit_confidence,
        lowpass_output=lowpass_output,
        match_histogram=match_histogram,
        max_box=max_box,
    )


def with_old_tile(settings: Settings, shape: tuple[int, int, int]) -> Settings:
    """Set the tile the older command line used unless told otherwise: ⌊N/20⌋ voxels of the working grid."""
    if settings.tile_size is not None:
        return settings
    from dataclasses import replace

    side = min(max(shape), settings.max_box or max(shape)) // 20
    return replace(settings, tile_size=max(1, side))


def show_in_chimerax(script: Path) -> None:
    """Open a script in ChimeraX; InputError where ChimeraX is not installed."""
    program = shutil.which("chimerax") or shutil.which("ChimeraX")
    if program is None:
        raise InputError(f"ChimeraX was not found; install it or open {script} in it on another machine")
    # A list, not a shell line: the path may hold anything.
    subprocess.Popen([program, str(script)], start_new_session=True)


def legacy(
    input_map: Annotated[str | None, typer.Option("-i", "--input-map", help="Map.")] = None,
    resolution: Annotated[
        float, typer.Option("-r", "--resolution", min=0.0, help="Lowest resolution of the content (Å).")
    ] = 0.0,
    amplify: Annotated[
        float, typer.Option("-am", "--amplify", min=1.0, help="Power of amplification.")
    ] = 1.0,
    attenuate: Annotated[
        float, typer.Option("-at", "--attenuate", min=1.0, help="Power of attenuation.")
    ] = 1.0,
    sigmoid: Annotated[float, typer.Option("--sigmoid", min=1.0, help="Power of the sigmoid.")] = 1.0,
    pivot: Annotated[float, typer.Option("--pivot", min=0.01, max=0.99, help="Pivot of the sigmoid.")] = 0.01,
    tau: Annotated[
        float | None, typer.Option("-t", "--tau", min=0.0, max=1.0, help="Quantile level.")
    ] = None,
    kernel_size: Annotated[int | None, typer.Option("--kernel-size", help="Footprint (voxels).")] = None,
    kernel_radius: Annotated[
        float | None, typer.Option("--kernel-radius", help="Footprint (voxels).")
    ] = None,
    tile_size: Annotated[int | None, typer.Option("--tile-size", help="Tile (voxels).")] = None,
    lowpass: Annotated[float | None, typer.Option("-lp", "--lowpass", help="Low-pass (Å).")] = None,
    lowpass_output: Annotated[
        float | None, typer.Option("--lowpass-output", help="Low-pass of the output (Å).")
    ] = None,
    exclude_solvent: Annotated[bool, typer.Option("--exclude-solvent/--retain-solvent")] = False,
    max_box: Annotated[int, typer.Option("--max-box", help="Larger boxes are reduced.")] = 256,
    hedge_confidence: Annotated[
        int | None, typer.Option("--hedge-confidence", help="Power of the confidence.")
    ] = None,
    solvent_def: Annotated[Path | None, typer.Option("--solvent-def", help="Solvent mask.")] = None,
    scale_limit: Annotated[float, typer.Option("--scale-limit", min=0.0, max=1.0)] = 0.05,
    nlrc: Annotated[bool, typer.Option("--nlrc/--no-nlrc", help="Recalibrate by the noise level.")] = False,
    hist_match: Annotated[bool, typer.Option("--hist-match/--no-hist-match")] = False,
    target_mask: Annotated[Path | None, typer.Option("--target-mask", help="Mask of a target.")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", "--output-map", help="Folder for the results.")
    ] = None,
    keep_output_path: Annotated[bool, typer.Option("--keep-output-path/--no-keep-output-path")] = False,
    plot: Annotated[bool, typer.Option("--plot/--no-plot")] = False,
    save_all_maps: Annotated[bool, typer.Option("--save-all-maps/--no-save-all-maps")] = False,
    chimerax: Annotated[bool, typer.Option("--chimerax/--no-chimerax")] = True,
    chimerax_silent: Annotated[bool, typer.Option("--chimerax-silent/--no-chimerax-silent")] = False,
    show_chimerax: Annotated[bool, typer.Option("--show-chimerax/--no-show-chimerax")] = False,
    min_vis_scale: Annotated[float, typer.Option("--min-vis-scale", min=0.0, max=1.0)] = 0.2,
    naive: Annotated[bool, typer.Option("--S0/--SW", help="Full scale from the maximum.")] = False,
    occupancy: Annotated[bool, typer.Option("--occupancy/--raw-scale", "--lp-scale/--raw-scale")] = False,
    omit_confidence: Annotated[bool, typer.Option("--omit-confidence/--no-omit-confidence")] = False,
    emdb: Annotated[str | None, typer.Option("--emdb", "--emdb-id", help="EMDB entry.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose")] = False,
    quiet: Annotated[bool, typer.Option("--quiet")] = False,
    debug: Annotated[bool, typer.Option("--debug")] = False,
) -> None:
    """Understand the command line of OccuPy 0.1.13 (results go to a folder, under this program's names)."""
    if (input_map is None) == (emdb is None):
        raise InputError("give either a map (-i MAP) or an EMDB entry (--emdb ID)")
    settings = settings_of_old(
        resolution=resolution,
        amplify=amplify,
        attenuate=attenuate,
        sigmoid=sigmoid,
        pivot=pivot,
        tau=tau or None,
        kernel_size=kernel_size,
        kernel_radius=kernel_radius,
        tile_size=tile_size,
        lowpass=lowpass,
        lowpass_output=lowpass_output,
        exclude_solvent=exclude_solvent,
        max_box=max_box,
        hedge=hedge_confidence,
        scale_limit=scale_limit,
        recalibrate=nlrc,
        match_histogram=hist_match,
        naive=naive,
        occupancy=occupancy,
        omit_confidence=omit_confidence,
    )
    options: dict[str, Any] = {
        "solvent_mask": solvent_def,
        "target_mask": target_mask,
        "plot": plot,
        "intermediate": save_all_maps,
        "quiet": quiet,
        "minimum_scale": min_vis_scale,
    }
    script = _run(input_map, emdb, settings, output, keep_output_path, options)
    if show_chimerax:
        show_in_chimerax(script)


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
    from occupy.io.mrc import read_map

    job = Job(**options)
    path, level = find_map(str(input_map) if emdb is None else _entry(emdb), job.quiet)
    folder = output_folders([path], output)[0]
    if beside and output is None:
        folder = path.parent / folder
    with progress(path.name, job.quiet) as report:
        volume = read_map(path)
        written = run(volume, path, with_old_tile(settings, volume.shape), folder, job, level, report)
    summarise(written, job)
    return written.folder / written.files["chimerax"]
