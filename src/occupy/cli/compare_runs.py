"""`occupy compare-runs`: which classes are real, and how many, from several runs over the same particles."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from occupy.cli.console import progress, say, warn
from occupy.errors import InputError, Notice
from occupy.options import as_written
from occupy.requests import RunsRequest

if TYPE_CHECKING:
    from occupy.io.runs import CommonParticles, Run
    from occupy.report.runs import Judged
    from occupy.runs.compare import Comparison


def compare_all(paths: Sequence[Path], output: Path | None, asked: RunsRequest, quiet: bool) -> Comparison:
    """Read runs, compare them, write everything, print the verdict."""
    from occupy.io.runs import read_run

    asked.check(len(paths))
    with progress("runs", quiet, "runs") as report:
        report("reading", 0, 0)
        read = [read_run(path, asked.class_field) for path in paths]
        report("comparing", 0, 0)
        common, found = _compared(read, asked)
        judged, notices = _judge(found, common, read, asked)
    _finish((read, common), found, judged, notices, output, asked, quiet)
    return found


def _compared(read: Sequence[Run], asked: RunsRequest) -> tuple[CommonParticles, Comparison]:
    from occupy.io.runs import common_particles, read_run
    from occupy.runs.compare import compare

    common = common_particles(read)
    homogeneous = None
    if asked.homogeneous:
        one = common_particles([read_run(path, asked.class_field) for path in asked.homogeneous])
        homogeneous = (one.runs, one.entries)
    return common, compare(common.runs, common.entries, homogeneous=homogeneous)


def _finish(
    source: tuple[Sequence[Run], CommonParticles],
    found: Comparison,
    judged: Judged,
    notices: Sequence[Notice],
    output: Path | None,
    asked: RunsRequest,
    quiet: bool,
) -> None:
    """Write everything and print the verdict."""
    from occupy.io.atomic import make_folder

    every = (*source[1].notices, *notices, *_warnings(found))
    folder = make_folder(output or Path("occupy_runs"))
    files = _write(folder, found, judged, source, every, asked)
    _summarise(found, judged, files, every, folder, quiet)


def report_jobs(jobs: Sequence[Path], output: Path | None, quiet: bool) -> None:
    """Compare Class3D jobs of several seeds, for each number of classes, and tell which number to take.

    The verdict goes into the record of every job with occupy in its loop, too.
    """
    from occupy.io.atomic import write_text
    from occupy.io.loop import FOLDER
    from occupy.io.runs import read_run
    from occupy.report.runs import Judged, best_number, ladder_lines, next_steps, summary_lines

    read = [read_run(job) for job in jobs]
    groups: dict[int, list[Run]] = {}
    for run in read:
        groups.setdefault(_number_of_classes(run), []).append(run)
    asked = RunsRequest()
    compared = {k: _compared(runs, asked) for k, runs in sorted(groups.items()) if len(runs) > 1}
    if not compared:
        raise InputError("no two of these jobs have the same number of classes: run each with several seeds")
    results = {k: found for k, (_, found) in compared.items()}
    lines, best = ladder_lines(results), best_number(results)
    for k in sorted(set(groups) - set(compared)):
        warn(f"K = {k}: one run only, which tells nothing; give it other seeds", quiet)
    for line in lines:
        say(line, quiet)
    common, found = compared[best]
    _finish((groups[best], common), found, Judged(), (), output, asked, quiet)
    words = [*lines, *summary_lines(found), *(f"next: {step}" for step in next_steps(found))]
    for job in jobs:
        if (job / FOLDER).is_dir():
            write_text(job / FOLDER / "verdict.txt", "\n".join(words) + "\n")


def _number_of_classes(run: Run) -> int:
    """Return how many classes a job was told to make, from the model.star beside its particles."""
    from occupy.io.star import read_star

    model = run.path.with_name(run.path.name.removesuffix("_data.star") + "_model.star")
    if model.is_file():
        for table in read_star(model, columns=("rlnNrClasses",)).values():
            return int(table.numbers("rlnNrClasses")[0])
    return len(set(run.labels.tolist()))


def _warnings(found: Comparison) -> list[Notice]:
    """Return what makes a verdict doubtful."""
    notices = []
    if len(found.runs) == 2:
        text = "two runs only: which of them is right where they differ can't be told; a third one helps"
        notices.append(Notice("two-runs", text))
    known = [run.certainty for run in found.runs if run.certainty is not None]
    if len(known) < len(found.runs):
        text = "not all runs state probabilities: what images leave open is not in those given here"
        notices.append(Notice("no-probabilities", text))
    return notices


def _judge(
    found: Comparison, common: CommonParticles, read: Sequence[Run], asked: RunsRequest
) -> tuple[Judged, list[Notice]]:
    """Find out what the classes hold, by maps and by images, where there are results of either."""
    from occupy.report.runs import Judged
    from occupy.runs.occupancies import differences

    notices: list[Notice] = []
    maps = images = None
    if asked.occupancies:
        maps, more = _by_maps(found, read, asked.occupancies)
        notices += more
    if asked.particles is not None:
        images = _by_images(found, common, read, asked.particles)
    source = images or maps
    compared = () if source is None else tuple(differences(source.values, source.errors))
    return Judged(maps, images, compared), notices


def _by_maps(found: Comparison, read: Sequence[Run], folders: Sequence[Path]) -> tuple[Any, list[Notice]]:
    """Occupancies of the consensus classes from each run's table, with the variance between runs."""
    import numpy as np

    from occupy.io.class_numbers import RECORD, match_classes, read_numbered
    from occupy.regions.table import OccupancyTable
    from occupy.report.runs import class_name
    from occupy.report.tables import read_table
    from occupy.runs.occupancies import combine

    tables, values, errors, weights, notices = [], [], [], [], []
    for folder, run, entry in zip(folders, found.runs, read, strict=True):
        table = read_table(folder / "occupancy.csv")
        if entry.particles is None:
            raise InputError(f"{entry.path}: a table of classes does not say which map is which class")
        labels, more = match_classes(read_numbered(folder / RECORD), entry.particles)
        notices += more
        column = {number: table.maps.index(name) for name, number in labels.items() if name in table.maps}
        missing = np.full(len(table.regions), np.nan)
        at = [column.get(number) for number in run.classes]
        values.append(np.stack([missing if i is None else table.values[:, i] for i in at], axis=1))
        errors.append(np.stack([missing if i is None else table.errors[:, i] for i in at], axis=1))
        weights.append(np.array([0 if i is None else n for i, n in zip(at, run.sizes, strict=True)]))
        tables.append(table)
    regions = [
        name
        for name in tables[0].regions
        # Components are found anew in each run: one's component01 is not another's.
        if not name.startswith("component") and all(name in table.regions for table in tables)
    ]
    if not regions:
        raise InputError("--occupancies: no region is in all of these results; give each the same --model")
    rows = [[table.regions.index(name) for name in regions] for table in tables]
    count = found.consensus.count
    both = combine(
        [value[row] for value, row in zip(values, rows, strict=True)],
        [error[row] for error, row in zip(errors, rows, strict=True)],
        weights,
        found.consensus.belongs,
        count,
    )
    names = tuple(class_name(z + 1) for z in range(count))
    voxels, independent = tables[0].voxels[rows[0]], tables[0].independent[rows[0]]
    shares = np.bincount(found.consensus.labels, minlength=count) / len(found.consensus.labels)
    table = OccupancyTable(tuple(regions), names, both.values, both.errors, voxels, independent, shares)
    return table, notices


