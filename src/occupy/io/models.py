"""Read atomic models (one, or several files of one complex), and write them with other occupancies.

Parsing is gemmi's, imported when needed.
"""

from __future__ import annotations

import gzip
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from occupy.errors import InputError
from occupy.io.atomic import as_letters, atomic_file, check_length
from occupy.io.star import read_bytes
from occupy.model import CARBON, AtomicModel, Kind, Residue

if TYPE_CHECKING:
    import gemmi

ResidueKey = tuple[str, int, str]
"""Chain (auth_asym_id), residue number (auth_seq_id) and insertion code."""

_TAGS = {
    "chain": ("auth_asym_id", "label_asym_id"),
    "number": ("auth_seq_id", "label_seq_id"),
    "insertion": ("pdbx_PDB_ins_code",),
    "altloc": ("label_alt_id",),
    "model": ("pdbx_PDB_model_num",),
    "occupancy": ("occupancy",),
}


def _document(path: Path) -> Any:
    """Read a model as a mmCIF document: as it is, or translated from PDB."""
    import gemmi

    if not path.name.lower().removesuffix(".gz").endswith((".cif", ".mmcif")):
        return _read_structure(path).make_mmcif_document()
    _check_file(path)
    try:
        return gemmi.cif.read(str(path))
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error


def read_model(paths: str | Path | Sequence[str | Path]) -> AtomicModel:
    """Read one model, or several files of one complex in the same frame.

    Parameters
    ----------
    paths : path-like or sequence of path-like
        mmCIF or PDB files, also gzipped. Of a file with several models the first counts.

    Returns
    -------
    AtomicModel
        All atoms but hydrogens, in the order of the files.

    Raises
    ------
    InputError
        Where a file is missing, damaged, or has no atoms.
    """
    files = [Path(path) for path in ([paths] if isinstance(paths, (str, Path)) else paths)]
    if not files:
        raise InputError("no model given")
    residues: list[Residue] = []
    atoms: list[_Atom] = []
    for residue, group in _residues(files):
        atoms += _atoms(group, residue, len(residues))
        residues.append(residue)
    positions = np.array([atom.xyz for atom in atoms], dtype=np.float64).reshape(-1, 3)
    if not np.isfinite(positions).all():
        raise InputError(f"{files[0]}: positions that are not numbers")
    names = _distinct([_model_stem(path) for path in files])
    owner, trace, elements, shares = (np.array([atom[k] for atom in atoms]) for k in range(1, 5))
    return AtomicModel(names, positions, owner, trace, tuple(residues), elements, shares)


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{n}_{i}" if names.count(n) > 1 else n for i, n in enumerate(names, 1))


def _residues(files: Sequence[Path]) -> Iterator[tuple[Residue, gemmi.Residue]]:
    for number, path in enumerate(files):
        structure = _read_structure(path)
        entities = _entities(structure)
        for chain in structure[0]:
            for group in chain:
                yield _residue(number, chain.name, group, entities), group


class _Atom(NamedTuple):
    xyz: list[float]
    residue: int
    on_trace: bool
    element: int
    share: float


def _atoms(group: gemmi.Residue, residue: Residue, number: int) -> Iterator[_Atom]:
    """Yield a residue's atoms but hydrogens, with the share of their conformation."""
    conformations = _conformations(group)
    for atom in group:
        if atom.element.name not in ("H", "D"):
            # The alpha carbon or the phosphorus stands for a residue.
            trace = residue.kind == "polymer" and (atom.name, atom.element.name) in (("CA", "C"), ("P", "P"))
            element = atom.element.atomic_number or CARBON
            yield _Atom(atom.pos.tolist(), number, trace, element, conformations.get(atom.altloc, 1.0))


def _conformations(group: gemmi.Residue) -> dict[str, float]:
    """Return each alternative conformation's share of a residue."""
    named = [(atom.altloc, atom.occ) for atom in group if atom.altloc != "\0"]
    return _shares([name for name, _ in named], [occupancy for _, occupancy in named]) if named else {}


