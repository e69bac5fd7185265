"""`occupy relion`: work inside a Class3D job."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from occupy.cli.options import Debug, Run, takes_options

relion_app = typer.Typer(
    help="Work together with RELION: inside the loop of Class3D.", no_args_is_help=True, rich_markup_mode=None
)


@relion_app.command("class3d-command")
def class3d_command(
    particles: Annotated[str, typer.Argument(metavar="PARTICLES", help="STAR file with poses.")],
    reference: Annotated[str, typer.Argument(metavar="REFERENCE", help="Map to begin with.")],
    output: Annotated[
        str, typer.Option("-o", "--output", help="Root of RELION's output names.")
    ] = "Class3D/occupy/run",
    diameter: Annotated[float, typer.Option("--diameter", help="Of the particle (Å).")] = 200.0,
    classes: Annotated[int, typer.Option("--classes", "-K", help="Number of classes.")] = 4,
    iterations: Annotated[int, typer.Option("--iterations", help="Number of iterations.")] = 25,
    fudge: Annotated[float, typer.Option("--fudge", help="RELION's regularisation parameter T.")] = 4.0,
    initial: Annotated[float, typer.Option("--initial", help="Low-pass of the reference (Å).")] = 40.0,
    limit: Annotated[
        float | None,
        typer.Option("--limit", help="Finest resolution of the expectation step (Å).", show_default=False),
    ] = None,
    align: Annotated[
        bool, typer.Option("--align", help="Search orientations too.", show_default=False)
    ] = False,
    processes: Annotated[int, typer.Option("--processes", help="MPI processes.")] = 1,
    threads: Annotated[int, typer.Option("--threads", help="Threads of each process.")] = 4,
    gpu: Annotated[
        str | None, typer.Option("--gpu", help="GPUs, as RELION takes them.", show_default=False)
    ] = None,
    debug: Debug = False,
) -> None:
    """Print the command of a Class3D job with occupy in its loop, and how to use it."""
    import shutil
    import sys

    from occupy.relion.class3d import PROGRAM, Class3D, guide

    beside = Path(sys.executable).parent / PROGRAM
    program = str(beside) if beside.is_file() else shutil.which(PROGRAM) or PROGRAM
    job = Class3D(
        particles, reference, output, diameter, classes, iterations, fudge, initial, limit, align, processes,
        threads, gpu,
    )  # fmt: skip
    typer.echo(guide(job, program), nl=False)


@relion_app.command("class3d-report")
@takes_options()
def class3d_report(
    job: Annotated[Path, typer.Argument(metavar="JOB", help="Folder of the Class3D job.")], run: Run
) -> None:
    """Write the record of a job: table and picture; warn of collapse and self-bias."""
    from occupy.cli.console import say, warn
    from occupy.relion.runreport import write_run_report

    written, notices = write_run_report(job)
    for notice in notices:
        warn(notice.text, run.quiet)
    for path in written:
        say(f"wrote {path}", run.quiet)
