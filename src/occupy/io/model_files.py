"""Read atomic models: one file, or several that together make one complex."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from occupy.errors import InputError

if TYPE_CHECKING:
    import gemmi


def read_model(path: Path) -> gemmi.Structure:
    """Read a PDB, mmCIF or mmJSON file, also compressed; InputError where it is none or has no atoms."""
    import gemmi

    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        structure = gemmi.read_structure(str(path))
    except (RuntimeError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: not a readable model (.pdb, .cif, .ent, .gz): {reason}") from error
    if len(structure) == 0 or structure[0].count_atom_sites() == 0:
        raise InputError(f"{path}: the model has no atoms")
    return structure


def join_models(paths: Sequence[Path]) -> gemmi.Structure:
    """Read models and put the first of each into one structure.

    Where a chain's name comes twice, the chains of all files are named ``<file>_<chain>``.
    """
    structures = [read_model(path) for path in paths]
    whole = structures[0]
    if len(structures) == 1:
        return whole
    names = [name for structure in structures for name in {chain.name for chain in structure[0]}]
    if len(set(names)) < len(names):
        for path, structure in zip(paths, structures, strict=True):
            for chain in structure[0]:
                chain.name = f"{path.name.split('.')[0]}_{chain.name}"
    for other in structures[1:]:
        for chain in other[0]:
            whole[0].add_chain(chain)
    whole.remove_empty_chains()
    return whole
