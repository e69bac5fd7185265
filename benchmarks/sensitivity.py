"""How much each tuned number matters: moved by ±30 %, one at a time.

    python -m benchmarks.sensitivity --folder FOLDER [--write docs/explanation/tuning.md] [--smoke]

Numbers of the estimator for one map are moved on maps of all kinds of benchmarks/accuracy/kinds.py, those of
relative B-factors on maps of the tuning half of benchmarks/accuracy whose parts differ in B-factor, those of
sets and components on sets of benchmarks/sets. Maps are simulated once and kept in FOLDER. Nothing of the
reporting half is looked at.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache, partial
from pathlib import Path
from typing import Any

import gemmi
import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy import collection
from benchmarks.accuracy.kinds import Made, collected, moved, with_places
from benchmarks.accuracy.samples import Sample, simulated
from benchmarks.accuracy.scoring import FULL, marked_points, voxels_around
from benchmarks.set_cases import SMOKE, Case, TrueSet, relion_set, simulated_set
from benchmarks.sets import chain_regions, tabulated
from occupy import Settings, Volume, estimate, estimate_set, find_components, tuning

MOVE = 0.3
MATTERS = 0.02
"""Relative change of an error below which a number is not worth tuning."""

MAPS = (
    "7pbl_c", "7pbl_d", "1aon_b", "5ni1_b", "1wcm_c", "5gjv_c", "4v1w_d", "fila_b", "7ddo_a", "7cfn_b",
)  # fmt: skip
TRAPPED = ("7pbl_102", "7pbl_104", "5ni1_123", "5ni1_124")
SETS = (
    Case("7pbl_k4", "7pbl", 4, 3, seed=61),
    Case("1aon_k4", "1aon", 4, 4, 9.0, voxel_size=3.5, seed=62),
    Case("7pbl_k3_raw", "7pbl", 3, 3, 10.0, 20.0, voxel_size=4.0, raw=True, partial_everywhere=True, seed=63),
)
GROUPS = {
    "SHARED": "Local scale, of maps and sets",
    "MAP": "One map",
    "B_FACTOR": "Relative B-factors",
    "SET": "Sets",
    "COMPONENTS": "Components of sets",
}

Errors = Mapping[str, float]
"""Quantity → error; the lower the better."""


@dataclass(frozen=True)
class Moved:
    """One number, and the errors with it as it is, 30 % lower and 30 % higher."""

    group: str
    name: str
    value: float
    metadata: Mapping[str, str]
    base: Errors
    lower: Errors
    higher: Errors

    def change(self, key: str) -> tuple[float, float]:
        """Return the relative changes of one error."""
        return self.lower[key] / self.base[key] - 1, self.higher[key] / self.base[key] - 1

    @property
    def effect(self) -> float:
        """The largest change of any error, without its sign."""
        return max(abs(c) for key in self.base for c in self.change(key))

    def cells(self) -> list[str]:
        """Return two cells of the table: the error that counts most, and the stated error."""
        if self.group == "SHARED":
            return [
                "; ".join(f"{self._both(f'{key}, {of}')} ({of})" for of in ("maps", "sets"))
                for key in ("partial", "stated error")
            ]
        first = next(key for key in ("partial", *self.base) if key in self.base)
        return [self._both(first), self._both("stated error") if "stated error" in self.base else "–"]

    def _both(self, key: str) -> str:
        lower, higher = self.change(key)
        return f"{lower:+.0%} / {higher:+.0%}"


def coverage_gap(off: NDArray[np.float64], error: NDArray[np.float64]) -> float:
    """Return how well stated errors fit: mean of |ln(error) − ln(what is off)|, from 1 % on."""
    return float(np.mean(np.abs(np.log(np.maximum(error, 0.01) / np.maximum(off, 0.01)))))


def errors_of(readings: Sequence[tuple[float, float, float]]) -> Errors:
    """Return mean absolute errors, of all and of partial parts, and how well stated errors fit."""
    value, error, truth = np.array(readings).T
    off = np.abs(value - truth)
    partial_ones = truth < FULL
    return {
        "all": float(off.mean()),
        "partial": float(off[partial_ones].mean()),
        "stated error": coverage_gap(off[partial_ones], error[partial_ones]),
    }


@dataclass(frozen=True)
class Loaded:
    """A map in memory, with the voxels of each unit: found once, as that takes longer than an estimate."""

    sample: Sample
    volume: Volume
    voxels: Mapping[str, tuple[NDArray[np.int64], ...]]

    def read(self, data: NDArray[np.float32] | None) -> dict[str, float]:
        """Return the median around the trace of each unit; 0 without a map."""
        if data is None:
            return dict.fromkeys(self.voxels, 0.0)
        return {unit: float(np.median(data[at])) for unit, at in self.voxels.items()}


def load(sample: Sample) -> Loaded:
    """Read a map and its model."""
    volume, _, model = sample.read()
    voxels = {
        unit: tuple(voxels_around(points, volume.voxel_size[0], volume.shape).T)
        for unit, points in marked_points(model).items()
        if unit in sample.truth
    }
    return Loaded(sample, volume, voxels)


def map_errors(maps: Sequence[Made]) -> Errors:
    """Return the errors of the default estimator over maps, each map weighing the same."""
    found: list[Errors] = []
    for one in maps:
        est = estimate(Volume.from_array(one.data, one.voxel_size), Settings())
        read = one.read(est.occupancy), one.read(est.uncertainty), one.truth
        found.append(errors_of(list(zip(*read, strict=True))))
    return {key: float(np.nanmean([each[key] for each in found])) for key in found[0]}


def b_factor_errors(maps: Sequence[Loaded]) -> Errors:
    """Return the mean error of relative B-factors in Å², and how well stated errors fit."""
    off: list[float] = []
    stated: list[float] = []
    for one in maps:
        est = estimate(one.volume, Settings(bfactor=True))
        if est.b_factors is None:
            continue
        n, *rest = one.volume.shape
        values, errors = (
            one.read(est.b_factors.planes(what, 0, n, tuple(rest)).copy()) for what in ("values", "errors")
        )
        units = [u for u in values if u in one.sample.b_factors]
        truth = np.array([one.sample.b_factors[u] for u in units])
        read = np.array([values[u] for u in units])
        off += list(np.abs((read - np.median(read)) - (truth - np.median(truth))))
        stated += [errors[u] for u in units]
    if not off:
        return {"B-factor": 999.0, "stated error": 9.0}
    gap = np.abs(np.log(np.maximum(stated, 5.0) / np.maximum(off, 5.0)))
    return {"B-factor": float(np.mean(off)), "stated error": float(np.mean(gap))}


def set_errors(sets: Sequence[TrueSet], *, components: bool = False) -> Errors:
    """Return the errors over sets, each set weighing the same."""
    found: list[Errors] = []
    for made in sets:
        est = estimate_set(made.members)
        if components:
            # Voxels of the content that lie in a component, or not, as they vary or not in truth.
            found.append({"voxels found": share_wrong(made, est)})
            continue
        table = tabulated(est, chain_regions(made.structure, est))
        rows = [i for i, name in enumerate(table.regions) if name in made.truth[0]]
        found.append(
            errors_of(
                [
                    (table.values[i, k], table.errors[i, k], made.truth[k][table.regions[i]])
                    for i in rows
                    for k in range(len(made.truth))
                ]
            )
        )
    return {key: float(np.nanmean([one[key] for one in found])) for key in found[0]}


def shared_errors(maps: Sequence[Made], sets: Sequence[TrueSet]) -> Errors:
    """Return the errors over maps and over sets."""
    errors = {f"{key}, maps": value for key, value in map_errors(maps).items()}
    return errors | {f"{key}, sets": value for key, value in set_errors(sets).items()}


def share_wrong(made: TrueSet, est: Any) -> float:
    """Return the share of Cα and P atoms wrongly in or out of components; in are those of varying units."""
    parts = find_components(est)
    together = np.zeros(est.content.shape, dtype=bool)
    for part in parts:
        together |= part.mask
    whole = est.scaled.whole(together.astype(np.float32))
    wrong = total = 0
    for unit, points in marked_points(made.structure).items():
        if unit in made.truth[0]:
            varies = np.ptp([one[unit] for one in made.truth]) > 0.1
            at = np.rint(points[:, ::-1] / est.scaled.voxel_size).astype(int)
            wrong += int(np.count_nonzero((whole[tuple(at.T)] > 0.5) != varies))
            total += len(points)
    return wrong / max(total, 1)


def tuning_of(group: str) -> Any:
    """Return the tuned numbers of a group."""
    return getattr(tuning, group)


def numbers_of(group: str, only: Sequence[str] | None = None) -> list[tuple[str, float, Mapping[str, str]]]:
    """Return name, value and metadata of the tuned numbers of a group."""
    found = [
        (f.name, float(getattr(tuning_of(group), f.name)), dict(f.metadata)) for f in fields(tuning_of(group))
    ]
    return [one for one in found if one[2]["kind"] == "tuned" and (not only or one[0] in only)]


def move_all(group: str, measure: Callable[[], Errors], only: Sequence[str] | None) -> list[Moved]:
    """Move every number of a group, one at a time."""
    base = measure()
    print(f"{group}: " + ", ".join(f"{key} {value:.4f}" for key, value in base.items()), flush=True)
    out = []
    for name, value, metadata in numbers_of(group, only):
        both = []
        for factor in (1 - MOVE, 1 + MOVE):
            with moved(group, **{name: times(name, value, factor)}):
                both.append(measure())
        out.append(Moved(group, name, value, metadata, base, both[0], both[1]))
        print(
            f"  {name} {value:g}: "
            + "; ".join(
                f"{factor}: " + ", ".join(f"{key} {now[key] / base[key] - 1:+.1%}" for key in base)
                for factor, now in zip(("−30 %", "+30 %"), both, strict=True)
            ),
            flush=True,
        )
    return out


def times(name: str, value: float, factor: float) -> float:
    """Return a number moved by a factor so that it still makes sense: shares and chances stay below 1."""
    if name == "edge":
        return 1 - (1 - value) * factor  # in what it leaves out
    most = {"full_prior": 0.97, "alike": 0.97, "near_peak": 0.97, "leakage_share": 0.79}
    return min(value * factor, most.get(name, value * factor))


def loaded(names: Sequence[str], folder: Path, structure: Callable[[str], gemmi.Structure]) -> list[Loaded]:
    """Read maps of the collection; they are made where the folder lacks them."""
    cases = [case for case in collection.CASES if case.name in names]
    return [load(simulated(case, folder / "maps", structure)) for case in cases]


def markdown(results: Sequence[Moved], counts: str) -> str:
    """Return the page of the documentation."""
    sets = ", ".join(f"{case.name} ({case.remark})" for case in SETS)
    lines = [HEAD.format(counts=counts, maps=", ".join(MAPS), trapped=", ".join(TRAPPED), sets=sets)]
    for group, title in GROUPS.items():
        rows = [r for r in results if r.group == group]
        if not rows:
            continue
        base = ", ".join(f"{key} {value:.3f}" for key, value in rows[0].base.items())
        lines += [f"## {title} (`tuning.{group}`)", "", f"Errors as it is: {base}.", ""]
        lines += [
            "| number | value | unit | what | from | error −30 % / +30 % | stated error −30 % / +30 % |",
            "|---|---|---|---|---|---|---|",
        ]
        for r in rows:
            m = r.metadata
            cells = [f"`{r.name}`", f"{r.value:g}", m["unit"], m["what"], m["source"], *r.cells()]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
        others = [f for f in fields(tuning_of(group)) if f.metadata["kind"] == "fixed"]
        if others:
            lines += ["Fixed, as moving them changes less than 2 % or they follow from the method:"]
            lines += [
                "; ".join(
                    f"`{f.name}` {getattr(tuning_of(group), f.name):g} {f.metadata['unit']}".strip()
                    for f in others
                )
                + ".",
                "",
            ]
    return "\n".join(lines).rstrip() + "\n"


HEAD = """# Tuned numbers, and how much they matter

