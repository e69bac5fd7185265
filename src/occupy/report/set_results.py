"""Write all tables, pictures, scripts and models of a table of occupancies into one folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from occupy.ensemble.components import (
    Component,
    component_regions,
    read_class,
    soft_mask,
    summary_of,
    summary_terms,
    varying,
)
from occupy.ensemble.execution import Execution
from occupy.ensemble.pipeline import SetEstimate
from occupy.errors import Notice
from occupy.io.atomic import make_folder, write_text
from occupy.io.checksum import sha256_of, written
from occupy.io.mapset import MapSet
from occupy.io.models import ResidueKey, write_occupancies
from occupy.io.mrc import read_map, write_map
from occupy.model import AtomicModel
from occupy.regions.joint import JointRegions, with_joint
from occupy.regions.region import Region, residue_values
from occupy.regions.table import OccupancyTable, joined
from occupy.report.chimerax import Shown, classes_script, difference_script, model_script, picked
from occupy.report.chimerax_files import (
    attribute_name,
    defattr_text,
    map_for_chimerax,
    model_for_chimerax,
    seen_from,
)
from occupy.report.record import to_json
from occupy.report.refinement import ModelFiles, write_groups
from occupy.report.results import write_lazy_maps
from occupy.report.set_page import NAME as PAGE
from occupy.report.set_page import write_set_report
from occupy.report.set_record import NAME, begin, refuse_changed_maps, set_record, sweep
from occupy.report.tables import write_tables
from occupy.volume import LazyMap, Volume


def _file_name(text: str) -> str:
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
    residual: Volume | None = None,
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
    residual : Volume, optional
        What a fitted model leaves over of the map: ``<map>_residual.mrc``, opened by the script.

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
        files |= _write_model_files(folder, table, model, stem, residual)
    return files


def _write_model_files(
    folder: Path, table: OccupancyTable, model: ModelFiles, stem: str, residual: Volume | None = None
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
        defattr = f"{_file_name(name)}.defattr"
        write_text(folder / defattr, defattr_text(model.model, values, attribute))
        attributes[name] = attribute, defattr
        files[f"defattr_{name}"] = defattr
        # Of larger sets nobody would open them all.
        for number, path in enumerate(model.paths if len(table.maps) <= 20 else ()):
            target = f"{_file_name(name)}_{_file_name(model.model.names[number])}_occupancies.cif"
            note = f"occupancies by OccuPy: regions of the model read in {' '.join(name.split())}"
            write_occupancies(path, folder / target, _by_residue(model.model, values, number), note)
            suffix = f"_{number + 1}" if len(model.paths) > 1 else ""
            files[f"model_{name}{suffix}"] = target
            groups = f"{_file_name(name)}_{_file_name(model.model.names[number])}"
            made = write_groups(folder, groups, table, model, (column, number))
            files |= {f"{program}_{name}{suffix}": file for program, file in made.items()}
    script = f"{stem}_model.cxc"
    opened: list[str] = []
    for number, path in enumerate(model.paths):
        name, copied = model_for_chimerax(folder, path, _file_name(model.model.names[number]))
        opened.append(name)
        files |= {f"input_{model.model.names[number]}": name} if copied else {}
    left_over = None
    if residual is not None:
        files["residual"] = f"{_file_name(table.maps[0])}_residual.mrc"
        write_map(folder / files["residual"], residual, "residual of the joint fit")
        left_over = files["residual"], 3 * float(residual.data.std())
    write_text(folder / script, model_script(opened, attributes, residual=left_over))
    return files | {"model_script": script}


def _by_residue(model: AtomicModel, values: npt.ArrayLike, file: int = 0) -> dict[ResidueKey, float]:
    """Return (chain, number, insertion code) → value for the residues of one file that have one."""
    return {
        (residue.chain, residue.number, residue.insertion): float(value)
        for residue, value in zip(model.residues, np.asarray(values, dtype=np.float64), strict=True)
        if residue.file == file and np.isfinite(value)
    }


def _write_class_scripts(
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
        opened, copied = map_for_chimerax(folder, maps[name][0], _file_name(name), voxel_size)
        copies |= {f"input_{name}": opened} if copied else {}
        shown.append(Shown(name, opened, seen_from(folder, maps[name][1]), (shares or {}).get(name)))
    write_text(folder / "classes.cxc", classes_script(shown, level=level, of=len(maps)))
    files = {"classes_script": "classes.cxc", **copies}
    if compare is not None:
        first, second = compare
        drawn, _ = map_for_chimerax(folder, surface or maps[second][0], _file_name(second), voxel_size)
        occupancies = seen_from(folder, maps[first][1]), seen_from(folder, maps[second][1])
        text = difference_script(drawn, occupancies, compare, level=level)
        files["difference_script"] = f"{_file_name(second)}_minus_{_file_name(first)}.cxc"
        write_text(folder / files["difference_script"], text)
    return files


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
class _Written:
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


def _names_of_maps(names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return class → product → file name."""
    return {name: {p: f"{_file_name(name)}_{p}.mrc" for p in PRODUCTS} for name in names}


def _write_class_maps(
    folder: Path,
    est: SetEstimate,
    *,
    keep: bool = False,
    regions: Sequence[Region] = (),
    execution: Execution | None = None,
) -> _Written:
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
    of_classes = _names_of_maps(est.names)
    shared = _Writing(est, folder.absolute(), of_classes, keep, tuple(regions))
    terms, rest = (execution or Execution()).folded("writing", _write_one, shared, len(est.names))
    summary = summary_of(est, terms, varying(est))
    of_set = {product: f"{product}.mrc" for product in OF_SET}
    sums = {name: about for _, of_class in rest for name, about in of_class.items()}
    sums |= _write_maps(
        folder, {of_set[p]: (what, est.on_grid(getattr(summary, p))) for p, what in OF_SET.items()}
    )
    table = joined([table for table, _ in rest if table is not None]) if regions else None
    return _Written(of_classes, of_set, table, sums)


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


