"""Trim a PDB entry to what ``occupy demo`` needs: the polymer's heavy atoms, with the entry id and title.

Usage: ``python tools/trim_model.py INPUT OUTPUT.cif.gz``. INPUT is any file gemmi reads (PDB or mmCIF, also
gzipped).
"""

import argparse
import gzip
from pathlib import Path

import gemmi

DECIMALS = 2  # of the coordinates in Å


def trim(structure: gemmi.Structure) -> gemmi.Structure:
    """Keep the first model's polymers, without hydrogens, alternative conformations, ligands and water."""
    trimmed = structure.clone()
    while len(trimmed) > 1:
        del trimmed[-1]
    trimmed.remove_hydrogens()
    trimmed.remove_alternative_conformations()
    trimmed.setup_entities()
    trimmed.remove_ligands_and_waters()
    trimmed.remove_empty_chains()
    for site in trimmed[0].all():
        site.atom.aniso = gemmi.SMat33f(0, 0, 0, 0, 0, 0)
        # A map at 6 Å sees neither a hundredth of an Å nor B-factors (the simulation sets its own).
        site.atom.pos = gemmi.Position(*(round(x, DECIMALS) for x in site.atom.pos.tolist()))
        site.atom.b_iso = round(site.atom.b_iso)
    trimmed.assign_serial_numbers()
    trimmed.name = trimmed.info["_entry.id"]
    return trimmed


def as_mmcif(structure: gemmi.Structure) -> str:
    """Return the entry id, the title and the atoms as mmCIF text."""
    groups = gemmi.MmcifOutputGroups(False)
    groups.block_name = groups.entry = groups.title_keywords = groups.atoms = True
    return structure.make_mmcif_document(groups).as_string()


def main() -> None:
    """Read, trim and write; the output is byte for byte the same each time."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("input", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    trimmed = trim(gemmi.read_structure(str(arguments.input)))
    arguments.output.write_bytes(gzip.compress(as_mmcif(trimmed).encode(), compresslevel=9, mtime=0))
    print(
        f"{arguments.output}: {trimmed.name}, {len(trimmed[0])} chains, {trimmed[0].count_atom_sites()} atoms"
    )


if __name__ == "__main__":
    main()
