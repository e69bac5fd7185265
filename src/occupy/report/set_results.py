"""Write all tables, pictures, scripts and models of a table of occupancies into one folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from occupy.io.atomic import make_folder, write_text
from occupy.io.models import ResidueKey, write_occupancies
from occupy.model import AtomicModel
from occupy.regions.region import Region, residue_values
from occupy.regions.table import OccupancyTable
from occupy.report.chimerax_files import map_for_chimerax, model_for_chimerax, seen_from
from occupy.report.set_chimerax import (
    Shown,
    attribute_name,
    classes_script,
    defattr_text,
    difference_script,
    model_script,
    picked,
)
from occupy.report.tables import write_tables

MOST_MODELS = 20
"""Models with occupancies are written for sets of up to so many maps."""


@dataclass(frozen=True)
class ModelFiles:
    """A model, all regions in the order of the table's rows, and the files the model was read from."""

    model: AtomicModel
    regions: tuple[Region, ...]
    paths: tuple[Path, ...]


def file_name(text: str) -> str:
    """Return a name as part of a file name: without separators and quotes."""
    return "".join("_" if c in "/\\:\"'" or ord(c) < 32 else c for c in text) or "map"


def write_set_tables(
    folder: Path,
    table: OccupancyTable,
    *,
    stem: str = "occupancy",
    model: ModelFiles | None = None,
    notes: Sequence[str] = (),
    figures: bool = True,
) -> dict[str, str]:
    """Write the tables, the figures, and, with a model, its attributes, script and occupancies.

    Parameters
    ----------
    folder : Path
        Created where missing.
    table : OccupancyTable
        What regions read.
    stem : str
        Names are ``<stem>.csv``, ``<stem>.tsv``, ``<stem>_<figure>.png``, ``<stem>_model.cxc``,
        ``<map>.defattr`` and
        ``<map>_<model>_occupancies.cif``.
    model : ModelFiles, optional
        Where the regions are those of a model.
    notes : sequence of str
        For people, at the head of the TSV.
    figures : bool
        Draw pictures.

    Returns
    -------
    dict
        Product → file name in the folder.
    """
    make_folder(folder)
    files = dict(write_tables(folder, table, stem, notes))
    if figures:
        from occupy.report.set_figures import write_set_figures

        files |= write_set_figures(table, folder, stem)
    if model is not None:
        files |= write_model_files(folder, table, model, stem)
    return files


def write_model_files(
    folder: Path, table: OccupancyTable, model: ModelFiles, stem: str = "occupancy"
) -> dict[str, str]:
    """Write, per map, a model coloured by its regions (``.defattr``, script) and with occupancies (mmCIF).

    The mmCIF files are left out for sets of more than 20 maps.
    """
    files: dict[str, str] = {}
    attributes: dict[str, tuple[str, str]] = {}
    used: set[str] = set()
    for column, name in enumerate(table.maps):
        attribute = attribute_name(name)
        while attribute in used:
            attribute += "_"
        used.add(attribute)
        values = residue_values(model.model, model.regions, table.values[:, column])
        defattr = f"{file_name(name)}.defattr"
        write_text(folder / defattr, defattr_text(model.model, values, attribute))
        attributes[name] = attribute, defattr
        files[f"defattr_{name}"] = defattr
        for number, path in enumerate(model.paths if len(table.maps) <= MOST_MODELS else ()):
            target = f"{file_name(name)}_{file_name(model.model.names[number])}_occupancies.cif"
            note = f"occupancies by OccuPy: regions of the model read in {' '.join(name.split())}"
            write_occupancies(path, folder / target, by_residue(model.model, values, number), note)
            files[f"model_{name}" + (f"_{number + 1}" if len(model.paths) > 1 else "")] = target
    script = f"{stem}_model.cxc"
    opened: list[str] = []
    for number, path in enumerate(model.paths):
        name, copied = model_for_chimerax(folder, path, file_name(model.model.names[number]))
        opened.append(name)
        files |= {f"input_{model.model.names[number]}": name} if copied else {}
    write_text(folder / script, model_script(opened, attributes))
    return files | {"model_script": script}


def by_residue(model: AtomicModel, values: npt.ArrayLike, file: int = 0) -> dict[ResidueKey, float]:
    """Return (chain, number, insertion code) → value for the residues of one file that have one."""
    return {
        (residue.chain, residue.number, residue.insertion): float(value)
        for residue, value in zip(model.residues, np.asarray(values, dtype=np.float64), strict=True)
        if residue.file == file and np.isfinite(value)
    }


def write_class_scripts(
    folder: Path,
    maps: Mapping[str, tuple[Path, Path]],
    *,
    level: float | None = None,
    compare: tuple[str, str] | None = None,
    surface: Path | None = None,
    voxel_size: float | None = None,
    shares: Mapping[str, float] | None = None,
) -> dict[str, str]:
    """Write ``classes.cxc`` and, with two names, ``<second>_minus_<first>.cxc``.

    Parameters
    ----------
    folder : Path
        Where to.
    maps : mapping
        Name → map whose surface is drawn, and its occupancy map.
    level : float, optional
        One contour level for all.
    compare : tuple of str, optional
        Two names whose occupancies are compared.
    surface : Path, optional
        Surface to show their difference on, such as the composite; otherwise the second map.
    voxel_size : float, optional
        Å of the maps, in place of their headers'.
    shares : mapping, optional
        Name → share of all particles, to be told beside the name.

    Returns
    -------
    dict
        Product → file name in the folder; with copies of maps that ChimeraX could not open as they are.
    """
    shown: list[Shown] = []
    copies: dict[str, str] = {}
    for name in picked(list(maps)):
        opened, copied = map_for_chimerax(folder, maps[name][0], file_name(name), voxel_size)
        copies |= {f"input_{name}": opened} if copied else {}
        shown.append(Shown(name, opened, seen_from(folder, maps[name][1]), (shares or {}).get(name)))
    write_text(folder / "classes.cxc", classes_script(shown, level=level, of=len(maps)))
    files = {"classes_script": "classes.cxc", **copies}
    if compare is not None:
        first, second = compare
        drawn, _ = map_for_chimerax(folder, surface or maps[second][0], file_name(second), voxel_size)
        occupancies = seen_from(folder, maps[first][1]), seen_from(folder, maps[second][1])
        text = difference_script(drawn, occupancies, compare, level=level)
        files["difference_script"] = f"{file_name(second)}_minus_{file_name(first)}.cxc"
        write_text(folder / files["difference_script"], text)
    return files