def read_alternatives(path: str | Path) -> dict[ResidueKey, dict[str, float]]:
    """Return the residues of a model that have alternative conformations, with the shares of these.

    Parameters
    ----------
    path : path-like
        mmCIF or PDB file.

    Returns
    -------
    dict
        (chain, residue number, insertion code) → letter → share.
    """
    found = {}
    for chain in _read_structure(Path(path))[0]:
        for group in chain:
            shares = _conformations(group)
            if len(shares) > 1:
                number = group.seqid.num
                found[chain.name, 0 if number is None else number, group.seqid.icode.strip()] = shares
    return found


def _entities(structure: gemmi.Structure) -> dict[str, str]:
    """Return part of a chain → name of its entity; chains of the same residues are one where no file says."""
    names = {part: entity.name for entity in structure.entities for part in entity.subchains}
    unsaid = {
        part
        for entity in structure.entities
        if entity.entity_type.name == "Polymer" and not entity.full_sequence
        for part in entity.subchains
    }
    first: dict[tuple[str, ...], str] = {}
    for part in structure[0].subchains():
        sequence = tuple(residue.name for residue in part)
        if part.subchain_id() in unsaid and set(sequence) != {"UNK"}:
            names[part.subchain_id()] = first.setdefault(sequence, names[part.subchain_id()])
    return names


def _residue(file: int, chain: str, group: gemmi.Residue, entities: Mapping[str, str]) -> Residue:
    kind: Kind = "polymer"
    if group.is_water():
        kind = "water"
    elif group.entity_type.name in ("NonPolymer", "Branched"):
        kind = "ligand"
    insertion = group.seqid.icode.strip()
    entity = entities.get(group.subchain, group.entity_id or "?")
    number = group.seqid.num
    return Residue(file, chain, 0 if number is None else number, insertion, group.name, entity, kind)


def write_occupancies(
    source: str | Path, target: str | Path, values: Mapping[ResidueKey, float], note: str = ""
) -> int:
    """Write a model as mmCIF with the occupancies of whole residues set.

    Everything else in an mmCIF file is kept, every category of it (a PDB file is translated by gemmi). Where
    a residue has alternative conformations, the shares of its conformations stay as they are and sum up to
    the value. Residues that are not named keep their occupancies.

    Parameters
    ----------
    source : path-like
        mmCIF or PDB file.
    target : path-like
        mmCIF file to write; gzipped if its name ends with .gz.
    values : mapping
        (chain, residue number, insertion code), all as the author counts → occupancy, clipped to [0, 1].
    note : str, optional
        Written into the file as a comment.

    Returns
    -------
    int
        Number of atoms whose occupancy was set.
    """
    document = _document(Path(source))
    try:
        count = sum(_set_occupancies(block, values) for block in document)
        text = document.as_string()
    except _UNREADABLE as error:
        raise _unreadable(Path(source), error) from error
    if note:
        text = "".join(f"# {line}\n" for line in note.splitlines()) + text
    with atomic_file(target) as part:
        part.write_bytes(gzip.compress(text.encode()) if str(target).endswith(".gz") else text.encode())
    return count


def _set_occupancies(block: Any, values: Mapping[ResidueKey, float]) -> int:
    """Set the occupancies in one block of a mmCIF document; return of how many atoms."""
    if _column(block, "chain") is None or _column(block, "number") is None:
        return 0
    if _column(block, "occupancy") is None:
        block.find_loop("_atom_site.id").get_loop().add_columns(["_atom_site.occupancy"], "1.0")
    occupancy = _column(block, "occupancy")
    altlocs = _texts(block, "altloc")
    groups = _rows_of(block, values)
    for (_, key), rows in groups.items():
        value = min(max(float(values[key]), 0.0), 1.0)
        shares = _shares([altlocs[r] for r in rows], [_number(occupancy[r]) for r in rows])
        parts = dict(zip(shares, _rounded_parts(value, list(shares.values())), strict=True))
        for row in rows:
            occupancy[row] = f"{parts.get(altlocs[row], round(value, 3)):.3f}"
    return sum(len(rows) for rows in groups.values())


def _rows_of(block: Any, values: Mapping[ResidueKey, float]) -> dict[tuple[str, ResidueKey], list[int]]:
    """Return model and residue → the rows of its atoms, for residues that have a value."""
    groups: dict[tuple[str, ResidueKey], list[int]] = defaultdict(list)
    named = (_texts(block, role) for role in ("chain", "number", "insertion", "model"))
    for row, (c, n, i, m) in enumerate(zip(*named, strict=True)):
        key = (c, int(n) if n else 0, i)
        if np.isfinite(values.get(key, np.nan)):
            groups[m, key].append(row)
    return groups


