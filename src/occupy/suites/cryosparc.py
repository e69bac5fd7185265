"""A cryoSPARC classification in, an External job of the same project out.

The work is `occupy classes`, run in the External job, so that its output is that job's log. Host and
credentials come from cryosparc-tools' own environment variables: neither read, printed nor kept here.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from occupy.errors import InputError
from occupy.io.mrc import read_header
from occupy.report.tables import read_table

if TYPE_CHECKING:
    from cryosparc.controllers.job import ExternalJobController, JobController
    from cryosparc.dataset import Dataset
    from cryosparc.tools import CryoSPARC

_FOLDER = "occupy"
"""Of the results, in the External job's folder."""


@dataclass(frozen=True)
class _ClassificationJob:
    """What of a classification is used.

    Attributes
    ----------
    project, job : str
        Unique names, such as ``P3`` and ``J42``.
    volumes, particles : mapping of int to str
        Class number, counted from 0 → name of the output with its map, and with its particles.
    """

    project: str
    job: str
    volumes: Mapping[int, str]
    particles: Mapping[int, str]


def connect() -> CryoSPARC:
    """Connect to the instance that cryosparc-tools' environment variables name.

    Raises
    ------
    InputError
        Where the extra is not installed, or the instance doesn't answer.
    """
    try:
        from cryosparc.tools import CryoSPARC
    except ImportError as error:
        raise InputError("cryosparc-tools is not installed: pip install 'occupy-em[cryosparc]'") from error
    try:
        instance = CryoSPARC()
        reached = instance.test_connection()
    except Exception as error:  # Its errors have no base of their own, and may quote what was sent.
        raise InputError(
            f"cryoSPARC can't be reached ({type(error).__name__}); set CRYOSPARC_BASE_URL, CRYOSPARC_EMAIL "
            "and CRYOSPARC_PASSWORD as cryosparc-tools wants them"
        ) from None
    if not reached:
        raise InputError("cryoSPARC doesn't answer at the address that CRYOSPARC_BASE_URL names")
    return instance


def classification(job: JobController) -> _ClassificationJob:
    """Find the classes of a 3D classification or heterogeneous refinement among its outputs.

    Raises
    ------
    InputError
        Where there are fewer than two.
    """
    named: dict[str, dict[int, str]] = {"volume": {}, "particles": {}}
    for output in job.outputs:
        if match := re.fullmatch(r"(volume|particles)_class_(\d+)", output):
            named[match[1]][int(match[2])] = output
    if len(named["volume"]) < 2:
        raise InputError(
            f"{job.project_uid} {job.uid}: no classes: give a 3D classification or heterogeneous refinement"
        )
    return _ClassificationJob(job.project_uid, job.uid, named["volume"], named["particles"])


def run_external(instance: CryoSPARC, project: str, job: str, options: Sequence[str], present: float) -> str:
    """Estimate a classification's occupancies in a new External job of its project.

    Parameters
    ----------
    instance : CryoSPARC
        From `connect`.
    project, job : str
        Such as ``P3`` and ``J42``.
    options : sequence of str
        More words for `occupy classes`: a model, regions, masks.
    present : float
        Occupancy at which a class has a part, for the particles with it.

    Returns
    -------
    str
        Unique name of the External job.
    """
    source = instance.find_job(project, job)
    classes = classification(source)
    external = instance.create_external_job(
        project, source.model.workspace_uids[0], title=f"Occupancy across the classes of {job}"
    )
    for output in classes.volumes.values():
        external.connect("volumes", job, output, slots=["map"], title="Class volumes")
    for output in classes.particles.values():
        external.connect("particles", job, output, title="Particles of the classes")
    folder = Path(str(external.dir)) / _FOLDER
    with external.run():
        command = [
            sys.executable,
            "-m",
            "occupy",
            "classes",
            str(source.dir),
            "-o",
            str(folder),
            "--report",
            *options,
        ]
        external.subprocess(command)
        record = json.loads((folder / "occupy_set.json").read_text(encoding="utf-8"))
        _save_maps(external, folder, record)
        _save_particles(external, source, classes, folder, record, present)
        for name in ("heat_map", "correlation"):
            if name in record["outputs"]:
                external.log_plot(folder / record["outputs"][name], name.replace("_", " "), formats=["png"])
    return str(external.uid)


def _save_maps(external: ExternalJobController, folder: Path, record: Mapping[str, Any]) -> None:
    """Save each class's occupancy as a volume, and each component as a mask."""
    for entry in record["maps"]:
        name = f"occupancy_class_{entry['number']}"
        _save_map(external, "volume", name, folder / entry["outputs"]["occupancy"])
    for component in record["components"]:
        name = component["name"]
        _save_map(external, "mask", f"mask_{name}", folder / record["outputs"][name])


def _save_map(external: ExternalJobController, kind: str, name: str, path: Path) -> None:
    slot = {"volume": "map", "mask": "mask"}[kind]
    header = read_header(path)
    external.add_output(kind, name, slots=[slot], title=name.replace("_", " "))
    dataset = external.alloc_output(name, 1)
    dataset[f"{slot}/path"] = [_in_project(external, path)]
    dataset[f"{slot}/shape"] = [header.shape]
    dataset[f"{slot}/psize_A"] = [header.voxel_size(path)[-1]]
    external.save_output(name, dataset)


def _in_project(external: ExternalJobController, path: Path) -> str:
    """Return a path as cryoSPARC's tables have it: relative to the project's folder."""
    return str(Path(Path(str(external.dir)).name) / path.relative_to(str(external.dir)))


def _save_particles(
    external: ExternalJobController,
    source: JobController,
    classes: _ClassificationJob,
    folder: Path,
    record: Mapping[str, Any],
    present: float,
) -> None:
    """Save, for every component, the particles of the classes that have it, and of those that lack it."""
    if classes.particles.keys() != classes.volumes.keys():
        external.log("no particles per class among the outputs: none are written", level="warning")
        return
    by_class = {number: source.load_output(name) for number, name in classes.particles.items()}
    number_of = {entry["name"]: entry["number"] for entry in record["maps"]}
    table = read_table(folder / "occupancy.csv")
    for component in record["components"]:
        values = table.of_region(component["name"])
        having = {number_of[name] for name, value in values.items() if value >= present}
        for word, chosen in (("with", having), ("without", by_class.keys() - having)):
            if chosen:
                name = f"particles_{word}_{component['name']}"
                external.add_output("particle", name, passthrough="particles", title=name.replace("_", " "))
                external.save_output(name, _together([by_class[number] for number in sorted(chosen)]))


def _together(parts: Sequence[Dataset]) -> Dataset:
    """Return the rows of all by what makes them the same particles; their fields are passed through."""
    from cryosparc.dataset import Dataset

    return Dataset({"uid": [uid for part in parts for uid in part["uid"]]})
