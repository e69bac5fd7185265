"""Occupancies across the classes of sets whose truth is known.

    python -m benchmarks.sets [--folder FOLDER] [--smoke] [--reference-python PYTHON | --no-reference]

Scores `occupy classes` on RELION's class maps, on simulated sets and on sets whose classes are all alike (in
which nothing may be found), compares it with the mask sums of a cryoDRGN ensemble, and runs the published
estimator (OccuPy 0.1.13, tile of 12 voxels) on every map by itself. Writes FOLDER/sets.md and sets.csv.
"""

from __future__ import annotations

import argparse
import csv
import logging
import math
import os
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from subprocess import CalledProcessError

import gemmi
import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from benchmarks.accuracy import collection, published
from benchmarks.accuracy.scoring import FULL, marked_points, mean, read_units, voxels_around
from benchmarks.set_cases import (
    ALIKE,
    SMOKE,
    SMOKE_ALIKE,
    VARIED,
    TrueSet,
    missing,
    relion_set,
    simulated_set,
)
from occupy import Member, Region, estimate_set, find_components, read_map, read_regions, regions_of_masks
from occupy.ensemble.components import Component, varying
from occupy.ensemble.pipeline import SetEstimate
from occupy.io.sets import find_set
from occupy.regions.table import OccupancyTable
from occupy.statistics.posterior import STANDARD_ERRORS_95

Numbers = NDArray[np.float64]

TILE = 12
"""Voxels; the better of the published estimator's two tiles."""

VARIES = 0.1
"""Range of a chain's occupancy over the volumes from which on its ranks mean something."""

COLUMNS = ("mae", "mae_partial", "r", "absent", "cover95", "bias", "published", "published_partial")
HEADS = {
    "mae": "MAE",
    "mae_partial": "MAE partial",
    "r": "r partial",
    "absent": "absent reads",
    "cover95": "95 % intervals hold",
    "bias": "bias",
    "published": "published MAE",
    "published_partial": "published partial",
}


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    remark: str
    classes: int
    units: int
    partial: int
    numbers: dict[str, float]
    components: int
    resolution: float
    seconds: float


