"""`occupy particles`, `select` and `compare-runs`: what single particles tell, and which to go on with."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from occupy.cli.console import progress, say, say_files, warn_of
from occupy.errors import InputError
from occupy.requests import ClassWish, Numbering, ParticleRequest, PartWish, RegionRequest, RunsRequest

if TYPE_CHECKING:
    from occupy.particles.pipeline import ParticleOccupancy
    from occupy.report.compared_runs import ComparedRuns


def estimate_particles(
    source: Path, output: Path | None, parts: RegionRequest, asked: ParticleRequest, quiet: bool
) -> None:
    """Read everything, estimate, write everything, print a summary."""
    from occupy.report.particle_run import estimate_parts, write_parts

    folder = output or Path(f"occupy_particles_{source.name.split('.')[0]}")
    with progress(source.name, quiet, "images") as report:
        found = estimate_parts(source, parts, asked, report, folder)
    files = write_parts(source, folder, found, parts, asked, sys.argv)
    _summarise(found, quiet)
    say_files(files, folder, quiet)


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


def select_by_classes(
    source: Path, particles: Path, output: Path, wish: ClassWish, numbering: Numbering, quiet: bool
) -> None:
    """Select, write the particles and a record beside them, print what was found."""
    from occupy.report.selection import select_particles, selection_lines

    found, notices, record = select_particles(source, particles, output, wish, numbering, sys.argv)
    warn_of((*notices, *found.notices), quiet)
    say("\n".join([*selection_lines(found), f"written: {output} (and {record.name})"]), quiet)


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


def compare_all(paths: Sequence[Path], output: Path | None, asked: RunsRequest, quiet: bool) -> None:
    """Read runs, compare them, write everything, print the verdict."""
    from occupy.io.runs import Run
    from occupy.report.compared_runs import compare_runs

    asked.check(len(paths))
    with progress("runs", quiet, "runs") as report:
        report("reading", 0, 0)
        read = [Run.read(path, asked.class_field) for path in paths]
        report("comparing", 0, 0)
        compared = compare_runs(read, asked)
    _write_compared(compared, output, asked, quiet)


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