def _write_components(folder: Path, est: SetEstimate, components: Sequence[Component]) -> dict[str, str]:
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


@dataclass(frozen=True, eq=False)
class SetOutput:
    """What is written of a set besides its maps.

    Attributes
    ----------
    found : MapSet
        Where the maps come from.
    begun : mapping
        From `occupy.report.set_record.request_of`: what the maps were when the run began.
    options, inputs : mapping
        What was asked for, and the model and masks given, for the record.
    notices : tuple of Notice
        What is doubtful.
    command : tuple of str
        The command line.
    regions : tuple of Region
        To be read besides the components.
    model : ModelFiles or None
        Where they are parts of a model.
    joint : mapping of str to JointRegions
        Class → joint fit of the regions; nothing where they are only read.
    compare : tuple of str or None
        Two classes to be compared in ChimeraX.
    keep : bool
        Leave maps of classes that are there already.
    page : bool
        Make a page that opens in any browser.
    voxel_size : float or None
        Å, in place of the headers'.
    """

    found: MapSet
    begun: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Any] = field(default_factory=dict)
    notices: tuple[Notice, ...] = ()
    command: tuple[str, ...] = ()
    regions: tuple[Region, ...] = ()
    model: ModelFiles | None = None
    joint: Mapping[str, JointRegions] = field(default_factory=dict)
    compare: tuple[str, str] | None = None
    keep: bool = False
    page: bool = False
    voxel_size: float | None = None


def write_set(
    folder: Path, est: SetEstimate, components: Sequence[Component], output: SetOutput, execution: Execution
) -> tuple[OccupancyTable | None, dict[str, Any], list[str]]:
    """Write maps, tables, pictures, scripts and the record of a set.

    Parameters
    ----------
    folder : Path
        Created where missing; results of an earlier run in it are removed, unless this one goes on with it.
    est : SetEstimate
    components : sequence of Component
    output : SetOutput
    execution : Execution
        Where the work runs and arrays are kept.

    Returns
    -------
    table, files, removed
        What the regions read, product → file name, and files of an earlier run that are no more.
    """
    maps = [file for of_class in _names_of_maps(est.names).values() for file in of_class.values()]
    removed = begin(folder, output.begun, old=None if output.keep else maps)
    # The report of an earlier run must not vouch for files that are about to replace its own.
    (folder / PAGE).unlink(missing_ok=True)
    regions = output.regions + component_regions(est, components)
    made = _write_class_maps(folder, est, keep=output.keep, regions=regions, execution=execution)
    files: dict[str, Any] = {**made.of_set, **_write_components(folder, est, components)}
    table, shares = made.table, _shares(output.found, est)
    if table is not None:
        table = _as_known(table, output, shares)
        model = output.model and replace(output.model, regions=regions)
        files |= write_set_tables(folder, table, model=model, notes=[n.text for n in output.notices])
    paths = {entry.name: entry.path for entry in output.found.maps}
    files |= _write_class_scripts(
        folder,
        {name: (paths[name], folder / made.of_classes[name]["occupancy"]) for name in est.names},
        level=_level(est, paths[est.names[0]]),
        compare=output.compare,
        surface=folder / files["composite"],
        voxel_size=output.voxel_size,
        shares=shares,
    )
    if output.page:
        files["report"] = PAGE
    record = set_record(
        output.found,
        est,
        components,
        of_classes=made.of_classes,
        outputs=files | {"record": NAME},
        options=output.options,
        inputs=output.inputs,
        notices=output.notices,
        command=output.command,
    )
    if table is not None and output.joint:
        record["joint_fits"] = {n: joint.record(table, n) for n, joint in output.joint.items()}
    if output.page:
        execution.report("report", 0, 0)
        write_set_report(folder, record, table)
    sweep(folder)
    for entry in record["maps"]:
        entry["sha256"] = sha256_of(paths[entry["name"]])
    refuse_changed_maps(output.begun, [Path(path) for path, *_ in output.begun["maps"]])
    names = [name for name in files.values() if name not in made.sums]
    record["files"] = made.sums | {name: written(folder / name) for name in names}
    write_text(folder / NAME, to_json(record))
    return table, files, [name for name in removed if not (folder / name).exists()]


def _shares(found: MapSet, est: SetEstimate) -> dict[str, float]:
    """Return each class's share of the particles; nothing where the set does not say."""
    if any(entry.weight is None for entry in found.maps):
        return {}
    return {name: float(weight) for name, weight in zip(est.names, est.weights, strict=True)}


def _as_known(table: OccupancyTable, output: SetOutput, shares: Mapping[str, float]) -> OccupancyTable:
    """Put what a joint fit found into a table, and leave shares out that stand in for unknown ones."""
    joined = with_joint(table, output.joint) if output.joint else table
    return joined if shares else replace(joined, weights=np.full(len(table.maps), np.nan))


def _level(est: SetEstimate, path: Path) -> float:
    """Return a level at which the first map's surface encloses about as much as the content of the set."""
    volume = read_map(path)
    content = est.content.sum() * float(np.prod(est.scaled.voxel_size))
    share = min(0.6 * content / (volume.data.size * float(np.prod(volume.voxel_size))), 0.5)
    return float(np.quantile(volume.data, 1 - share))
