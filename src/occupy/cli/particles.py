"""`occupy particles`, `select` and `compare-runs`: what single particles tell, and which to go on with."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from occupy.cli.console import progress, say, say_files, warn_of
from occupy.cli.options import Folder, Run, app, command
from occupy.errors import InputError
from occupy.requests import (
    ClassSelection,
    Numbering,
    ParticleRequest,
    PartSelection,
    RegionRequest,
    RunsRequest,
)

if TYPE_CHECKING:
    from occupy.particles.pipeline import ParticleOccupancy
    from occupy.report.compared_runs import ComparedRuns


@command(
    "particles",
    app,
    without={"by_reading", "exclusive"},
    examples=(
        "occupy particles run_data.star --model model.cif --map consensus.mrc",
        "occupy particles J12_particles.cs --passthrough J12_passthrough.cs \\",
        "    --model model.cif --regions parts.yaml -o parts",
    ),
)
def _particles(
    source: Annotated[
        Path,
        typer.Argument(metavar="PARTICLES", help="RELION's particles.star or cryoSPARC's particles.cs."),
    ],
    parts: RegionRequest,
    *,
    output: Folder = None,
    asked: ParticleRequest,
    run: Run,
) -> None:
    """Tell which parts each particle has, from its image.

    With its pose and a model; no classes needed.
    """
    from occupy.report.particle_run import estimate_parts, write_parts

    folder = output or Path(f"occupy_particles_{source.name.split('.')[0]}")
    with progress(source.name, run.quiet, "images") as report:
        found = estimate_parts(source, parts, asked, report, folder)
    files = write_parts(source, folder, found, parts, asked, sys.argv)
    _summarise(found, run.quiet)
    say_files(files, folder, run.quiet)


def _summarise(found: ParticleOccupancy, quiet: bool) -> None:
    from occupy.report.particle_results import in_words, pair_rows, state_rows

    shown = 30
    warn_of(found.notices, quiet)
    varying = int(found.levels.varying.sum())
    say(
        f"{found.particles}, {len(found.names)} parts, {varying} of them not in all particles:",
        quiet,
    )
    low, high = found.interval()
    width = max(map(len, found.names))
    order = sorted(range(len(found.names)), key=lambda i: float(found.occupancy[i]))
    for i in [i for i in order if found.levels.varying[i]][:shown]:
        say(f"  {found.names[i]:<{width}}  {found.occupancy[i]:.2f}  ({low[i]:.2f} to {high[i]:.2f})", quiet)
    for one, other, value, error in pair_rows(found)[:5]:
        say(f"  {one} with {other}: correlation {value:+.2f} ± {error:.2f}", quiet)
    for each in found.copies:
        counts = ", ".join(f"{number}: {share:.2f}" for number, share in enumerate(each.shares))
        say(f"  copies of {each.names[0]} in a particle: {counts}", quiet)
        say(
            f"    neighbours together {each.ratio:.2f} ± {each.ratio_error:.2f} times as often as by chance",
            quiet,
        )
    say("states:", quiet)
    for _, share, error, _, lacks in state_rows(found)[:shown]:
        say(f"  {share:.3f} ± {error:.3f}  lacks {lacks}", quiet)
    for sentence in in_words(found)[:shown]:
        say(sentence, quiet)


@command(
    "select",
    app,
    examples=(
        "occupy select occupy_job012 --particles run_it025_data.star -o L17.star \\",
        "    --region L17 --present 0.7",
        "occupy select occupy_particles --particles particles.cs -o CP.cs --part CP",
    ),
)
def _select(
    table: Annotated[
        Path,
        typer.Argument(
            metavar="TABLE", help="Folder of `occupy classes` (its occupancy.csv) or `particles`."
        ),
    ],
    *,
    particles: Annotated[
        Path,
        typer.Option(
            "--particles", help="RELION's *_data.star, cryoSPARC's .cs, cryoDRGN's labels.pkl or labels.txt."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", help="File to write: .star, .cs, or .pkl for cryoDRGN's --ind."),
    ],
    wish: ClassSelection,
    numbering: Numbering,
    parts: PartSelection,
    run: Run,
) -> None:
    """Write the particles that have, or lack, a part.

    By the classes they are in, or each by itself.
    """
    if parts.part or parts.not_part:
        _select_by_presence(table, particles, output, parts, wish, run.quiet)
    else:
        _select_by_classes(table, particles, output, wish, numbering, run.quiet)


def _select_by_classes(
    source: Path, particles: Path, output: Path, wish: ClassSelection, numbering: Numbering, quiet: bool
) -> None:
    """Select, write the particles and a record beside them, print what was found."""
    from occupy.report.selection import select_particles, selection_lines

    found, notices, record = select_particles(source, particles, output, wish, numbering, sys.argv)
    warn_of((*notices, *found.notices), quiet)
    say("\n".join([*selection_lines(found), f"written: {output} (and {record.name})"]), quiet)


def _select_by_presence(
    source: Path, particles: Path, output: Path, parts: PartSelection, wish: ClassSelection, quiet: bool
) -> None:
    """Write the particles that surely have, or lack, parts, and say how many."""
    from occupy.report.selection import select_parts

    if wish.region or wish.where is not None:
        raise InputError("give either --part and --not-part, or --region or --where")
    kept, total, words = select_parts(source, particles, output, parts)
    share = kept / total
    say(f"{kept} of {total} particles ({share:.0%}): {words}, each at {parts.probability:g}", quiet)
    say(f"written: {output}", quiet)


@command(
    "compare-runs",
    app,
    examples=(
        "occupy compare-runs Class3D/job012 Class3D/job013 Class3D/job014",
        "occupy compare-runs seed1/labels.pkl seed2/labels.pkl -o agreement",
    ),
)
def _compare_runs(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            help="Job folders, *_data.star, .cs, labels.pkl or .txt, or tables (.tsv) of particle and class.",
        ),
    ],
    *,
    output: Folder = None,
    asked: RunsRequest,
    run: Run,
) -> None:
    """Tell which classes are real, and how many.

    From several runs over the same particles.
    """
    from occupy.io.runs import Run as ComparedRun
    from occupy.report.compared_runs import compare_runs

    asked.check(len(runs))
    with progress("runs", run.quiet, "runs") as report:
        report("reading", 0, 0)
        read = [ComparedRun.read(path, asked.class_field) for path in runs]
        report("comparing", 0, 0)
        compared = compare_runs(read, asked)
    _write_compared(compared, output, asked, run.quiet)


def report_jobs(jobs: Sequence[Path], output: Path | None, quiet: bool) -> None:
    """Compare Class3D jobs of several seeds and numbers of classes, and tell which number to take."""
    from occupy.report.compared_runs import compare_jobs

    lines, best, notices = compare_jobs(jobs)
    warn_of(notices, quiet)
    say("\n".join(lines), quiet)
    _write_compared(best, output, RunsRequest(), quiet)


def _write_compared(compared: ComparedRuns, output: Path | None, asked: RunsRequest, quiet: bool) -> None:
    """Write everything and print the verdict."""
    from occupy.report.compared_runs import write_compared
    from occupy.report.runs import next_steps, summary_lines

    folder = output or Path("occupy_runs")
    files = write_compared(folder, compared, asked, sys.argv)
    warn_of(compared.notices, quiet)
    steps = (f"  {step}" for step in next_steps(compared.found, compared.judged))
    say("\n".join([*summary_lines(compared.found), "next:", *steps]), quiet)
    say_files(files, folder, quiet)
