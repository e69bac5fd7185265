"""The maps of this benchmark: which, from what, and for what.

The halves are those of `benchmarks.accuracy.collection`, divided by model: nobody may tune by looking at the
reporting half. Every model comes by both forward models.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import gemmi
import mrcfile
import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy import collection
from benchmarks.accuracy import samples as accuracy
from benchmarks.accuracy.collection import Case
from benchmarks.modelfit.forward import OtherForward, simulate_otherwise
from occupy import read_map
from occupy.simulation import Processing, draw_occupancies, simulate

LEAST_VOXEL = 2.0
"""Maps are made on coarser grids than the collection's where that saves time and no signal."""


@dataclass(frozen=True)
class Sample:
    """A map with truth.

    Attributes
    ----------
    name, half : str
        What it is; `half` is tuning, reporting, or the set's name.
    data : (nz, ny, nx) float32 array
        The map.
    voxel_size : float
        Å.
    structure : gemmi.Structure
        Model in the map's frame.
    truth : mapping of str to float
        Chain → occupancy.
    """

    name: str
    half: str
    data: NDArray[np.float32]
    voxel_size: float
    structure: gemmi.Structure
    truth: Mapping[str, float]


OTHER: tuple[Case, ...] = (
    Case("7pbl", 151, 4.0, 2.0, 90, 15, 0.25),
    Case("7pbl", 152, 6.5, 2.5, 72, 15, 0.6),
    Case("1aon", 161, 5.0, 2.5, 108, 15, 0.5),
    Case("1aon", 162, 7.0, 2.75, 100, 30, 0.3),
    Case("5ni1", 171, 3.5, 1.5, 80, 15, 0.5),
    Case("1wcm", 551, 4.0, 2.0, 108, 15, 0.5),
    Case("1wcm", 552, 6.0, 2.5, 90, 15, 0.3),
    Case("5gjv", 561, 4.5, 2.0, 120, 15, 0.5),
    Case("5gjv", 562, 6.5, 2.8, 84, 15, 0.4),
    Case("4v1w", 571, 4.0, 2.0, 90, 15, 0.3),
    Case("50s", 581, 5.5, 2.75, 128, 15, 0.5, blocks=14),
    Case("50s", 582, 7.0, 3.0, 120, 30, 0.3, blocks=16),
)
"""Made by the other forward model."""

# Variants of one map of each half, which must read as the raw one: (suffix, processing).
VARIANTS: tuple[tuple[str, Processing], ...] = (
    ("raw", Processing()),
    ("sharpened", Processing(sharpening=80.0)),
    ("blurred", Processing(sharpening=-150.0)),
    ("masked", Processing(mask="soft")),
    ("shrunken", Processing(wiener=True, mask="sphere")),
)
VARIED = (Case("7pbl", 191, 5.0, 2.0, 90, 15, 0.5), Case("1wcm", 591, 5.0, 2.25, 96, 15, 0.5))


FAULTS = ("displaced", "incomplete", "cut", "short")
"""Models with 0.8 Å random coordinate error, without a tenth of the residues, without side chains, and
without their third chain, whose density then has no model."""
MAIN_CHAIN = frozenset(("N", "CA", "C", "O", "CB", "P", "OP1", "OP2", "O5'", "C5'", "C4'", "C3'", "O3'"))


def faulty(structure: gemmi.Structure, fault: str, seed: int) -> gemmi.Structure:
    """Return a model with one kind of fault."""
    rng = np.random.default_rng((seed, 21))
    found = structure.clone()
    if fault == "short":
        del found[0][2]
    for chain in found[0]:
        for number in range(len(chain) - 1, -1, -1):
            if fault == "incomplete" and rng.random() < 0.1:
                del chain[number]
                continue
            residue = chain[number]
            for place in range(len(residue) - 1, -1, -1):
                if fault == "displaced":
                    residue[place].pos += gemmi.Position(*(rng.normal(size=3) * 0.8 / 3**0.5).tolist())
                elif fault == "cut" and residue[place].name not in MAIN_CHAIN:
                    del residue[place]
    return found


Simulated = tuple[NDArray[np.float32], float, gemmi.Structure]


def _kept(folder: Path, key: str, make: Callable[[], Simulated]) -> Simulated:
    """Return map, voxel size and model from the folder, made where it does not hold them."""
    stem = folder / hashlib.sha256(key.encode()).hexdigest()[:16]
    map_path, model_path = stem.with_suffix(".mrc"), stem.with_suffix(".cif")
    if not model_path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        data, voxel, structure = make()
        with mrcfile.new(map_path, overwrite=True) as file:
            file.set_data(np.asarray(data, dtype=np.float32))
            file.voxel_size = voxel
        structure.make_mmcif_document().write_file(str(model_path))
    volume = read_map(map_path)
    return volume.data, volume.voxel_size[0], gemmi.read_structure(str(model_path))


