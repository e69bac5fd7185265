"""`occupy select`: the particles of the classes that have, or lack, a region; or that have a part."""

from __future__ import annotations

import sys
from pathlib import Path

from occupy.cli.console import say, warn
from occupy.errors import InputError
from occupy.requests import ClassWish, Numbering, PartWish


def select_by_classes(
    source: Path, particles: Path, output: Path, wish: ClassWish, numbering: Numbering, quiet: bool
) -> None:
    """Select, write the particles and a record beside them, print what was found."""
    from occupy.report.selection import select_particles, selection_lines

    found, notices, record = select_particles(source, particles, output, wish, numbering, sys.argv)
    for notice in (*notices, *found.notices):
        warn(notice.text, quiet)
    for line in selection_lines(found):
        say(line, quiet)
    say(f"written: {output} (and {record.name})", quiet)


def select_by_presence(
    source: Path, particles: Path, output: Path, parts: PartWish, wish: ClassWish, quiet: bool
) -> None:
    """Write the particles that surely have, or lack, parts, and say how many."""
    from occupy.report.selection import select_parts

    if wish.region or wish.where is not None:
        raise InputError("give either --part and --not-part, or --region or --where")
    kept, total, words = select_parts(source, particles, output, parts)
    share = kept / total
    say(f"{kept} of {total} particles ({share:.0%}): {words}, each at {parts.probability:g}", quiet)
    say(f"written: {output}", quiet)
