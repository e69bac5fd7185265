"""The fixed collection: which maps, from which models, with which truth, and what each is for.

Half of the simulated maps is for tuning, the other half is only for reporting. The halves share neither a
model nor a seed. Nobody may choose a method, a constant or a default by looking at the reporting half.
The RELION sets were looked at by everybody and belong to neither; they are reported apart.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gemmi

from occupy.io.models import join_models
from occupy.simulation import (
    Processing,
    Simulation,
    demo_structure,
    draw_b_factors,
    draw_occupancies,
    simulate,
)

Half = Literal["tuning", "reporting", "relion_50s"]
SIMULATED: tuple[Half, ...] = ("tuning", "reporting")

VERSION = 2
"""Raised whenever the simulation changes the maps, so that cached ones are made anew."""

TRAP_B_FACTOR = 150.0
TRAP_SHARE = 0.35
LEAST_TRAPPED = 1


@dataclass(frozen=True)
class Model:
    """A model to simulate from.

    Attributes
    ----------
    kind : str
        What it stands for.
    half : {"tuning", "reporting"}
        Where all its maps belong.
    files : tuple of str
        Below the folder of data; none for the packaged model.
    """

    kind: str
    half: Half
    files: tuple[str, ...] = ()


MODELS: Mapping[str, Model] = {
    "7pbl": Model("protein with DNA", "tuning"),
    "1aon": Model("protein, sevenfold (GroEL/ES)", "tuning", ("models/1aon.pdb.gz",)),
    "5ni1": Model("small protein (haemoglobin)", "tuning", ("maps/5ni1.cif",)),
    "1wcm": Model("protein (RNA polymerase II)", "reporting", ("models/1wcm.pdb",)),
    "5gjv": Model("membrane protein with lipids and glycans", "reporting", ("models/5gjv.pdb",)),
    "4v1w": Model("protein, octahedral (apoferritin)", "reporting", ("models/4v1w.pdb",)),
    "50s": Model("RNA and protein (large ribosomal subunit)", "reporting", ("relion_50s/model.cif",)),
}


@dataclass(frozen=True)
class Case:
    """One simulated map.

    Attributes
    ----------
    model : str
        Key of `MODELS`.
    seed : int
        Of occupancies, B-factors and noise.
    resolution, voxel_size : float
        Å.
    box : int
        Voxels.
    signal_to_noise : float
        60 (little noise), 15, or 4 (much).
    full : float
        Share of the chains that are fully present: 0.25 (few) or 0.75 (many). With blocks, of the atoms.
    blocks : int, optional
        Parts that come and go together; by default each chain by itself.
    trap : bool
        A third of the chains has 150 Å² on top: full and partial ones.
    sharpened : bool
        B-factor 3 d² taken off, of the 4 d² that all atoms have.
    rim : float
        Å² on top at the rim.
    """

    model: str
    seed: int
    resolution: float
    voxel_size: float
    box: int
    signal_to_noise: float
    full: float
    trap: bool = False
    sharpened: bool = False
    blocks: int | None = None
    rim: float = 0.0

    @property
    def name(self) -> str:
        """Model and seed."""
        return f"{self.model}_{self.seed}"

    @property
    def half(self) -> Half:
        """Tuning or reporting."""
        return MODELS[self.model].half

    @property
    def key(self) -> str:
        """A name for files that changes with every setting."""
        digest = hashlib.sha256(f"{VERSION} {self!r}".encode()).hexdigest()[:10]
        return f"{self.name}_{digest}"


CASES: tuple[Case, ...] = (
    # Tuning.
    Case("7pbl", 101, 3.0, 1.5, 120, 15, 0.25),
    Case("7pbl", 102, 4.0, 1.6, 108, 60, 0.75, trap=True),
    Case("7pbl", 103, 5.0, 2.0, 90, 4, 0.25, sharpened=True, rim=80),
    Case("7pbl", 104, 6.5, 2.5, 72, 15, 0.75, trap=True, sharpened=True),
    Case("7pbl", 105, 8.0, 3.0, 64, 60, 0.25, rim=80),
    Case("1aon", 111, 4.0, 2.0, 128, 15, 0.75),
    Case("1aon", 112, 4.5, 2.2, 120, 4, 0.25, trap=True),
    Case("1aon", 113, 5.5, 2.5, 108, 60, 0.25, sharpened=True, trap=True),
    Case("1aon", 114, 7.0, 2.75, 100, 15, 0.25, rim=80),
    Case("1aon", 115, 8.0, 3.0, 90, 4, 0.75, sharpened=True),
    Case("5ni1", 121, 3.0, 1.2, 96, 60, 0.25, sharpened=True),
    Case("5ni1", 122, 3.5, 1.5, 80, 4, 0.75),
    Case("5ni1", 123, 4.5, 1.8, 64, 15, 0.25, trap=True),
    Case("5ni1", 124, 6.0, 2.0, 60, 60, 0.75, trap=True),
    Case("5ni1", 125, 8.0, 2.5, 48, 15, 0.25, rim=80),
    # Reporting.
    Case("1wcm", 501, 3.5, 1.75, 128, 15, 0.25, rim=80),
    Case("1wcm", 502, 4.5, 2.0, 108, 60, 0.25, trap=True),
    Case("1wcm", 503, 6.0, 2.5, 90, 4, 0.75, sharpened=True),
    Case("1wcm", 504, 8.0, 3.0, 72, 15, 0.75, trap=True),
    Case("5gjv", 511, 3.8, 1.9, 128, 60, 0.75, trap=True, sharpened=True),
    Case("5gjv", 512, 4.5, 2.0, 120, 15, 0.25),
    Case("5gjv", 513, 6.0, 2.5, 96, 4, 0.25, trap=True),
    Case("5gjv", 514, 7.5, 3.0, 80, 60, 0.25, sharpened=True, rim=80),
    Case("4v1w", 521, 3.0, 1.5, 120, 4, 0.25),
    Case("4v1w", 522, 4.0, 2.0, 90, 60, 0.25, trap=True, sharpened=True),
    Case("4v1w", 523, 5.5, 2.4, 80, 15, 0.75, rim=80),
    Case("4v1w", 524, 8.0, 3.0, 60, 4, 0.25, trap=True),
    Case("50s", 531, 5.5, 2.75, 128, 15, 0.75, blocks=12),
    Case("50s", 532, 6.0, 2.75, 128, 60, 0.25, trap=True, blocks=16),
    Case("50s", 533, 7.0, 3.0, 120, 4, 0.4, sharpened=True, blocks=10),
    Case("50s", 534, 8.0, 3.5, 100, 15, 0.25, rim=80, blocks=16),
)

SMOKE = Case("7pbl", 901, 8.0, 4.0, 48, 15, 0.5)
"""For a quick look whether everything runs; it belongs to no half."""


def missing_models(data: Path | None) -> dict[str, str]:
    """Return model → file that is not there."""
    missing = {}
    for key, model in MODELS.items():
        for file in model.files:
            if data is None or not (data / file).is_file():
                missing[key] = file
    return missing


def structure_of(model: str, data: Path | None) -> gemmi.Structure:
    """Read a model."""
    files = MODELS[model].files
    if not files:
        return demo_structure()
    if data is None:
        raise FileNotFoundError(f"{model} needs {', '.join(files)} of the shared data")
    return _with_names(join_models([data / file for file in files]))


def _with_names(structure: gemmi.Structure) -> gemmi.Structure:
    """Give the atoms of a residue names of their own, in place.

    Where they are named after their elements only, all but one of a kind would count as alternatives and be
    left out: most of a nucleotide.
    """
    for chain in structure[0]:
        for residue in chain:
            seen: dict[str, int] = {}
            for atom in residue:
                number = seen[atom.name] = seen.get(atom.name, 0) + 1
                if number > 1 and not atom.has_altloc():
                    atom.name = f"{atom.name}{number}"
    return structure


def truth_of(case: Case, structure: gemmi.Structure) -> tuple[dict[str, float], dict[str, float]]:
    """Draw occupancies and extra B-factors."""
    occupancies = draw_occupancies(structure, full=case.full, blocks=case.blocks, seed=case.seed)
    if not case.trap:
        return occupancies, {}
    drawn = draw_b_factors(structure, highest=TRAP_B_FACTOR, share=TRAP_SHARE, seed=case.seed)
    trapped = {name: TRAP_B_FACTOR for name, value in drawn.items() if value}
    if not trapped:  # few chains, and none was drawn
        trapped = {sorted(drawn)[case.seed % len(drawn)]: TRAP_B_FACTOR}
    return occupancies, trapped


def make(case: Case, structure: gemmi.Structure) -> Simulation:
    """Simulate a case, with half-maps."""
    occupancies, b_factors = truth_of(case, structure)
    options: dict[str, Any] = {"voxel_size": case.voxel_size, "box": case.box, "resolution": case.resolution}
    return simulate(
        structure,
        **options,
        occupancies=occupancies,
        b_factors=b_factors,
        rim_b_factor=case.rim,
        signal_to_noise=case.signal_to_noise,
        half_maps=True,
        processing=Processing(sharpening=3 * case.resolution**2 if case.sharpened else 0.0),
        seed=case.seed,
    )


def unpacked(data: Path, folder: Path) -> Path:
    """Return a folder with the sets needed: this one, or another that they were unpacked to."""
    if not (data / "unpack").exists():
        return data
    sets = ("maps", "models", "relion_50s")
    if not all((folder / name / ".complete").exists() or (folder / name).is_dir() for name in sets):
        subprocess.run([str(data / "unpack"), str(folder), *sets], check=True)
    return folder
