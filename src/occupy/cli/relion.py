"""`occupy relion` and `occupy watch`: work inside a Class3D job, and follow one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from occupy.cli.options import Folder, Run, app, command
from occupy.relion.class3d import Class3D, Experiment
from occupy.requests import RegionRequest, SetRequest, WatchRequest

_relion = typer.Typer(
    help="Work together with RELION: inside the loop of Class3D.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(_relion, name="relion")


@command(
    "class3d-command",
    _relion,
    without={"extra", "quiet"},
    examples=(
        "occupy relion class3d-command particles.star consensus.mrc -K 4",
        "occupy relion class3d-command particles.star consensus.mrc -K 4 \\",
        "    --seeds 3 --ladder 2,3,4,6",
    ),
)
def _class3d_command(job: Class3D, experiment: Experiment, run: Run) -> None:
    """Print the command of a Class3D job with occupy in its loop, or a script of several seeds and K."""
    import shutil
    import sys

    from occupy.relion.class3d import PROGRAM, guide, script

    beside = Path(sys.executable).parent / PROGRAM
    program = str(beside) if beside.is_file() else shutil.which(PROGRAM) or PROGRAM
    single = experiment.seeds == 1 and experiment.ladder is None
    typer.echo(guide(job, program) if single else script(job, experiment, program), nl=False)


@command(
    "class3d-report",
    _relion,
    examples=("occupy relion class3d-report Class3D/job012 Class3D/job013",),
)
def _class3d_report(
    jobs: Annotated[
        list[Path],
        typer.Argument(metavar="JOB...", help="Folder of the Class3D job, or several: other seeds, other K."),
    ],
    *,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Folder for what several jobs say together.", show_default=False),
    ] = None,
    run: Run,
) -> None:
    """Write the record of a job; of several, tell which K to take, which classes are real, which noise."""
    from occupy.cli.console import say, warn
    from occupy.cli.particles import report_jobs
    from occupy.io.loop import FOLDER
    from occupy.relion.runreport import write_run_report

    for job in jobs:
        # Among several, jobs of plain RELION are compared too; they have no record of ours.
        if len(jobs) == 1 or (job / FOLDER).is_dir():
            written, notices = write_run_report(job)
            for notice in notices:
                warn(notice.text if len(jobs) == 1 else f"{job.name}: {notice.text}", run.quiet)
            for path in written:
                say(f"wrote {path}", run.quiet)
    if len(jobs) > 1:
        report_jobs(jobs, output, run.quiet)
    else:
        text = "one run does not tell which classes are real: give this command the runs of other seeds too"
        say(text, run.quiet)


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
    output: Folder = None,
    asked: WatchRequest,
    run: Run,
) -> None:
    """Follow the occupancy of regions while a job classifies.

    In each class against iteration.
    """
    from functools import partial

    from occupy.cli.console import say, warn
    from occupy.relion.watch import Watch, set_reader

    regions.check()
    options = (
        SetRequest(asked.lowpass, components=False).options
        | regions.options
        | {
            "model": [str(path.resolve()) for path in regions.models],
            "by_reading": regions.by_reading,
            "regions": None if regions.selections is None else str(regions.selections.resolve()),
        }
    )
    target = output or Path(f"occupy_watch_{job.resolve().name}")
    watch = Watch(
        job,
        target,
        options,
        asked.interval,
        asked.every,
        asked.once,
        say=partial(say, quiet=run.quiet),
        warn=partial(warn, quiet=run.quiet),
    )
    watch.follow(set_reader(regions, asked.lowpass, target))
