"""The commands of `occupy`."""

from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import Annotated

import typer

from occupy._version import __version__
from occupy.cli.arguments import (
    By,
    ByReading,
    CommonLowpass,
    Compare,
    Components,
    Debug,
    MapsAtATime,
    Masks,
    Models,
    Neighbours,
    Output,
    PageOption,
    Quiet,
    Resample,
    Resume,
    Scheduler,
    Selections,
    SetInputs,
    VoxelSize,
)
from occupy.cli.options import SETTINGS_OF_ESTIMATE, SETTINGS_OF_MODIFICATION, takes_settings
from occupy.settings import Settings

app = typer.Typer(
    name="occupy",
    help="Local scale of cryo-EM maps as a measure of occupancy. `occupy MAP` means `occupy estimate MAP`.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
mask_app = typer.Typer(help="Make masks from a scale map.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(mask_app, name="mask")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"occupy {__version__}")
        raise typer.Exit


@app.callback()
def general(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Estimate the local scale of cryo-EM maps as a measure of occupancy."""


@app.command()
@takes_settings()
def estimate(
    maps: Annotated[
        list[str],
        typer.Argument(
            metavar="MAP...",
            help="Maps (.mrc, .map, .gz …), EMDB entries (EMD-3061), or a job's folder or model.star.",
        ),
    ],
    settings: Settings,
    output: Output = None,
    solvent_mask: Annotated[
        Path | None,
        typer.Option(
            "--solvent-mask", help="Mask of solvent or content, to help the solvent fit.", show_default=False
        ),
    ] = None,
    target_mask: Annotated[
        Path | None,
        typer.Option("--target-mask", help="Mask of a part whose occupancy is wanted.", show_default=False),
    ] = None,
    half_maps: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            "--half-maps",
            metavar="A B",
            help="Independent halves, for the noise [default: found beside the map by their names].",
            show_default=False,
        ),
    ] = None,
    neighbours: Neighbours = True,
    voxel_size: VoxelSize = None,
    plot: Annotated[
        bool,
        typer.Option("--plot", help="Draw slices, solvent fit and modification curve.", show_default=False),
    ] = False,
    report: PageOption = False,
    save_intermediate: Annotated[
        bool, typer.Option("--save-intermediate", help="Write the low-passed map too.", show_default=False)
    ] = False,
    level: Annotated[
        float | None,
        typer.Option("--level", help="Contour level for ChimeraX, in map units.", show_default=False),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Skip maps whose results are complete.", show_default=False)
    ] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write local scale, confidence and modified maps of one map or many."""
    from occupy.cli.estimate import Job, estimate_all

    job = Job(
        solvent_mask=solvent_mask,
        target_mask=target_mask,
        voxel_size=voxel_size,
        plot=plot,
        report=report,
        intermediate=save_intermediate,
        quiet=quiet,
        resume=resume,
        level=level,
        half_maps=half_maps,
        neighbours=neighbours,
    )
    if estimate_all(maps, settings, output, job):
        raise typer.Exit(1)


@app.command()
@takes_settings(SETTINGS_OF_MODIFICATION)
def modify(
    result: Annotated[
        Path, typer.Argument(metavar="RESULT", help="Folder of an earlier estimate, or its _occupy.json.")
    ],
    settings: Settings,
    output: Output = None,
    map: Annotated[
        Path | None,
        typer.Option("--map", help="The input map, where it is no longer where it was.", show_default=False),
    ] = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Make new modified maps from an earlier estimate, without estimating again."""
    from occupy.cli.modify import modify_result

    modify_result(result, settings, output, map, quiet)


@mask_app.command("subtraction")
def mask_subtraction(
    scale: Annotated[Path, typer.Argument(metavar="SCALE", help="Scale map, or the folder of an estimate.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File to write.", show_default=False)
    ] = None,
    attenuate: Annotated[
        float | None,
        typer.Option("--attenuate", help="Power: keep S^(power − 1) of each part.", show_default=False),
    ] = None,
    sigmoid: Annotated[
        float | None,
        typer.Option("--sigmoid", help="Power: keep all above the pivot, less below.", show_default=False),
    ] = None,
    pivot: Annotated[float, typer.Option("--pivot", help="Scale the sigmoid leaves as it is.")] = 0.5,
    soft_edge: Annotated[float, typer.Option("--soft-edge", help="Å over which the mask is smoothed.")] = 0.0,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Mask for particle subtraction, RELION's convention: 1 is kept, 0 is subtracted."""
    from occupy.cli.mask import write_subtraction_mask

    write_subtraction_mask(
        scale, output, attenuate=attenuate, sigmoid=sigmoid, pivot=pivot, soft_edge=soft_edge, quiet=quiet
    )


@mask_app.command("solvent")
def mask_solvent(
    scale: Annotated[Path, typer.Argument(metavar="SCALE", help="Scale map, or the folder of an estimate.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File to write.", show_default=False)
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            help="Scale above which a voxel is content [default: twice the lowest confident one].",
            show_default=False,
        ),
    ] = None,
    weak: Annotated[
        float | None,
        typer.Option(
            "--weak",
            help="Keep parts above this too, where they touch content [default: lowest confident].",
            show_default=False,
        ),
    ] = None,
    smallest: Annotated[
        float, typer.Option("--smallest", help="Drop pieces of less than this volume (Å³).")
    ] = 0.0,
    extend: Annotated[float, typer.Option("--extend", help="Grow the mask by this (Å).")] = 0.0,
    soft_edge: Annotated[
        float, typer.Option("--soft-edge", help="Width of the soft edge outside it (Å).")
    ] = 0.0,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Solvent definition: 1 where there is content, with a soft edge, keeping weak density."""
    from occupy.cli.mask import write_solvent_definition

    write_solvent_definition(
        scale,
        output,
        threshold=threshold,
        weak=weak,
        smallest=smallest,
        extend=extend,
        soft_edge=soft_edge,
        quiet=quiet,
    )


@app.command()
def classes(
    inputs: SetInputs,
    model: Models = None,
    by: By = None,
    selections: Selections = None,
    masks: Masks = None,
    output: Output = None,
    lowpass: CommonLowpass = None,
    components: Components = True,
    compare: Compare = None,
    resample: Resample = False,
    voxel_size: VoxelSize = None,
    resume: Resume = False,
    report: PageOption = False,
    threads: MapsAtATime = None,
    scheduler: Scheduler = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Estimate what is there in each class of an experiment, and how sure that is."""
    from occupy.cli.classes import ClassesJob, estimate_classes
    from occupy.cli.regions import Asked

    asked = Asked(tuple(model or ()), by, selections, tuple(masks or ()))
    job = ClassesJob(
        asked, lowpass, resample, components, compare, voxel_size, resume, quiet, report, threads, scheduler
    )
    estimate_classes(inputs, output, job)


@app.command()
@takes_settings(SETTINGS_OF_ESTIMATE)
def regions(
    map: Annotated[
        str,
        typer.Argument(
            metavar="MAP", help="Map, EMDB entry, or the folder (or _occupy.json) of an earlier estimate."
        ),
    ],
    settings: Settings,
    model: Models = None,
    by: By = None,
    selections: Selections = None,
    masks: Masks = None,
    by_reading: ByReading = False,
    output: Output = None,
    neighbours: Neighbours = True,
    voxel_size: VoxelSize = None,
    report: PageOption = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Read the occupancy of chains, residues, ligands or masks in a map."""
    from occupy.cli.regions import Asked, read_map_regions

    asked = Asked(tuple(model or ()), by, selections, tuple(masks or ()), by_reading)
    read_map_regions(
        map, asked, settings, output, voxel_size=voxel_size, neighbours=neighbours, page=report, quiet=quiet
    )


@app.command()
def view(
    what: Annotated[
        Path | None,
        typer.Argument(
            metavar="[MAP|FOLDER]",
            help="Map, folder of an estimate or of a set, or a folder to choose from [default: this folder].",
            show_default=False,
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", help="Port to listen on [default: 8642, or a free one].", show_default=False),
    ] = None,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Print the address only.", show_default=False)
    ] = False,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-host",
            metavar="NAME",
            help="Answer to this name too, behind a proxy.",
            show_default=False,
        ),
    ] = None,
    neighbours: Neighbours = True,
    debug: Debug = False,
) -> None:
    """See maps, their scale and sets of them in the browser; works through an SSH tunnel."""
    from occupy.web.serve import serve

    serve(what, port=port, browser=not no_browser, hosts=tuple(allow_host or ()), neighbours=neighbours)


@app.command()
def watch(
    job: Annotated[Path, typer.Argument(metavar="JOB", help="Folder of a RELION Class3D job that runs.")],
    model: Models = None,
    by: By = None,
    selections: Selections = None,
    masks: Masks = None,
    output: Output = None,
    lowpass: Annotated[
        float | None,
        typer.Option("--lowpass", help="Å: common resolution, as of occupy classes.", show_default=False),
    ] = None,
    interval: Annotated[
        float, typer.Option("--interval", min=0.1, help="Seconds between two looks at the job.")
    ] = 10.0,
    every: Annotated[
        int, typer.Option("--every", min=1, help="Read every so many-th iteration, and the last.")
    ] = 1,
    once: Annotated[
        bool, typer.Option("--once", help="Read what is there and end.", show_default=False)
    ] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Follow a classification: occupancy of regions in each class against iteration."""
    from occupy.cli.classes import ClassesJob
    from occupy.cli.regions import Asked
    from occupy.cli.watch import watch_job

    asked = Asked(tuple(model or ()), by, selections, tuple(masks or ()))
    wanted = ClassesJob(asked, lowpass, discover=False, quiet=quiet)
    watch_job(job, output, wanted, interval=interval, every=every, once=once)


@app.command()
def fetch(
    entries: Annotated[list[str], typer.Argument(metavar="ENTRY...", help="EMDB entries, such as EMD-3061.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="Folder to download to [default: the cache].", show_default=False
        ),
    ] = None,
    half_maps: Annotated[
        bool, typer.Option("--half-maps", help="Download half-maps too.", show_default=False)
    ] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Download maps from EMDB."""
    from occupy.cli.fetch import fetch_all

    fetch_all(entries, output, half_maps=half_maps, quiet=quiet)


@app.command()
def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the results.")] = Path(
        "occupy-demo"
    ),
    seed: Annotated[int, typer.Option("--seed", help="Seed of the noise.")] = 0,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Run on a simulated map of known occupancies; no input and no network needed."""
    from occupy.cli.demo import run_demo

    run_demo(output, seed, quiet)


# Its module brings its own options.
from occupy.cli.simulate import simulate  # noqa: E402

app.command("simulate")(simulate)

from occupy.cli.select import select  # noqa: E402

app.command("select")(select)

from occupy.cli.particles import particles  # noqa: E402

app.command("particles")(particles)

from occupy.cli.compare_runs import compare_runs  # noqa: E402

app.command("compare-runs")(compare_runs)

from occupy.cli.relion import relion_app  # noqa: E402

app.add_typer(relion_app, name="relion")

# The flags of OccuPy 0.1.13; its module brings its own options.
from occupy.cli.legacy import legacy  # noqa: E402

app.command("legacy", hidden=True)(legacy)


def app_for(word: str) -> typer.Typer:
    """Return the application with one command only, or the whole where ``word`` names none.

    Describing every option of every command takes longer than estimating a small map.
    """
    commands = [
        command
        for command in app.registered_commands
        if word == (command.name or getattr(command.callback, "__name__", None))
    ]
    groups = [group for group in app.registered_groups if group.name == word]
    if not commands and not groups:
        return app
    chosen = copy(app)
    chosen.registered_commands, chosen.registered_groups = commands, groups
    return chosen
