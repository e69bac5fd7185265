"""Several runs read, compared and judged by what their classes hold; everything written into one folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from occupy.errors import InputError, Notice
from occupy.io.atomic import atomic_file, make_folder, write_text
from occupy.io.class_numbers import RECORD, NumberedSet
from occupy.io.loop import FOLDER
from occupy.io.particles import ENDINGS, read_presence
from occupy.io.runs import CommonParticles, Run
from occupy.io.star import read_star
from occupy.regions.table import OccupancyTable
from occupy.report.record import file_of, to_json
from occupy.report.runs import (
    Judged,
    best_number,
    comparison_record,
    flow_figure,
    ladder_lines,
    next_steps,
    summary_lines,
    write_comparison_page,
    write_comparison_tables,
    write_judged,
)
from occupy.report.tables import read_table
from occupy.requests import RunsRequest
from occupy.runs.compare import Comparison, compare
from occupy.runs.occupancies import combine, differences, occupancy_by_images
from occupy.settings import as_written

_Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class ComparedRuns:
    """Runs as they were read, and what came of comparing them.

    Attributes
    ----------
    read : tuple of Run
        What their files say.
    common : CommonParticles
        Particles that are in all of them.
    found : Comparison
        Which classes come back.
    judged : Judged
        What they hold.
    notices : tuple of Notice
        What makes the verdict doubtful.
    """

    read: tuple[Run, ...]
    common: CommonParticles
    found: Comparison
    judged: Judged
    notices: tuple[Notice, ...]


def compare_runs(read: Iterable[Run], asked: RunsRequest) -> ComparedRuns:
    """Compare runs, and judge what their classes hold where there are results that tell."""
    read = tuple(read)
    common = CommonParticles.of(read)
    homogeneous = None
    if asked.homogeneous:
        one = CommonParticles.of([Run.read(path, asked.class_field) for path in asked.homogeneous])
        homogeneous = (one.runs, one.entries)
    found = compare(common.runs, common.entries, homogeneous=homogeneous)
    judged, notices = _judge(found, common, read, asked)
    return ComparedRuns(read, common, found, judged, (*common.notices, *notices, *_warnings(found)))


def compare_jobs(jobs: Sequence[Path]) -> tuple[list[str], ComparedRuns, list[Notice]]:
    """Compare Class3D jobs of several seeds, for each number of classes, and tell which number to take.

    The verdict goes into the record of every job with occupy in its loop, too.

    Returns
    -------
    lines : list of str
        A line per number of classes, and which to take.
    best : ComparedRuns
        The runs with that number.
    notices : list of Notice
        Numbers of classes that nothing can be told of.
    """
    groups: dict[int, list[Run]] = {}
    for job in jobs:
        run = Run.read(job)
        groups.setdefault(_number_of_classes(run), []).append(run)
    compared = {k: compare_runs(runs, RunsRequest()) for k, runs in sorted(groups.items()) if len(runs) > 1}
    if not compared:
        raise InputError("no two of these jobs have the same number of classes: run each with several seeds")
    results = {k: each.found for k, each in compared.items()}
    lines, best = ladder_lines(results), compared[best_number(results)]
    alone = [
        Notice("one-run", f"K = {k}: one run only, which tells nothing; give it other seeds")
        for k in sorted(groups.keys() - compared.keys())
    ]
    words = [*lines, *summary_lines(best.found), *(f"next: {step}" for step in next_steps(best.found))]
    for job in jobs:
        if (job / FOLDER).is_dir():
            write_text(job / FOLDER / "verdict.txt", "\n".join(words) + "\n")
    return lines, best, alone


def _number_of_classes(run: Run) -> int:
    """Return how many classes a job was told to make, from the model.star beside its particles."""
    model = run.path.with_name(run.path.name.removesuffix("_data.star") + "_model.star")
    if model.is_file():
        for table in read_star(model, columns=("rlnNrClasses",)).values():
            return int(table.numbers("rlnNrClasses")[0])
    return len(set(run.labels.tolist()))


def _warnings(found: Comparison) -> list[Notice]:
    notices = []
    if len(found.runs) == 2:
        text = "two runs only: which of them is right where they differ can't be told; a third one helps"
        notices.append(Notice("two-runs", text))
    if any(run.certainty is None for run in found.runs):
        text = "not all runs state probabilities: what images leave open is not in those given here"
        notices.append(Notice("no-probabilities", text))
    return notices


def _judge(
    found: Comparison, common: CommonParticles, read: Sequence[Run], asked: RunsRequest
) -> tuple[Judged, list[Notice]]:
    """Find out what the classes hold, by maps and by images, where there are results of either."""
    notices: list[Notice] = []
    maps = images = None
    if asked.occupancies:
        maps, notices = _by_maps(found, read, asked.occupancies)
    if asked.particles is not None:
        images = _by_images(found, common, read, asked.particles)
    source = images or maps
    compared = () if source is None else tuple(differences(source.values, source.errors))
    return Judged(maps, images, compared), notices


def _by_maps(
    found: Comparison, read: Sequence[Run], folders: Sequence[Path]
) -> tuple[OccupancyTable, list[Notice]]:
    """Occupancies of the consensus classes from each run's table, with the variance between runs."""
    tables = [read_table(folder / "occupancy.csv") for folder in folders]
    # Components are found anew in each run: one's component01 is not another's.
    own = [name for name in tables[0].regions if not name.startswith("component")]
    regions = tuple(name for name in own if all(name in table.regions for table in tables))
    if not regions:
        raise InputError("--occupancies: no region is in all of these results; give each the same --model")
    values: list[_Array] = []
    errors: list[_Array] = []
    weights, notices = [], []
    for folder, table, run, entry in zip(folders, tables, found.runs, read, strict=True):
        if entry.particles is None:
            raise InputError(f"{entry.path}: a table of classes does not say which map is which class")
        labels, more = NumberedSet.read(folder / RECORD).match(entry.particles)
        notices += more
        column = {number: table.maps.index(name) for name, number in labels.items() if name in table.maps}
        rows = [table.regions.index(name) for name in regions]
        # Classes without a map: the last column, of unknown occupancy and no weight.
        at = np.array([column.get(number, -1) for number in run.classes])
        for out, all_of in ((values, table.values), (errors, table.errors)):
            out.append(np.pad(all_of[rows], ((0, 0), (0, 1)), constant_values=np.nan)[:, at])
        weights.append(np.where(at < 0, 0, run.sizes))
    both = combine(values, errors, weights, found.consensus.belongs, found.consensus.count)
    rows = [tables[0].regions.index(name) for name in regions]
    of_regions = tables[0].voxels[rows], tables[0].independent[rows]
    return _of_consensus(found, regions, both.values, both.errors, *of_regions), notices