def _by_images(found: Comparison, common: CommonParticles, read: Sequence[Run], folder: Path) -> Any:
    """Occupancies of the consensus classes from the presence of parts in each particle."""
    import numpy as np

    from occupy.io.particles import read_presence
    from occupy.regions.table import OccupancyTable
    from occupy.report.runs import class_name
    from occupy.runs.occupancies import occupancy_by_images

    names, presence = read_presence(folder / "presence.tsv" if folder.is_dir() else folder)
    rows = _presence_rows(folder, len(presence), common, read)
    count = found.consensus.count
    values, errors = occupancy_by_images(presence[rows], found.consensus.labels, count, found.entries)
    unknown = np.full(len(names), np.nan)
    shares = np.bincount(found.consensus.labels, minlength=count) / len(rows)
    columns = tuple(class_name(z + 1) for z in range(count))
    return OccupancyTable(names, columns, values, errors, unknown, unknown, shares)


def _presence_rows(folder: Path, count: int, common: CommonParticles, read: Sequence[Run]) -> Any:
    """Find the row of each particle in the table of presence: by name, else by order."""
    import numpy as np

    from occupy.io.runs import common_particles, read_run

    states = folder / "particles_states.star"
    if states.is_file() and read[0].named_by == "name":
        both = common_particles([read[0], read_run(states)])
        place = np.full(len(read[0].labels), -1)
        place[both.rows[0]] = both.rows[1]
        rows = place[common.rows[0]]
        if (rows < 0).any():
            lost = int((rows < 0).sum())
            raise InputError(f"{folder}: {lost} particles of the runs are not in its table of presence")
        return rows
    if count != len(read[0].labels):
        raise InputError(
            f"{folder}: presence of {count} particles, but {read[0].path.name} has {len(read[0].labels)}"
        )
    return common.rows[0]


