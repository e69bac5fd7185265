"""What selections of simulated particles truly hold, beside what the table of occupancies lets one expect.

    python -m benchmarks.selection [--data FOLDER] [--smoke]

Needs the folder ``relion_50s`` of the shared data, unpacked or packed. Class3D job004 is estimated with
`occupy classes`, and particles are selected by four conditions with `occupy select`.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from occupy.io.star import read_star

STATES = ("mature", "noCP", "noST", "noB17", "early")
CONDITIONS = ("L18 >= 0.7", "L18 <= 0.3", "L17 <= 0.7", "L17 >= 0.7 and L18 <= 0.3")


def true_composition(star: Path, data: Path) -> dict[str, float]:
    """Return the share of a selection's particles that truly have each chain."""
    truth = read_star(data / "truth" / "particles_true.star")["particles"]
    state = dict(zip(truth.column("rlnImageName"), truth.column("rlnClassNumber"), strict=True))
    names = read_star(star)["particles"].column("rlnImageName")
    counts = np.bincount([int(state[name]) - 1 for name in names], minlength=len(STATES)) / len(names)
    with (data / "truth" / "state_composition.csv").open() as stream:
        rows = {row["unit"]: [float(row[name]) for name in STATES] for row in csv.DictReader(stream)}
    return {unit: float(np.dot(row, counts)) for unit, row in rows.items()}


def report(record: Path, star: Path, data: Path) -> str:
    """Return one line: how far expectation and truth are apart over all chains."""
    about = json.loads(record.read_text())
    truth = true_composition(star, data)
    expected = {unit: about["expected_occupancy"][unit] for unit in truth}
    error = np.array([expected[unit]["selected"] - truth[unit] for unit in truth])
    margin = 1.96 * np.array([expected[unit]["standard_error"] for unit in truth])
    cells = "; ".join(
        f"{unit} expected {expected[unit]['selected']:.2f} ± {expected[unit]['standard_error']:.2f}, "
        f"true {truth[unit]:.2f}"
        for unit in ("L18", "L17")
    )
    within = 100 * (abs(error) <= margin).mean()
    return (
        f"{about['condition']:28} {about['numbers']['selected']:5} particles; {cells}\n"
        f"    all {len(truth)} chains: mean error {abs(error).mean():.3f}, "
        f"{within:.0f} % within the 95 % interval"
    )


def selections(data: Path, work: Path, conditions: Sequence[str], *more: str) -> list[str]:
    """Make the table, with more options, and the selections in a folder; return their reports."""
    job = data / "Class3D" / "job004"

    def occupy(*words: object) -> None:
        subprocess.run([sys.executable, "-m", "occupy", *map(str, words), "--quiet"], check=True)

    occupy("classes", job, "--model", data / "model.cif", "--no-components", "-o", work / "classes", *more)
    lines = []
    for number, condition in enumerate(conditions):
        star = work / f"selected{number}.star"
        particles = job / "run_it025_data.star"
        occupy("select", work / "classes", "--particles", particles, "--where", condition, "-o", star)
        lines.append(report(star.with_name(f"{star.stem}_selection.json"), star, data))
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("OCCUPY_SHARED_DATA", beside)))
    parser.add_argument("--smoke", action="store_true", help="one condition, of what is read")
    a = parser.parse_args(arguments)
    if not a.data.exists():
        print(f"no data in {a.data}: nothing selected")
        sys.exit(os.environ.get("OCCUPY_REQUIRE_DATA") == "1")
    with tempfile.TemporaryDirectory() as name:
        work, data = Path(name), a.data.resolve()
        if (data / "unpack").exists():
            subprocess.run([str(data / "unpack"), str(work), "relion_50s"], check=True)
            data = work
        # The joint fit of 129 chains takes most of the time.
        conditions, more = (CONDITIONS[:1], ("--by-reading",)) if a.smoke else (CONDITIONS, ())
        print("\n".join(selections(data / "relion_50s", work, conditions, *more)))


if __name__ == "__main__":
    main()
