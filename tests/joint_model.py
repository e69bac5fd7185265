"""A small complex of five chains and its map, for tests of the joint fit."""

from __future__ import annotations

from functools import cache

import numpy as np

from occupy.model import AtomicModel, Residue
from occupy.model.density import Atoms, Lattice, on_grid, shape_coefficients
from occupy.model.fit import _chains_of, mixed

VOXEL = (2.5, 2.5, 2.5)
SHAPE = (30, 28, 32)
TRUTH = {"A": 1.0, "B": 0.6, "C": 1.0, "D": 0.0, "E": 1.0}


@cache
def molecule() -> AtomicModel:
    """Five compact chains of 120 atoms, side by side as in a complex."""
    rng = np.random.default_rng(5)
    centres = np.array([[28, 28, 28], [42, 30, 30], [34, 44, 32], [36, 34, 46], [50, 44, 42]], dtype=float)
    xyz, owner, residues = [], [], []
    for name, centre in zip("ABCDE", centres, strict=True):
        points = centre + rng.normal(size=(120, 3)) * 4.5
        for number in range(12):
            residues.append(Residue(0, name, number + 1, "", "ALA", name, "polymer"))
            xyz += points[number * 10 : number * 10 + 10].tolist()
            owner += [len(residues) - 1] * 10
    elements = rng.choice([6, 7, 8], size=len(xyz), p=[0.62, 0.18, 0.2])
    trace = np.zeros(len(xyz), dtype=bool)
    trace[::10] = True
    return AtomicModel(("m",), np.array(xyz), np.array(owner), trace, tuple(residues), elements)


@cache
def densities() -> tuple[Lattice, np.ndarray]:
    """Coefficients of the chains with some ice, on the lattice of the whole box."""
    model = molecule()
    lattice = Lattice.of((0, 0, 0), SHAPE, VOXEL, 6.0)
    shapes = shape_coefficients(
        Atoms(model.xyz, model.elements, model.shares), list(_chains_of(model).values()), lattice
    )
    return lattice, mixed(shapes, np.array([0.4, 0.1]))


def clean_map(truth: dict[str, float] = TRUTH, b_factor: float = 60.0) -> np.ndarray:
    """The map of these occupancies, sharpened or blurred."""
    lattice, rows = densities()
    shells = np.repeat(lattice.frequency, np.diff(lattice.starts))
    whole = np.tensordot(np.array(list(truth.values()), dtype=np.float32), rows, axes=1)
    return on_grid(whole * np.exp(-b_factor / 4 * shells**2).astype(np.float32), lattice)