def whole(est: SetEstimate, array: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return an array on the grid of the maps."""
    return est.on_grid(array).data


def chain_regions(structure: gemmi.Structure, est: SetEstimate) -> tuple[Region, ...]:
    """Return chains as `occupy classes --model` reads them: voxels within 3 Å of their traces."""
    out = []
    for name, points in marked_points(structure).items():
        voxels = voxels_around(points, est.grid.voxel_size[0], est.grid.shape)
        flat = np.ravel_multi_index(tuple(voxels.T), est.grid.shape)
        out.append(Region(name, "chain", np.asarray(flat), est.grid.shape))
    return tuple(out)


def tabulated(est: SetEstimate, regions: Sequence[Region]) -> OccupancyTable:
    """Read regions in all classes, as the command line does."""
    found = ((name, est.of_class(k)) for k, name in enumerate(est.names))
    pairs = ((name, (whole(est, one.occupancy), whole(est, one.uncertainty))) for name, one in found)
    return read_regions(regions, pairs, est.grid, resolution=est.scaled.resolution, common_error=True)


def scored(estimate: Numbers, truth: Numbers, error: Numbers | None = None) -> dict[str, float]:
    """Return the numbers of a row; arrays are (units, classes)."""
    off, partial_ones = estimate - truth, truth < FULL
    there = truth[partial_ones]
    varied = there.size > 1 and np.ptp(there) > 0
    out = {
        "mae": mean(np.abs(off)),
        "mae_partial": mean(np.abs(off[partial_ones])),
        "r": float(np.corrcoef(there, estimate[partial_ones])[0, 1]) if varied else math.nan,
        "absent": mean(estimate[truth < 0.05]),
        "bias": mean(off),
    }
    if error is not None:
        out["cover95"] = mean((np.abs(off) <= STANDARD_ERRORS_95 * error)[partial_ones])
    return out


def published_readings(made: TrueSet, start: Sequence[str], work: Path, units: Sequence[str]) -> Numbers:
    """Return what the published estimator reads in every map, (units, classes); NaN where it fails."""
    columns = []
    for path in made.paths:
        try:
            scale, _ = published.scale_of(path, f"{made.name}_{path.stem}", TILE, start, work)
        except CalledProcessError as error:
            print(f"the published estimator failed on {path}: {last_line(error)}")
            columns.append([math.nan] * len(units))
            continue
        values = read_map(scale)
        found = read_units(values.data, values.voxel_size[0], made.structure)
        columns.append([found[unit][0] for unit in units])
    return np.array(columns).T


def last_line(error: CalledProcessError) -> str:
    """Return the last line that a failed program wrote."""
    lines = (error.stderr or error.output or b"").decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"exit code {error.returncode}"


def run_set(made: TrueSet, start: Sequence[str] | None, work: Path) -> Row:
    """Estimate a set and compare with its truth."""
    began = time.perf_counter()
    est = estimate_set(made.members)
    components = find_components(est)
    seconds = time.perf_counter() - began
    table = tabulated(est, chain_regions(made.structure, est))
    units = [name for name in table.regions if name in made.truth[0]]
    rows = [table.regions.index(name) for name in units]
    truth = np.array([[column[unit] for column in made.truth] for unit in units])
    numbers = scored(table.values[rows], truth, table.errors[rows])
    if start is not None:
        theirs = published_readings(made, start, work, units)
        ran = np.isfinite(theirs).all(axis=0)
        if ran.any():
            of_them = scored(theirs[:, ran], truth[:, ran])
            numbers |= {"published": of_them["mae"], "published_partial": of_them["mae_partial"]}
    return Row(
        made.name,
        made.remark,
        len(made.truth),
        len(units),
        int((truth < FULL).sum()),
        numbers,
        len(components),
        est.scaled.resolution,
        seconds,
    )


def run_alike(made: TrueSet) -> Row:
    """Estimate a set in which nothing differs, and see what is taken for a difference."""
    began = time.perf_counter()
    est = estimate_set(made.members)
    components = find_components(est)
    seconds = time.perf_counter() - began
    values = tabulated(est, chain_regions(made.structure, est)).values
    numbers = {
        "varying": float(varying(est).sum() / est.content.sum()),
        "lowest": float(values.min()),
        "range": float(np.max(values.max(axis=1) - values.min(axis=1))),
    }
    return Row(
        made.name,
        made.remark,
        len(made.members),
        len(values),
        0,
        numbers,
        len(components),
        est.scaled.resolution,
        seconds,
    )


def block_overlaps(est: SetEstimate, components: Sequence[Component], relion: Path) -> dict[str, float]:
    """Return how well each assembly block is met by the component most like it (Dice coefficient).

    Blocks are those of the model of the RELION sets: chains that assemble together. Its box and that of the
    volumes share their centre. Counted at the model's Cα and P atoms.
    """
    structure = gemmi.read_structure(str(relion / "model.cif"))
    with (relion / "truth" / "job004_class_occupancy.csv").open(newline="") as stream:
        block_of = {row["unit"]: row["block"] for row in csv.DictReader(stream)}
    points = {unit: at for unit, at in marked_points(structure).items() if unit in block_of}
    blocks = np.concatenate([np.full(len(at), block_of[unit]) for unit, at in points.items()])
    box = read_map(relion / "consensus.mrc")
    extents = [np.array(v.shape) * v.voxel_size for v in (est.grid, box)]
    size = np.array(est.scaled.voxel_size)
    xyz = np.concatenate(list(points.values()))
    at = np.rint((xyz[:, ::-1] + (extents[0] - extents[1]) / 2) / size).astype(int)
    inside = [est.scaled.whole(part.mask.astype(np.float32))[tuple(at.T)] > 0.5 for part in components]
    found = {}
    for block in sorted(set(blocks) - {"core"}):
        own = blocks == block
        overlaps = [2 * float((own & part).sum()) / float(own.sum() + part.sum()) for part in inside]
        found[str(block)] = max(overlaps, default=0.0)
    return found


def run_drgn(home: Path, relion: Path) -> dict[str, float]:
    """Compare a cryoDRGN ensemble with a mask-sum tool's ranks of chains, and components with blocks."""
    found = find_set([str(path) for path in sorted(home.glob("vol_*.mrc"))])
    est = estimate_set([Member(m.name, partial(read_map, m.path)) for m in found.maps])
    masks = [read_map(path) for path in sorted((home / "mask_sum" / "masks").glob("Mask_prots1_chain?.mrc"))]
    table = tabulated(est, regions_of_masks(masks, est.grid))
    theirs = mask_sums(home / "mask_sum" / "occupancies.csv")
    volumes = [str(int(re.sub(r"\D", "", name))) for name in table.maps]
    both = [i for i, volume in enumerate(volumes) if volume in theirs]
    ranks, ranges = [], []
    for name, row in zip(table.regions, table.values, strict=True):
        mine = row[both]
        other = [theirs[volumes[i]][name[-1]] for i in both]
        ranks.append(float(spearmanr(mine, other).statistic))
        ranges.append(float(np.ptp(mine)))
    vary = np.array(ranges) > VARIES
    components = find_components(est)
    blocks = block_overlaps(est, components, relion)
    return {f"block {name}": value for name, value in blocks.items()} | {
        "volumes": len(both),
        "chains": len(ranks),
        "varying": float(vary.sum()),
        "median": float(np.median(np.array(ranks)[vary])),
        "lowest": float(np.min(np.array(ranks)[vary])),
        "components": len(components),
    }


def mask_sums(path: Path) -> dict[str, dict[str, float]]:
    """Read the other tool's table: volume → chain → sum."""
    with path.open(newline="") as stream:
        rows = list(csv.reader(stream))
    chains = rows[1][1:]
    return {
        row[0]: dict(zip(chains, map(float, row[1:]), strict=True))
        for row in rows[2:]
        if row and row[0].isdigit()
    }


def cell(value: float) -> str:
    """Return a number for a table."""
    return "–" if not math.isfinite(value) else f"{value:.3f}"


def markdown(varied: Sequence[Row], alike: Sequence[Row], drgn: dict[str, float] | None) -> str:
    """Return all results as Markdown."""
    heads = ["set", "classes", "units (partial)", *(HEADS[c] for c in COLUMNS), "compared at, Å", "s"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for row in varied:
        numbers = [cell(row.numbers.get(column, math.nan)) for column in COLUMNS]
        first = [f"{row.name}: {row.remark}", str(row.classes), f"{row.units * row.classes} ({row.partial})"]
        lines.append(
            "| " + " | ".join([*first, *numbers, f"{row.resolution:.1f}", f"{row.seconds:.1f}"]) + " |"
        )
    if alike:
        heads = [
            "all classes alike",
            "classes",
            "components found",
            "voxels that vary",
            "lowest reading",
            "largest range over classes",
            "s",
        ]
        lines += ["", "| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for row in alike:
        numbers = [cell(row.numbers[name]) for name in ("varying", "lowest", "range")]
        first = [f"{row.name}: {row.remark}", str(row.classes), str(row.components)]
        lines.append("| " + " | ".join([*first, *numbers, f"{row.seconds:.1f}"]) + " |")
    if drgn is not None:
        lines += [
            "",
            f"cryodrgn_50s, {drgn['volumes']:.0f} volumes against mask sums: median Spearman "
            f"{drgn['median']:.2f} (lowest {drgn['lowest']:.2f}) over the {drgn['varying']:.0f} of "
            f"{drgn['chains']:.0f} chains whose occupancy ranges over more than {VARIES}; "
            f"{drgn['components']:.0f} components. Overlap (Dice) of each block of the model with the "
            "component most like it: "
            + ", ".join(f"{k.removeprefix('block ')} {v:.2f}" for k, v in drgn.items() if "block" in k)
            + ".",
        ]
    return "\n".join(lines) + "\n"


def write_csv(path: Path, varied: Sequence[Row], alike: Sequence[Row]) -> None:
    """Write every number of every set."""
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["set", "kind", "quantity", "value"])
        for kind, rows in (("varied", varied), ("alike", alike)):
            for row in rows:
                more = {"components": row.components, "seconds": row.seconds, "resolution": row.resolution}
                for name, value in (row.numbers | more).items():
                    writer.writerow([row.name, kind, name, f"{value:.5g}"])


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("OCCUPY_SHARED_DATA", beside)))
    parser.add_argument("--folder", type=Path, help="keep maps, the reference and results here")
    parser.add_argument("--no-reference", action="store_true", help="without the published estimator")
    parser.add_argument("--reference-python", type=Path, help="a Python that has occupy==0.1.13 installed")
    parser.add_argument("--smoke", action="store_true", help="two small sets, without the reference")
    return parser.parse_args(arguments)