def of_project(case: Case, processing: Processing | None, folder: Path, structure: gemmi.Structure) -> Sample:
    """Return a map made by the project's own simulation."""
    occupancies, b_factors = collection.truth_of(case, structure)
    sharp = 3 * case.resolution**2 if case.sharpened else 0.0

    def make() -> tuple[NDArray[np.float32], float, gemmi.Structure]:
        made = simulate(
            structure,
            voxel_size=case.voxel_size,
            box=case.box,
            resolution=case.resolution,
            occupancies=occupancies,
            b_factors=b_factors,
            rim_b_factor=case.rim,
            signal_to_noise=case.signal_to_noise,
            processing=processing or Processing(sharpening=sharp),
            seed=case.seed,
        )
        return made.map, made.voxel_size, made.structure

    data, voxel, model = _kept(folder, f"project {collection.VERSION} {case!r} {processing!r}", make)
    return Sample(case.name, case.half, data, voxel, model, occupancies)


def of_other(case: Case, folder: Path, structure: gemmi.Structure) -> Sample:
    """Return a map made by the other forward model."""
    occupancies = draw_occupancies(structure, full=case.full, blocks=case.blocks, seed=case.seed)
    asked = OtherForward(case.voxel_size, case.resolution, case.box, case.signal_to_noise)

    def make() -> tuple[NDArray[np.float32], float, gemmi.Structure]:
        data, placed = simulate_otherwise(structure, occupancies, asked, case.seed)
        return data, case.voxel_size, placed

    data, voxel, model = _kept(folder, f"other 3 {case!r} {asked!r}", make)
    return Sample(f"{case.name}_other", f"{case.half}, other", data, voxel, model, occupancies)


def coarser(case: Case) -> Case:
    """Return a case on a grid of at least 2 Å voxels, where its resolution allows."""
    voxel = min(max(case.voxel_size, LEAST_VOXEL), case.resolution / 2)
    box = int(np.ceil(case.box * case.voxel_size / voxel / 2)) * 2
    return replace(case, voxel_size=voxel, box=box)


def of_relion(found: accuracy.Sample) -> Sample:
    """Return a consensus or class map that RELION made, by itself."""
    volume, _, structure = found.read()
    return Sample(found.name, found.model, volume.data, volume.voxel_size[0], structure, found.truth)


def renamed(made: Sample, suffix: str, structure: gemmi.Structure | None = None) -> Sample:
    """Return a sample of a set of its own, with another model if given."""
    half = f"{made.half}, {suffix}"
    return replace(made, name=f"{made.name}_{suffix}", half=half, structure=structure or made.structure)


Made = tuple[str, str, Callable[[], Sample]]
"""Name, set, and function that makes it."""


def variants_of(case: Case, folder: Path, model: Callable[[], gemmi.Structure]) -> list[Made]:
    """Return one map processed in several ways, and with several faulty models."""

    def processed(suffix: str, processing: Processing) -> Sample:
        return renamed(of_project(case, processing, folder, model()), suffix)

    def misread(fault: str) -> Sample:
        raw = of_project(case, VARIANTS[0][1], folder, model())
        return renamed(raw, f"{fault} model", faulty(raw.structure, fault, case.seed))

    return [
        *((f"{case.name}_{s}", f"{case.half}, {s}", partial(processed, s, p)) for s, p in VARIANTS),
        *((f"{case.name}_{f} model", f"{case.half}, {f} model", partial(misread, f)) for f in FAULTS),
    ]


def all_samples(data: Path | None, folder: Path) -> list[Made]:
    """Return every map whose model is there."""
    missing = collection.missing_models(data)

    def project(case: Case) -> Sample:
        return of_project(case, None, folder, collection.structure_of(case.model, data))

    def other(case: Case) -> Sample:
        return of_other(case, folder, collection.structure_of(case.model, data))

    made: list[Made] = [
        (case.name, case.half, partial(project, case))
        for case in map(coarser, collection.CASES)
        if case.model not in missing
    ]
    made += [
        (f"{case.name}_other", f"{case.half}, other", partial(other, case))
        for case in OTHER
        if case.model not in missing
    ]
    for case in VARIED:
        if case.model not in missing:
            made += variants_of(case, folder, partial(collection.structure_of, case.model, data))
    if data is not None and (data / "relion_50s").is_dir():
        made += [(found.name, found.model, partial(of_relion, found)) for found in accuracy.relion_sets(data)]
    return made
