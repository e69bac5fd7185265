"""Occupancy of parts from single images: ``python -m benchmarks.particles FOLDER --models MODELS``.

The sets are those of the classification benchmark (projections are RELION's), parts are the model's chains,
and nothing is set. One row per set, seed of the noise and variant goes to FOLDER/results.tsv. ``--smoke``
makes one small set and takes seconds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic

import numpy as np
import numpy.typing as npt

from benchmarks.classification.__main__ import without_relion
from benchmarks.classification.particles import PER_MICROGRAPH, SETS, USUAL, ParticleSet, made_state, make
from benchmarks.particles.scores import score
from occupy.io.models import _read_structure
from occupy.io.particle_images import read_particle_images
from occupy.io.star import read_star
from occupy.particles.images import ParticleImages, _ImageSource
from occupy.particles.pipeline import Options, ParticleOccupancy, grid_for, particle_occupancy
from occupy.particles.slices import cropped, rotations
from occupy.report.particle_run import _beside
from occupy.requests import RegionRequest
from occupy.simulation.models import heavy_atoms, place
from occupy.simulation.potential import MODEL_B, PartAtoms

SMOKE = replace(SETS["pol2"], particles=400, box=48, voxel_size=5.4, snr=0.2)
REST = "rest"
"""What is in no part of a set that names parts."""

ALL_SETS = SETS | {
    "relion_50s": replace(SETS["assembly"], own_b=True),
    "small": replace(SETS["pol2"], particles=2000, box=48, voxel_size=5.4),
    "draws": replace(SETS["homogeneous"], particles=400, box=48, voxel_size=5.4),
}
"""Three more: blocks of a ribosomal subunit, of which ST has 90 Å² more B than what is around it; pol2 with
few coarse pixels, for every variant; small homogeneous sets, for many seeds."""


@dataclass(frozen=True)
class Variant:
    """What is wrong with model, poses or images.

    Attributes
    ----------
    b_factor : float
        Å², of every atom.
    coordinates : float
        Å: standard deviation of the error of each coordinate.
    star : str
        Particles' file.
    angles : float or None
        Degrees: standard deviation of the error of each Euler angle, in place of the set's.
    defocus : float
        Å by which defocus is off, up or down by micrograph.
    junk : float
        Share of images whose phases are random.
    contrast : float
        Relative standard deviation, over the micrographs, of what their images are multiplied with.
    densities : bool
        Nothing wrong at all: parts are the differences of the maps that were projected.
    """

    b_factor: float = MODEL_B
    coordinates: float = 0.0
    star: str = "particles.star"
    angles: float | None = None
    defocus: float = 0.0
    junk: float = 0.0
    contrast: float = 0.0
    densities: bool = False


VARIANTS = {
    "plain": Variant(),
    "b50": Variant(b_factor=MODEL_B / 2),
    "b200": Variant(b_factor=2 * MODEL_B),
    "moved": Variant(coordinates=0.8),
    "true-poses": Variant(star="particles_true.star"),
    "poses-3": Variant(angles=3.0),
    "defocus-200": Variant(defocus=200.0),
    "junk": Variant(junk=0.2),
    "contrast": Variant(contrast=0.2),
    "true-densities": Variant(densities=True),
}


@dataclass(frozen=True, eq=False)
class WithJunk:
    """Images some of which have lost their particle: the same spectrum with random phases."""

    source: _ImageSource
    junk: npt.NDArray[np.bool_]

    def read(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Return images of the rows."""
        images = self.source.read(rows).copy()
        for i in np.flatnonzero(self.junk[rows]):
            size = images.shape[1:]
            phases = np.fft.rfft2(np.random.default_rng(int(rows[i])).normal(size=size))
            images[i] = np.fft.irfft2(np.abs(np.fft.rfft2(images[i])) * phases / np.abs(phases), s=size)
        return images


