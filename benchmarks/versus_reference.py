"""Time this program against OccuPy 0.1.13 as whole processes, in alternation.

    python -m benchmarks.versus_reference --sizes 128 256 512

Prints, per map, medians of CPU seconds, wall seconds and peak memory of both, their ratio, how far the
outputs agree, and our time per stage. Figures of one machine say little; the ratios are what to compare.
"""

from __future__ import annotations

import argparse
import compileall
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

import occupy
from benchmarks import reference
from benchmarks.maps import KINDS, write_benchmark_map
from benchmarks.processes import Cost, measure, middle
from occupy import Settings, read_map
from occupy.io.checksum import sha256_of
from occupy.pipeline import estimate
from occupy.report.results import _write_maps
from occupy.settings import Output
from occupy.volume import compute_planes


@dataclass(frozen=True)
class Case:
    """One comparison: a name, the maps, and the options of either side."""

    name: str
    maps: tuple[Path, ...]
    ours: tuple[str, ...]
    theirs: tuple[str, ...]


def options_of(n: int, estimator: str, box: int | None = None) -> tuple[str, ...]:
    """Return our options for the same job: the published estimator with its command line's tile, or ours."""
    extra: tuple[str, ...] = () if box is None else ("--max-box", str(box))
    if estimator == "nlf":
        extra += ("--estimator", "nlf", "--tile-size", str(max(1, min(n, box or n) // 20)))
    return ("--amplify", "3", "--exclude-solvent", *extra)


def cases_of(
    folder: Path, sizes: Sequence[int], kinds: Sequence[str], many: int, estimator: str, reference_too: bool
) -> list[Case]:
    """Return the comparisons asked for."""
    theirs = ("--occupancy", "-am", "3", "--exclude-solvent")
    cases = []
    for n in sizes:
        for kind in kinds:
            path = (write_benchmark_map(folder, kind, n),)
            native = (*theirs, "--max-box", str(n)) if n > 256 else theirs
            cases.append(Case(f"{n} {kind}", path, options_of(n, estimator), native))
            if n > 256 and reference_too:
                cases.append(
                    Case(f"{n} {kind}, theirs cropped to 256", path, options_of(n, estimator), theirs)
                )
    if many:
        maps = []
        for i in range(many):
            maps.append(folder / f"many_{i:03d}.mrc")
            if not maps[-1].exists():
                maps[-1].symlink_to(write_benchmark_map(folder, "particle", 128))
        cases.append(
            Case(f"{many} maps of 128 in one process", tuple(maps), options_of(128, estimator), theirs)
        )
    return cases


def run_ours(case: Case, folder: Path, number: int) -> Cost:
    """Run our side of a comparison once, into a new folder."""
    out = folder / f"ours_{number}"
    command = [
        sys.executable,
        "-m",
        "occupy",
        "estimate",
        *map(str, case.maps),
        *case.ours,
        "-o",
        str(out),
        "--quiet",
    ]
    return measure(command, folder)


def run_theirs(case: Case, folder: Path, start: Sequence[str]) -> Cost:
    """Run the reference once per map; costs add up, memory is the largest."""
    costs = [
        measure([*start, "-i", str(path), *case.theirs], folder, reference.environment())
        for path in case.maps
    ]
    return Cost(sum(c.cpu for c in costs), sum(c.wall for c in costs), max(c.peak for c in costs))


def agreement(case: Case, folder: Path) -> str:
    """Return how far the two scale maps of a case differ."""
    stem = case.maps[0].stem
    found = list(folder.glob(f"ours_0/**/{stem}_scale.mrc")), list(folder.glob(f"scale_occ_{stem}.mrc"))
    if not all(found):
        return "-"
    ours, theirs = (read_map(paths[0]).data for paths in found)
    if ours.shape != theirs.shape:
        return "other box"
    return f"{np.mean(np.abs(ours - theirs) > 0.01):.2%}"


def stages(case: Case, folder: Path) -> str:
    """Return our time per stage, single-threaded, in one process that is warm."""
    marks: list[tuple[str, float]] = []

    def mark(stage: str, *_: int) -> None:
        marks.append((stage, time.perf_counter()))

    volume, settings = read_map(case.maps[0]), Settings(amplify=3, exclude_solvent=True, threads=1)
    est = estimate(volume, settings, progress=mark)
    for stage, work in (
        ("scale", lambda: compute_planes({"": est.maps["scale"]}, lambda *_: None)),
        (
            "scale and amplification",
            lambda: compute_planes({"": est.maps["amplified"]}, lambda *_: None),
        ),
        ("these and writing three maps", lambda: _write_maps(est, folder, "stages", output=Output())),
        ("checksum", lambda: sha256_of(case.maps[0])),
    ):
        mark(stage)
        work()
    mark("end")
    spans = [f"{a[0]} {b[1] - a[1]:.2f}" for a, b in pairwise(marks) if a[0] != "done"]
    return ", ".join(spans)


def compare(case: Case, folder: Path, runs: int, start: Sequence[str] | None) -> str:
    """Run both sides in alternation; return a line of the table."""
    ours, theirs = [], []
    for number in range(runs + 1):
        mine = run_ours(case, folder, number)
        other = None if start is None else run_theirs(case, folder, start)
        # The first round warms up file caches and is not counted, unless it is the only one.
        if number or not runs:
            ours.append(mine)
            theirs += [] if other is None else [other]
    a = middle(ours)
    line = f"| {case.name} | {a.cpu:.2f} / {a.wall:.2f} / {a.peak:.0f} |"
    if not theirs:
        return f"{line} – | – | – |"
    b = middle(theirs)
    ratio = f"{b.cpu / a.cpu:.1f} / {b.wall / a.wall:.1f} / {b.peak / a.peak:.1f}"
    return f"{line} {b.cpu:.2f} / {b.wall:.2f} / {b.peak:.0f} | {ratio} | {agreement(case, folder)} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="*", default=[128, 256])
    parser.add_argument("--kinds", nargs="*", default=["particle"], choices=KINDS)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--many", type=int, default=0, help="also this many maps of 128 in one process")
    parser.add_argument("--estimator", default="nlf", choices=("nlf", "default"))
    parser.add_argument(
        "--ours", default="", help="more options for our side, such as '--output-voxel coarse'"
    )
    parser.add_argument("--no-reference", action="store_true", help="time this program only")
    parser.add_argument("--folder", type=Path, help="keep maps and the reference here")
    parser.add_argument("--smoke", action="store_true", help="one small map, once, without the reference")
    a = parser.parse_args(arguments)
    if a.smoke:
        a.sizes, a.runs, a.no_reference, a.many = [48], 0, True, 2
    with tempfile.TemporaryDirectory() as temporary:
        folder = a.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        # As an installation leaves it, whether or not this environment lets Python write bytecode by itself.
        compileall.compile_dir(Path(occupy.__file__).parent, quiet=1)
        start = None if a.no_reference else reference.install(folder)
        print("| map | ours: cpu s / wall s / peak MiB | OccuPy 0.1.13 | ratio | scale beyond 0.01 |")
        print("|---|---|---|---|---|", flush=True)
        cases = cases_of(folder, a.sizes, a.kinds, a.many, a.estimator, not a.no_reference)
        cases = [replace(case, ours=(*case.ours, *a.ours.split())) for case in cases]
        for case in cases:
            with tempfile.TemporaryDirectory(dir=folder) as work:
                print(compare(case, Path(work), a.runs, start), flush=True)
        print()
        for case in cases[: len(a.sizes)]:
            with tempfile.TemporaryDirectory(dir=folder) as work:
                print(f"{case.name}, seconds per stage: {stages(case, Path(work))}", flush=True)


if __name__ == "__main__":
    main()
