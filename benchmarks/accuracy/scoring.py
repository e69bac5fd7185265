"""Read a map unit by unit, and compare with the truth.

A unit is a chain. It is read in two ways: *near*, the median over the voxels within 3 Å of its CA and P
atoms, as a surface drawn around them shows; and *at the atoms*, the median of the map interpolated there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gemmi
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, map_coordinates

from occupy.statistics.posterior import STANDARD_ERRORS_95

RADIUS = 3.0
SOLVENT_DISTANCE = 15.0
FULL = 0.99
LEAST_FOR_FACTOR = 0.5
Z68 = 1.0


@dataclass(frozen=True)
class Unit:
    """One chain in one map, read by one estimator.

    Attributes
    ----------
    truth, b_factor : float
        True occupancy, and Å² that the chain has on top of the others.
    near, atoms : float
        Readings.
    error_near : float
        Median of the stated standard error near the atoms; NaN where the estimator states none.
    """

    unit: str
    truth: float
    b_factor: float
    near: float
    atoms: float
    error_near: float = math.nan


def marked_points(structure: gemmi.Structure) -> dict[str, NDArray[np.float64]]:
    """Return the positions of atoms named CA or P of each chain that has any: (n, 3), xyz, Å."""
    points: dict[str, list[list[float]]] = {}
    for site in structure[0].all():
        if site.atom.name in ("CA", "P"):
            points.setdefault(site.chain.name, []).append(site.atom.pos.tolist())
    return {name: np.array(found) for name, found in points.items()}


def ball(radius: float, voxel_size: float) -> NDArray[np.int64]:
    """Return the offsets in voxels within a radius in Å: (n, 3)."""
    reach = math.ceil(radius / voxel_size)
    offsets = np.indices((2 * reach + 1,) * 3).reshape(3, -1).T - reach
    return np.asarray(offsets[(offsets**2).sum(axis=1) * voxel_size**2 <= radius**2])


def voxels_around(
    points: NDArray[np.float64], voxel_size: float, shape: tuple[int, ...], radius: float = RADIUS
) -> NDArray[np.int64]:
    """Return the voxels within a radius of the atoms' nearest voxels, each once: (n, 3), zyx."""
    centres = np.rint(points[:, ::-1] / voxel_size).astype(int)
    voxels = (centres[:, None] + ball(radius, voxel_size)).reshape(-1, 3)
    voxels = voxels[((voxels >= 0) & (voxels < shape)).all(axis=1)]
    return np.unique(voxels, axis=0)


def read_units(
    data: NDArray[np.float32], voxel_size: float, structure: gemmi.Structure
) -> dict[str, tuple[float, float]]:
    """Return unit → (near, at the atoms)."""
    found = {}
    for name, points in marked_points(structure).items():
        voxels = voxels_around(points, voxel_size, data.shape)
        at = map_coordinates(data, points[:, ::-1].T / voxel_size, order=1, mode="nearest")
        found[name] = float(np.median(data[tuple(voxels.T)])), float(np.median(at))
    return found


def score_units(
    data: NDArray[np.float32],
    error: NDArray[np.float32] | None,
    voxel_size: float,
    structure: gemmi.Structure,
    truth: Mapping[str, float],
    b_factors: Mapping[str, float],
) -> list[Unit]:
    """Return the readings of all units that have a truth."""
    values = read_units(data, voxel_size, structure)
    errors = {} if error is None else read_units(error, voxel_size, structure)
    return [
        Unit(name, true, b_factors.get(name, 0.0), *values[name], errors.get(name, (math.nan,))[0])
        for name, true in truth.items()
        if name in values
    ]


def solvent_reading(data: NDArray[np.float32], voxel_size: float, structure: gemmi.Structure) -> float:
    """Return the median of the map farther than 15 Å from all atoms."""
    atoms = np.array([site.atom.pos.tolist() for site in structure[0].all()])
    outside = np.ones(data.shape, dtype=bool)
    at = np.rint(atoms[:, ::-1] / voxel_size).astype(int)
    at = at[((at >= 0) & (at < data.shape)).all(axis=1)]
    outside[tuple(at.T)] = False
    far = distance_transform_edt(outside) * voxel_size > SOLVENT_DISTANCE
    return float(np.median(data[far])) if far.any() else math.nan


def mean(values: NDArray[Any]) -> float:
    """Return the mean; NaN of nothing."""
    return float(values.mean()) if values.size else math.nan


def factor(truth: NDArray[np.float64], estimate: NDArray[np.float64]) -> float:
    """Return mean estimate over mean truth of the units that are at least half there; NaN without such.

    Below one half the constant that noise and neighbours add would hide what a factor takes away.
    """
    there = truth >= LEAST_FOR_FACTOR
    return float(estimate[there].sum() / truth[there].sum()) if there.any() else math.nan


def summarise(units: Sequence[Unit]) -> dict[str, float]:
    """Return the numbers of a table for some units.

    ``factor_b0`` and ``factor_b150`` are the factors of the estimate over units without and with 150 Å² on
    top, near the atoms. ``cover68`` and ``cover95`` are shares of units whose truth lies within one stated
    standard error and within the stated 95 % interval, ``width95`` the mean width of the latter, cut off at
    0 and 1.
    """
    truth, b, near, atoms, error = (
        np.array([getattr(unit, name) for unit in units], dtype=np.float64)
        for name in ("truth", "b_factor", "near", "atoms", "error_near")
    )
    off, partial, zero, full = near - truth, truth < FULL, truth == 0, truth >= FULL
    stated, trapped = np.isfinite(error), b >= 100
    reach = STANDARD_ERRORS_95 * error
    width = np.minimum(near + reach, 1) - np.maximum(near - reach, 0)
    return {
        "units": float(len(units)),
        "mae": mean(np.abs(off)),
        "mae_atoms": mean(np.abs(atoms - truth)),
        "bias": mean(off),
        "bias_atoms": mean(atoms - truth),
        "mae_partial": mean(np.abs(off[partial])),
        "at_zero": mean(near[zero]),
        "error_at_one": mean(off[full]),
        "mae_b0": mean(np.abs(off[b == 0])),
        "mae_b150": mean(np.abs(off[trapped])),
        "factor_b0": factor(truth[b == 0], near[b == 0]),
        "factor_b150": factor(truth[trapped], near[trapped]),
        "cover68": mean((np.abs(off) <= Z68 * error)[stated]),
        "cover95": mean((np.abs(off) <= reach)[stated]),
        "width95": mean(width[stated]),
    }
