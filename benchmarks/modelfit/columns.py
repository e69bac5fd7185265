"""What is compared: the published method, today's default read at the atoms, and the joint fit."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import gemmi
import numpy as np

from benchmarks.accuracy.scoring import read_units
from benchmarks.modelfit.cases import Sample
from occupy import Settings, Volume, estimate
from occupy.model import AtomicModel, Kind, Residue
from occupy.model.fit import PartFit, fit_parts, fit_set
from occupy.statistics.posterior import STANDARD_ERRORS_95


@dataclass(frozen=True)
class Reading:
    """One chain in one map by one method: truth, value, and 95 % interval (NaN where none is stated)."""

    chain: str
    truth: float
    value: float
    low: float = np.nan
    high: float = np.nan


def model_of(structure: gemmi.Structure) -> AtomicModel:
    """Return a structure's first model as arrays, each chain one entity."""
    xyz, owner, trace, elements, residues = [], [], [], [], []
    for chain in structure[0]:
        for group in chain:
            kind: Kind = "water" if group.is_water() else "polymer"
            residues.append(Residue(0, chain.name, group.seqid.num or 0, "", group.name, chain.name, kind))
            for atom in group:
                if atom.element.name in ("H", "D") or atom.altloc not in ("\0", "A"):
                    continue
                xyz.append(atom.pos.tolist())
                owner.append(len(residues) - 1)
                trace.append(atom.name in ("CA", "P"))
                elements.append(atom.element.atomic_number)
    return AtomicModel(
        ("model",), np.array(xyz), np.array(owner), np.array(trace), tuple(residues), np.array(elements)
    )


def by_scale(sample: Sample, settings: Settings) -> list[Reading]:
    """Read a local scale near the atoms of each chain."""
    volume = Volume.from_array(sample.data, sample.voxel_size)
    est = estimate(volume, settings)
    values = read_units(np.asarray(est.occupancy), sample.voxel_size, sample.structure)
    errors = (
        {}
        if est.uncertainty is None
        else read_units(np.asarray(est.uncertainty), sample.voxel_size, sample.structure)
    )
    found = []
    for chain, truth in sample.truth.items():
        if chain in values:
            value, error = values[chain][0], errors.get(chain, (np.nan,))[0]
            reach = STANDARD_ERRORS_95 * error
            found.append(Reading(chain, truth, value, value - reach, value + reach))
    return found


def by_fit(sample: Sample) -> list[Reading]:
    """Fit all chains jointly."""
    return _readings(fit_parts(sample.data, (sample.voxel_size,) * 3, model_of(sample.structure)), sample)


def by_fit_of_set(samples: Sequence[Sample]) -> list[list[Reading]]:
    """Fit all chains jointly in maps of one classification; readings of each map."""
    voxel, model = samples[0].voxel_size, model_of(samples[0].structure)
    fits = fit_set({sample.name: sample.data for sample in samples}, (voxel,) * 3, model)
    return [_readings(fits[sample.name], sample) for sample in samples]


def _readings(fit: PartFit, sample: Sample) -> list[Reading]:
    scored = read_units(np.zeros(sample.data.shape, np.float32), sample.voxel_size, sample.structure)
    rows = zip(fit.names, fit.values.tolist(), fit.low.tolist(), fit.high.tolist(), strict=True)
    return [
        Reading(n, sample.truth[n], v, lo, hi) for n, v, lo, hi in rows if n in scored and n in sample.truth
    ]


METHODS: Mapping[str, Callable[[Sample], list[Reading]]] = {
    "published, 12-voxel tile": lambda sample: by_scale(sample, Settings(estimator="nlf", tile_size=12)),
    "default": lambda sample: by_scale(sample, Settings()),
    "joint fit": by_fit,
}


def timed(method: Callable[[Sample], list[Reading]], sample: Sample) -> tuple[list[Reading], float]:
    """Return readings and CPU seconds."""
    begun = time.process_time()
    found = method(sample)
    return found, time.process_time() - begun