def _of_consensus(found: Comparison, regions: tuple[str, ...], *columns: _Array) -> OccupancyTable:
    """Make a table of the consensus classes of values, errors, voxels and independent voxels."""
    values, errors, voxels, independent = columns
    count, labels = found.consensus.count, found.consensus.labels
    names = tuple(f"class {z + 1}" for z in range(count))
    shares = np.bincount(labels, minlength=count) / len(labels)
    return OccupancyTable(regions, names, values, errors, voxels, independent, shares)


def _by_images(
    found: Comparison, common: CommonParticles, read: Sequence[Run], folder: Path
) -> OccupancyTable:
    """Occupancies of the consensus classes from the presence of parts in each particle."""
    names, presence = read_presence(folder / "presence.tsv" if folder.is_dir() else folder)
    rows = _presence_rows(folder, len(presence), common, read)
    labels, count = found.consensus.labels, found.consensus.count
    values, errors = occupancy_by_images(presence[rows], labels, count, found.entries)
    unknown = np.full(len(names), np.nan)
    return _of_consensus(found, names, values, errors, unknown, unknown)


def _presence_rows(folder: Path, count: int, common: CommonParticles, read: Sequence[Run]) -> _Array:
    """Find the row of each particle in the table of presence: by name, else by order."""
    states = folder / "particles_states.star"
    if states.is_file() and read[0].named_by == "name":
        both = CommonParticles.of([read[0], Run.read(states)])
        place = np.full(len(read[0].labels), -1)
        place[both.rows[0]] = both.rows[1]
        rows = place[common.rows[0]]
        if lost := int((rows < 0).sum()):
            raise InputError(f"{folder}: {lost} particles of the runs are not in its table of presence")
        return rows
    if count != len(read[0].labels):
        raise InputError(
            f"{folder}: presence of {count} particles, but {read[0].path.name} has {len(read[0].labels)}"
        )
    return common.rows[0]


def write_compared(
    folder: Path, compared: ComparedRuns, asked: RunsRequest, command: Sequence[str]
) -> dict[str, str]:
    """Write tables, picture, page, particles and record; return product → file name."""
    make_folder(folder)
    read, common, found, judged = compared.read, compared.common, compared.found, compared.judged
    record, report, picture = folder / "runs.json", folder / "report.html", folder / "runs.png"
    # Record and report of an earlier run must not vouch for files that are about to replace its own.
    record.unlink(missing_ok=True)
    report.unlink(missing_ok=True)
    names = read[0].keys[common.rows[0]].tolist()
    if read[0].named_by == "row":
        names = [row + 1 for row in common.rows[0].tolist()]
    files = write_comparison_tables(folder, found, names) | write_judged(folder, judged)
    files |= _write_particles(folder, compared, asked.probability)
    with atomic_file(picture) as part:
        flow_figure(found).savefig(part, format="png", dpi=110)
    write_comparison_page(report, found, compared.notices, judged)
    files |= {"picture": picture.name, "report": report.name, "record": record.name}
    about: Mapping[str, Any] = comparison_record(
        found,
        judged,
        notices=compared.notices,
        inputs=[file_of(run.path) for run in read],
        options=as_written(asked),
        outputs=files,
        command=command,
    )
    write_text(record, to_json(about))
    return files


def _write_particles(folder: Path, compared: ComparedRuns, probability: float) -> dict[str, str]:
    """Write the particles that are surely in each reproducible class, in the format of the first run."""
    for old in folder.glob("class_*.*"):
        # Of an earlier comparison, which may have had more classes.
        if old.suffix in {*ENDINGS.values(), ".csg"}:
            old.unlink()
    consensus = compared.found.consensus
    sources = zip((run.particles for run in compared.read), compared.common.rows, strict=True)
    particles, rows = next((each for each in sources if each[0] is not None), (None, None))
    if particles is None or rows is None or consensus.count == 1:
        return {}
    files = {}
    for z in range(consensus.count):
        keep = np.zeros(len(particles.labels), dtype=bool)
        keep[rows[(consensus.labels == z) & (consensus.probability >= probability)]] = True
        name = f"class_{z + 1}{ENDINGS[particles.kind]}"
        if keep.any():
            particles.write(keep, folder / name)
            files[f"class {z + 1}"] = name
    return files
