"""A cryoSPARC classification in, an External job of the same project out; or result groups, where offline.

The work is `occupy classes`, run in the External job, so that its output is that job's log. Host and
credentials come from cryosparc-tools' own environment variables: neither read, printed nor kept here. Where
there is no instance at hand, the project's folder is enough: the same maps, masks and particles are written
as groups (.csg) that cryoSPARC's job *Import Result Group* takes in.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from occupy.errors import InputError, Notice
from occupy.io.class_numbers import RECORD, NumberedSet
from occupy.io.cryosparc import write_item
from occupy.io.mrc import read_header
from occupy.io.particles import read_particles
from occupy.io.runs import Run
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


def estimate_job(
    project: str, job: str, options: Sequence[str], present: float, output: Path | None
) -> list[str]:
    """Estimate a job in its instance, or in the project's folder where that is given; say what was made."""
    # A folder of such a name is ./P3.
    if re.fullmatch(r"P\d+", project):
        if output is not None:
            raise InputError("-o is for a project's folder; an External job has a folder of its own")
        made = _run_external(connect(), project, job, options, present)
        return [f"{project} {made}: occupancies, masks and particles of {job}"]
    folder = output or Path(f"occupy_{job}")
    groups, notices = _run_in_folder(Path(project), job, folder, options, present)
    said = [f"warning: {notice.text}" for notice in notices]
    said.append(f"{len(groups)} result groups in {folder}, for cryoSPARC's job Import Result Group:")
    return said + [f"  {group.name}" for group in groups]


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


def _classification(job: JobController) -> _ClassificationJob:
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


def _run_external(instance: CryoSPARC, project: str, job: str, options: Sequence[str], present: float) -> str:
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
    classes = _classification(source)
    external = instance.create_external_job(
        project, source.model.workspace_uids[0], title=f"Occupancy across the classes of {job}"
    )
    for output in classes.volumes.values():
        external.connect("volumes", job, output, slots=["map"], title="Class volumes")
    for output in classes.particles.values():
        external.connect("particles", job, output, title="Particles of the classes")
    folder = Path(str(external.dir)) / _FOLDER
    with external.run():
        external.subprocess(_words(str(source.dir), folder, options))
        record = _record(folder)
        _save_maps(external, folder, record)
        _save_particles(external, source, classes, folder, record, present)
        for name in ("heat_map", "correlation"):
            if name in record["outputs"]:
                external.log_plot(folder / record["outputs"][name], name.replace("_", " "), formats=["png"])
    return str(external.uid)


def _run_in_folder(
    project: Path, job: str, folder: Path, options: Sequence[str], present: float
) -> tuple[list[Path], list[Notice]]:
    """Estimate a classification in a project's folder, and write its result groups beside the results.

    Parameters
    ----------
    project : Path
        Folder of the project, in which the job has one.
    job : str
        Such as ``J42``.
    folder : Path
        For results and groups.
    options, present
        As of `_run_external`.

    Returns
    -------
    groups : list of Path
        The .csg files.
    notices : list of Notice
        Why there are no groups of particles, where there are none.
    """
    source = project / job
    if not source.is_dir():
        raise InputError(f"{source}: no such job; name the project's folder and a job in it")
    if subprocess.run(_words(str(source), folder, options)).returncode:
        raise InputError(f"{source}: occupy classes ended with the error above")
    record = _record(folder)
    groups: list[Path] = []
    notices: list[Notice] = []
    for kind, name, path in _maps_and_masks(folder, record):
        target = folder / f"{name}.cs"
        write_item(target, kind, {"path": f">{path.relative_to(folder)}", **_grid(path)})
        groups.append(target.with_suffix(".csg"))
    try:
        particles = read_particles(Run.read(source).path)
        labels, notices = NumberedSet.read(folder / RECORD).match(particles)
        for name, maps in _with_and_without(folder, record, present):
            keep = np.isin(particles.labels, [labels[each] for each in maps])
            if keep.any():
                particles.write(keep, folder / f"{name}.cs")
                groups.append(folder / f"{name}.csg")
    except InputError as error:
        notices.append(Notice("no-particles", f"no groups of particles are written: {error}"))
    return groups, notices


def _words(job: str, folder: Path, options: Sequence[str]) -> list[str]:
    """Return the command line that estimates a job's classes."""
    return [sys.executable, "-m", "occupy", "classes", job, "-o", str(folder), "--report", *options]


def _record(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / RECORD).read_text(encoding="utf-8")))


def _maps_and_masks(folder: Path, record: Mapping[str, Any]) -> Iterator[tuple[str, str, Path]]:
    """Yield kind, name and file of each class's occupancy (a volume) and each component (a mask)."""
    for entry in record["maps"]:
        yield "volume", f"occupancy_class_{entry['number']}", folder / entry["outputs"]["occupancy"]
    for component in record["components"]:
        name = component["name"]
        yield "mask", f"mask_{name}", folder / record["outputs"][name]


def _grid(path: Path) -> dict[str, Any]:
    """Return shape and voxel size of a map, as cryoSPARC's tables have them."""
    header = read_header(path)
    size = np.float32(header.voxel_size(path)[-1])
    return {"shape": np.array(header.shape, dtype=np.uint32), "psize_A": size}


def _with_and_without(
    folder: Path, record: Mapping[str, Any], present: float
) -> Iterator[tuple[str, list[str]]]:
    """Yield, for every component, the maps that have it and those that lack it, and what both are called."""
    table = read_table(folder / "occupancy.csv")
    for component in record["components"]:
        values = table.of_region(component["name"])
        having = [name for name, value in values.items() if value >= present]
        yield f"particles_with_{component['name']}", having
        yield f"particles_without_{component['name']}", [name for name in values if name not in having]


def _save_maps(external: ExternalJobController, folder: Path, record: Mapping[str, Any]) -> None:
    for kind, name, path in _maps_and_masks(folder, record):
        slot = {"volume": "map", "mask": "mask"}[kind]
        external.add_output(kind, name, slots=[slot], title=name.replace("_", " "))
        dataset = external.alloc_output(name, 1)
        for field, value in {"path": _in_project(external, path), **_grid(path)}.items():
            dataset[f"{slot}/{field}"] = [value]
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
    for name, maps in _with_and_without(folder, record, present):
        if maps:
            external.add_output("particle", name, passthrough="particles", title=name.replace("_", " "))
            external.save_output(name, _together([by_class[number_of[each]] for each in maps]))


def _together(parts: Sequence[Dataset]) -> Dataset:
    """Return the rows of all by what makes them the same particles; their fields are passed through."""
    from cryosparc.dataset import Dataset

    return Dataset({"uid": [uid for part in parts for uid in part["uid"]]})
