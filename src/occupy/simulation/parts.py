"""Densities of the parts of a model, relative to the ice they displace."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from occupy.simulation.potential import potential_of

if TYPE_CHECKING:
    import gemmi

MODEL_B = 100.0
"""B-factor (Å²) of every atom. Common B is absorbed by the scale per shell; on channel 250 in its place
moves no occupancy by 0.001."""


@dataclass(frozen=True, eq=False)
class PartAtoms:
    """Atoms of a model, and which part each belongs to.

    Attributes
    ----------
    xyz : ndarray of float64, shape (n, 3)
        Å, in the frame of the box: the first voxel's centre is at 0.
    elements : ndarray of uint8, shape (n,)
        Atomic numbers.
    part : ndarray of int64, shape (n,)
        Index into `names`; −1 for atoms of no part.
    names : tuple of str
        Parts.
    """

    xyz: npt.NDArray[np.float64]
    elements: npt.NDArray[np.uint8]
    part: npt.NDArray[np.int64]
    names: tuple[str, ...]


def part_densities(
    atoms: PartAtoms, side: float, size: int, resolution: float, b_factor: float = MODEL_B
) -> Iterator[npt.NDArray[np.float32]]:
    """Density of each part, one after another.

    Parameters
    ----------
    atoms : PartAtoms
        The model.
    side : float
        Of the box in Å.
    size : int
        Voxels along each side.
    resolution : float
        Å; densities are complete up to it. At least two voxels.
    b_factor : float
        Å², of every atom.

    Yields
    ------
    ndarray of float32, shape (size, size, size)
        z, y, x.
    """
    for number in range(len(atoms.names)):
        chosen = np.flatnonzero(atoms.part == number)
        # The band's soft edge lies beyond the resolution asked for.
        yield potential_of(_structure(atoms, chosen, side, b_factor), size, side / size, 0.85 * resolution)


def _structure(
    atoms: PartAtoms, chosen: npt.NDArray[np.intp], side: float, b_factor: float
) -> gemmi.Structure:
    import gemmi

    structure = gemmi.Structure()
    structure.cell = gemmi.UnitCell(side, side, side, 90, 90, 90)
    structure.spacegroup_hm = "P 1"
    residue = gemmi.Residue()
    residue.name, residue.seqid = "UNK", gemmi.SeqId("1")
    for index in chosen:
        atom = gemmi.Atom()
        atom.name, atom.element = "X", gemmi.Element(int(atoms.elements[index]))
        atom.pos, atom.b_iso, atom.occ = gemmi.Position(*atoms.xyz[index]), b_factor, 1.0
        residue.add_atom(atom)
    chain = gemmi.Chain("A")
    chain.add_residue(residue)
    model = gemmi.Model(1)
    model.add_chain(chain)
    structure.add_model(model)
    return structure
