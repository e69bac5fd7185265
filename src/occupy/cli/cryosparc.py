"""`occupy cryosparc`: a classification in an External job of its project, or as result groups."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from occupy.cli.console import say, warn
from occupy.errors import InputError


def estimate_job(project: str, job: str, options: Sequence[str], present: float, output: Path | None) -> None:
    """Work in the instance, or in the project's folder where one is given; say what was made."""
    from occupy.suites.cryosparc import connect, run_external, run_in_folder

    # A folder of that name is ./P3.
    if re.fullmatch(r"P\d+", project):
        if output is not None:
            raise InputError("-o is for a project's folder; an External job has a folder of its own")
        made = run_external(connect(), project, job, options, present)
        say(f"{project} {made}: occupancies, masks and particles of {job}")
        return
    folder = output or Path(f"occupy_{job}")
    groups, notices = run_in_folder(Path(project), job, folder, options, present)
    for notice in notices:
        warn(notice.text)
    say(f"{len(groups)} result groups in {folder}, for cryoSPARC's job Import Result Group:")
    for group in groups:
        say(f"  {group.name}")
