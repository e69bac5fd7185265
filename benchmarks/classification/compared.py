"""Several seeds together, beside the truth: ``python -m benchmarks.classification.compared FOLDER``.

FOLDER holds the sets and runs of ``python -m benchmarks.classification``. For every set, variant and settings
with two seeds or more: how many classes are reproducible, the adjusted Rand index of each run and of the
consensus with the truth, how many particles are stated at a probability above 0.9 and how many of these are
right, and the calibration error. A particle is right where it is in the class that has most of its state:
a class may hold two states whole. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from occupy.io.runs import CommonParticles, Run
from occupy.io.star import read_star
from occupy.runs.agreement import Agreement, adjusted_rand, contingency
from occupy.runs.compare import Consensus

NAMES = ("rlnImageName", "rlnClassNumber")


def right(labels: npt.NDArray[np.int64], true: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Tell which particles are in the class that has most of their state."""
    table = contingency(true, labels, int(true.max()) + 1, int(labels.max()) + 1)
    return np.asarray(table.argmax(axis=1)[true] == labels)


def calibration_error(stated: npt.NDArray[np.float64], correct: npt.NDArray[np.bool_]) -> float:
    """Return the mean difference of stated and true frequency, over ten bins of stated probability."""
    bins = np.minimum((10 * stated).astype(int), 9)
    return float(
        sum(abs(correct[bins == i].sum() - stated[bins == i].sum()) for i in range(10)) / len(stated)
    )


def row(folder: Path, jobs: Sequence[Path]) -> str:
    """Compare the runs of one set; return a line of the table."""
    read = [Run.read(job) for job in jobs]
    common = CommonParticles.of(read)
    table = read_star(folder / "particles_true.star", columns=NAMES)["particles"]
    of = dict(zip(table.column(NAMES[0]), map(int, table.column(NAMES[1])), strict=True))
    true = np.array([of[name] for name in read[0].keys[common.rows[0]].tolist()]) - 1
    found = Consensus.of(common.runs)
    agreed = Agreement.of(common.runs, common.entries, draws=99)
    single = [adjusted_rand(run.labels.tolist(), true.tolist()) for run in common.runs]
    together = adjusted_rand(found.labels.tolist(), true.tolist()) if found.count > 1 else 0.0
    cells = [
        folder.name,
        jobs[0].name.rsplit("_seed", 1)[0],
        f"{agreed.index:.3f} ({', '.join(f'{pair.index:.3f}' for pair in agreed.pairs)})",
        f"{found.count} of {len(set(true.tolist()))}",
        ", ".join(f"{value:.3f}" for value in single),
        f"{together:.3f}",
    ]
    if found.count > 1:
        correct, sure = right(found.labels, true), found.probability > 0.9
        cells += [f"{sure.mean():.0%}", f"{correct[sure].mean():.0%}" if sure.any() else "–"]
        cells.append(f"{calibration_error(found.probability, correct):.3f}")
    else:
        cells += ["–", "–", "–"]
    return "| " + " | ".join(cells) + " |"


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    head = ("set", "runs", "agreement (pairs)", "reproducible", "ARI of each", "of all", "p > 0.9", "right",
            "calibration")  # fmt: skip
    print("| " + " | ".join(head) + " |", "|" + "---|" * len(head), sep="\n")
    for home in sorted(path.parent for path in folder.glob("*/particles_true.star")):
        groups: dict[str, list[Path]] = {}
        for job in sorted(home.glob("*_seed*")):
            if list(job.glob("*_data.star")):
                groups.setdefault(job.name.rsplit("_seed", 1)[0], []).append(job)
        for jobs in groups.values():
            if len(jobs) > 1:
                print(row(home, jobs), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
