"""What images of 256² cost: ``python -m benchmarks.particles.speed FOLDER --models MODELS``.

Images of the pol2 set of the benchmark, brought to 256² pixels in Fourier space and repeated; 20 parts.
Processor time of each stage is counted, so a busy machine matters little, and what 100 000 images take is
computed from it.
"""

from __future__ import annotations

import argparse
import resource
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from time import process_time

import numpy as np
import numpy.typing as npt

from benchmarks.classification.particles import SETS, make
from benchmarks.particles.__main__ import atoms_of
from occupy.io.particle_images import read_particle_images
from occupy.particles.images import Ctf, ParticleImages, _ImageSource
from occupy.particles.pipeline import Options, grid_for, particle_occupancy
from occupy.simulation.potential import PartAtoms

SIZE, PARTS, MANY, LEARNT_FROM = 256, 20, 100_000, 5_000


@dataclass(frozen=True, eq=False)
class Larger:
    """Images on more pixels over the same side."""

    source: _ImageSource
    distinct: int

    def read(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Return images of the rows, which start again after the distinct ones."""
        images = self.source.read(rows % self.distinct)
        old = images.shape[-1]
        spectra = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(images, axes=(1, 2))), axes=(1, 2))
        before = SIZE // 2 - old // 2
        spectra = np.pad(spectra, ((0, 0), *[(before, SIZE - old - before)] * 2))
        larger = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(spectra, axes=(1, 2))), axes=(1, 2))
        return np.asarray(larger.real, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class InMemory:
    """Images that were read before."""

    images: npt.NDArray[np.float32]

    def read(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Return images of the rows."""
        return self.images[rows % len(self.images)]


def repeated(images: ParticleImages, count: int, distinct: int = 500) -> ParticleImages:
    """Return so many images of 256², of which some are distinct."""
    larger = Larger(images.source, distinct)
    stack = np.concatenate([larger.read(np.arange(i, i + 50)) for i in range(0, distinct, 50)])
    rows = np.arange(count) % distinct
    ctf: Ctf = images.ctf[rows]
    return replace(
        images, source=InMemory(stack), size=SIZE, pixel_size=images.side / SIZE,
        matrices=images.matrices[rows], shifts=images.shifts[rows], ctf=ctf, group=images.group[rows],
    )  # fmt: skip


def cut(atoms: PartAtoms) -> PartAtoms:
    """Cut the two longest chains so that there are 20 parts."""
    part, names = atoms.part.copy(), list(atoms.names)
    pieces = (PARTS - len(names)) // 2 + 1
    for chain in np.argsort(-np.bincount(atoms.part))[:2]:
        where = np.flatnonzero(atoms.part == chain)
        for number, piece in enumerate(np.array_split(where, pieces)[1:], start=2):
            part[piece] = len(names)
            names.append(f"{atoms.names[chain]}{number}")
    return replace(atoms, part=part, names=tuple(names))


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", type=Path, required=True, help="folder with the atomic models")
    parser.add_argument("--images", type=int, default=1500)
    asked = parser.parse_args()
    settings, folder = SETS["pol2"], asked.folder / "pol2-1"
    if not (folder / "particles.star").is_file():
        make(settings, folder, asked.models, 1)
    images = repeated(read_particle_images(folder / "particles.star")[0], asked.images)
    options = Options(threads=2)
    band, size = grid_for(images, options)
    atoms = cut(atoms_of(settings, asked.models))
    densities = atoms.densities(images.side, size, images.side / (band.last + 1))
    volumes = np.stack(list(densities))
    spent: dict[str, float] = {}
    last: list[tuple[str, float]] = [("", process_time())]

    def report(stage: str, _done: int, _all: int) -> None:
        (before, since), now = last[-1], process_time()
        spent[before] = spent.get(before, 0.0) + now - since
        last.append((stage, now))

    particle_occupancy(images, atoms.names, volumes, options, report)
    report("", 0, 0)
    learning, looking, states = (spent[name] / len(images) for name in ("learning", "images", "states"))
    total = LEARNT_FROM * learning + MANY * looking + 20_000 * states
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{len(images)} images of {SIZE}², {len(band)} coefficients, {len(atoms.names)} parts: learning "
        f"{1e3 * learning:.1f} ms, looking {1e3 * looking:.1f} ms, states {1e3 * states:.1f} ms per image; "
        f"{MANY} images: {total:.0f} s of processor time, {total / 120:.1f} min on two cores; {peak:.2f} GiB"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
