"""The iterations of a RELION classification that is still running."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from occupy.errors import InputError
from occupy.io.star import read_star

_MODEL = re.compile(r"(.+_it)(\d+)_model\.star")
_EXITS = ("SUCCESS", "FAILURE", "ABORTED")


@dataclass(frozen=True)
class Iteration:
    """One iteration that is complete.

    Attributes
    ----------
    number : int
        From 1.
    model : Path
        Its model.star.
    written : int
        When that was written, nanoseconds since 1970.
    """

    number: int
    model: Path
    written: int


def iterations(folder: Path) -> list[Iteration]:
    """Return the complete iterations of a job, in order.

    RELION writes optimiser, maps, model, data and sampling, in this order: an iteration is complete once
    its sampling.star or a later model.star is there. Of two runs of one iteration (a job that was continued)
    the later one counts.

    Raises
    ------
    InputError
        Where the folder cannot be read.
    """
    try:
        names = {path.name for path in folder.iterdir()}
    except OSError as error:
        reason = "no such folder" if isinstance(error, FileNotFoundError) else str(error.strerror).lower()
        raise InputError(f"{folder}: {reason}; give the folder of a Class3D job") from error
    matches = [match for name in names if (match := _MODEL.fullmatch(name))]
    last = max((int(match[2]) for match in matches), default=0)
    found: dict[int, Iteration] = {}
    for match in matches:
        number, path = int(match[2]), folder / match[0]
        if number == 0 or not (number < last or f"{match[1]}{match[2]}_sampling.star" in names):
            continue
        entry = Iteration(number, path, path.stat().st_mtime_ns)
        if number not in found or found[number].written < entry.written:
            found[number] = entry
    return [found[number] for number in sorted(found)]


def has_ended(folder: Path, last: Iteration | None) -> bool:
    """Tell whether a job will write no more: RELION says so, or the last iteration planned is there."""
    if any((folder / f"RELION_JOB_EXIT_{ending}").exists() for ending in _EXITS):
        return True
    if last is None:
        return False
    optimiser = last.model.with_name(last.model.name.removesuffix("_model.star") + "_optimiser.star")
    try:
        general = read_star(optimiser)["optimiser_general"]
        return last.number >= general.numbers("rlnNumberOfIterations")[0]
    except (InputError, KeyError, IndexError):
        return False
