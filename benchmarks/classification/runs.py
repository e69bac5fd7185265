"""One Class3D: its options, how it is run, and how it is scored against the truth."""

from __future__ import annotations

import ast
import hashlib
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

import occupy
from occupy.errors import OccupyError
from occupy.io import loop
from occupy.io.loop import FOLDER, read_calls
from occupy.io.mrc import read_map
from occupy.io.star import read_star
from occupy.numerics import spectra
from occupy.relion import classes, options, separation
from occupy.relion.class3d import VARIABLE, Class3D, _class3d_words
from occupy.relion.runreport import _energy_per_particle
from occupy.runs.agreement import adjusted_rand, contingency

VARIANTS: dict[str, dict[str, str] | None] = {
    "plain": None,
    "occupy": {},
    "without budget": {"OCCUPY_RELION_BUDGET": "1e9"},
    "half the budget": {"OCCUPY_RELION_BUDGET": "0.1"},
    "to 30 Å only": {"OCCUPY_RELION_FINEST": "30"},
    # Shared maps and a low-pass of the differences, kept whole: no local evidence, no budget.
    "low-pass at 30 Å": {
        "OCCUPY_RELION_STRENGTH": "0",
        "OCCUPY_RELION_BUDGET": "1e9",
        "OCCUPY_RELION_FINEST": "30",
    },
    "shared maps off": {"OCCUPY_RELION_OFF": "1"},
}
SIGMA = 5 / 3
"""Degrees; of local searches, which go to three times that."""

CODE = "code.txt"
STATED = ("rlnImageName", "rlnClassNumber", "rlnMaxValueProbDistribution")


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
    threads: int = 2
    align: str = "none"

    @property
    def settings(self) -> str:
        """What RELION was told."""
        limit = f"_limit{self.limit:g}" if self.limit else ""
        align = "" if self.align == "none" else f"_{self.align}"
        return f"ini{self.initial:g}_T{self.fudge:g}{limit}_K{self.classes}{align}"

    @property
    def name(self) -> str:
        """Name of its folder."""
        return f"{self.variant.replace(' ', '-')}_{self.settings}_seed{self.seed}"

    def file(self, kind: str, iteration: int | None = None) -> str:
        """Return a file name of one of RELION's iterations, by default of the last."""
        return f"run_it{self.iterations if iteration is None else iteration:03d}_{kind}"


def version() -> str:
    """Return the version of the package and a digest of the code that decides the result of a run."""
    sources = (Path(str(module.__file__)) for module in (classes, loop, options, separation, spectra))
    digest = hashlib.sha256("".join(_code(path) for path in sources).encode())
    return f"{occupy.__version__}+{digest.hexdigest()[:8]}"


def _code(path: Path) -> str:
    """Return a module's code without comments and docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [part for part in body if not _is_text(part)]  # type: ignore[attr-defined]
    return ast.dump(tree)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def complete(run: Run, folder: Path) -> bool:
    """Tell whether a run has ended and, where occupy was in its loop, had the present code."""
    code = folder / run.name / CODE
    current = run.variant == "plain" or (code.is_file() and code.read_text().strip() == version())
    return current and (folder / run.name / run.file("model.star")).is_file()


def classify(run: Run, folder: Path, program: Path, particles: str = "particles.star") -> None:
    """Run Class3D in the folder of a set."""
    variables = VARIANTS[run.variant]
    job = Class3D(
        particles, "consensus.mrc", f"{run.name}/run", run.diameter, run.classes, run.iterations,
        run.fudge, run.initial, run.limit, run.align == "global", SIGMA if run.align == "local" else None,
        threads=run.threads,
        extra=("--random_seed", str(run.seed), "--preread_images"),
    )  # fmt: skip
    words = [
        word for word in _class3d_words(job) if variables is not None or word != "--external_reconstruct"
    ]
    environment = os.environ | {VARIABLE: str(program)} | (variables or {})
    (folder / run.name).mkdir(exist_ok=True)
    (folder / run.name / CODE).write_text(f"{version()}\n" if variables is not None else "RELION\n")
    with (folder / run.name / "run.out").open("w") as out:
        subprocess.run(words, cwd=folder, env=environment, stdout=out, stderr=subprocess.STDOUT, check=True)
    for path in (folder / run.name).glob("*external_reconstruct*"):
        path.unlink()


def starter(folder: Path) -> Path:
    """Write a starter for the program of this source tree."""
    path = folder.absolute() / "occupy-relion-reconstruct"
    found = ":".join(entry for entry in sys.path if entry)
    call = "import sys; from occupy.relion.hook import main; main()"
    text = f'PYTHONPATH={shlex.quote(found)} exec {shlex.quote(sys.executable)} -c "{call}" "$@"'
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def score(run: Run, folder: Path) -> dict[str, str]:
    """Return agreement with the truth, sizes, the maps' FSC to the best true state, significance."""
    job = folder / run.name
    true = read_star(folder / "particles_true.star", columns=STATED)["particles"]
    of = dict(zip(true.column("rlnImageName"), true.column("rlnClassNumber"), strict=True))
    result = {"code": (job / CODE).read_text().strip() if (job / CODE).is_file() else ""}
    for number in sorted({5, 15, run.iterations}):
        path = job / run.file("data.star", number)
        if path.is_file():
            found = read_star(path, columns=STATED)["particles"]
            truth = [of[name] for name in found.column("rlnImageName")]
            agreement = adjusted_rand(truth, found.column("rlnClassNumber"))
            result["ari" if number == run.iterations else f"ari{number}"] = f"{agreement:.4f}"
    result["certainty"] = f"{np.mean(found.numbers('rlnMaxValueProbDistribution')):.3f}"
    sizes = np.bincount(np.array(found.column("rlnClassNumber"), dtype=int), minlength=run.classes + 1)[1:]
    result["sizes"] = " ".join(map(str, sizes))
    states = _maps(state_maps(folder))
    maps = _maps([job / run.file(f"class{k + 1:03d}.mrc") for k in range(run.classes)])
    best = [max(fsc(one, state) for state in states) for one in maps]
    result["fsc"] = " ".join(f"{value:.3f}" for value in best)
    result["mean_fsc"] = f"{np.average(best, weights=np.maximum(sizes, 1e-9)):.4f}"
    table = contingency(
        np.array(truth, dtype=int) - 1, np.array(found.column("rlnClassNumber"), dtype=int) - 1, len(states),
        run.classes,
    )  # fmt: skip
    mine = [maps[k] for k in table.argmax(axis=1)]
    return result | area_row(mine, states, _voxel_size(folder), run.diameter) | _significance(run, job)


