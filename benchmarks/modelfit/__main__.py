"""Joint fit of a model's parts beside the published method and today's default.

    python -m benchmarks.modelfit --folder FOLDER [--only tuning] [--methods "joint fit"]

Makes the maps (kept in FOLDER/maps), reads every chain by every method and prints the tables; all readings
go to FOLDER/readings.csv. --smoke: one small map, in seconds.
"""

from __future__ import annotations

import argparse
import csv
import logging
import os
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.accuracy import collection
from benchmarks.modelfit.cases import Made, all_samples, of_project
from benchmarks.modelfit.columns import METHODS, Reading, by_fit_of_set, timed
from occupy.simulation import demo_structure

FULL = 0.99
SLACK = 0.005
"""Truths are in hundredths: half of one outside of an interval is inside."""


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("OCCUPY_SHARED_DATA", beside)))
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--only", nargs="*", help="beginnings of halves or names")
    parser.add_argument("--methods", nargs="*", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--smoke", action="store_true")
    return parser.parse_args(arguments)


def summary(readings: Sequence[Reading]) -> dict[str, float]:
    """Return mean absolute errors, bias and coverage of one map."""
    truth, value, low, high = (
        np.array([getattr(r, name) for r in readings]) for name in ("truth", "value", "low", "high")
    )
    off, partial = value - truth, truth < FULL
    inside = (low - SLACK <= truth) & (truth <= high + SLACK)
    return {
        "partial": float(np.abs(off[partial]).mean()) if partial.any() else np.nan,
        "all": float(np.abs(off).mean()),
        "bias": float(off.mean()),
        "covered": float(inside.mean()) if np.isfinite(low).all() else np.nan,
    }


def table(found: dict[tuple[str, str], list[dict[str, float]]]) -> str:
    """Return the means over maps of each half and method, partial parts first."""
    lines = [
        "| set | maps | method | partial | all | bias | worst map | covered |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (half, method), rows in found.items():
        means = {key: np.nanmean([row[key] for row in rows]) for key in ("partial", "all", "bias")}
        covered = [row["covered"] for row in rows if np.isfinite(row["covered"])]
        cover = f"{np.mean(covered):.2f} (least {min(covered):.2f})" if covered else "–"
        worst = max(row["all"] for row in rows)
        lines.append(
            f"| {half} | {len(rows)} | {method} | {means['partial']:.3f} | {means['all']:.3f} | "
            f"{means['bias']:+.3f} | {worst:.3f} | {cover} |"
        )
    return "\n".join(lines)


def samples_of(a: argparse.Namespace, folder: Path) -> list[Made]:
    """Return the maps asked for."""
    if a.smoke:
        case = replace(collection.SMOKE, signal_to_noise=30)
        return [("smoke", "smoke", lambda: of_project(case, None, folder / "maps", demo_structure()))]
    data = collection.unpacked(a.data, folder / "data") if a.data.exists() else None
    made = all_samples(data, folder / "maps")
    return [m for m in made if not a.only or any(m[0].startswith(o) or m[1].startswith(o) for o in a.only)]


Row = tuple[str, str, str, Reading]


def measured(made: Sequence[Made], methods: Sequence[str]) -> list[Row]:
    """Return (set, map, method, reading) of every chain; print a line per map."""
    rows: list[Row] = []
    for name, half, make in made:
        sample, line = make(), f"{name} ({half})"
        for method in methods:
            readings, seconds = timed(METHODS[method], sample)
            numbers = summary(readings)
            line += f" | {method} {numbers['partial']:.3f} {numbers['all']:.3f} {seconds:.1f}s"
            rows += [(half, name, method, reading) for reading in readings]
        print(line, flush=True)
    return rows


def measured_sets(made: Sequence[Made]) -> list[Row]:
    """Return (set, map, method, reading) of every chain in maps of one classification, fitted together."""
    rows: list[Row] = []
    for half in dict.fromkeys(half for _, half, _ in made if half.startswith("job")):
        samples = [make() for _, of, make in made if of == half]
        for sample, readings in zip(samples, by_fit_of_set(samples), strict=True):
            rows += [(half, sample.name, "joint fit, all maps together", reading) for reading in readings]
    return rows


def per_map(rows: Sequence[Row]) -> dict[tuple[str, str], list[dict[str, float]]]:
    """Return (set, method) → summary of each map."""
    maps: dict[tuple[str, str, str], list[Reading]] = defaultdict(list)
    for half, name, method, reading in rows:
        maps[half, method, name].append(reading)
    found: dict[tuple[str, str], list[dict[str, float]]] = defaultdict(list)
    for (half, method, _), readings in maps.items():
        found[half, method].append(summary(readings))
    return found


def changes(rows: Sequence[Row]) -> str:
    """Return how far chains of a processed map, or with a faulty model, read from those of the raw one."""
    values = {(name, method, r.chain): r.value for _, name, method, r in rows}
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for (name, method, chain), value in values.items():
        raw = f"{name.rsplit('_', 1)[0]}_raw"
        if name != raw and (raw, method, chain) in values:
            found[name, method].append(abs(value - values[raw, method, chain]))
    lines = ["| map | method | mean change | largest |", "|---|---|---|---|"]
    lines += [f"| {n} | {m} | {np.mean(off):.3f} | {max(off):.3f} |" for (n, m), off in found.items()]
    return "\n".join(lines)


def write_readings(path: Path, rows: Sequence[Row]) -> None:
    """Write every single reading as CSV."""
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["half", "map", "method", "chain", "truth", "value", "low", "high"])
        for half, name, method, r in rows:
            writer.writerow([half, name, method, r.chain, r.truth, r.value, r.low, r.high])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what was asked for."""
    a = parse(arguments)
    logging.getLogger("occupy").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as temporary:
        folder = a.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        made = samples_of(a, folder)
        if not made:
            sys.exit("nothing to measure")
        rows = measured(made, a.methods)
        if "joint fit" in a.methods:
            rows += measured_sets(made)
        write_readings(folder / "readings.csv", rows)
        print(table(per_map(rows)), changes(rows), sep="\n\n")


if __name__ == "__main__":
    main()