@dataclass(frozen=True, eq=False)
class Multiplied:
    """Images times factors (N,)."""

    source: _ImageSource
    factor: npt.NDArray[np.float32]

    def read(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Return images of the rows."""
        return self.source.read(rows) * self.factor[rows, None, None]


def changed(images: ParticleImages, folder: Path, variant: Variant) -> ParticleImages:
    """Images as a variant has them."""
    rng = np.random.default_rng(5)
    if variant.angles is not None:
        names = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
        truth = read_star(folder / "particles_true.star", columns=names)["particles"]
        angles = np.stack([np.array(truth.numbers(name)) for name in names], axis=1)
        images = replace(images, matrices=rotations(angles + rng.normal(0, variant.angles, angles.shape)))
    micrograph = np.arange(len(images)) // PER_MICROGRAPH
    if variant.contrast:
        factor = rng.lognormal(0, variant.contrast, micrograph[-1] + 1)[micrograph].astype(np.float32)
        images = replace(images, source=Multiplied(images.source, factor))
    if variant.defocus:
        off = variant.defocus * rng.choice([-1.0, 1.0], micrograph[-1] + 1)[micrograph]
        ctf = images.ctf
        ctf = replace(ctf, defocus_u=ctf.defocus_u + off, defocus_v=ctf.defocus_v + off)
        images = replace(images, ctf=ctf)
    if variant.junk:
        junk = rng.uniform(size=len(images)) < variant.junk
        images = replace(images, source=WithJunk(images.source, junk))
    return images


def atoms_of(settings: ParticleSet, models: Path, error: float = 0.0) -> PartAtoms:
    """Read a set's model, in the frame of its images; each chain is a part, unless the set names parts."""
    structure = _read_structure(models / settings.model)
    structure.remove_ligands_and_waters()
    structure.remove_empty_chains()
    placed = place(heavy_atoms(structure), settings.box * settings.voxel_size)
    part_of = {chain.name: REST if settings.parts else chain.name for chain in placed[0]}
    part_of |= {chain: name for name, chains in settings.parts.items() for chain in chains}
    names = tuple(dict.fromkeys(part_of.values()))
    sites = list(placed[0].all())
    xyz = np.array([site.atom.pos.tolist() for site in sites])
    xyz = xyz + np.random.default_rng(0).normal(0, error, xyz.shape)
    part = np.array([names.index(part_of[site.chain.name]) for site in sites])
    return PartAtoms(
        xyz, np.array([site.atom.element.atomic_number for site in sites], dtype=np.uint8), part, names
    )


def true_densities(
    settings: ParticleSet, models: Path, names: Sequence[str], size: int
) -> Iterator[npt.NDArray[np.float32]]:
    """Yield what each chain adds to the map that was projected."""
    whole = made_state(settings, models, "").clean
    for name in names:
        lacks = tuple(settings.parts) if name == REST else (name,)
        without = made_state(settings, models, lacks).clean
        # Of the rest, what is left without all else.
        yield cropped(without if name == REST else whole - without, size)


def weights_of(atoms: PartAtoms) -> npt.NDArray[np.float64]:
    """Mass of each part in kDa, roughly: 14 Da per heavy atom with its hydrogens."""
    return np.asarray(np.bincount(atoms.part, minlength=len(atoms.names)) * 0.014, dtype=np.float64)


def agreeing(settings: ParticleSet, folder: Path, found: ParticleOccupancy) -> str:
    """Count parts of which the images and the joint fit of the consensus map agree within 1.96 errors."""
    parts = RegionRequest(models=(folder / "model.cif",))
    if settings.parts:
        lines = [f"{name}: [{', '.join(chains)}]\n" for name, chains in settings.parts.items()]
        (folder / "parts.yaml").write_text("".join(lines), encoding="utf-8")
        parts = replace(parts, selections=folder / "parts.yaml")
    rows, _ = _beside(parts, folder / "consensus.mrc", found)
    return f"{sum(abs(row.difference) < 1.96 for row in rows)}/{len(rows)}"


def run(settings: ParticleSet, folder: Path, models: Path, threads: int, variant: str) -> dict[str, str]:
    """Estimate one set and compare it with the truth."""
    asked = VARIANTS[variant]
    images = changed(read_particle_images(folder / asked.star)[0], folder, asked)
    options = Options(threads=threads)
    band, size = grid_for(images, options)
    atoms = atoms_of(settings, models, asked.coordinates)
    resolution = images.side / (band.first + band.shells)
    densities = atoms.densities(images.side, size, resolution, asked.b_factor)
    if asked.densities:
        densities = true_densities(settings, models, atoms.names, size)
    volumes = np.stack(list(densities))
    start = monotonic()
    found = particle_occupancy(images, atoms.names, volumes, options, lambda *_: None)
    seconds = monotonic() - start
    table = read_star(folder / "particles_true.star", columns=("rlnClassNumber",))["particles"]
    state = np.array(table.numbers("rlnClassNumber"), dtype=int) - 1
    present = np.array([[n not in absent for n in atoms.names] for _, absent in settings.states.values()])
    numbers = score(found, present, state, weights_of(atoms))
    warned = " ".join(notice.code for notice in found.notices) or "-"
    more = {"states": str(len(found.states.bits)), "agree": agreeing(settings, folder, found)}
    return {**numbers, **more, "warned": warned, "seconds": f"{seconds:.0f}"}


def write(path: Path, rows: Sequence[dict[str, str]]) -> None:
    """Write rows, in place of earlier ones of the same sets, seeds and variants; others stay."""
    earlier = [] if not path.is_file() else path.read_text(encoding="utf-8").splitlines()
    header, mine = "\t".join(rows[0]), {tuple(row.values())[:3] for row in rows}
    kept = [line for line in earlier[1:] if tuple(line.split("\t")[:3]) not in mine]
    if earlier[:1] == [header]:
        rows = [*(dict(zip(rows[0], line.split("\t"), strict=True)) for line in kept), *rows]
    lines = ["\t".join(rows[0]), *("\t".join(row.values()) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("particles"))
    parser.add_argument("--models", type=Path, required=True, help="folder with the atomic models")
    parser.add_argument("--sets", nargs="+", choices=sorted(ALL_SETS), default=[*USUAL, "relion_50s"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=["plain"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--smoke", action="store_true", help="one small set")
    asked = parser.parse_args()
    missing = without_relion()
    if missing is not None:
        return missing
    sets = {"smoke": SMOKE} if asked.smoke else {name: ALL_SETS[name] for name in asked.sets}
    rows = []
    for name, settings in sets.items():
        for seed in [1] if asked.smoke else asked.seeds:
            folder = asked.folder / f"{name}-{seed}"
            if not (folder / "particles.star").is_file():
                make(settings, folder, asked.models, seed)
            for variant in asked.variants:
                row = {"set": name, "seed": str(seed), "variant": variant}
                row |= run(settings, folder, asked.models, asked.threads, variant)
                rows.append(row)
                print(" ".join(f"{key}={value}" for key, value in row.items()), flush=True)
                write(asked.folder / "results.tsv", rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