def _write(
    folder: Path,
    found: Comparison,
    judged: Judged,
    source: tuple[Sequence[Run], CommonParticles],
    notices: Sequence[Notice],
    asked: RunsRequest,
) -> dict[str, str]:
    from occupy.io.atomic import atomic_file, write_text
    from occupy.report.record import file_of, to_json
    from occupy.report.runs import (
        comparison_record,
        write_comparison_page,
        write_comparison_tables,
        write_judged,
    )
    from occupy.report.runs_figure import flow_figure

    read, common = source
    record, report, picture = folder / "runs.json", folder / "report.html", folder / "runs.png"
    # Record and report of an earlier run must not vouch for files that are about to replace its own.
    record.unlink(missing_ok=True)
    report.unlink(missing_ok=True)
    names = read[0].keys[common.rows[0]].tolist()
    if read[0].named_by == "row":
        names = [row + 1 for row in common.rows[0].tolist()]
    files = write_comparison_tables(folder, found, names) | write_judged(folder, judged)
    files |= _write_particles(folder, found, read, common, asked.probability)
    with atomic_file(picture) as part:
        flow_figure(found).savefig(part, format="png", dpi=110)
    write_comparison_page(report, found, notices, judged)
    files |= {"picture": picture.name, "report": report.name, "record": record.name}
    options = as_written(asked)
    about = comparison_record(
        found,
        judged,
        notices=notices,
        inputs=[file_of(run.path) for run in read],
        options=options,
        outputs=files,
        command=sys.argv,
    )
    write_text(record, to_json(about))
    return files


def _write_particles(
    folder: Path, found: Comparison, read: Sequence[Run], common: CommonParticles, probability: float
) -> dict[str, str]:
    """Write the particles that are surely in each reproducible class, in the format of the first run."""
    import numpy as np

    from occupy.io.particles import write_particles

    endings = {"relion": "star", "cryosparc": "cs", "cryodrgn": "pkl"}
    for old in folder.glob("class_*.*"):
        # Of an earlier comparison, which may have had more classes.
        if old.suffix[1:] in {*endings.values(), "csg"}:
            old.unlink()
    at = next((i for i, run in enumerate(read) if run.particles is not None), None)
    if at is None or found.consensus.count == 1:
        return {}
    particles, rows = read[at].particles, common.rows[at]
    assert particles is not None
    files = {}
    for z in range(found.consensus.count):
        keep = np.zeros(len(particles.labels), dtype=bool)
        keep[rows[(found.consensus.labels == z) & (found.consensus.probability >= probability)]] = True
        name = f"class_{z + 1}.{endings[particles.kind]}"
        if keep.any():
            write_particles(particles, keep, folder / name)
            files[f"class {z + 1}"] = name
    return files


def _summarise(
    found: Comparison,
    judged: Judged,
    files: dict[str, str],
    notices: Sequence[Notice],
    folder: Path,
    quiet: bool,
) -> None:
    from occupy.report.runs import next_steps, summary_lines

    for notice in notices:
        warn(notice.text, quiet)
    for line in summary_lines(found):
        say(line, quiet)
    say("next:", quiet)
    for step in next_steps(found, judged):
        say(f"  {step}", quiet)
    for what, name in files.items():
        say(f"  {what:<13} {folder / name}", quiet)
