"""Class3D alone and with occupy in its loop: ``python -m benchmarks.classification FOLDER --models MODELS``.

Every run is RELION's own, with the same seed and options; only ``--external_reconstruct`` and the variables
of a variant differ. One line per run is printed and added to FOLDER/results.tsv; runs that are there already
are not repeated. ``--smoke`` makes one small set and takes a minute.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.classification.particles import SETS, make
from occupy.io.mrc import read_map
from occupy.io.star import read_star
from occupy.relion.class3d import VARIABLE, Class3D, command
from occupy.relion.runrecord import adjusted_rand

VARIANTS: dict[str, dict[str, str] | None] = {
    "plain": None,
    "occupy": {},
    "without budget": {"OCCUPY_RELION_BUDGET": "1e9"},
    "half the budget": {"OCCUPY_RELION_BUDGET": "0.1"},
    "to 30 Å only": {"OCCUPY_RELION_FINEST": "30"},
    "shared maps off": {"OCCUPY_RELION_OFF": "1"},
}
SMOKE = replace(SETS["pol2"], particles=400, box=48, voxel_size=5.4, snr=0.2)


@dataclass(frozen=True)
class Run:
    """One Class3D."""

    set: str
    variant: str
    seed: int
    initial: float
    fudge: float
    limit: float | None
    classes: int
    diameter: float
    iterations: int

    @property
    def name(self) -> str:
        """Name of its folder."""
        limit = f"_limit{self.limit:g}" if self.limit else ""
        variant = self.variant.replace(" ", "-")
        return f"{variant}_ini{self.initial:g}_T{self.fudge:g}{limit}_K{self.classes}_seed{self.seed}"


def classify(run: Run, folder: Path, program: Path) -> None:
    """Run Class3D in the folder of a set."""
    variables = VARIANTS[run.variant]
    job = Class3D(
        "particles.star", "consensus.mrc", f"{run.name}/run", run.diameter, run.classes, run.iterations,
        run.fudge, run.initial, run.limit, threads=2,
        extra=("--random_seed", str(run.seed), "--preread_images"),
    )  # fmt: skip
    words = [word for word in command(job) if variables is not None or word != "--external_reconstruct"]
    environment = os.environ | {VARIABLE: str(program)} | (variables or {})
    (folder / run.name).mkdir(exist_ok=True)
    with (folder / run.name / "run.out").open("w") as out:
        subprocess.run(words, cwd=folder, env=environment, stdout=out, stderr=subprocess.STDOUT, check=True)
    for path in (folder / run.name).glob("*external_reconstruct*"):
        path.unlink()


def score(run: Run, folder: Path) -> dict[str, str]:
    """Return agreement with the truth, sizes, and the class maps' FSC to the best true state."""
    columns = ("rlnImageName", "rlnClassNumber", "rlnMaxValueProbDistribution")
    true = read_star(folder / "particles_true.star", columns=columns)["particles"]
    of = dict(zip(true.column("rlnImageName"), true.column("rlnClassNumber"), strict=True))
    result: dict[str, str] = {}
    for number in (5, 15, run.iterations):
        path = folder / run.name / f"run_it{number:03d}_data.star"
        if path.is_file():
            found = read_star(path, columns=columns)["particles"]
            truth = [of[name] for name in found.column("rlnImageName")]
            result[f"ari{number}"] = f"{adjusted_rand(truth, found.column('rlnClassNumber')):.4f}"
    result["certainty"] = f"{np.mean(found.numbers('rlnMaxValueProbDistribution')):.3f}"
    classes = np.array(found.column("rlnClassNumber"), dtype=int)
    result["sizes"] = " ".join(map(str, np.bincount(classes, minlength=run.classes + 1)[1:]))
    states = [read_map(path, voxel_size=1).data for path in sorted(folder.glob("state_?.mrc"))]
    maps = [
        folder / run.name / f"run_it{run.iterations:03d}_class{k + 1:03d}.mrc" for k in range(run.classes)
    ]
    best = [max(fsc(read_map(path, voxel_size=1).data, state) for state in states) for path in maps]
    result["fsc"] = " ".join(f"{value:.3f}" for value in best)
    return result


def fsc(a: np.ndarray, b: np.ndarray) -> float:
    """Return the mean Fourier shell correlation of two maps up to two thirds of Nyquist."""
    n = len(a)
    x, y = np.fft.rfftn(a), np.fft.rfftn(b)
    k = np.fft.fftfreq(n) * n
    shell = np.rint(np.sqrt(k[:, None, None] ** 2 + k[None, :, None] ** 2 + np.arange(n // 2 + 1) ** 2))
    index = shell.astype(int).ravel()
    cross, p, q = (
        np.bincount(index, v.ravel()) for v in ((x * y.conj()).real, np.abs(x) ** 2, np.abs(y) ** 2)
    )
    reach = slice(1, n // 3)
    return float(np.mean(cross[reach] / np.sqrt(np.maximum(p[reach] * q[reach], 1e-30))))


def _program(folder: Path) -> Path:
    """Write a starter for the program of this source tree."""
    path = folder.absolute() / "occupy-relion-reconstruct"
    found = ":".join(entry for entry in sys.path if entry)
    call = "import sys; from occupy.relion.hook import main; main()"
    starter = f'PYTHONPATH={shlex.quote(found)} exec {shlex.quote(sys.executable)} -c "{call}" "$@"'
    path.write_text(f"#!/bin/sh\n{starter}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def report(run: Run, folder: Path, results: Path, program: Path) -> None:
    """Do a run and write its line."""
    if results.is_file() and f"{run.set}\t{run.name}\t" in results.read_text():
        return
    classify(run, folder, program)
    values = " ".join(f"{key}={value}" for key, value in score(run, folder).items())
    line = f"{run.set}\t{run.name}\t{values}"
    with results.open("a") as stream:
        stream.write(line + "\n")
    print(line, flush=True)


def main() -> int:
    """Run the experiment."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("classification"))
    parser.add_argument("--models", type=Path, help="folder with the atomic models")
    parser.add_argument("--sets", nargs="+", default=sorted(SETS), help="made here, or folders that exist")
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=["plain", "occupy"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--classes", type=int, default=3)
    parser.add_argument("--initial", type=float, default=40)
    parser.add_argument("--fudge", type=float, default=4)
    parser.add_argument("--limit", type=float)
    parser.add_argument("--diameter", type=float, help="of sets that were not made here (Å)")
    parser.add_argument("--iterations", type=int, default=25)
    parser.add_argument("--smoke", action="store_true", help="one small set, three iterations")
    options = parser.parse_args()
    if shutil.which("relion_refine") is None:
        print("classification: RELION is not installed (apt-get install relion)", file=sys.stderr)
        return 1 if os.environ.get("OCCUPY_REQUIRE_RELION") == "1" else 0
    sets = dict(SETS)
    if options.smoke:
        options.sets, options.seeds, options.iterations = ["smoke"], [1], 3
        sets = {"smoke": SMOKE}
    options.folder.mkdir(parents=True, exist_ok=True)
    program = _program(options.folder)
    for name in options.sets:
        folder = options.folder / name
        if not (folder / "particles.star").is_file():
            make(sets[name], folder, options.models, 1)
        diameter = options.diameter or sets[name].diameter
        for seed in options.seeds:
            for variant in options.variants:
                run = Run(
                    name, variant, seed, options.initial, options.fudge, options.limit, options.classes,
                    diameter, options.iterations,
                )  # fmt: skip
                report(run, folder, options.folder / "results.tsv", program)
    return 0


if __name__ == "__main__":
    sys.exit(main())
