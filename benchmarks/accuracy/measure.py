"""Run every estimator on every sample and keep what was read."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import gemmi
import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy.estimators import Estimator
from benchmarks.accuracy.published import TILES, scale_of
from benchmarks.accuracy.samples import Sample
from benchmarks.accuracy.scoring import Unit, score_units, solvent_reading
from occupy import Volume, read_map


@dataclass(frozen=True)
class Result:
    """One estimator on one sample.

    Attributes
    ----------
    sample : Sample
        Which map.
    estimator : str
        Which estimator.
    units : tuple of Unit
        Readings.
    solvent : float
        Median reading far from all atoms.
    seconds : float
        Ours: within this process, map read already. The published one's: its whole process.
    """

    sample: Sample
    estimator: str
    units: tuple[Unit, ...]
    solvent: float
    seconds: float


def result_of(
    sample: Sample,
    estimator: str,
    data: NDArray[np.float32],
    error: NDArray[np.float32] | None,
    volume: Volume,
    structure: gemmi.Structure,
    seconds: float,
) -> Result:
    """Score one map; ValueError where it cannot be an occupancy map."""
    if data.shape != volume.shape or not np.isfinite(data).all():
        raise ValueError(f"{estimator} on {sample.name}: not a finite map of shape {volume.shape}")
    voxel = volume.voxel_size[0]
    units = score_units(data, error, voxel, structure, sample.truth, sample.b_factors)
    return Result(sample, estimator, tuple(units), solvent_reading(data, voxel, structure), seconds)


def run_sample(
    sample: Sample,
    estimators: Mapping[str, Estimator],
    start: list[str] | None,
    cache: Path,
    *,
    halves: bool = True,
) -> list[Result]:
    """Run the estimators, and the published one where ``start`` says how, on one sample."""
    volume, half_maps, structure = sample.read()
    results = []
    for tile_name, tile in TILES.items() if start is not None else ():
        key = sample.map.parent.name if sample.half != "relion_50s" else sample.name
        path, seconds = scale_of(sample.map, key, tile, start or [], cache)
        theirs = read_map(path).data
        results.append(result_of(sample, tile_name, theirs, None, volume, structure, seconds))
    for name, estimator in estimators.items():
        begun = time.perf_counter()
        reading = estimator(volume, half_maps if halves else None)
        seconds = time.perf_counter() - begun
        results.append(result_of(sample, name, reading.occupancy, reading.error, volume, structure, seconds))
    return results


def run_all(
    samples: Iterable[Callable[[], Sample]],
    estimators: Mapping[str, Estimator],
    start: list[str] | None,
    cache: Path,
    say: Callable[[str], None],
) -> list[Result]:
    """Run everything, sample by sample."""
    results: list[Result] = []
    for made in samples:
        sample = made()
        found = run_sample(sample, estimators, start, cache)
        errors = ", ".join(f"{r.estimator} {mae_of(r):.3f}" for r in found)
        say(f"{sample.name} ({sample.remark}): {errors}")
        results += found
    return results


def mae_of(result: Result) -> float:
    """Return the mean absolute error near the atoms."""
    return float(np.mean([abs(unit.near - unit.truth) for unit in result.units]))


def write_units(path: Path, results: Iterable[Result]) -> None:
    """Write every single reading as CSV."""
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(
            ["half", "model", "map", "estimator", "unit", "truth", "b_factor", "near", "atoms", "error_near"]
        )
        for r in results:
            for u in r.units:
                numbers = (u.truth, u.b_factor, u.near, u.atoms, u.error_near)
                cells = [f"{value:.5g}" for value in numbers]
                writer.writerow([r.sample.half, r.sample.model, r.sample.name, r.estimator, u.unit, *cells])
