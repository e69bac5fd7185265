"""`occupy watch`: follow a classification, iteration by iteration."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from occupy.cli.console import say, warn
from occupy.errors import InputError

if TYPE_CHECKING:
    from occupy.cli.classes import ClassesJob
    from occupy.io.mapset import MapSet
    from occupy.io.relion_job import FinishedIteration
    from occupy.regions.region import Region
    from occupy.regions.table import OccupancyTable
    from occupy.report.history import Step

ReadSet = Callable[["MapSet"], "OccupancyTable"]
"""Reads the regions asked for in the maps of a set, or in some of them (small classes may be left out)."""

RECORD = "watch.json"


@dataclass(frozen=True)
class Watch:
    """How to follow a job.

    Attributes
    ----------
    folder : Path
        The job.
    output : Path
        Where to write.
    options : mapping
        What the tables depend on; a history made with other options is not continued.
    interval : float
        Seconds between two looks.
    every : int
        Read every so many-th iteration (and the last).
    once : bool
        Read what is there and end.
    quiet : bool
        Print errors only.
    """

    folder: Path
    output: Path
    options: Mapping[str, Any]
    interval: float = 10.0
    every: int = 1
    once: bool = False
    quiet: bool = False


def set_reader(job: ClassesJob, scratch: Path) -> ReadSet:
    """Return what reads the regions asked for, by the estimate of a set."""
    from occupy.classes import without_small
    from occupy.cli.classes import regions_of_set, regions_table

    found_regions: list[Region] = []

    def read(found: MapSet) -> OccupancyTable:
        used, _ = without_small(found)
        if not found_regions:
            regions = regions_of_set(used, job)
            found_regions.extend(() if regions is None else regions.regions)
        return regions_table(used, found_regions, job, scratch)

    return read


def watch_job(folder: Path, output: Path | None, job: ClassesJob, **how: Any) -> None:
    """Follow a job with the regions asked for; ``how`` are the further fields of `Watch`."""
    job.regions.check()
    options = dict(job.options) | {
        "model": [str(path.resolve()) for path in job.regions.models],
        "regions": None if job.regions.selections is None else str(job.regions.selections.resolve()),
    }
    target = output or Path(f"occupy_watch_{folder.resolve().name}")
    follow(Watch(folder, target, options, quiet=job.quiet, **how), set_reader(job, target))


def follow(watch: Watch, read: ReadSet, sleep: Callable[[float], None] = time.sleep) -> list[Step]:
    """Follow a job to its end, writing tables and pictures after each iteration; return all steps.

    Parameters
    ----------
    watch : Watch
        What to follow and how.
    read : callable
        From a set of maps to the table of its regions. InputError skips an iteration.
    sleep : callable
        Waits for so many seconds.
    """
    from occupy.io.atomic import make_folder
    from occupy.io.relion_job import finished_iterations, has_ended

    finished_iterations(watch.folder)
    make_folder(watch.output)
    done, steps = _earlier(watch)
    failed: dict[int, int] = {}
    said: set[str] = set()
    waiting = False
    while True:
        ended = watch.once or has_ended(
            watch.folder, next(iter(finished_iterations(watch.folder)[::-1]), None)
        )
        found = finished_iterations(watch.folder)
        fresh = [
            each
            for each in found
            if (each.number % watch.every == 0 or (ended and each is found[-1]))
            and each.written not in (done.get(each.number), failed.get(each.number))
        ]
        for each in fresh:
            # A job that was started anew writes its iterations again: the later ones of old no longer count.
            if each.number in steps:
                steps = {number: step for number, step in steps.items() if number < each.number}
                done = {number: written for number, written in done.items() if number < each.number}
            step = _step(each, read, watch.quiet, said)
            if step is None:
                failed[each.number] = each.written
                continue
            steps[each.number], done[each.number] = step, each.written
            _write(watch, done, steps)
        if ended:
            return _finished(watch, steps)
        if not (fresh or waiting):
            say(f"waiting for {watch.folder} …", watch.quiet)
        waiting = True
        sleep(watch.interval)


def _finished(watch: Watch, steps: Mapping[int, Step]) -> list[Step]:
    if not steps:
        raise InputError(f"{watch.folder}: no iteration could be read")
    say(f"  history                 {watch.output / 'history.png'}", watch.quiet)
    return [steps[number] for number in sorted(steps)]


def _step(each: FinishedIteration, read: ReadSet, quiet: bool, said: set[str]) -> Step | None:
    """Read one iteration; None, with a warning, where that is not possible.

    Notices of kinds in ``said`` were shown before; those shown now are added.
    """
    from occupy.io.sets import find_set
    from occupy.report.history import Step, step_line

    try:
        found = find_set([each.model], count_particles=True)
        for notice in found.notices:
            if notice.code not in said:
                warn(notice.text, quiet)
                said.add(notice.code)
        table = read(found)
    except InputError as error:
        warn(f"iteration {each.number} is left out: {error}", quiet)
        return None
    step = Step(each.number, _of_all(table, found), tuple(entry.particles for entry in found.maps))
    say(step_line(step), quiet)
    return step


def _of_all(table: OccupancyTable, found: MapSet) -> OccupancyTable:
    """Return a table of all classes, NaN where one was left out, with their shares.

    Names of maps carry the iteration; classes keep their number.
    """
    import numpy as np

    values, errors = (np.full((len(table.regions), len(found.maps)), np.nan) for _ in range(2))
    for column, entry in enumerate(found.maps):
        if entry.name in table.maps:
            source = table.maps.index(entry.name)
            values[:, column], errors[:, column] = table.values[:, source], table.errors[:, source]
    return replace(
        table,
        maps=tuple(f"class {entry.number}" for entry in found.maps),
        values=values,
        errors=errors,
        weights=np.array([np.nan if entry.weight is None else entry.weight for entry in found.maps]),
    )


def _earlier(watch: Watch) -> tuple[dict[int, int], dict[int, Step]]:
    """Return what an earlier run with the same options has done already."""
    from occupy.report.history import read_history

    path = watch.output / RECORD
    if not path.exists():
        return {}, {}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["folder"] != str(watch.folder.resolve()) or record["options"] != _plain(watch.options):
            warn(f"{watch.output} holds a history made with other options; it is made anew", watch.quiet)
            return {}, {}
        done = {int(number): int(written) for number, written in record["iterations"].items()}
        steps = {step.iteration: step for step in read_history(watch.output)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        warn(f"{watch.output}: the earlier history cannot be read ({error}); it is made anew", watch.quiet)
        return {}, {}
    return {number: written for number, written in done.items() if number in steps}, steps


def _plain(options: Mapping[str, Any]) -> Any:
    from occupy.report.record import plain

    return json.loads(json.dumps(plain(options, infinite=True), default=str, allow_nan=False))


def _write(watch: Watch, done: Mapping[int, int], steps: Mapping[int, Step]) -> None:
    from occupy.io.atomic import write_text
    from occupy.report.history import write_history
    from occupy.report.record import to_json

    outputs = write_history(watch.output, [steps[number] for number in sorted(steps)])
    record = {
        "program": "occupy",
        "folder": str(watch.folder.resolve()),
        "options": _plain(watch.options),
        "iterations": {str(number): written for number, written in sorted(done.items())},
        "outputs": outputs,
    }
    write_text(watch.output / RECORD, to_json(record))
