"""Read the coordinate files of atomic models: one, or several that together make one complex."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from occupy.errors import InputError
from occupy.io.names import as_letters, check_length
from occupy.io.star import read_bytes

if TYPE_CHECKING:
    import gemmi

SUFFIXES = (".cif", ".mmcif", ".pdb", ".ent")
UNREADABLE = (ValueError, RuntimeError, OSError, EOFError, IndexError)
"""What gemmi raises for files it cannot read."""


def model_stem(path: str | Path) -> str:
    """Return a model's name without folder and without .cif, .pdb, .gz."""
    name = Path(path).name
    if name.lower().endswith(".gz"):
        name = name[:-3]
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
            break
    return as_letters(name)


def check_file(path: Path) -> None:
    """InputError where there is no file, or none that is a model by its name."""
    check_length(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file" if not path.exists() else f"{path}: a folder, not a model")
    if not path.name.lower().removesuffix(".gz").endswith(SUFFIXES):
        raise InputError(f"{path}: not a model by its name ({', '.join(SUFFIXES)}, also with .gz)")


def unreadable(path: Path, error: Exception) -> InputError:
    """Turn gemmi's error into one line."""
    reason = " ".join(str(error).replace(str(path), "").split()).strip(": ")
    return InputError(f"{path}: not a readable model ({reason})")


def is_pdb(path: Path) -> bool:
    """Tell whether a model is in the PDB format, by its name."""
    return path.name.lower().removesuffix(".gz").endswith((".pdb", ".ent"))


def _ascii_pdb(raw: bytes, path: Path) -> str:
    """Return a PDB file as text. Remarks may hold anything; atoms stand in columns of ASCII."""
    lines = raw.split(b"\n")
    for number, line in enumerate(lines, 1):
        if line[:6].upper() in (b"ATOM  ", b"HETATM") and not line.isascii():
            raise InputError(
                f"{path}: not a readable model (line {number}: an atom with a letter beyond ASCII)"
            )
    return "\n".join(line.decode("ascii", "replace").replace("\ufffd", "?") for line in lines)


def read_structure(path: Path) -> gemmi.Structure:
    """Read a structure with its entities told apart; InputError, in one line, where that is not possible."""
    import gemmi

    check_file(path)
    raw = read_bytes(path)
    text = None if raw.isascii() or not is_pdb(path) else _ascii_pdb(raw, path)
    try:
        if text is None:
            structure = gemmi.read_structure(str(path))
        else:
            structure = gemmi.read_pdb_string(text)
            structure.merge_chain_parts()
        structure.setup_entities()
    except UNREADABLE as error:
        raise unreadable(path, error) from error
    if not len(structure) or not structure[0].count_atom_sites():
        raise InputError(f"{path}: no atoms in it; is it a coordinate file (mmCIF or PDB)?")
    return structure


def join_models(paths: Sequence[Path]) -> gemmi.Structure:
    """Read models and put the first of each into one structure.

    Where a chain's name comes twice, the chains of all files are named ``<file>_<chain>``.
    """
    structures = [read_structure(path) for path in paths]
    whole = structures[0]
    if len(structures) == 1:
        return whole
    names = [name for structure in structures for name in {chain.name for chain in structure[0]}]
    if len(set(names)) < len(names):
        for path, structure in zip(paths, structures, strict=True):
            for chain in structure[0]:
                chain.name = f"{model_stem(path)}_{chain.name}"
    for other in structures[1:]:
        for chain in other[0]:
            whole[0].add_chain(chain)
    whole.remove_empty_chains()
    return whole