def _texts(block: Any, role: str) -> list[str]:
    """Return a column of the atoms as plain text; empty where there is none."""
    column = _column(block, role)
    return [""] * len(_column(block, "chain")) if column is None else [_plain(value) for value in column]


def _column(block: Any, role: str) -> Any:
    """Return the first of the columns for a role that the atoms have."""
    columns = (block.find_loop(f"_atom_site.{tag}") for tag in _TAGS[role])
    return next((column for column in columns if len(column)), None)


def _plain(value: str) -> str:
    import gemmi

    return "" if gemmi.cif.is_null(value) else str(gemmi.cif.as_string(value))


def _number(value: str) -> float:
    import gemmi

    found = gemmi.cif.as_number(value)
    return float(found) if np.isfinite(found) else 1.0


def _shares(altlocs: Sequence[str], occupancies: Sequence[float]) -> dict[str, float]:
    """Return each conformation's share of a residue; atoms outside of all conformations don't count."""
    means = {
        name: float(np.mean([o for a, o in zip(altlocs, occupancies, strict=True) if a == name]))
        for name in sorted({a for a in altlocs if a})
    }
    total = sum(means.values())
    return {name: mean / total if total > 0 else 1 / len(means) for name, mean in means.items()}


def _rounded_parts(value: float, shares: Sequence[float]) -> list[float]:
    """Split a value into parts of three decimals that sum up to the value of three decimals."""
    edges = [round(value * float(s), 3) for s in np.cumsum([0.0, *shares])]
    return [round(high - low, 3) for low, high in pairwise(edges)]


_MODEL_SUFFIXES = (".cif", ".mmcif", ".pdb", ".ent")
_UNREADABLE = (ValueError, RuntimeError, OSError, EOFError, IndexError)
"""What gemmi raises for files it cannot read."""


def _model_stem(path: str | Path) -> str:
    """Return a model's name without folder and without .cif, .pdb, .gz."""
    name = Path(path).name
    if name.lower().endswith(".gz"):
        name = name[:-3]
    for suffix in _MODEL_SUFFIXES:
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
            break
    return as_letters(name)


def _check_file(path: Path) -> None:
    """InputError where there is no file, or none that is a model by its name."""
    check_length(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file" if not path.exists() else f"{path}: a folder, not a model")
    if not path.name.lower().removesuffix(".gz").endswith(_MODEL_SUFFIXES):
        raise InputError(f"{path}: not a model by its name ({', '.join(_MODEL_SUFFIXES)}, also with .gz)")


def _unreadable(path: Path, error: Exception) -> InputError:
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


def _read_structure(path: Path) -> gemmi.Structure:
    """Read a structure with its entities told apart; InputError, in one line, where that is not possible."""
    import gemmi

    _check_file(path)
    raw = read_bytes(path)
    text = None if raw.isascii() or not is_pdb(path) else _ascii_pdb(raw, path)
    try:
        if text is None:
            structure = gemmi.read_structure(str(path))
        else:
            structure = gemmi.read_pdb_string(text)
            structure.merge_chain_parts()
        structure.setup_entities()
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error
    if not len(structure) or not structure[0].count_atom_sites():
        raise InputError(f"{path}: no atoms in it; is it a coordinate file (mmCIF or PDB)?")
    return structure


def join_models(paths: Sequence[Path]) -> gemmi.Structure:
    """Read models and put the first of each into one structure.

    Where a chain's name comes twice, the chains of all files are named ``<file>_<chain>``.
    """
    structures = [_read_structure(path) for path in paths]
    whole = structures[0]
    if len(structures) == 1:
        return whole
    names = [{chain.name for chain in structure[0]} for structure in structures]
    if len(set.union(*names)) < sum(map(len, names)):
        for path, structure in zip(paths, structures, strict=True):
            for chain in structure[0]:
                chain.name = f"{_model_stem(path)}_{chain.name}"
    for other in structures[1:]:
        for chain in other[0]:
            whole[0].add_chain(chain)
    whole.remove_empty_chains()
    return whole
