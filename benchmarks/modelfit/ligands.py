"""Is a ligand bound? The joint fit's test and detection limit on haems (616 Da) in haemoglobin.

    python -m benchmarks.modelfit.ligands --maps 50 [--core]

With --core haems are iron porphyrins without their side groups (364 Da).

Every map has four haems: each is absent in half of the cases, else present to .1 to 1. The globins are full.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import gemmi
import numpy as np

from benchmarks.modelfit.columns import model_of
from occupy.model.fit import fit_parts
from occupy.model.judge import presence
from occupy.simulation import simulate

RESOLUTIONS, NOISE = (2.5, 3.0, 3.5), (15.0, 4.0)
BOX_SIDE = 96.0
SLACK = 1e-3
RING = re.compile("FE|N[A-D]|CH[A-D]|C[1-4][A-D]")
"""Atoms of a haem but those of its side groups."""


class Trial(NamedTuple):
    """One ligand in one map: truth, value, 95 % interval, detection limit, whether it counts as there."""

    resolution: float
    truth: float
    value: float
    low: float
    high: float
    limit: float
    present: bool


def haems_apart(structure: gemmi.Structure, core: bool = False) -> gemmi.Structure:
    """Return haemoglobin with every haem, or only its ring, in a chain of its own, without water."""
    structure.remove_waters()
    found = gemmi.Structure()
    model = gemmi.Model(1)
    for chain in structure[0]:
        globin, ligand = gemmi.Chain(chain.name), gemmi.Chain(f"{chain.name}H")
        for residue in chain:
            if core and residue.name == "HEM":
                for number in range(len(residue) - 1, -1, -1):
                    if not RING.fullmatch(residue[number].name):
                        del residue[number]
            (ligand if residue.name == "HEM" else globin).add_residue(residue)
        model.add_chain(globin)
        model.add_chain(ligand)
    found.add_model(model)
    found.setup_entities()
    return found


def trials_of(structure: gemmi.Structure, seed: int) -> list[Trial]:
    """Make one map and test its haems."""
    rng = np.random.default_rng((seed, 31))
    resolution = RESOLUTIONS[seed % len(RESOLUTIONS)]
    voxel = resolution / 2.2
    ligands = [chain.name for chain in structure[0] if chain.name.endswith("H")]
    truth = {name: 0.0 if rng.random() < 0.5 else float(rng.uniform(0.1, 1)) for name in ligands}
    made = simulate(
        structure,
        voxel_size=voxel,
        box=int(BOX_SIDE / voxel / 2) * 2,
        resolution=resolution,
        occupancies={chain.name: 1.0 for chain in structure[0]} | truth,
        signal_to_noise=NOISE[seed // len(RESOLUTIONS) % len(NOISE)],
        seed=seed,
    )
    fit = fit_parts(made.map, (made.voxel_size,) * 3, model_of(made.structure))
    tests = presence(fit)
    rows = {name: k for k, name in enumerate(fit.names)}
    return [
        Trial(
            resolution,
            truth[name],
            float(fit.values[rows[name]]),
            float(fit.low[rows[name]]),
            float(fit.high[rows[name]]),
            tests[name].limit,
            tests[name].present,
        )
        for name in ligands
    ]


def table(trials: Sequence[Trial]) -> str:
    """Return error, false alarms and detection at the stated limit."""
    lines = [
        "| Å | ligands | MAE | interval holds | absent: called present | limit | at it or above: found |"
    ]
    lines.append("|---|---|---|---|---|---|---|")
    for resolution in (*RESOLUTIONS, None):
        some = [t for t in trials if resolution in (None, t.resolution)]
        absent = [t.present for t in some if t.truth == 0]
        above = [t.present for t in some if t.truth >= t.limit]
        held = np.mean([t.low - SLACK <= t.truth <= t.high + SLACK for t in some])
        error = np.mean([abs(t.value - t.truth) for t in some])
        limit = np.median([t.limit for t in some])
        lines.append(
            f"| {resolution or 'all'} | {len(some)} | {error:.3f} | {held:.2f} | "
            f"{sum(absent)} of {len(absent)} | {limit:.2f} | {sum(above)} of {len(above)} |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all trials."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("OCCUPY_SHARED_DATA", beside)))
    parser.add_argument("--maps", type=int, default=50)
    parser.add_argument("--core", action="store_true", help="without the haems' side groups: 364 Da")
    a = parser.parse_args(arguments)
    structure = haems_apart(gemmi.read_structure(str(a.data / "maps" / "5ni1.cif")), a.core)
    print(table([trial for seed in range(a.maps) for trial in trials_of(structure, seed)]))


if __name__ == "__main__":
    main()
