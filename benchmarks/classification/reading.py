"""What `occupy classes` reads in a job with occupy in its loop, beside plain reconstructions and the truth.

``python -m benchmarks.classification.reading JOB --model MODEL``, in the folder of a set (which has
``particles_true.star`` and ``truth_state_composition.csv`` or ``truth.json``); MODEL lies in the maps' frame.
Prints the mean absolute error over all units, and over those that some of a class's particles have.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt

from occupy.io.sets import find_set
from occupy.io.star import read_star
from occupy.report.tables import read_table

Truth = dict[str, npt.NDArray[np.float64]]


def composition(folder: Path, units: list[str]) -> Truth:
    """Return, for each unit, in which of the states it is."""
    table = folder / "truth_state_composition.csv"
    if table.is_file():
        with table.open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        states = list(rows[0])[1 : list(rows[0]).index("block")]
        return {row["unit"]: np.array([float(row[state]) for state in states]) for row in rows}
    absent = [chains for _, chains in json.loads((folder / "truth.json").read_text())["states"].values()]
    return {unit: np.array([float(unit not in chains) for chains in absent]) for unit in units}


def shares(folder: Path, data: Path, classes: int) -> npt.NDArray[np.float64]:
    """Return what share of each class's particles (rows) is of each state."""
    names = ("rlnImageName", "rlnClassNumber")
    true, found = (
        read_star(path, columns=names)["particles"] for path in (folder / "particles_true.star", data)
    )
    state = dict(zip(true.column(names[0]), true.column(names[1]), strict=True))
    pairs = Counter((k, state[n]) for n, k in zip(*map(found.column, names), strict=True))
    states = sorted({int(s) for _, s in pairs})
    counts = np.array([[pairs[str(k + 1), str(s)] for s in states] for k in range(classes)], dtype=float)
    return np.asarray(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))


def errors(folder: Path, of_class: npt.NDArray[np.float64], result: Path) -> tuple[float, float]:
    """Return the mean absolute error over all units, and over partial ones."""
    table = read_table(result / "occupancy.csv")
    truth = composition(folder, [name for name in table.regions if not name.startswith("component")])
    units = [name for name in table.regions if name in truth]
    read = np.array([list(table.of_region(unit).values()) for unit in units])
    expected = np.array([of_class @ truth[unit] for unit in units])
    error = np.abs(read - expected)
    return float(error.mean()), float(error[(expected > 0.05) & (expected < 0.95)].mean())


def main() -> int:
    """Reconstruct, read and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("job", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    options = parser.parse_args()
    folder, found = Path(), find_set([options.job])
    model = found.source
    stem = model.name.removesuffix("_model.star")
    data, count = model.with_name(f"{stem}_data.star"), len(found.maps)
    of_class = shares(folder, data, count)
    plain = [folder / f"reading_plain_{k + 1}.mrc" for k in range(count)]
    for k, path in enumerate(plain):
        words = ["--i", str(data), "--class", str(k + 1), "--ctf", "--o", str(path)]
        subprocess.run(["relion_reconstruct", *words], check=True, stdout=subprocess.DEVNULL)
    for name, inputs in (("job", [options.job]), ("plain", plain)):
        result = folder / f"reading_{name}"
        words = ["classes", *map(str, inputs), "--model", str(options.model), "-o", str(result), "--quiet"]
        subprocess.run([sys.executable, "-m", "occupy", *words], check=True)
        every, partial = errors(folder, of_class, result)
        print(f"{name}: all units {every:.3f}, partial units {partial:.3f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
