"""A model beside a map: its trace, and what its parts read, as `occupy regions` finds them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from occupy.errors import InputError
from occupy.io.models import read_model
from occupy.model import AtomicModel
from occupy.report.surfaces import pack
from occupy.requests import RegionRequest
from occupy.result import MapResult
from occupy.web.document import MapDocument
from occupy.web.jobs import Job

if TYPE_CHECKING:
    from occupy.report.region_results import FoundRegions

# Å between neighbours: beyond, residues are missing.
_LONGEST = 9.0


def trace_message(path: Path) -> bytes:
    """Return the trace of a model: Cα and P atoms in order, and where a new run of them begins."""
    model = read_model(path)
    points, residues = _trace(model)
    if len(points) < 2:
        raise InputError(f"{path.name}: no chain of CA or P atoms in it")
    chains = [model.chain_label(model.residues[r]) for r in residues]
    far = np.linalg.norm(np.diff(points, axis=0), axis=1) > _LONGEST
    breaks = far | np.array([one != other for one, other in pairwise(chains)])
    arrays: dict[str, npt.NDArray[Any]] = {
        "points": points.astype(np.float32),
        "first": np.concatenate([[True], breaks]).astype(np.uint8),
    }
    return pack({"name": path.name, "chains": list(dict.fromkeys(chains))}, arrays)


def _trace(model: AtomicModel) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.intp]]:
    """Return place and residue of one atom of every residue on the trace."""
    atoms = np.flatnonzero(model.trace)
    residues, first = np.unique(model.residue[atoms], return_index=True)
    return model.xyz[atoms[first]], residues


def parts_of(document: MapDocument, path: Path, by: str, by_reading: bool, job: Job) -> dict[str, Any]:
    """Return what the parts of a model read in a map, and where each of them is.

    Parameters
    ----------
    document : MapDocument
        The map.
    path : Path
        Model in the map's frame.
    by : {"chain", "entity", "ligand"}
        What is a part.
    by_reading : bool
        Read the local scale at the atoms, instead of a joint fit.
    job : Job
        Is told how far it is.
    """
    # What fits models takes half a second to import, which a viewer without one need not wait for.
    from occupy.regions.joint import JointRegions
    from occupy.report.region_results import find_regions, judged, with_fit

    est = document.est
    job.report("reading the model", 0, 0)
    # Ends with one line where most of the model lies outside of the box.
    found = find_regions(RegionRequest(models=(path,), by=by, by_reading=by_reading), est.volume)
    job.report("fitting the model", 0, 0)
    found = with_fit(found, est.volume)
    job.report("reading its parts", 0, 0)
    table = MapResult(est, document.asked).regions(found.regions)
    table, notices = judged(table, found, 0.0 if est.settings.recalibrate else est.lowest_confident_scale)
    joint = found.joint if isinstance(found.joint, JointRegions) else None
    document.keep_residual(joint)
    assert found.model is not None
    model = found.model.model
    numbers = zip(table.values, table.errors, table.low, table.high, strict=True)
    parts = [
        {
            "name": region.name,
            "place": _middle(model, region.residues),
            "note": "" if table.beside is None else table.beside.notes[row][0],
            **dict(zip(("value", "error", "low", "high"), (float(v[0]) for v in found_numbers), strict=True)),
        }
        for row, (region, found_numbers) in enumerate(zip(found.regions, numbers, strict=True))
    ]
    return {
        "name": path.name,
        "kind": table.kind,
        "fitted": joint is not None,
        "revision": document.revision,
        "parts": parts,
        "part_of": _part_of(model, found),
        "notices": [notice.text for notice in notices],
    }


def _middle(model: AtomicModel, residues: npt.NDArray[np.intp]) -> list[float]:
    """Return the atom of a part that is nearest to its middle: in its density, not between."""
    xyz = model.xyz[np.isin(model.residue, residues)]
    nearest = np.linalg.norm(xyz - xyz.mean(axis=0), axis=1).argmin()
    return [round(float(v), 2) for v in xyz[nearest]]


def _part_of(model: AtomicModel, found: FoundRegions) -> list[int]:
    """Return the part that each point of the trace belongs to, -1 for none."""
    owner = np.full(len(model.residues), -1)
    for row, region in enumerate(found.regions):
        owner[region.residues] = row
    return [int(part) for part in owner[_trace(model)[1]]]
