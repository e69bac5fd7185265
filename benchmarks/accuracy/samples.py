"""Maps with truth, ready to be estimated: simulated ones from a cache, and RELION's own."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import gemmi

from benchmarks.accuracy import collection
from benchmarks.accuracy.collection import Case, Half
from occupy import Volume, read_map
from occupy.io.tables import ChainTable
from occupy.report.simulated import _write_simulation


@dataclass(frozen=True)
class Sample:
    """One map with its truth, on disk.

    Attributes
    ----------
    name, half, model : str
        What it is; `model` groups samples.
    map, cif : Path
        Map, and model in its frame.
    half_maps : tuple of Path, optional
        Independent halves.
    truth, b_factors : mapping of str to float
        Per unit.
    remark : str
        For the table.
    """

    name: str
    half: Half
    model: str
    map: Path
    cif: Path
    truth: Mapping[str, float]
    b_factors: Mapping[str, float]
    half_maps: tuple[Path, Path] | None = None
    remark: str = ""

    def read(self) -> tuple[Volume, tuple[Volume, Volume] | None, gemmi.Structure]:
        """Return map, halves and model."""
        halves = None
        if self.half_maps is not None:
            halves = read_map(self.half_maps[0]), read_map(self.half_maps[1])
        return read_map(self.map), halves, gemmi.read_structure(str(self.cif))


def simulated(
    case: Case, folder: Path, structure: Callable[[str], gemmi.Structure], half: Half | None = None
) -> Sample:
    """Return a simulated map; it is made where the folder does not hold it."""
    home = folder / case.key
    if not (home / f"{case.name}_simulation.json").exists():
        model = structure(case.model)
        _write_simulation(home, case.name, collection.make(case, model), asdict(case))
    stem = home / case.name
    b_factors = ChainTable.read(Path(f"{stem}_b_factors.csv")).columns["b_factor"]
    sharp = ", sharpened" if case.sharpened else ""
    trap = ", traps" if case.trap else ""
    return Sample(
        case.name,
        half or case.half,
        case.model,
        Path(f"{stem}.mrc"),
        Path(f"{stem}_model.cif"),
        ChainTable.read(Path(f"{stem}_truth.csv")).columns["occupancy"],
        b_factors,
        (Path(f"{stem}_half1.mrc"), Path(f"{stem}_half2.mrc")),
        f"{case.resolution:g} Å, SNR {case.signal_to_noise:g}, {case.full:.0%} full{trap}{sharp}",
    )


def truth_columns(path: Path) -> dict[str, dict[str, float]]:
    """Read a truth table of the shared data: column → unit → occupancy."""
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    columns = [name for name in rows[0] if name not in ("unit", "block")]
    return {name: {row["unit"]: float(row[name]) for row in rows} for name in columns}


def relion_sets(data: Path) -> list[Sample]:
    """Return the maps that RELION reconstructed and classified from simulated particles."""
    home = data / "relion_50s"
    cif = home / "model.cif"

    def sample(
        name: str, group: str, path: str, truth: Mapping[str, float], halves: tuple[str, str] | None = None
    ) -> Sample:
        found = None if halves is None else (home / halves[0], home / halves[1])
        return Sample(name, "relion_50s", group, home / path, cif, truth, {}, found, group)

    consensus = truth_columns(home / "truth" / "consensus.csv")["occupancy"]
    halves = ("consensus_half1.mrc", "consensus_half2.mrc")
    samples = [sample("relion_consensus", "consensus", "consensus.mrc", consensus, halves)]
    for job, iteration, kinds in (
        ("job004", 25, ("unregularised", "class maps")),
        ("job001", 15, ("class maps",)),
    ):
        truth = truth_columns(home / "truth" / f"{job}_class_occupancy.csv")
        for kind in kinds:
            for number, (column, values) in enumerate(truth.items(), start=1):
                path = f"unregularised/{job}_class{number:03d}.mrc"
                if kind == "class maps":
                    path = f"Class3D/{job}/run_it{iteration:03d}_class{number:03d}.mrc"
                samples.append(sample(f"{job}_{kind.split()[0]}_{column}", f"{job} {kind}", path, values))
    return samples