Made by `python -m benchmarks.sensitivity`; the numbers live in `src/occupy/tuning.py`. {counts}

Each number was moved by 30 % down and up, the others left. The last two columns are the relative change of
the mean error (of partial parts; Å² for B-factors; share of atoms wrongly in or out for components) and of
the *stated error* (how far standard errors are from deviations: mean of |ln| of their ratio over partial
parts). A change below zero is an improvement on these few maps; it was not followed, as these numbers were
chosen on more of them. `edge` was moved in what it leaves out, `leakage_share` upwards to 0.79 only;
`radius` is at most 2.24 voxels, so more of it changes nothing. Chances and weights that enter the estimate
(`full_prior`, `prior_of_change`, `level_trust`) are chosen numbers, not measured probabilities.

One map: {maps} of `benchmarks/accuracy/kinds.py`. B-factors: {trapped}. Sets and components: {sets}.

## What maps and sets do apart

Three rules have not become one: which voxels are content, what full material reads, and how likely a part is
full before it is looked at. `python -m benchmarks.exchange --relion` gives single maps each rule of sets and
sets each rule of single maps, on the maps and sets of this page and RELION's two 50S sets, the other rules
left. Mean errors of all parts, of partial parts, and the stated error:

| single maps | all | partial | stated error |
|---|---|---|---|
| as it is | 0.0309 | 0.0454 | 1.010 |
| content: as in sets | 0.0415 (+34%) | 0.0660 (+45%) | 0.858 (-15%) |
| content: core of sets (0.15) | 0.0405 (+31%) | 0.0635 (+40%) | 0.864 (-15%) |
| full level: uppermost peak of averaged readings | 0.1033 (+235%) | 0.1091 (+140%) | 1.033 (+2%) |
| full level: uppermost peak of single readings | 0.0730 (+136%) | 0.1005 (+121%) | 0.882 (-13%) |
| prior: 0.8, as in sets | 0.0359 (+16%) | 0.0520 (+15%) | 1.004 (-1%) |

