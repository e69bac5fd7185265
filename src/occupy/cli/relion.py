"""`occupy relion`: work inside a Class3D job."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from occupy.cli.options import Run, command
from occupy.relion.class3d import Class3D

relion_app = typer.Typer(
    help="Work together with RELION: inside the loop of Class3D.", no_args_is_help=True, rich_markup_mode=None
)


@command("class3d-command", relion_app, without={"extra", "quiet"})
def _class3d_command(job: Class3D, run: Run) -> None:
    """Print the command of a Class3D job with occupy in its loop, and how to use it."""
    import shutil
    import sys

    from occupy.relion.class3d import PROGRAM, guide

    beside = Path(sys.executable).parent / PROGRAM
    program = str(beside) if beside.is_file() else shutil.which(PROGRAM) or PROGRAM
    typer.echo(guide(job, program), nl=False)


@command("class3d-report", relion_app)
def _class3d_report(
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
