"""The commands of `occupy`: their words. What they do is in one module each."""

from __future__ import annotations

from copy import copy
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from occupy._version import __version__
from occupy.cli.options import Run, command, with_options
from occupy.settings import Estimation, Modification, Output, Reading, Settings, names_of

if TYPE_CHECKING:  # `options.with_options` imports them for the commands that take them
    from occupy.requests import (
        ClassMixture,
        ClassWish,
        ContentRequest,
        ImagingWithHalves,
        Numbering,
        ParticleRequest,
        PartWish,
        Processing,
        RegionRequest,
        RunsRequest,
        SetRequest,
        SubtractionRequest,
        Truth,
        WatchRequest,
    )

app = typer.Typer(
    name="occupy",
    help="Occupancy in cryo-EM maps. `occupy MAP` means `occupy estimate MAP`.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_mask_app = typer.Typer(help="Make masks from a scale map.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(_mask_app, name="mask")

_Folder = Annotated[
    Path | None, typer.Option("-o", "--output", help="Folder for the results.", show_default=False)
]
_File = Annotated[Path | None, typer.Option("-o", "--output", help="File to write.", show_default=False)]
_ScaleMap = Annotated[Path, typer.Argument(metavar="SCALE", help="Scale map, or the folder of an estimate.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"occupy {__version__}")
        raise typer.Exit


@app.callback()
def _general(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Estimate the local scale of cryo-EM maps as a measure of occupancy."""


@command(
    "estimate",
    app,
    without={"minimum_scale"},
    examples=(
        "occupy estimate map.mrc --plot --report",
        "occupy estimate run_half1.mrc --attenuate 3 --exclude-solvent -o weak_parts",
    ),
)
def _estimate(
    maps: Annotated[
        list[str],
        typer.Argument(
            metavar="MAP...",
            help="Maps (.mrc, .map, .gz …), EMDB entries (EMD-3061), or a job's folder or model.star.",
        ),
    ],
    *,
    output: _Folder = None,
    reading: Reading,
    wanted: Output,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Skip maps whose results are complete.",
            show_default=False,
            rich_help_panel="Output",
        ),
    ] = False,
    run: Run,
    settings: Settings,
) -> None:
    """Write the local scale of one map or many.

    With its confidence and standard error, and modified maps where asked for.
    """
    from occupy.cli.estimate import Job, estimate_all

    job = Job(settings, reading, wanted, quiet=run.quiet, resume=resume)
    if estimate_all(maps, output, job):
        raise typer.Exit(1)


@command(
    "modify",
    app,
    without=names_of(Estimation),
    examples=(
        "occupy modify occupy_map --amplify 3",
        "occupy modify occupy_map --sigmoid 5 --pivot 0.4 --lowpass-output 6",
    ),
)
def _modify(
    result: Annotated[
        Path, typer.Argument(metavar="RESULT", help="Folder of an earlier estimate, or its _occupy.json.")
    ],
    *,
    output: _Folder = None,
    map: Annotated[
        Path | None,
        typer.Option("--map", help="The input map, where it is no longer where it was.", show_default=False),
    ] = None,
    run: Run,
    settings: Settings,
) -> None:
    """Make new modified maps from an earlier estimate."""
    from occupy.cli.modify import modify_result

    modify_result(result, settings, output, map, run.quiet)


@command(
    "subtraction",
    _mask_app,
    examples=(
        "occupy mask subtraction occupy_map --attenuate 3",
        "occupy mask subtraction occupy_map --sigmoid 5 --pivot 0.4 --soft-edge 6",
    ),
)
def _mask_subtraction(
    scale: _ScaleMap,
    *,
    output: _File = None,
    asked: SubtractionRequest,
    run: Run,
) -> None:
    """Mask for particle subtraction, RELION's convention: 1 is kept, 0 is subtracted."""
    from occupy.cli.modify import write_subtraction_mask

    write_subtraction_mask(scale, output, asked, run.quiet)


@command(
    "solvent",
    _mask_app,
    examples=(
        "occupy mask solvent occupy_map --soft-edge 6",
        "occupy mask solvent occupy_map --threshold 0.3 --smallest 4000 --extend 4",
    ),
)
def _mask_solvent(
    scale: _ScaleMap,
    *,
    output: _File = None,
    asked: ContentRequest,
    run: Run,
) -> None:
    """Solvent definition: 1 where there is content, with a soft edge, keeping weak density."""
    from occupy.cli.modify import write_solvent_definition

    write_solvent_definition(scale, output, asked, run.quiet)


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
    output: _Folder = None,
    asked: SetRequest,
    run: Run,
) -> None:
    """Estimate what is there in each class, and how sure that is."""
    from occupy.cli.classes import estimate_classes

    estimate_classes(inputs, output, regions, asked, run.quiet)


@command("cryosparc", app, examples=("occupy cryosparc P3 J42 --model model.cif",))
def _cryosparc(
    project: Annotated[
        str, typer.Argument(metavar="PROJECT", help="Such as P3; or the project's folder, with no instance.")
    ],
    job: Annotated[
        str, typer.Argument(metavar="JOB", help="3D classification or heterogeneous refinement, such as J42.")
    ],
    model: Annotated[
        list[Path] | None, typer.Option(help="Model in the maps' frame; may be repeated.", show_default=False)
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            metavar="chain|residue|entity|ligand", help="What is a region of the model.", show_default=False
        ),
    ] = None,
    present: Annotated[
        float, typer.Option(help="Occupancy at which a class has a part.", min=0.0, max=1.0)
    ] = 0.7,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Folder for groups of a project's folder.", show_default=False),
    ] = None,
) -> None:
    """Estimate a cryoSPARC classification as an External job.

    Of its project, connected to it; or as result groups, with no instance.
    """
    from occupy.suites.cryosparc import estimate_job

    words = [word for path in model or () for word in ("--model", str(path.absolute()))]
    words += ["--by", by] if by else []
    for line in estimate_job(project, job, words, present, output):
        typer.echo(line)


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
    output: _Folder = None,
    reading: Reading,
    wanted: Output,
    run: Run,
    settings: Settings,
) -> None:
    """Read the occupancy of chains, ligands or masks in a map."""
    from occupy.cli.classes import read_map_regions
    from occupy.cli.estimate import Job

    read_map_regions(map, asked, output, Job(settings, reading, quiet=True), wanted.report, run.quiet)