def all_sets(
    folder: Path, data: Path | None, smoke: bool
) -> tuple[list[Callable[[], TrueSet]], list[Callable[[], TrueSet]]]:
    """Return functions that make the sets that vary and those that don't; say what is left out."""
    structure = cache(partial(collection.structure_of, data=data))
    absent = missing(data)
    make = partial(simulated_set, folder=folder / "maps", structure_of=structure)
    if smoke:
        return [partial(make, SMOKE)], [partial(make, SMOKE_ALIKE)]
    left = {c.model for c in (*VARIED, *ALIKE)} & absent
    for model in sorted(left):
        print(f"left out: {model}, for want of shared data")
    varied: list[Callable[[], TrueSet]] = [partial(make, case) for case in VARIED if case.model not in left]
    alike: list[Callable[[], TrueSet]] = [partial(make, case) for case in ALIKE if case.model not in left]
    relion: list[Callable[[], TrueSet]] = []
    if data is not None and (data / "relion_50s").is_dir():
        names = ("job004", "job001", "unregularised")
        relion = [partial(relion_set, data / "relion_50s", name) for name in names]
    return relion + varied, alike


def run_all(a: argparse.Namespace, folder: Path) -> str:
    """Run everything, write tables, return the Markdown."""
    data = collection.unpacked(a.data, folder / "data") if a.data.exists() and not a.smoke else None
    start = None if a.no_reference or a.smoke else published.start_of(a.reference_python, folder)
    makers, alike_makers = all_sets(folder, data, a.smoke)
    varied, alike = [], []
    for make in makers:
        varied.append(run_set(make(), start, folder / "published"))
        print(varied[-1], flush=True)
    for make in alike_makers:
        alike.append(run_alike(make()))
        print(alike[-1], flush=True)
    drgn = None
    if data is not None and (data / "cryodrgn_50s").is_dir():
        drgn = run_drgn(data / "cryodrgn_50s", data / "relion_50s")
    text = markdown(varied, alike, drgn)
    (folder / "sets.md").write_text(text)
    write_csv(folder / "sets.csv", varied, alike)
    return text


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what was asked for."""
    a = parse(arguments)
    logging.getLogger("occupy").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as temporary:
        folder = a.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        print("\n" + run_all(a, folder))


if __name__ == "__main__":
    main()
