"""Sets of class maps for the benchmark of `occupy classes`: RELION's own, simulated, and all alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import gemmi

from benchmarks.accuracy import collection
from benchmarks.accuracy.samples import truth_columns
from benchmarks.accuracy.scoring import marked_points
from occupy import Member, Volume, read_map, simulate_classes, write_map
from occupy.io.sets import find_set
from occupy.simulation import ClassSet, Processing, draw_classes


@dataclass(frozen=True)
class Case:
    """How a set is simulated.

    Attributes
    ----------
    name, model : str
    classes, blocks : int
        No blocks: all classes are alike.
    resolution : float
        Å.
    signal_to_noise : float
        Of all particles together.
    voxel_size : float
        Å.
    raw : bool
        As reconstructed, nothing known of the classes' noise or size; otherwise as a Class3D job writes them.
    partial_everywhere : bool
        One block is partial in every class.
    seed : int
    """

    name: str
    model: str
    classes: int
    blocks: int = 0
    resolution: float = 8.0
    signal_to_noise: float = 10.0
    voxel_size: float = 3.0
    raw: bool = False
    partial_everywhere: bool = False
    seed: int = 1

    @property
    def remark(self) -> str:
        """Say in a few words what is special."""
        made = "unregularised" if self.raw else "Class3D"
        more = ", one part partial everywhere" if self.partial_everywhere else ""
        return f"{made}, {self.resolution:g} Å, SNR {self.signal_to_noise:g}{more}"


VARIED = (
    Case("7pbl_k4", "7pbl", 4, 3, seed=21),
    Case("7pbl_k3_partial", "7pbl", 3, 3, partial_everywhere=True, seed=22),
    Case("1aon_k4", "1aon", 4, 4, 9.0, voxel_size=3.5, seed=23),
    Case("1aon_k8_raw", "1aon", 8, 5, 9.0, 20.0, voxel_size=3.5, raw=True, seed=24),
    Case("1wcm_k5", "1wcm", 5, 3, 9.0, 6.0, seed=25),
    Case("1wcm_k2", "1wcm", 2, 2, seed=26),
    Case("50s_k6", "50s", 6, 5, 9.0, voxel_size=3.5, seed=27),
)
ALIKE = (
    Case("7pbl_k4", "7pbl", 4, seed=31),
    Case("7pbl_k4_raw", "7pbl", 4, raw=True, seed=32),
    Case("7pbl_k12", "7pbl", 12, signal_to_noise=20.0, seed=33),
    Case("7pbl_k2", "7pbl", 2, seed=34),
    Case("1wcm_k6", "1wcm", 6, seed=35),
    Case("1wcm_k3_raw", "1wcm", 3, signal_to_noise=3.0, raw=True, seed=36),
    Case("50s_k4", "50s", 4, 0, 9.0, 10.0, 3.5, seed=37),
)
SMOKE = Case("7pbl_smoke", "7pbl", 3, 2, 10.0, voxel_size=4.0, seed=21)
SMOKE_ALIKE = Case("7pbl_smoke", "7pbl", 3, 0, 10.0, voxel_size=4.0, seed=31)


@dataclass(frozen=True)
class TrueSet:
    """A set with its truth.

    Attributes
    ----------
    name, remark : str
    members : tuple of Member
    paths : tuple of Path
        Of the maps, for programs that read them.
    structure : gemmi.Structure
        In the frame of the maps.
    truth : tuple of mapping of str to float
        Occupancy of every unit, per class.
    """

    name: str
    remark: str
    members: tuple[Member, ...]
    paths: tuple[Path, ...]
    structure: gemmi.Structure
    truth: tuple[Mapping[str, float], ...]


def simulated_set(case: Case, folder: Path, structure_of: Callable[[str], gemmi.Structure]) -> TrueSet:
    """Simulate a set and write its maps."""
    structure = structure_of(case.model)
    made = _simulated(case, structure)
    home = folder / ("varied" if case.blocks else "alike") / case.name
    home.mkdir(parents=True, exist_ok=True)
    members, paths = [], []
    for k, (one, share) in enumerate(zip(made.classes, made.weights, strict=True), start=1):
        path = home / f"class{k:03d}.mrc"
        write_map(path, Volume.from_array(one.map, one.voxel_size, path.stem), "simulated")
        paths.append(path)
        ssnr = None if case.raw or one.ssnr is None else tuple(map(float, one.ssnr))
        members.append(Member(path.stem, partial(read_map, path), None if case.raw else share, ssnr))
    # Units are what has a trace: glycans and ions go with their hosts.
    units = marked_points(structure)
    truth = tuple({name: one.occupancies[name] for name in units} for one in made.classes)
    return TrueSet(case.name, case.remark, tuple(members), tuple(paths), made.classes[0].structure, truth)


def _simulated(case: Case, structure: gemmi.Structure) -> ClassSet:
    if case.blocks:
        drawn = draw_classes(
            structure,
            case.classes,
            blocks=case.blocks,
            core=0.5,
            partial_everywhere=case.partial_everywhere,
            seed=case.seed,
        )
        occupancies: Sequence[Mapping[str, float]] = drawn.occupancies
        weights: Sequence[float] | None = drawn.weights
    else:
        occupancies = [{} for _ in range(case.classes)]
        weights = [1.0 + 0.5 * (k % 3) for k in range(case.classes)]
    return simulate_classes(
        structure,
        occupancies,
        weights=weights,
        voxel_size=case.voxel_size,
        resolution=case.resolution,
        signal_to_noise=case.signal_to_noise,
        noise_colour=0.0,
        processing=Processing() if case.raw else Processing(wiener=True, mask="sphere", tau2_fudge=2.0),
        seed=case.seed,
    )


def relion_set(home: Path, name: str) -> TrueSet:
    """Return one of the sets that RELION made: job004, job001, or the unregularised classes of job004."""
    job = "job004" if name == "unregularised" else name
    found = find_set([str(home / name if name == "unregularised" else home / "Class3D" / name)])
    columns = truth_columns(home / "truth" / f"{job}_class_occupancy.csv")
    members = tuple(Member(m.name, partial(read_map, m.path), m.weight, m.ssnr) for m in found.maps)
    return TrueSet(
        name,
        "RELION 3.1, 50S" + (", unregularised" if name == "unregularised" else ", Class3D"),
        members,
        tuple(m.path for m in found.maps),
        gemmi.read_structure(str(home / "model.cif")),
        tuple(columns.values()),
    )


def missing(data: Path | None) -> set[str]:
    """Return the models that can't be had."""
    return set(collection.missing_models(data))