@command(
    "view",
    app,
    without={*names_of(Reading) - {"neighbours"}, "quiet"},
    examples=("occupy view map.mrc", "occupy view occupy_job012 --no-browser --port 8700"),
)
def _view(
    *,
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
    reading: Reading,
    run: Run,
) -> None:
    """See maps, their scale and sets of them in the browser.

    It works through an SSH tunnel.
    """
    from occupy.web.serve import serve

    hosts = tuple(allow_host or ())
    serve(what, port=port, browser=not no_browser, hosts=hosts, neighbours=reading.neighbours)


@command(
    "watch",
    app,
    without={"exclusive"},
    examples=(
        "occupy watch Class3D/job012 --model model.cif",
        "occupy watch Class3D/job012 --masks 'masks/*.mrc' --every 5 --once",
    ),
)
def _watch(
    job: Annotated[Path, typer.Argument(metavar="JOB", help="Folder of a RELION Class3D job that runs.")],
    regions: RegionRequest,
    *,
    output: _Folder = None,
    asked: WatchRequest,
    run: Run,
) -> None:
    """Follow the occupancy of regions while a job classifies.

    In each class against iteration.
    """
    from occupy.cli.relion import watch_job

    watch_job(job, output, regions, asked, run.quiet)


@command("fetch", app, examples=("occupy fetch EMD-3061 --half-maps -o maps",))
def _fetch(
    entries: Annotated[list[str], typer.Argument(metavar="ENTRY...", help="EMDB entries, such as EMD-3061.")],
    *,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="Folder to download to [default: the cache].", show_default=False
        ),
    ] = None,
    half_maps: Annotated[
        bool, typer.Option("--half-maps", help="Download half-maps too.", show_default=False)
    ] = False,
    run: Run,
) -> None:
    """Download maps from EMDB."""
    from occupy.cli.estimate import fetch_all

    fetch_all(entries, output, half_maps=half_maps, quiet=run.quiet)


@command("demo", app)
def _demo(
    *,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the results.")] = Path(
        "occupy-demo"
    ),
    seed: Annotated[int, typer.Option("--seed", help="Seed of the noise.")] = 0,
    run: Run,
) -> None:
    """Run on a simulated map of known occupancies.

    No input and no network needed.
    """
    from occupy.cli.estimate import run_demo

    run_demo(output, seed, run.quiet)


