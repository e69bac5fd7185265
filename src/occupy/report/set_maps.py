"""Write what a set of maps shows: three maps per class, three for the set, and the masks of components."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from occupy.ensemble.components import Component, soft_mask, varying
from occupy.ensemble.execution import Execution
from occupy.ensemble.pipeline import SetEstimate
from occupy.ensemble.summary import read_class, summary_of, summary_terms
from occupy.io.atomic import make_folder
from occupy.io.checksum import written
from occupy.regions.region import Region
from occupy.regions.table import OccupancyTable, joined
from occupy.report.results import write_lazy_maps
from occupy.report.set_results import file_name
from occupy.volume import LazyMap

Array = npt.NDArray[np.float32]

PRODUCTS = {
    "relative": "occupancy relative to the best class",
    "occupancy": "occupancy",
    "uncertainty": "standard error of occupancy",
}
OF_SET = {
    "composite": "what all classes share, as strong as in the best class",
    "mean_occupancy": "occupancy averaged over all particles",
    "variability": "standard deviation of occupancy between classes",
}


@dataclass(frozen=True)
class Written:
    """What was written of a set and read on the way.

    Attributes
    ----------
    of_classes : dict
        Class → product → file name.
    of_set : dict
        Product → file name.
    table : OccupancyTable or None
        What the regions read.
    sums : dict
        File name → size and checksum.
    """

    of_classes: dict[str, dict[str, str]]
    of_set: dict[str, str]
    table: OccupancyTable | None
    sums: dict[str, dict[str, Any]]


def names_of_maps(names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return class → product → file name."""
    return {name: {p: f"{file_name(name)}_{p}.mrc" for p in PRODUCTS} for name in names}


def write_class_maps(
    folder: Path,
    est: SetEstimate,
    *,
    keep: bool = False,
    regions: Sequence[Region] = (),
    execution: Execution | None = None,
) -> Written:
    """Write the maps of every class and of the set, and read regions, in one pass over the classes.

    Parameters
    ----------
    folder : Path
        Created where missing.
    est : SetEstimate
    keep : bool
        Leave maps of classes that are there already (files are complete or not there).
    regions : sequence of Region
        On the grid of the input.
    execution : Execution, optional
        Where the work runs and arrays are kept.
    """
    make_folder(folder)
    of_classes = names_of_maps(est.names)
    shared = _Writing(est, folder.absolute(), of_classes, keep, tuple(regions))
    terms, rest = (execution or Execution()).folded("writing", _write_one, shared, len(est.names))
    summary = summary_of(est, terms, varying(est))
    of_set = {product: f"{product}.mrc" for product in OF_SET}
    sums = {name: about for _, of_class in rest for name, about in of_class.items()}
    sums |= _write_maps(
        folder, {of_set[p]: (what, est.on_grid(getattr(summary, p))) for p, what in OF_SET.items()}
    )
    table = joined([table for table, _ in rest if table is not None]) if regions else None
    return Written(of_classes, of_set, table, sums)


@dataclass(frozen=True, eq=False)
class _Writing:
    est: SetEstimate
    folder: Path
    files: dict[str, dict[str, str]]
    keep: bool
    regions: tuple[Region, ...]


def _write_one(
    shared: _Writing, k: int
) -> tuple[tuple[Array, ...], tuple[OccupancyTable | None, dict[str, dict[str, Any]]]]:
    """Write the maps of a class; return what it adds to the summary, what regions read, and checksums."""
    est, found = shared.est, shared.est.of_class(k)
    files = shared.files[est.names[k]]
    there = [file for file in files.values() if shared.keep and (shared.folder / file).exists()]
    maps = {product: est.on_grid(getattr(found, product)) for product in files}
    new = {file: (PRODUCTS[p], maps[p]) for p, file in files.items() if file not in there}
    sums = {file: written(shared.folder / file) for file in there} | _write_maps(shared.folder, new)
    table = None
    if shared.regions:
        table = read_class(est, k, shared.regions, maps["occupancy"].data, maps["uncertainty"].data)
    return summary_terms(est, k, found), (table, sums)


def _write_maps(folder: Path, maps: dict[str, tuple[str, LazyMap]]) -> dict[str, dict[str, Any]]:
    return {name: file.about() for name, file in write_lazy_maps(folder, maps).items()} if maps else {}


def write_components(folder: Path, est: SetEstimate, components: Sequence[Component]) -> dict[str, str]:
    """Write components as soft masks into ``components/``; masks of an earlier run are removed first."""
    inside = folder / "components"
    for old in inside.glob("component??.mrc"):
        old.unlink()
    if not components:
        return {}
    make_folder(inside)
    files = {c.name: f"components/{c.name}.mrc" for c in components}
    for component in components:
        what = f"{component.name}: varies together between classes"
        lazy = est.on_grid(soft_mask(est, component.mask))
        _write_maps(folder, {files[component.name]: (what, lazy)})
    return files
