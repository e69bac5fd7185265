"""Simulated particles of known states: ``python -m benchmarks.classification.particles SET FOLDER MODELS``.

Projections are RELION's (``relion_project``, with CTF); states, poses, noise and their truth are made here.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from occupy.io.models import _read_structure
from occupy.io.mrc import read_map, write_map
from occupy.simulation import simulate
from occupy.simulation.single import Simulation
from occupy.volume import Volume

WAVELENGTH = 0.0196875  # Å at 300 kV
PER_MICROGRAPH = 50
OPTICS = {
    "rlnOpticsGroup": 1,
    "rlnOpticsGroupName": "opticsGroup1",
    "rlnVoltage": 300.0,
    "rlnSphericalAberration": 2.7,
    "rlnAmplitudeContrast": 0.1,
    "rlnImageDimensionality": 2,
}


@dataclass(frozen=True)
class ParticleSet:
    """How to make one set.

    Attributes
    ----------
    model : str
        File name of the atomic model.
    states : dict of str to (fraction, chains or parts that are absent)
        The truth.
    box, voxel_size, diameter : int, float, float
        Of the images; Å.
    particles : int
        How many.
    snr : float
        Variance of the signal in the particle's circle over that of the noise.
    white : float
        Share of white noise; the rest falls off with spatial frequency and is modulated by the CTF.
    angle_error, shift_error : float
        Standard deviations in degrees (each Euler angle) and Å of what the user's poses are off.
    tilt_preference : float
        0 for uniform views; larger values prefer views along z.
    parts : dict of str to tuple of str
        Chains that come and go together, and are one part; all other chains are another. By default each
        chain is a part.
    own_b : bool
        Whether chains keep how much their mean B-factors differ in the model.
    """

    model: str
    states: dict[str, tuple[float, Sequence[str]]]
    box: int
    voxel_size: float
    diameter: float
    particles: int
    snr: float
    white: float = 0.7
    angle_error: float = 0.0
    shift_error: float = 0.0
    tilt_preference: float = 0.0
    parts: dict[str, tuple[str, ...]] = field(default_factory=dict)
    own_b: bool = False


BLOCKS = {
    "CP": ("L18", "L25", "L27", "L5", "R4D", "R4F", "R4G", "R4H", "R4J", "5S"),
    "ST": ("L11", "R2P", "R2Q"),
    "B28": ("L28", "L33", "L9", "R1S", "R4E", "R4I"),
    "B17": ("L17", "L32", "R2U", "R3V", "R4W", "R4X"),
    "B16": ("L16", "R4C"),
    "B6": ("L6", "R4N", "R4R", "R4T"),
}
"""What comes and goes in the assembly of the large ribosomal subunit, by the chains of the model."""

SIXTEEN = {
    "": 40540, "ST": 9076, "B6": 14378, "B16": 23547, "CP": 44366, "CP B16": 30647, "ST B6": 38500,
    "CP B17": 3915, "B28": 3980, "B28 B6": 12740, "CP B28": 11975, "CP ST": 17988, "B17": 5001,
    "CP B16 B28": 35367, "CP ST B6 B16": 37448, "CP ST B28 B17 B16 B6": 5772,
}  # fmt: skip
"""Blocks that are absent from each state, and particles per state: sizes of CryoBench's Ribosembly (Jeon et
al., arXiv 2408.05526), the least 1.2 %. What is absent is ours: its atomic models are not at hand."""


def assembly(sizes: Mapping[str, float]) -> dict[str, tuple[float, Sequence[str]]]:
    """Return states of the large ribosomal subunit from the blocks that each lacks, and its size."""
    whole = sum(sizes.values())
    return {
        f"without {blocks}" if blocks else "mature": (size / whole, blocks.split())
        for blocks, size in sizes.items()
    }


SETS = {
    "groel": ParticleSet(
        "1aon.pdb.gz",
        {"full": (0.4, ""), "without GroES": (0.35, "OPQRSTU"), "two subunits missing": (0.25, "KL")},
        box=96, voxel_size=3.5, diameter=260, particles=3000, snr=0.02, angle_error=2.0, shift_error=1.5,
        tilt_preference=1.0,
    ),
    "pol2": ParticleSet(
        "1wcm.pdb",
        {"full": (0.45, ""), "without Rpb4/7": (0.35, "DG"), "without Rpb4/7, 9, 8": (0.2, "DGIH")},
        box=80, voxel_size=3.2, diameter=190, particles=4000, snr=0.05, white=0.9, angle_error=1.0,
        shift_error=1.0,
    ),
    "channel": ParticleSet(
        "5gjv.pdb",
        {"full": (0.4, ""), "without alpha2delta": (0.35, "F"), "without beta and gamma": (0.25, "BCE")},
        box=72, voxel_size=3.6, diameter=210, particles=3000, snr=0.04, white=0.6, angle_error=1.5,
        shift_error=1.0, tilt_preference=0.5,
    ),
    "homogeneous": ParticleSet(
        "1wcm.pdb", {"full": (1.0, "")}, box=80, voxel_size=3.2, diameter=190, particles=4000, snr=0.05,
    ),
    "assembly": ParticleSet(
        "../relion_50s/model.cif",
        assembly({"": 0.2, "CP B16": 0.25, "ST B6": 0.2, "B17 CP": 0.15, "CP ST B16 B28 B6": 0.2}),
        box=128, voxel_size=2.75, diameter=290, particles=4000, snr=0.06, parts=BLOCKS,
    ),
    "sixteen": ParticleSet(
        "../relion_50s/model.cif", assembly(SIXTEEN), box=128, voxel_size=3.0, diameter=290, particles=8000,
        snr=0.01, white=1.0, parts=BLOCKS,
    ),
    # A state of 5 % that lacks parts of 122 and 146 residues beside another's absence; preferred views.
    "unequal": ParticleSet(
        "1wcm.pdb",
        {"full": (0.7, ""), "without Rpb4/7": (0.25, "DG"), "without Rpb8, 9": (0.05, "HI")},
        box=80, voxel_size=3.2, diameter=190, particles=4000, snr=0.05, white=0.9, angle_error=1.0,
        shift_error=1.0, tilt_preference=1.0,
    ),
    # What differs is one part of 122 residues.
    "rpb9": ParticleSet(
        "1wcm.pdb", {"full": (0.6, ""), "without Rpb9": (0.4, "I")},
        box=80, voxel_size=3.2, diameter=190, particles=4000, snr=0.05, white=0.9, angle_error=1.0,
        shift_error=1.0,
    ),
}  # fmt: skip

USUAL = ["channel", "groel", "homogeneous", "pol2"]
"""Sets that are run where none is named."""


def coarser(settings: ParticleSet, box: int) -> ParticleSet:
    """Return a set as it would be after Fourier cropping to a smaller box: what is left of signal and noise.

    White noise goes with the area that is cut away; signal and coloured noise lie at low frequencies, and a
    tenth of them is taken to go.
    """
    white = settings.white * (box / settings.box) ** 2
    noise = white + 0.9 * (1 - settings.white)
    return replace(
        settings, box=box, voxel_size=settings.voxel_size * settings.box / box, white=white / noise,
        snr=0.9 * settings.snr / noise,
    )  # fmt: skip


def make(settings: ParticleSet, folder: Path, models: Path, seed: int) -> None:
    """Write particles, consensus.mrc, model.cif and the states' maps.

    Particles are .mrcs and .star; _true.star has true poses and states, _states.star true states at the
    user's poses.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    names = list(settings.states)
    made = [made_state(settings, models, settings.states[name][1]) for name in names]
    made[0].structure.make_mmcif_document().write_file(str(folder / "model.cif"))
    for i, one in enumerate(made):
        write_map(folder / f"state_{i + 1}.mrc", Volume.from_array(one.clean, settings.voxel_size))
    state = _draw_states(settings, rng)
    truth = _poses(settings, rng)
    images = _project(folder, settings, truth, state)
    images = _with_noise(images, truth, settings, rng)
    stack = Volume.from_array(images, settings.voxel_size)
    write_map(folder / "stack.mrc", stack)
    (folder / "stack.mrc").replace(folder / "particles.mrcs")
    write_particles(folder / "particles_true.star", truth | {"rlnClassNumber": state + 1}, settings)
    given = _with_errors(truth, settings, rng)
    write_particles(folder / "particles.star", given, settings)
    write_particles(folder / "particles_states.star", given | {"rlnClassNumber": state + 1}, settings)
    command = ["relion_reconstruct", "--i", "particles.star", "--o", "consensus.mrc", "--ctf", "--pad", "1"]
    _run(command, folder)
    about = {
        "states": settings.states,
        "seed": seed,
        "diameter": settings.diameter,
    }
    (folder / "truth.json").write_text(json.dumps(about, indent=1), encoding="utf-8")


