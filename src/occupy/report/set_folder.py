"""Write everything a set shows into one folder, the record last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from occupy.ensemble.components import Component
from occupy.ensemble.execution import Execution
from occupy.ensemble.pipeline import SetEstimate
from occupy.ensemble.summary import component_regions
from occupy.errors import Notice
from occupy.io.atomic import write_text
from occupy.io.checksum import sha256_of, written
from occupy.io.mapset import MapSet
from occupy.io.mrc import read_map
from occupy.regions.region import Region
from occupy.regions.table import OccupancyTable
from occupy.report.record import to_json
from occupy.report.set_maps import write_class_maps, write_components
from occupy.report.set_page import NAME as PAGE
from occupy.report.set_page import write_set_report
from occupy.report.set_progress import refuse_changed_maps, sweep
from occupy.report.set_record import NAME, set_record
from occupy.report.set_results import ModelFiles, write_class_scripts, write_set_tables


@dataclass(frozen=True, eq=False)
class SetOutput:
    """What is written of a set besides its maps.

    Attributes
    ----------
    found : MapSet
        Where the maps come from.
    begun : mapping
        From `occupy.report.set_progress.asked_of`: what the maps were when the run began.
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
    compare: tuple[str, str] | None = None
    keep: bool = False
    page: bool = False
    voxel_size: float | None = None


def write_set(
    folder: Path, est: SetEstimate, components: Sequence[Component], output: SetOutput, execution: Execution
) -> tuple[OccupancyTable | None, dict[str, Any]]:
    """Write maps, tables, pictures, scripts and the record of a set.

    Parameters
    ----------
    folder : Path
        In which `occupy.report.set_progress.begin` noted the run.
    est : SetEstimate
    components : sequence of Component
    output : SetOutput
    execution : Execution
        Where the work runs and arrays are kept.

    Returns
    -------
    table, files
        What the regions read, and product → file name.
    """
    # The report of an earlier run must not vouch for files that are about to replace its own.
    (folder / PAGE).unlink(missing_ok=True)
    regions = output.regions + component_regions(est, components)
    made = write_class_maps(folder, est, keep=output.keep, regions=regions, execution=execution)
    files: dict[str, Any] = {**made.of_set, **write_components(folder, est, components)}
    if made.table is not None:
        model = output.model and ModelFiles(output.model.model, regions, output.model.paths)
        files |= write_set_tables(folder, made.table, model=model, notes=[n.text for n in output.notices])
    paths = {entry.name: entry.path for entry in output.found.maps}
    files |= write_class_scripts(
        folder,
        {name: (paths[name], folder / made.of_classes[name]["occupancy"]) for name in est.names},
        level=_level(est, paths[est.names[0]]),
        compare=output.compare,
        surface=folder / files["composite"],
        voxel_size=output.voxel_size,
        shares=_shares(output.found, est),
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
    if output.page:
        execution.report("report", 0, 0)
        write_set_report(folder, record, made.table)
    sweep(folder)
    for entry in record["maps"]:
        entry["sha256"] = sha256_of(paths[entry["name"]])
    refuse_changed_maps(output.begun, [Path(path) for path, *_ in output.begun["maps"]])
    names = [name for name in files.values() if name not in made.sums]
    record["files"] = made.sums | {name: written(folder / name) for name in names}
    write_text(folder / NAME, to_json(record))
    return made.table, files


def _shares(found: MapSet, est: SetEstimate) -> dict[str, float]:
    """Return each class's share of the particles; nothing where the set does not say."""
    if any(entry.weight is None for entry in found.maps):
        return {}
    return {name: float(weight) for name, weight in zip(est.names, est.weights, strict=True)}


def _level(est: SetEstimate, path: Path) -> float:
    """Return a level at which the first map's surface encloses about as much as the content of the set."""
    volume = read_map(path)
    content = est.content.sum() * float(np.prod(est.scaled.voxel_size))
    share = min(0.6 * content / (volume.data.size * float(np.prod(volume.voxel_size))), 0.5)
    return float(np.quantile(volume.data, 1 - share))