def bounds(folder: Path, diameter: float) -> dict[str, dict[str, str]]:
    """Return the same areas for the consensus in place of every state, and for each state's own particles."""
    for k in range(len(state_maps(folder))):
        words = ["relion_reconstruct", "--i", "particles_states.star", "--o", f"true_{k + 1}.mrc", "--ctf"]
        words += ["--pad", "1", "--class", str(k + 1)]
        if not (folder / f"true_{k + 1}.mrc").is_file():
            subprocess.run(words, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    states, voxel_size = _maps(state_maps(folder)), _voxel_size(folder)
    consensus = _maps([folder / "consensus.mrc"]) * len(states)
    own = _maps([folder / f"true_{k + 1}.mrc" for k in range(len(states))])
    return {
        "consensus": area_row(consensus, states, voxel_size, diameter),
        "true states": area_row(own, states, voxel_size, diameter),
    }


def area_row(
    maps: Sequence[npt.NDArray[np.floating]], states: Sequence[npt.NDArray[np.floating]], voxel_size: float,
    diameter: float,
) -> dict[str, str]:  # fmt: skip
    """Return the area under each state's Fourier shell correlation with its map, and their mean.

    Within the particle's sphere, over spatial frequencies from 0 to 0.5 per pixel: at most 0.5. Every state
    counts alike, however few particles it has.
    """
    n = len(states[0])
    grid = np.indices((n, n, n)) - n // 2
    sphere = np.sqrt((grid**2).sum(axis=0)) < diameter / 2 / voxel_size
    areas = [0.5 * correlation(a * sphere, b * sphere)[1:].mean() for a, b in zip(maps, states, strict=True)]
    return {"area": f"{np.mean(areas):.4f}", "areas": " ".join(f"{value:.3f}" for value in areas)}


def _maps(paths: Sequence[Path]) -> list[npt.NDArray[np.float32]]:
    return [read_map(path, voxel_size=1).data for path in paths]


def _voxel_size(folder: Path) -> float:
    return read_star(folder / "particles.star")["optics"].numbers("rlnImagePixelSize")[0]


def _significance(run: Run, job: Path) -> dict[str, str]:
    """Return the energy of the classes' own parts per particle, in noise units."""
    try:
        calls = [call for call in read_calls(job / FOLDER) if call["iteration"] == run.iterations]
    except OccupyError:
        return {"energy": ""}
    found = [_energy_per_particle(call) for call in calls]
    return {"energy": " ".join(f"{value:.2f}" for value in found if value is not None)}


def state_maps(folder: Path) -> list[Path]:
    """Return the maps of the true states, in their order."""
    return sorted(folder.glob("state_*.mrc"), key=lambda path: int(path.stem.split("_")[1]))


def fsc(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]) -> float:
    """Return the mean Fourier shell correlation of two maps up to two thirds of Nyquist."""
    return float(correlation(a, b)[1 : len(a) // 3].mean())


def correlation(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Return the Fourier shell correlation of two maps in every shell up to Nyquist."""
    n = len(a)
    x, y = np.fft.rfftn(a), np.fft.rfftn(b)
    k = np.fft.fftfreq(n) * n
    shell = np.rint(np.sqrt(k[:, None, None] ** 2 + k[None, :, None] ** 2 + np.arange(n // 2 + 1) ** 2))
    index = shell.astype(int).ravel()
    cross, p, q = (
        np.bincount(index, v.ravel()) for v in ((x * y.conj()).real, np.abs(x) ** 2, np.abs(y) ** 2)
    )
    return np.asarray((cross / np.sqrt(np.maximum(p * q, 1e-30)))[: n // 2])


def write_table(path: Path, rows: Sequence[dict[str, str]]) -> None:
    """Write rows as tab-separated text, a column for every name that occurs."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = ["\t".join(names), *("\t".join(row.get(name, "") for name in names) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_table(path: Path) -> list[dict[str, str]]:
    """Read what `write_table` wrote; nothing where there is no file."""
    if not path.is_file():
        return []
    head, *lines = path.read_text(encoding="utf-8").splitlines()
    return [dict(zip(head.split("\t"), line.split("\t"), strict=False)) for line in lines]
