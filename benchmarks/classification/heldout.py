"""Do unseen particles agree with the classes? ``python -m benchmarks.classification.heldout FOLDER``.

Class3D runs on one half of the particles; the other half is then compared with the class maps at its poses.
The log-likelihood of a particle under the mixture of classes says how well they describe what they have not
seen. It is given against the consensus of the first half (RELION, one class): above zero, the classes tell
more than it does; below, they are worse than no classes at all. RELION's own likelihood would not do: its
first iteration depends on the grey scale of maps and on the noise it begins with.

FOLDER holds the sets of ``python -m benchmarks.classification``, whose options count here too.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.classification.__main__ import arguments, prepare, without_relion
from benchmarks.classification.runs import Run, classify, complete, read_table, starter, write_table
from benchmarks.classification.unseen import Images, likelihoods, mixture, read_images
from occupy.io.mrc import read_map
from occupy.io.star import read_star
from occupy.runs.agreement import adjusted_rand

FINEST = 12.0
"""Å; particles and maps are compared up to here, or to 2.5 pixels."""

PLACE = "heldout"
COLUMNS = ("rlnImageName", "rlnClassNumber")


def split(folder: Path) -> Path:
    """Write the two halves of a set into a folder of its own: seen.star and unseen.star."""
    place = folder / PLACE
    place.mkdir(exist_ok=True)
    for name in ("particles.mrcs", "consensus.mrc", "particles_true.star"):
        if not (place / name).exists():
            (place / name).symlink_to(f"../{name}")
    lines = (folder / "particles.star").read_text(encoding="utf-8").splitlines()
    images = [i for i, line in enumerate(lines) if "@particles.mrcs" in line]
    chosen = set(np.random.default_rng(0).permutation(images)[: len(images) // 2].tolist())
    for name, left_out in (("seen", set(images) - chosen), ("unseen", chosen)):
        text = "\n".join(line for i, line in enumerate(lines) if i not in left_out)
        (place / f"{name}.star").write_text(text + "\n", encoding="utf-8")
    return place


def consensus(place: Path, run: Run, program: Path) -> npt.NDArray[np.float32]:
    """Refine the seen half as one class; return its map."""
    single = replace(run, variant="plain", classes=1, iterations=5, seed=1)
    if not complete(single, place):
        classify(single, place, program, "seen.star")
    return read_map(place / single.name / single.file("class001.mrc"), voxel_size=1).data


def measure(run: Run, folder: Path, program: Path) -> dict[str, str]:
    """Classify one half, and compare the other with the classes."""
    place = split(folder)
    if not complete(run, place):
        classify(run, place, program, "seen.star")
    job = place / run.name
    pixel = read_star(place / "unseen.star")["optics"].numbers("rlnImagePixelSize")[0]
    images = read_images(place / "unseen.star", max(FINEST, 2.5 * pixel), run.diameter)
    maps = [read_map(job / run.file(f"class{k + 1:03d}.mrc"), voxel_size=1).data for k in range(run.classes)]
    base = likelihoods([consensus(place, run, program)], images)[:, 0]
    gains = likelihoods(maps, images)
    difference = mixture(gains) - base
    data = read_star(job / run.file("data.star"), columns=COLUMNS)["particles"]
    return {
        "set": run.set,
        "settings": run.settings,
        "variant": run.variant,
        "seed": str(run.seed),
        "consensus": f"{base.mean():.3f}",
        "gain": f"{difference.mean():.3f}",
        "error": f"{difference.std(ddof=1) / len(difference) ** 0.5:.3f}",
        "ari_seen": f"{_agreement(place, data.column('rlnImageName'), data.column('rlnClassNumber')):.3f}",
        "ari_unseen": f"{_unseen_agreement(place, images, gains):.3f}",
    }


def _unseen_agreement(place: Path, images: Images, gains: npt.NDArray[np.float64]) -> float:
    return _agreement(place, images.names, tuple(map(str, gains.argmax(axis=1))))


def _agreement(place: Path, names: tuple[str, ...], classes: tuple[str, ...]) -> float:
    true = read_star(place / "particles_true.star", columns=COLUMNS)["particles"]
    of = dict(zip(true.column("rlnImageName"), true.column("rlnClassNumber"), strict=True))
    return adjusted_rand([of[name] for name in names], classes)


def main() -> int:
    """Run the check and write FOLDER/heldout.tsv."""
    options = arguments().parse_args()
    missing = without_relion()
    if missing is not None:
        return missing
    options.folder.mkdir(parents=True, exist_ok=True)
    program, results = starter(options.folder), options.folder / "heldout.tsv"
    for run, folder in prepare(options):
        row = measure(run, folder, program)
        key = ("set", "settings", "variant", "seed")
        others = [old for old in read_table(results) if any(old.get(name) != row[name] for name in key)]
        write_table(results, [*others, row])
        print(" ".join(f"{name}={value}" for name, value in row.items()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
