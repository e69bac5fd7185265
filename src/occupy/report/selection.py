"""What `occupy select` says and writes about a selection of particles."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from occupy.errors import Notice
from occupy.io.class_numbers import NumberedSet
from occupy.io.particles import Particles
from occupy.regions.choose import Condition, Verdict, expected_composition
from occupy.regions.table import OccupancyTable
from occupy.report.record import opening
from occupy.report.tables import cell_text


@dataclass(frozen=True, eq=False)
class Selection:
    """Everything known of a selection of particles by what their classes hold.

    Attributes
    ----------
    condition : Condition
        What was asked for.
    table : OccupancyTable
        Occupancy of regions in M maps.
    maps : NumberedSet
        The maps, with their shares by posterior probability (soft).
    labels : mapping of str to int
        Map → class in the file of particles.
    particles : Particles
        All particles.
    verdict : Verdict
        What the condition says of each map.
    chosen : tuple of str
        Maps whose particles are taken.
    notices : tuple of Notice
        What is doubtful.
    """

    condition: Condition
    table: OccupancyTable
    maps: NumberedSet
    labels: Mapping[str, int]
    particles: Particles
    verdict: Verdict
    chosen: tuple[str, ...]
    notices: tuple[Notice, ...] = ()

    @property
    def regions(self) -> tuple[str, ...]:
        """Regions of the condition, each once."""
        return tuple(dict.fromkeys(limit.region for limit in self.condition.limits()))

    def count(self, name: str) -> int:
        """Return the particles assigned to the class of a map (hard)."""
        return self.particles.counts().get(self.labels[name], 0)

    def share(self, name: str) -> float:
        """Return the class's share of all particles by probability (soft); NaN where not known."""
        if self.particles.shares is not None:
            return self.particles.shares.get(self.labels[name], math.nan)
        found = next(each.weight for each in self.maps.maps if each.name == name)
        return math.nan if found is None else float(found)

    @property
    def selected(self) -> int:
        """Number of particles taken."""
        return sum(self.count(name) for name in self.chosen)

    @property
    def undecided(self) -> list[str]:
        """Maps of which the 95 % interval does not tell whether they fulfil the condition."""
        return [name for name, open_ in zip(self.table.maps, self.verdict.undecided, strict=True) if open_]

    @property
    def errors_known(self) -> bool:
        """Whether the table has standard errors for what was asked."""
        rows = [self.table.regions.index(region) for region in self.regions]
        return bool(np.isfinite(self.table.errors[rows]).all())

    @property
    def certainty(self) -> float:
        """Mean probability of the assignments taken; NaN where the file does not say."""
        if self.particles.certainty is None:
            return math.nan
        taken = np.isin(self.particles.labels, [self.labels[name] for name in self.chosen])
        return float(self.particles.certainty[taken].mean())

    def expected(self) -> dict[str, dict[str, float]]:
        """Return region → mean occupancy expected in the selection, its error, and in the rest."""
        chosen = np.isin(np.array(self.table.maps), self.chosen)
        counts = {name: float(self.count(name)) for name in self.table.maps}
        found = expected_composition(self.table, chosen, counts)
        columns = zip(
            found.selected.tolist(), found.selected_error.tolist(), found.rest.tolist(), strict=True
        )
        return {
            region: {"selected": a, "standard_error": e, "rest": b}
            for region, (a, e, b) in zip(self.table.regions, columns, strict=True)
        }


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %" if math.isfinite(value) else "–"


def selection_lines(found: Selection) -> list[str]:
    """Return what to print: a line per class, the counts, what the selection should hold, what is open."""
    total = len(found.particles.labels)
    lines = [f"{found.condition}: {len(found.chosen)} of {len(found.table.maps)} classes"]
    undecided = set(found.undecided) if found.errors_known else set()
    width = max(map(len, found.table.maps))
    for name in found.table.maps:
        cells = ", ".join(
            f"{region} {cell_text(*found.table.reading(region, name))}" for region in found.regions
        )
        counts = f"{found.count(name)} particles ({_percent(found.count(name) / total)}"
        counts += f"; by probability {_percent(found.share(name))})"
        mark = ("selected" if name in found.chosen else "left out") + (", undecided" * (name in undecided))
        lines.append(f"  {found.labels[name]}  {name:<{width}}  {cells}  {counts}  {mark}")
    soft = sum(found.share(name) for name in found.chosen)
    lines.append(
        f"selected: {found.selected} of {total} particles ({_percent(found.selected / total)}; "
        f"by probability {_percent(soft)})"
    )
    if math.isfinite(found.certainty):
        lines.append(f"mean probability of their assignment: {found.certainty:.2f}")
    expected = found.expected()
    for region in found.regions:
        about = expected[region]
        inside = cell_text(about["selected"], about["standard_error"])
        lines.append(
            f"expected: {region} {inside} in the selection, {cell_text(about['rest'], math.nan)} in the rest"
        )
    return lines


def doubts(found: Selection) -> list[Notice]:
    """Return notices on how sure the choice of classes is."""
    notices = []
    if not found.errors_known:
        text = "the table has no standard errors: it can't be said how certain this choice is"
        notices.append(Notice("no-errors", text))
    elif found.undecided:
        taken = [name for name in found.undecided if name in found.chosen]
        left = [name for name in found.undecided if name not in found.chosen]
        parts = [f"{', '.join(taken)} (selected)"] if taken else []
        parts += [f"{', '.join(left)} (left out)"] if left else []
        text = f"the 95 % interval does not settle it for {' and '.join(parts)}"
        notices.append(Notice("undecided", text))
    if len(found.chosen) == len(found.table.maps):
        notices.append(Notice("all-classes", "every class fulfils the condition: all particles are selected"))
    return notices


def selection_record(
    found: Selection, *, inputs: Mapping[str, Any], outputs: Mapping[str, str], command: Sequence[str]
) -> dict[str, Any]:
    """Return the record of a selection as plain values."""
    classes = [
        {
            "map": name,
            "class": found.labels[name],
            "particles": found.count(name),
            "share_by_probability": found.share(name),
            "selected": name in found.chosen,
            "undecided": name in found.undecided,
            "occupancy": {region: found.table.reading(region, name).value for region in found.regions},
            "standard_error": {region: found.table.reading(region, name).error for region in found.regions},
        }
        for name in found.table.maps
    ]
    return {
        **opening(command),
        "inputs": dict(inputs),
        "condition": str(found.condition),
        "classes": classes,
        "numbers": {
            "particles": len(found.particles.labels),
            "selected": found.selected,
            "selected_share_by_probability": sum(found.share(name) for name in found.chosen),
            "mean_probability_of_assignment": found.certainty,
        },
        "expected_occupancy": found.expected(),
        "notices": [asdict(notice) for notice in found.notices],
        "outputs": dict(outputs),
    }