| sets | all | partial | stated error |
|---|---|---|---|
| as it is | 0.0310 | 0.0405 | 1.198 |
| content: as in single maps | 0.0342 (+10%) | 0.0404 (-0%) | 1.180 (-1%) |
| content: core of single maps (0.4) | 0.0342 (+10%) | 0.0404 (-0%) | 1.179 (-2%) |
| full level: upper edge of averaged readings | 0.0597 (+93%) | 0.0603 (+49%) | 1.056 (-12%) |
| full level: upper edge of single readings | 0.1378 (+345%) | 0.1060 (+162%) | 1.325 (+11%) |
| prior: share of places that read full, as in single maps | 0.0326 (+5%) | 0.0409 (+1%) | 1.168 (-2%) |

So the rules stay apart, and the numbers of both stand below. A set's readings are of
the best of several classes, so nearly everywhere some class is full and a peak of full material stands out;
a single map may have few full parts, and only their upper edge tells. The prior is the one that could become
one rule: sets lose nothing (all -1%, partial +0%) with the share of voxels within 30 % of full, at most 0.9,
less 0.1 for what surely differs, but single maps need 25 % (with 30 % partial parts are off by 4 % more),
so one number would be exchanged for another, and every result of a set would change.

## Intervals

One convention for single maps, sets, regions and full scale: a 95 % interval is the estimate ± 1.96
standard errors. Until 0.1 single maps used ± 3.18 standard errors that were 1.62 times smaller. On nine
simulated maps of particles that nothing was tuned on, ± 1 such error held 53 % of partial parts and ± 3.18
held 93 %; with errors 1.62 times larger, ± 1 holds 70 % and ± 1.96 holds 93 %, as with a normal
distribution (68 and 95 %): 95 % of all parts, 91 % of absent ones. On eight sets ± 1.96 holds 99 % of
partial parts on average (95 to 100 %).
"""


def keep(folder: Path, group: str, results: Sequence[Moved]) -> None:
    """Write what was measured, so that groups may be measured one by one."""
    (folder / f"{group}.json").write_text(json.dumps([asdict(r) for r in results], indent=1))


def kept(folder: Path, group: str) -> list[Moved]:
    """Return what was measured of a group; nothing where it was not."""
    path = folder / f"{group}.json"
    return [Moved(**row) for row in json.loads(path.read_text())] if path.exists() else []


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("OCCUPY_SHARED_DATA", beside)))
    parser.add_argument("--models", type=Path, help="models of benchmarks/accuracy/kinds.py")
    parser.add_argument("--folder", type=Path, help="keep maps here")
    parser.add_argument("--groups", nargs="*", choices=list(GROUPS), default=list(GROUPS))
    parser.add_argument("--numbers", nargs="*", help="only these")
    parser.add_argument("--relion", action="store_true", help="on RELION's sets too")
    parser.add_argument("--write", type=Path, help="write the page of the documentation here")
    parser.add_argument("--smoke", action="store_true", help="a few numbers on one small map and set")
    return parser.parse_args(arguments)


def measures(a: argparse.Namespace, folder: Path) -> dict[str, Callable[[], Errors]]:
    """Return, per group, the function that measures errors."""
    data = collection.unpacked(a.data, folder / "data") if a.data.exists() and not a.smoke else None
    structure: Callable[[str], gemmi.Structure] = cache(partial(collection.structure_of, data=data))
    if a.smoke:
        sample = simulated(collection.SMOKE, folder / "maps", structure, "tuning")
        trapped = [load(sample)]
        volume, _, model = sample.read()
        points = {u: p for u, p in marked_points(model).items() if u in sample.truth}
        maps = [with_places("smoke", "smoke", volume.data, volume.voxel_size[0], points, sample.truth)]
        sets = [simulated_set(SMOKE, folder / "sets", structure)]
    else:
        missing = collection.missing_models(data)
        if missing or data is None:
            sys.exit(f"nothing to measure on: {', '.join(missing.values())} is not in {a.data}")
        by_kind = collected(data, a.models, folder / "kinds", MAPS, print)
        maps = [one for made in by_kind.values() for one in made]
        trapped = loaded(TRAPPED, folder, structure)
        sets = [simulated_set(case, folder / "sets", structure) for case in SETS]
        if a.relion and data is not None:
            sets += [relion_set(data / "relion_50s", name) for name in ("job004", "job001")]
    return {
        "SHARED": partial(shared_errors, maps, sets),
        "MAP": partial(map_errors, maps),
        "B_FACTOR": partial(b_factor_errors, trapped),
        "SET": partial(set_errors, sets),
        "COMPONENTS": partial(set_errors, sets, components=True),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what was asked for."""
    a = parse(arguments)
    logging.getLogger("occupy").setLevel(logging.ERROR)
    if a.smoke:
        a.numbers = ["radius", "full_prior", "product_window", "least_difference"]
        a.groups = [group for group in a.groups if group != "B_FACTOR"]
    with tempfile.TemporaryDirectory() as temporary:
        folder = a.folder or Path(temporary)
        ways = measures(a, folder)
        for group in a.groups:
            keep(folder, group, move_all(group, ways[group], a.numbers))
        results = [r for group in GROUPS for r in kept(folder, group)]
    counts = ", ".join(f"{len(numbers_of(group))} of {title.lower()}" for group, title in GROUPS.items())
    text = markdown(results, f"There are {sum(len(numbers_of(g)) for g in GROUPS)} tuned numbers: {counts}.")
    if a.write:
        a.write.write_text(text)
    weak = [f"{r.group}.{r.name}" for r in results if r.effect < MATTERS]
    print("\n" + text + f"\nmatter less than {MATTERS:.0%}: {', '.join(weak) or 'none'}")


if __name__ == "__main__":
    main()
