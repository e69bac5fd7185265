"""More kinds of particle, by two forward models: what the calibrated estimator's numbers were chosen on.

    python -m benchmarks.accuracy.kinds --data DATA [--models FOLDER] [--only 5gjv 1aon]

Eleven models of eight kinds, cut into domains in half of the maps, few and many of them full, in crowds
(a third absent amid full ones), with a belt of detergent around membrane parts, sharpened and not, 4 to 8 Å.
Entries 6WG6, 7CFN and 7DDO are files of Biopython's source package (Tests/PDB): give their folder as
``--models``; without, they are left out. Prints errors by kind beside those of the published estimator
(our repetition of it) at the better of its two tiles.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import gemmi
import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt, gaussian_filter

from benchmarks.accuracy import collection
from benchmarks.accuracy.scoring import FULL, read_units
from benchmarks.modelfit.forward import OtherForward, simulate_otherwise
from occupy import Settings, Volume
from occupy.pipeline import estimate
from occupy.simulation import Processing, draw_occupancies, simulate
from occupy.simulation.models import marker_points
from occupy.statistics.posterior import STANDARD_ERRORS_95

Array = npt.NDArray[np.float32]
LEAST_RESIDUES = 8
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


def readings(kind: Kind, structure: gemmi.Structure) -> dict[str, npt.NDArray[np.float64]]:
    """Return truth, and what the default and the published estimator at either tile read, per part."""
    data, placed, truth = make(kind, structure)
    volume = Volume.from_array(data, kind.voxel_size)
    est = estimate(volume)
    found: dict[str, npt.NDArray[np.float64]] = {"truth": np.array(list(truth.values()))}
    tiles = {"published 12": 12, "published N/20": max(1, kind.box // 20)}
    maps = {"default": est.occupancy, "error": est.uncertainty}
    maps |= {n: estimate(volume, Settings(estimator="nlf", tile_size=t)).scale for n, t in tiles.items()}
    for name, values in maps.items():
        units = {} if values is None else read_units(values, kind.voxel_size, placed)
        found[name] = np.array([units[part][0] if part in units else 0.0 for part in truth])
    return found


def row(name: str, maps: list[dict[str, npt.NDArray[np.float64]]]) -> str:
    """Return one row of the table: means over maps."""

    def error(of: str, partial: bool) -> float:
        off = [np.abs(m[of] - m["truth"])[(m["truth"] < FULL) | (not partial)] for m in maps]
        return float(np.mean([each.mean() for each in off if each.size]))

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
    paths = [] if models is None else sorted(models.glob(f"{model}.*"))
    paths = [path for path in paths if path.suffix in (".cif", ".pdb")]
    if not paths:
        return None
    structure = gemmi.read_structure(str(paths[0]))
    structure.remove_waters()
    structure.setup_entities()
    return structure


def main(arguments: list[str] | None = None, say: Callable[[str], None] = print) -> None:
    """Make the maps asked for, estimate them, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", type=Path)
    parser.add_argument("--only", nargs="*", default=())
    a = parser.parse_args(arguments)
    logging.getLogger("occupy").setLevel(logging.ERROR)
    by_kind: dict[str, list[dict[str, npt.NDArray[np.float64]]]] = {}
    sources: dict[str, gemmi.Structure | None] = {}
    for kind in MAPS:
        if a.only and not kind.name.startswith(tuple(a.only)):
            continue
        if kind.model not in sources:
            sources[kind.model] = _source(kind.model, a.data, a.models)
        source = sources[kind.model]
        if source is None:
            say(f"left out: {kind.name}, for want of {kind.model}")
            continue
        by_kind.setdefault(KINDS[kind.model], []).append(readings(kind, source))
    say("| kind | maps | partial | published | all | published | 95 % intervals hold |")
    say("|---" * 7 + "|")
    for name, maps in by_kind.items():
        say(row(name, maps))
    if by_kind:
        say(row("all", [one for maps in by_kind.values() for one in maps]))


if __name__ == "__main__":
    main()
