"""Files that ChimeraX can open: the input itself, or a copy where it reads that not at all or otherwise.

ChimeraX opens neither compressed maps nor compressed mmCIF files, knows formats by the ends of names, and
takes the voxel size from the header.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from occupy.errors import InputError
from occupy.io.atomic import atomic_file, is_utf8
from occupy.io.models import is_pdb
from occupy.io.mrc import SUFFIXES, read_header, read_map, write_map
from occupy.io.star import read_bytes

WHAT = "input"


def seen_from(folder: Path, path: Path) -> str:
    """Return a path as a script in ``folder`` should name it: relative where both may be copied together."""
    relative = os.path.relpath(path.resolve(), folder.resolve())
    return relative if relative.count("..") <= 2 else str(path.resolve())


def copy_name(stem: str) -> str:
    """Return the name of the copy of an input map."""
    return f"{stem}_{WHAT}.mrc"


def opens_as_read(folder: Path, path: Path, voxel_size: npt.ArrayLike | None = None) -> bool:
    """Tell whether ChimeraX, given a map's file, shows what is read here.

    Parameters
    ----------
    folder : Path
        Of the script.
    path : Path
        The map. Where it cannot be read at all, a copy would not help: True.
    voxel_size : array_like, optional
        Å that were used in place of the header's.
    """
    if not is_utf8(seen_from(folder, path)):
        return False
    try:
        header = read_header(path)
    except InputError:
        return True
    if header.compressed or not path.name.lower().endswith(SUFFIXES) or header.dtype.itemsize == 1:
        # Of 8-bit maps ChimeraX takes some as unsigned that are not.
        return False
    try:
        size = header.voxel_size(path)
    except InputError:
        return False
    return voxel_size is None or bool(np.allclose(size, voxel_size, rtol=1e-4))


def map_for_chimerax(
    folder: Path, path: Path, stem: str, voxel_size: float | None = None
) -> tuple[str, bool]:
    """Return how a script names a map, and whether a copy of it had to be written for that.

    Parameters
    ----------
    folder : Path
        Of the script.
    path : Path
        The map.
    stem : str
        Of the copy.
    voxel_size : float, optional
        Å, in place of the header's.
    """
    if opens_as_read(folder, path, voxel_size):
        return seen_from(folder, path), False
    write_map(folder / copy_name(stem), read_map(path, voxel_size=voxel_size), WHAT)
    return copy_name(stem), True


def model_for_chimerax(folder: Path, path: Path, stem: str) -> tuple[str, bool]:
    """Return how a script names a model, and whether a copy of it had to be written for that."""
    packed = path.name.lower().endswith(".gz")
    if is_utf8(seen_from(folder, path)) and (not packed or is_pdb(path)):
        return seen_from(folder, path), False
    name = f"{stem}_{WHAT}.{'pdb' if is_pdb(path) else 'cif'}"
    with atomic_file(folder / name) as part:
        part.write_bytes(read_bytes(path))
    return name, True