def made_state(settings: ParticleSet, models: Path, absent: Sequence[str]) -> Simulation:
    """Simulate the map of a state."""
    structure = _read_structure(models / settings.model)
    structure.remove_ligands_and_waters()
    structure.remove_empty_chains()
    chains = [chain for name in absent for chain in settings.parts.get(name, (name,))]
    mean = {
        chain.name: float(np.mean([atom.b_iso for residue in chain for atom in residue]))
        for chain in structure[0]
    }
    return simulate(
        structure,
        voxel_size=settings.voxel_size,
        box=settings.box,
        resolution=2.2 * settings.voxel_size,
        occupancies=dict.fromkeys(chains, 0.0),
        b_factors={k: b - min(mean.values()) for k, b in mean.items()} if settings.own_b else None,
        signal_to_noise=float("inf"),
    )


def _draw_states(settings: ParticleSet, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    fractions = np.array([fraction for fraction, _ in settings.states.values()])
    counts = np.floor(fractions * settings.particles).astype(int)
    counts[0] += settings.particles - counts.sum()
    return rng.permutation(np.repeat(np.arange(len(fractions)), counts))


def _poses(settings: ParticleSet, rng: np.random.Generator) -> dict[str, npt.NDArray[Any]]:
    n = settings.particles
    cosines = rng.uniform(-1, 1, 20 * n)
    chance = np.exp(settings.tilt_preference * (cosines**2 - 1))
    cosines = cosines[rng.uniform(size=len(cosines)) < chance][:n]
    micrograph = np.arange(n) // PER_MICROGRAPH
    defocus = rng.uniform(8000, 25000, micrograph[-1] + 1)[micrograph]
    return {
        "rlnImageName": np.array([f"{i + 1:06d}@particles.mrcs" for i in range(n)]),
        "rlnMicrographName": np.array([f"mic{i:04d}.mrc" for i in micrograph]),
        "rlnGroupNumber": micrograph + 1,
        "rlnOpticsGroup": np.ones(n, dtype=int),
        "rlnAngleRot": rng.uniform(-180, 180, n),
        "rlnAngleTilt": np.degrees(np.arccos(cosines)),
        "rlnAnglePsi": rng.uniform(-180, 180, n),
        "rlnOriginXAngst": rng.normal(0, 3, n),
        "rlnOriginYAngst": rng.normal(0, 3, n),
        "rlnDefocusU": defocus,
        "rlnDefocusV": defocus - 200,
        "rlnDefocusAngle": np.full(n, 30.0),
        "rlnRandomSubset": rng.permutation(np.arange(n) % 2) + 1,
    }


def _with_errors(
    truth: dict[str, npt.NDArray[Any]], settings: ParticleSet, rng: np.random.Generator
) -> dict[str, npt.NDArray[Any]]:
    sigma = dict.fromkeys(("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"), settings.angle_error)
    sigma |= dict.fromkeys(("rlnOriginXAngst", "rlnOriginYAngst"), settings.shift_error)
    return {k: v + rng.normal(0, sigma[k], len(v)) if k in sigma else v for k, v in truth.items()}


def _project(
    folder: Path, settings: ParticleSet, truth: dict[str, npt.NDArray[Any]], state: npt.NDArray[np.intp]
) -> npt.NDArray[np.float32]:
    """Project every particle's state by RELION."""
    images = np.zeros((settings.particles, settings.box, settings.box), dtype=np.float32)
    for i in range(len(settings.states)):
        chosen = np.flatnonzero(state == i)
        write_particles(folder / "tmp.star", {k: v[chosen] for k, v in truth.items()}, settings)
        command = f"relion_project --i state_{i + 1}.mrc --ang tmp.star --o tmp_projected --ctf --angpix"
        _run([*command.split(), str(settings.voxel_size)], folder)
        (folder / "tmp_projected.mrcs").replace(folder / "tmp_projected.mrc")
        images[chosen] = read_map(folder / "tmp_projected.mrc", voxel_size=1).data
        for path in folder.glob("tmp*"):
            path.unlink()
    return images


def _with_noise(
    signal: npt.NDArray[np.float32],
    truth: dict[str, npt.NDArray[Any]],
    settings: ParticleSet,
    rng: np.random.Generator,
) -> npt.NDArray[np.float32]:
    """Add noise, and bring the background of every image to mean 0 and variance 1."""
    n, a = settings.box, settings.voxel_size
    y, x = np.mgrid[:n, :n] - n // 2
    circle = x**2 + y**2 < (settings.diameter / 2 / a) ** 2
    level = (float(signal[:, circle].var(axis=1).mean()) / settings.snr) ** 0.5
    f2 = np.fft.rfftfreq(n, a)[None, :] ** 2 + np.fft.fftfreq(n, a)[:, None] ** 2
    for i in range(len(signal)):
        phase = (
            np.pi * WAVELENGTH * f2 * truth["rlnDefocusU"][i] - 0.5 * np.pi * 2.7e7 * WAVELENGTH**3 * f2**2
        )
        shape = np.abs(np.sin(phase + np.arcsin(0.1))) / (1 + f2 / 0.04**2)
        coloured = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(n, n))) * shape, s=(n, n))
        noise = settings.white**0.5 * rng.normal(size=(n, n))
        noise += (1 - settings.white) ** 0.5 * coloured / coloured.std()
        image = signal[i] + level * noise
        signal[i] = (image - image[~circle].mean()) / image[~circle].std()
    return signal


def write_particles(path: Path, columns: dict[str, npt.NDArray[Any]], settings: ParticleSet) -> None:
    """Write a particles' STAR file as RELION 3.1 does."""
    optics = OPTICS | {"rlnImagePixelSize": settings.voxel_size, "rlnImageSize": settings.box}
    blocks = _block("optics", {k: np.array([v]) for k, v in optics.items()}) + _block("particles", columns)
    path.write_text(blocks, encoding="utf-8")


def _block(name: str, columns: dict[str, npt.NDArray[Any]]) -> str:
    head = "".join(f"_{label} #{i + 1}\n" for i, label in enumerate(columns))
    rows = "\n".join(" ".join(map(str, row)) for row in zip(*columns.values(), strict=True))
    return f"\ndata_{name}\n\nloop_\n{head}{rows}\n\n"


def _run(command: list[str], folder: Path) -> None:
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    """Make one set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("set", choices=sorted(SETS))
    parser.add_argument("folder", type=Path)
    parser.add_argument("models", type=Path, help="folder with the atomic models")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    make(SETS[options.set], options.folder, options.models, options.seed)


if __name__ == "__main__":
    main()
