"""Particles selected by what their classes hold, or by the parts they have: files, record, words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from occupy.errors import InputError, Notice
from occupy.io.atomic import write_text
from occupy.io.checksum import reading
from occupy.io.class_numbers import RECORD, NumberedSet
from occupy.io.particles import (
    Particles,
    read_integers,
    read_particles,
    read_presence,
    write_chosen,
)
from occupy.io.sets import find_set
from occupy.regions.choose import Condition, Verdict, condition_of, expected_composition
from occupy.regions.table import OccupancyTable
from occupy.report.particle_results import PRESENCE
from occupy.report.record import file_of, opening, to_json
from occupy.report.tables import cell_text, read_table
from occupy.requests import ClassSelection, Numbering, PartSelection


@dataclass(frozen=True, eq=False)
class _Selection:
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


def selection_lines(found: _Selection) -> list[str]:
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


def _warnings(found: _Selection) -> list[Notice]:
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


def _selection_record(
    found: _Selection, *, inputs: Mapping[str, Any], outputs: Mapping[str, str], command: Sequence[str]
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


def _choose(
    table: OccupancyTable, maps: NumberedSet, particles: Particles, wish: ClassSelection, numbering: Numbering
) -> _Selection:
    """Choose classes by what their maps hold; InputError where none fulfils the condition."""
    condition = condition_of(wish)
    verdict = condition.verdict(table)
    labels, notices = maps.match(particles, map_base=numbering.map_base, label_base=numbering.label_base)
    flags = verdict.surely if wish.certain else verdict.chosen
    chosen = tuple(name for name, flag in zip(table.maps, flags, strict=True) if flag)
    found = _Selection(condition, table, maps, labels, particles, verdict, chosen)
    if wish.certain and not found.errors_known:
        raise InputError("--certain needs standard errors, and the table has none for these regions")
    if not chosen:
        surely = "surely " if wish.certain else ""
        raise InputError(f"no class {surely}fulfils {condition}: {_values(found)}; nothing was written")
    if not found.selected:
        raise InputError(f"the classes that fulfil {condition} have no particles; nothing was written")
    return replace(found, notices=(*notices, *_warnings(found)))


def _values(found: _Selection) -> str:
    parts = []
    for region in found.regions[:4]:
        cells = (cell_text(*found.table.reading(region, name)) for name in found.table.maps[:8])
        parts.append(f"{region} is {', '.join(cells)}" + (" …" * (len(found.table.maps) > 8)))
    return "; ".join(parts)


def select_particles(
    source: Path,
    particles_file: Path,
    output: Path,
    wish: ClassSelection,
    numbering: Numbering,
    command: Sequence[str] = (),
) -> tuple[_Selection, tuple[Notice, ...], Path]:
    """Write the particles of the classes that have, or lack, regions, and a record beside them.

    Parameters
    ----------
    source : Path
        Folder of `occupy classes`, or its table.
    particles_file : Path
        All particles, with their classes.
    output : Path
        File to write.
    wish : ClassSelection
        What the classes must show.
    numbering : Numbering
        What files do not tell.
    command : sequence of str
        Command line, for the record.

    Returns
    -------
    found : _Selection
        What was chosen.
    notices : tuple of Notice
        About the set of maps, where it was named.
    record : Path
        The record.
    """
    condition_of(wish)
    path, table, maps, notices = _table_and_maps(source, numbering.set)
    inputs: dict[str, Any] = {"table": file_of(path)}
    record = output.with_name(f"{output.stem}_selection.json")
    with ExitStack() as stack:
        # Particles are read twice, to count and to copy: both times the file must be the same.
        inputs["particles"] = stack.enter_context(reading(particles_file))
        particles = read_particles(particles_file, numbering.class_field)
        particles.check_target(output)
        if numbering.parent_ind is not None and particles.kind == "cryodrgn":
            inputs["parent_ind"] = stack.enter_context(reading(numbering.parent_ind))
        parents = _parents(numbering.parent_ind, particles)
        found = _choose(table, maps, particles, wish, numbering)
        keep = np.isin(particles.labels, [found.labels[name] for name in found.chosen])
        record.unlink(missing_ok=True)
        particles.write(keep, output, parents)
    outputs = {"particles": output.name, "record": record.name}
    about = _selection_record(found, inputs=inputs | {"set": maps.source}, outputs=outputs, command=command)
    write_text(record, to_json(about))
    return found, notices, record


def _table_and_maps(
    source: Path, named: str | None
) -> tuple[Path, OccupancyTable, NumberedSet, tuple[Notice, ...]]:
    """Read the table, and which map is which class: from the record beside it, or the set named."""
    path = source / "occupancy.csv" if source.is_dir() else source
    if path.suffix == ".tsv" and path.with_suffix(".csv").is_file():
        # The matrix for people; beside it lies the table that has the errors too.
        path = path.with_suffix(".csv")
    notices: tuple[Notice, ...] = ()
    if named is None:
        maps = NumberedSet.read(path.parent / RECORD)
    else:
        found = find_set([named])
        notices = found.notices
        maps = NumberedSet.of(found)
    table = read_table(path)
    strange = [name for name in table.maps if name not in {each.name for each in maps.maps}]
    if strange:
        raise InputError(f"{path}: its map {strange[0]} is none of the maps of {maps.source}")
    return path, table, maps, notices


def _parents(path: Path | None, particles: Particles) -> Any:
    """Read the indices that a cryoDRGN analysis was made of."""
    if path is None:
        return None
    if particles.kind != "cryodrgn":
        raise InputError("--parent-ind is for cryoDRGN's labels only")
    parents = read_integers(path)
    if len(parents) != len(particles.labels):
        raise InputError(
            f"{path}: {len(parents)} indices, but {particles.path.name} has {len(particles.labels)} particles"
        )
    return parents


def select_parts(source: Path, particles: Path, output: Path, wish: PartSelection) -> tuple[int, int, str]:
    """Write the particles whose presence table fulfils every wish.

    Parameters
    ----------
    source : Path
        Folder of `occupy particles`, or its table.
    particles : Path
        The particles that were looked at.
    output : Path
        File to write.
    wish : PartSelection
        Parts that a particle must have, and must lack.

    Returns
    -------
    kept, total : int
        Numbers of particles.
    words : str
        The wish.
    """
    names, presence = read_presence(source / PRESENCE if source.is_dir() else source)
    keep = np.ones(len(presence), dtype=bool)
    for name in wish.part:
        keep &= presence[:, _index(names, name)] >= wish.probability
    for name in wish.not_part:
        keep &= 1 - presence[:, _index(names, name)] >= wish.probability
    words = " and ".join([*wish.part, *(f"no {name}" for name in wish.not_part)])
    if not keep.any():
        raise InputError(
            f"no particle has {words} with probability {wish.probability:g}; nothing was written"
        )
    write_chosen(particles, keep, output)
    return int(keep.sum()), len(keep), words


def _index(names: Sequence[str], name: str) -> int:
    if name not in names:
        raise InputError(f"no part {name!r}; there are {', '.join(names[:12])}" + " …" * (len(names) > 12))
    return list(names).index(name)
