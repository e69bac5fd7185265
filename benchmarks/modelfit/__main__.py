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
from benchmarks.modelfit.cases import all_samples, of_project
from benchmarks.modelfit.columns import METHODS, Reading, timed

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


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what was asked for."""
    a = parse(arguments)
    logging.getLogger("occupy").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as temporary:
        folder = a.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if a.smoke:
            case = replace(collection.SMOKE, signal_to_noise=30)
            made = [
                (
                    "smoke",
                    "smoke",
                    lambda: of_project(case, None, folder / "maps", collection.demo_structure()),
                )
            ]
        else:
            data = collection.unpacked(a.data, folder / "data") if a.data.exists() else None
            made = all_samples(data, folder / "maps")
        chosen = [
            m for m in made if not a.only or any(m[0].startswith(o) or m[1].startswith(o) for o in a.only)
        ]
        if not chosen:
            sys.exit("nothing to measure")
        found: dict[tuple[str, str], list[dict[str, float]]] = defaultdict(list)
        rows = []
        for name, half, make in chosen:
            sample = make()
            line = f"{name} ({half})"
            for method in a.methods:
                readings, seconds = timed(METHODS[method], sample)
                numbers = summary(readings)
                found[half, method].append(numbers)
                line += f" | {method} {numbers['partial']:.3f} {numbers['all']:.3f} {seconds:.1f}s"
                rows += [
                    (half, name, method, *(getattr(r, f) for f in r.__dataclass_fields__)) for r in readings
                ]
            print(line, flush=True)
        with (folder / "readings.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows(
                [("half", "map", "method", "chain", "truth", "value", "low", "high"), *rows]
            )
        print(table(found))


if __name__ == "__main__":
    main()
