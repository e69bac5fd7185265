"""Large sets: memory, time and disk of `occupy classes` against the number of maps.

    python -m benchmarks.ensemble --counts 100 500 --folder FOLDER

Maps of 128³ voxels of 2.75 Å (so that nothing is gained by working on a coarser grid) are made: an ellipsoid
of protein-like texture in six parts, whose occupancies are drawn for each map, in noise. Beside it, single
starts of OccuPy 0.1.13 on the first 20 maps, to be extrapolated.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy.fft

from benchmarks import reference
from benchmarks.accuracy import published
from benchmarks.processes import Cost, measure
from occupy import Volume, write_map

Array = npt.NDArray[np.float32]
VOXEL = 2.75
PARTS = 6
DETAIL = 9.0  # Å
NOISE = 0.3  # against the content's standard deviation


@dataclass(frozen=True)
class Row:
    """One run over a set."""

    count: int
    threads: int
    cost: Cost


def lowpass(data: Array, resolution: float) -> Array:
    """Return a map with a Gaussian fall-off."""
    axes = [np.fft.fftfreq(n, VOXEL) for n in data.shape[:2]]
    q2 = axes[0][:, None, None] ** 2 + axes[1][:, None] ** 2 + np.fft.rfftfreq(data.shape[2], VOXEL) ** 2
    spectrum = scipy.fft.rfftn(data) * np.exp(-0.5 * q2 * resolution**2).astype(np.float32)
    return np.asarray(scipy.fft.irfftn(spectrum, s=data.shape), dtype=np.float32)


def parts_of(n: int, seed: int = 0) -> Array:
    """Return a particle as a base and sectors that may come and go, (1 + PARTS, n, n, n)."""
    rng = np.random.default_rng(seed)
    z, y, x = (np.indices((n,) * 3, dtype=np.float32) - n / 2) / n
    inside = (z / 0.26) ** 2 + (y / 0.3) ** 2 + (x / 0.34) ** 2 < 1
    texture = lowpass(rng.standard_normal((n,) * 3, dtype=np.float32), DETAIL / 2)
    content = np.maximum(1 + texture / texture.std(), 0) * inside
    sector = np.floor((np.arctan2(y, x) + math.pi) / (2 * math.pi) * PARTS) % PARTS
    sector[z**2 + y**2 + x**2 < 0.14**2] = -1
    return np.stack([lowpass(content * (sector == p), DETAIL / 3) for p in range(-1, PARTS)])


def write_maps(folder: Path, count: int, n: int) -> list[Path]:
    """Write maps of a set (those that are missing) and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"vol_{k:04d}.mrc" for k in range(1, count + 1)]
    if all(path.exists() for path in paths):
        return paths
    parts = parts_of(n)
    spread = NOISE * float(parts.sum(axis=0).std())
    for k, path in enumerate(paths):
        rng = np.random.default_rng((1, k))
        share = np.concatenate([[1], rng.choice([0, 0.5, 1], PARTS, p=[0.3, 0.2, 0.5])])
        noise = lowpass(rng.standard_normal((n,) * 3, dtype=np.float32), DETAIL / 3)
        data = np.tensordot(share.astype(np.float32), parts, axes=1) + spread / noise.std() * noise
        write_map(path, Volume.from_array(data.astype(np.float32), VOXEL, path.stem))
    return paths


def run(paths: Sequence[Path], work: Path, threads: int) -> Row:
    """Run `occupy classes` over maps as a process of its own."""
    out = work / "results"
    shutil.rmtree(out, ignore_errors=True)
    folder = work / "set"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path in paths:
        (folder / path.name).symlink_to(path.absolute())
    command = [sys.executable, "-m", "occupy", "classes", str(folder), "-o", str(out), "--quiet"]
    cost = measure([*command, "--threads", str(threads)], work)
    shutil.rmtree(out)
    return Row(len(paths), threads, cost)


def starts_of_reference(paths: Sequence[Path], work: Path, start: Sequence[str]) -> Cost:
    """Run the reference once per map; costs add up, memory is the largest."""
    inside = work / "reference_results"
    inside.mkdir(exist_ok=True)
    costs = [measure([*start, "-i", str(path)], inside, reference.environment()) for path in paths]
    return Cost(sum(c.cpu for c in costs), sum(c.wall for c in costs), max(c.peak for c in costs))


def markdown(rows: Sequence[Row], single: tuple[int, Cost] | None) -> str:
    """Return the results as Markdown."""
    lines = ["| maps | threads | CPU s | wall s | wall s per map | peak MiB |", "|---|---|---|---|---|---|"]
    for row in rows:
        c = row.cost
        each = c.wall / row.count
        lines.append(
            f"| {row.count} | {row.threads} | {c.cpu:.1f} | {c.wall:.1f} | {each:.2f} | {c.peak:.0f} |"
        )
    if single is not None:
        count, c = single
        lines.append(
            f"| {count}, OccuPy 0.1.13 one by one | – | {c.cpu:.1f} | {c.wall:.1f} | {c.wall / count:.2f} "
            f"| {c.peak:.0f} |"
        )
        most = max(row.count for row in rows)
        lines.append(
            f"| {most}, extrapolated from these | – | {c.cpu * most / count:.0f} | "
            f"{c.wall * most / count:.0f} | {c.wall / count:.2f} | {c.peak:.0f} |"
        )
    return "\n".join(lines) + "\n"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--counts", type=int, nargs="+", default=[100, 500], help="numbers of maps")
    parser.add_argument("--box", type=int, default=128)
    parser.add_argument("--threads", type=int, nargs="+", default=[os.cpu_count() or 1])
    parser.add_argument("--folder", type=Path, help="keep maps, the reference and results here")
    parser.add_argument("--single", type=int, default=20, help="single starts of the reference; 0 for none")
    parser.add_argument("--reference-python", type=Path, help="a Python that has occupy==0.1.13 installed")
    parser.add_argument("--smoke", action="store_true", help="two small sets, without the reference")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what was asked for."""
    a = parse(arguments)
    if a.smoke:
        a.counts, a.box, a.single, a.threads = [6, 12], 48, 0, [2]
    with tempfile.TemporaryDirectory() as temporary:
        folder = (a.folder or Path(temporary)).absolute()
        paths = write_maps(folder / f"maps_{a.box}", max(a.counts), a.box)
        rows = []
        for count in a.counts:
            for threads in a.threads:
                rows.append(run(paths[:count], folder / "work", threads))
                print(rows[-1], flush=True)
        single = None
        if a.single:
            start = published.start_of(a.reference_python, folder)
            single = a.single, starts_of_reference(paths[: a.single], folder / "work", start)
        text = markdown(rows, single)
        (folder / "ensemble.md").write_text(text)
        print("\n" + text)


if __name__ == "__main__":
    main()
