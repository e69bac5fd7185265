"""A classification followed as it goes: what its classes hold, iteration by iteration."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from occupy.ensemble.components import read_set
from occupy.ensemble.pipeline import compare_members
from occupy.errors import InputError
from occupy.inputs import execution_for, members_of, without_small
from occupy.io.atomic import make_folder, write_text
from occupy.io.mapset import MapSet
from occupy.io.mrc import read_map
from occupy.io.relion_job import FinishedIteration, finished_iterations, has_ended
from occupy.io.sets import find_set
from occupy.regions.joint import with_joint
from occupy.regions.table import OccupancyTable
from occupy.report.history import Step, read_history, write_history
from occupy.report.record import plain, to_json
from occupy.report.region_results import FoundRegions, find_regions, fit_members
from occupy.requests import RegionRequest

_RECORD = "watch.json"
Tell = Callable[[str], None]
_ReadSet = Callable[[MapSet], OccupancyTable]
"""Reads the regions asked for in the maps of a set, or in some of them (small classes may be left out)."""


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
    say, warn : callable
        Are told what was read, and what is doubtful.
    """

    folder: Path
    output: Path
    options: Mapping[str, Any]
    interval: float = 10.0
    every: int = 1
    once: bool = False
    say: Tell = lambda _: None
    warn: Tell = lambda _: None

    def follow(self, read: _ReadSet, sleep: Callable[[float], None] = time.sleep) -> list[Step]:
        """Follow a job to its end, writing tables and pictures after each iteration; return all steps.

        Parameters
        ----------
        read : callable
            From a set of maps to the table of its regions. InputError skips an iteration.
        sleep : callable
            Waits for so many seconds.
        """
        finished_iterations(self.folder)
        make_folder(self.output)
        known = _Known(*_earlier(self))
        waiting = False
        while True:
            # Looked at before the iterations that are read: what is written in between counts next time.
            seen = finished_iterations(self.folder)
            ended = self.once or has_ended(self.folder, seen[-1] if seen else None)
            fresh = known.fresh(finished_iterations(self.folder), self.every, ended)
            for each in fresh:
                known.forget_from(each.number)
                step = _step(self, each, read, known.said)
                if step is None:
                    known.failed[each.number] = each.written
                    continue
                known.steps[each.number], known.done[each.number] = step, each.written
                _write(self, known.done, known.steps)
            if ended:
                return _finished(self, known.steps)
            if not (fresh or waiting):
                self.say(f"waiting for {self.folder} …")
            waiting = True
            sleep(self.interval)


def set_reader(regions: RegionRequest, lowpass: float | None, scratch: Path) -> _ReadSet:
    """Return what finds the regions asked for: by the joint fit where there is a model, or read.

    Parameters
    ----------
    regions : RegionRequest
        Made once, on the grid of the first set.
    lowpass : float, optional
        Å: common resolution.
    scratch : Path
        Folder for scratch files of large sets; nothing else is written.
    """
    made: list[FoundRegions] = []

    def read(found: MapSet) -> OccupancyTable:
        used, _ = without_small(found)
        paths = [entry.path for entry in used.maps]
        grid = partial(read_map, paths[0])
        if not made:
            made.append(find_regions(regions, grid()))
        members = members_of(used)
        with execution_for(paths, grid, scratch, lambda *_: None, lowpass=lowpass) as execution:
            table = read_set(compare_members(members, execution, lowpass), made[0].regions, execution)
        fits, _ = fit_members(made[0], members)
        return with_joint(table, fits) if fits else table

    return read


@dataclass
class _Known:
    """What is known of a job by now: per iteration when it was written, and what it told."""

    done: dict[int, int]
    steps: dict[int, Step]
    failed: dict[int, int] = field(default_factory=dict)
    said: set[str] = field(default_factory=set)

    def fresh(self, found: Sequence[FinishedIteration], every: int, ended: bool) -> list[FinishedIteration]:
        """Return the iterations to read: every so many-th, and the last once the job has ended."""
        wanted = [each for each in found if each.number % every == 0 or (ended and each is found[-1])]
        old = self.done.items() | self.failed.items()
        return [each for each in wanted if (each.number, each.written) not in old]

    def forget_from(self, number: int) -> None:
        """Forget an iteration that is there again, and those of old that came after it."""
        if number in self.steps:
            for later in [n for n in self.steps if n >= number]:
                del self.steps[later]
                self.done.pop(later, None)


def _finished(watch: Watch, steps: Mapping[int, Step]) -> list[Step]:
    if not steps:
        raise InputError(f"{watch.folder}: no iteration could be read")
    watch.say(f"  history                 {watch.output / 'history.png'}")
    return [steps[number] for number in sorted(steps)]


def _step(watch: Watch, each: FinishedIteration, read: _ReadSet, said: set[str]) -> Step | None:
    """Read one iteration; None, with a warning, where that is not possible.

    Notices of kinds in ``said`` were shown before; those shown now are added.
    """
    try:
        found = find_set([each.model], count_particles=True)
        for notice in found.notices:
            if notice.code not in said:
                watch.warn(notice.text)
                said.add(notice.code)
        table = read(found)
    except InputError as error:
        watch.warn(f"iteration {each.number} is left out: {error}")
        return None
    step = Step(each.number, _of_all(table, found), tuple(entry.particles for entry in found.maps))
    watch.say(step.line())
    return step


def _of_all(table: OccupancyTable, found: MapSet) -> OccupancyTable:
    """Return a table of all classes, NaN where one was left out, with their shares.

    Names of maps carry the iteration; classes keep their number.
    """
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
    path = watch.output / _RECORD
    if not path.exists():
        return {}, {}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["folder"] != str(watch.folder.resolve()) or record["options"] != _plain(watch.options):
            watch.warn(f"{watch.output} holds a history made with other options; it is made anew")
            return {}, {}
        done = {int(number): int(written) for number, written in record["iterations"].items()}
        steps = {step.iteration: step for step in read_history(watch.output)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        watch.warn(f"{watch.output}: the earlier history cannot be read ({error}); it is made anew")
        return {}, {}
    return {number: written for number, written in done.items() if number in steps}, steps


def _plain(options: Mapping[str, Any]) -> Any:

    return json.loads(json.dumps(plain(options, infinite=True), default=str, allow_nan=False))


def _write(watch: Watch, done: Mapping[int, int], steps: Mapping[int, Step]) -> None:

    outputs = write_history(watch.output, [steps[number] for number in sorted(steps)])
    record = {
        "program": "occupy",
        "folder": str(watch.folder.resolve()),
        "options": _plain(watch.options),
        "iterations": {str(number): written for number, written in sorted(done.items())},
        "outputs": outputs,
    }
    write_text(watch.output / _RECORD, to_json(record))
