"""Small atomic models for tests, made with gemmi."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import gemmi
import numpy as np


def residue(
    number: int,
    places: Sequence[tuple[str, str, Sequence[float]]],
    *,
    name: str = "ALA",
    kind: gemmi.EntityType = gemmi.EntityType.Polymer,
    altlocs: Sequence[str] | None = None,
    occupancies: Sequence[float] | None = None,
) -> gemmi.Residue:
    """Make a residue of atoms (name, element, x y z)."""
    made = gemmi.Residue()
    made.name, made.seqid, made.entity_type = name, gemmi.SeqId(number, " "), kind
    made.het_flag = "A" if kind == gemmi.EntityType.Polymer else "H"
    for i, (atom_name, element, xyz) in enumerate(places):
        atom = gemmi.Atom()
        atom.name, atom.element = atom_name, gemmi.Element(element)
        atom.pos = gemmi.Position(*map(float, xyz))
        atom.occ = 1.0 if occupancies is None else occupancies[i]
        if altlocs is not None:
            atom.altloc = altlocs[i] or "\0"
        made.add_atom(atom)
    return made


def backbone(number: int, xyz: Sequence[float]) -> gemmi.Residue:
    """Make a residue whose CA lies at a place and whose other atoms lie far from it."""
    far = np.add(xyz, (0.0, 0.0, 6.0))
    return residue(number, [("N", "N", far), ("CA", "C", xyz), ("C", "C", far + 1)])


def structure(chains: dict[str, Iterable[gemmi.Residue]]) -> gemmi.Structure:
    """Make a structure of chains of residues."""
    made = gemmi.Structure()
    made.name = "test"
    model = gemmi.Model(1) if gemmi.__version__ >= "0.7" else gemmi.Model("1")
    for name, residues in chains.items():
        chain = gemmi.Chain(name)
        for one in residues:
            chain.add_residue(one)
        model.add_chain(chain)
    made.add_model(model)
    return made


def write(made: gemmi.Structure, path: Path, **categories: Any) -> Path:
    """Write a structure as mmCIF (with other categories) or PDB, by the ending."""
    made.setup_entities()
    if path.suffix == ".pdb":
        made.write_pdb(str(path))
        return path
    document = made.make_mmcif_document()
    for name, value in categories.items():
        document[0].set_pair(f"_{name}.value", gemmi.cif.quote(value))
    document.write_file(str(path))
    return path


def line(start: Sequence[float], count: int, step: Sequence[float] = (3.8, 0, 0)) -> list[gemmi.Residue]:
    """Make residues 1, 2, … in a row."""
    return [backbone(i + 1, np.add(start, np.multiply(step, i))) for i in range(count)]
