"""Class3D alone and with occupy in its loop: ``python -m benchmarks.classification FOLDER --models MODELS``.

Every run is RELION's own, with the same seed and options; only ``--external_reconstruct`` and the variables
of a variant differ. Runs that are there already are not repeated, unless occupy's code has changed since.
One row per run goes to FOLDER/results.tsv, a table of them all to FOLDER/results.md. ``--smoke`` makes one
small set and takes a minute.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby, product
from pathlib import Path

from benchmarks.classification.particles import SETS, USUAL, ParticleSet, coarser, make
from benchmarks.classification.runs import (
    VARIANTS,
    Run,
    bounds,
    classify,
    complete,
    read_table,
    score,
    starter,
    write_table,
)

SMOKE = replace(SETS["pol2"], particles=400, box=48, voxel_size=5.4, snr=0.2)


def arguments() -> argparse.ArgumentParser:
    """Return the parser of what all parts of the benchmark understand."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("classification"))
    parser.add_argument("--models", type=Path, help="folder with the atomic models")
    parser.add_argument("--sets", nargs="+", default=USUAL, help="made here, or folders that exist")
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=["plain", "occupy"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--classes", type=int, default=3)
    parser.add_argument("--initial", type=float, default=40)
    parser.add_argument("--fudge", type=float, default=4)
    parser.add_argument("--limit", type=float)
    parser.add_argument("--diameter", type=float, help="of sets that were not made here (Å)")
    parser.add_argument("--iterations", type=int, default=25)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--particles", type=int, help="how many, in place of each set's own number")
    parser.add_argument("--align", choices=["none", "local", "global"], default="none", help="orientations")
    parser.add_argument("--box", type=int, help="images cropped to this: faster, and nearly as much signal")
    parser.add_argument("--bounds", action="store_true", help="areas of consensus and true states too")
    parser.add_argument("--smoke", action="store_true", help="one small set, three iterations")
    return parser


def without_relion() -> int | None:
    """Return the exit code where RELION is missing, None where it is there."""
    if shutil.which("relion_refine") is not None:
        return None
    print("classification: RELION is not installed (apt-get install relion)", file=sys.stderr)
    return 1 if os.environ.get("OCCUPY_REQUIRE_RELION") == "1" else 0


def prepare(options: argparse.Namespace) -> Iterator[tuple[Run, Path]]:
    """Make the sets that are missing and return the runs that were asked for."""
    sets: dict[str, ParticleSet] = dict(SETS)
    if options.smoke:
        options.sets, options.seeds, options.iterations, options.bounds = ["smoke"], [1], 3, True
        sets = {"smoke": SMOKE}
    aligned = ("none", "local") if options.smoke else (options.align,)
    for name, align in product(options.sets, aligned):
        folder = options.folder / name
        if not (folder / "particles.star").is_file():
            asked = coarser(sets[name], options.box) if options.box else sets[name]
            make(replace(asked, particles=options.particles or asked.particles), folder, options.models, 1)
        for seed in options.seeds:
            for variant in options.variants:
                run = Run(
                    name, variant, seed, options.initial, options.fudge, options.limit, options.classes,
                    options.diameter or sets[name].diameter, options.iterations, options.threads,
                    align,
                )  # fmt: skip
                yield run, folder


def report(run: Run, folder: Path, results: Path, program: Path) -> None:
    """Do a run where it is missing, and write its row."""
    if not complete(run, folder):
        classify(run, folder, program)
    row = {"set": run.set, "settings": run.settings, "variant": run.variant, "seed": str(run.seed)}
    others = [old for old in read_table(results) if any(old.get(name) != row[name] for name in row)]
    row |= score(run, folder)
    write_table(results, [*others, row])
    print(" ".join(f"{name}={value}" for name, value in row.items()), flush=True)


def overview(rows: Sequence[dict[str, str]]) -> str:
    """Return a Markdown table, one line per set, settings and variant."""

    def key(row: dict[str, str]) -> tuple[str, str, int]:
        return row["set"], row["settings"], list(VARIANTS).index(row["variant"])

    lines = [
        "| set | settings | variant | seeds | ARI, median (each) | smallest | FSC | area | energy | code |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (name, settings, _), group in groupby(sorted(rows, key=key), key):
        runs = sorted(group, key=lambda row: int(row["seed"]))
        values = [float(row["ari"]) for row in runs]
        sizes = [[int(size) for size in row["sizes"].split()] for row in runs]
        energy = [float(value) for row in runs for value in row.get("energy", "").split()]
        cells = [
            name,
            settings,
            runs[0]["variant"],
            " ".join(row["seed"] for row in runs),
            f"{statistics.median(values):.3f} ({', '.join(f'{value:.3f}' for value in values)})",
            f"{min(min(size) / sum(size) for size in sizes):.0%}",
            f"{statistics.median(float(row['mean_fsc']) for row in runs):.3f}",
            f"{statistics.median(float(row['area']) for row in runs):.3f}",
            f"{min(energy):.1f}–{max(energy):.1f}" if energy else "",
            " ".join(sorted({row["code"] for row in runs})),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the experiment."""
    options = arguments().parse_args()
    missing = without_relion()
    if missing is not None:
        return missing
    options.folder.mkdir(parents=True, exist_ok=True)
    program, results = starter(options.folder), options.folder / "results.tsv"
    found = {}
    for run, folder in prepare(options):
        report(run, folder, results, program)
        if options.bounds and run.set not in found:
            found[run.set] = bounds(folder, run.diameter)
    text = overview(read_table(results))
    for name, rows in found.items():
        text += "".join(
            f"\n{name}, {what}: area {row['area']} ({row['areas']})" for what, row in rows.items()
        )
    (options.folder / "results.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