@command(
    "simulate",
    app,
    examples=(
        "occupy simulate model.cif --occupancy A=0.5,B=0.8 --resolution 4",
        "occupy simulate model.cif --classes 4 --blocks 3 --class3d --seed 1",
    ),
)
def _simulate(
    models: Annotated[
        list[Path],
        typer.Argument(
            metavar="MODEL...",
            help="Atomic model (.pdb, .cif, .gz), or several that make one complex; demo is the bundled one.",
        ),
    ],
    *,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the results.")] = Path(
        "occupy-simulated"
    ),
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            help="Start of file names [default: the model's].",
            show_default=False,
            rich_help_panel="Map",
        ),
    ] = None,
    imaging: ImagingWithHalves,
    truth: Truth,
    mixture: ClassMixture,
    processing: Processing,
    run: Run,
) -> None:
    """Make maps with known occupancies from an atomic model.

    The truth is written beside them.
    """
    from occupy.cli.estimate import run_simulation
    from occupy.requests import SimulationRequest

    asked = SimulationRequest(tuple(models), name, imaging, truth, mixture, processing)
    run_simulation(asked, output, run.quiet)


@command(
    "select",
    app,
    examples=(
        "occupy select occupy_job012 --particles run_it025_data.star -o L17.star \\",
        "    --region L17 --present 0.7",
        "occupy select occupy_particles --particles particles.cs -o CP.cs --part CP",
    ),
)
def _select(
    table: Annotated[
        Path,
        typer.Argument(
            metavar="TABLE", help="Folder of `occupy classes` (its occupancy.csv) or `particles`."
        ),
    ],
    *,
    particles: Annotated[
        Path,
        typer.Option(
            "--particles", help="RELION's *_data.star, cryoSPARC's .cs, cryoDRGN's labels.pkl or labels.txt."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", help="File to write: .star, .cs, or .pkl for cryoDRGN's --ind."),
    ],
    wish: ClassWish,
    numbering: Numbering,
    parts: PartWish,
    run: Run,
) -> None:
    """Write the particles that have, or lack, a part.

    By the classes they are in, or each by itself.
    """
    from occupy.cli.particles import select_by_classes, select_by_presence

    if parts.part or parts.not_part:
        select_by_presence(table, particles, output, parts, wish, run.quiet)
    else:
        select_by_classes(table, particles, output, wish, numbering, run.quiet)


@command(
    "particles",
    app,
    without={"by_reading", "exclusive"},
    examples=(
        "occupy particles run_data.star --model model.cif --map consensus.mrc",
        "occupy particles J12_particles.cs --passthrough J12_passthrough.cs \\",
        "    --model model.cif --regions parts.yaml -o parts",
    ),
)
def _particles(
    source: Annotated[
        Path,
        typer.Argument(metavar="PARTICLES", help="RELION's particles.star or cryoSPARC's particles.cs."),
    ],
    parts: RegionRequest,
    *,
    output: _Folder = None,
    asked: ParticleRequest,
    run: Run,
) -> None:
    """Tell which parts each particle has, from its image.

    With its pose and a model; no classes needed.
    """
    from occupy.cli.particles import estimate_particles

    estimate_particles(source, output, parts, asked, run.quiet)


@command(
    "compare-runs",
    app,
    examples=(
        "occupy compare-runs Class3D/job012 Class3D/job013 Class3D/job014",
        "occupy compare-runs seed1/labels.pkl seed2/labels.pkl -o agreement",
    ),
)
def _compare_runs(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            help="Job folders, *_data.star, .cs, labels.pkl or .txt, or tables (.tsv) of particle and class.",
        ),
    ],
    *,
    output: _Folder = None,
    asked: RunsRequest,
    run: Run,
) -> None:
    """Tell which classes are real, and how many.

    From several runs over the same particles.
    """
    from occupy.cli.particles import compare_all

    compare_all(runs, output, asked, run.quiet)


# The flags of OccuPy 0.1.13.


@cache
def _add_the_rest() -> None:
    """Add the commands whose words are in modules of their own, which an estimate does without."""
    from occupy.cli.legacy import legacy
    from occupy.cli.relion import relion_app

    app.add_typer(relion_app, name="relion")
    command("legacy", app, hidden=True)(legacy)


def app_for(word: str) -> typer.Typer:
    """Return the application with one command only, or the whole where ``word`` names none.

    Describing every option of every command takes longer than estimating a small map.
    """
    if word not in [each.name for each in app.registered_commands]:
        _add_the_rest()
    commands = [each for each in app.registered_commands if word == each.name]
    groups = [group for group in app.registered_groups if group.name == word]
    if not commands and not groups:
        return with_options(app)
    chosen = copy(app)
    chosen.registered_commands, chosen.registered_groups = commands, groups
    return with_options(chosen)
