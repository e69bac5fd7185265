"""Occupancies of a model's parts as groups for refinement programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from occupy.io.models import read_alternatives
from occupy.io.refinement import Alternatives, OccupancyGroup, Span, spans_of, write_refinement
from occupy.model import AtomicModel, Residue
from occupy.regions.region import Region
from occupy.regions.table import OccupancyTable


@dataclass(frozen=True)
class ModelFiles:
    """A model, all regions in the order of the table's rows, and the files the model was read from.

    ``exclusive`` names regions that exclude each other, in groups.
    """

    model: AtomicModel
    regions: tuple[Region, ...]
    paths: tuple[Path, ...]
    exclusive: tuple[tuple[str, ...], ...] = ()


def write_groups(
    folder: Path, stem: str, table: OccupancyTable, model: ModelFiles, at: tuple[int, int]
) -> Mapping[str, str]:
    """Write files for refinement of the occupancies that a joint fit found to be partial.

    Parts that are surely partial, and alternatives; each alternative conformation is a group of its own.
    Without a joint fit there are none.

    Parameters
    ----------
    folder : Path
        Where the models are.
    stem : str
        How the files' names begin.
    table : OccupancyTable
        Of the regions.
    model : ModelFiles
        Its regions.
    at : tuple of int
        Column of the map, number of the model's file.

    Returns
    -------
    mapping of str to str
        Program → file name.
    """
    if table.beside is None:
        return {}
    told = {name for group in model.exclusive for name in group}
    rows = [
        row
        for row, region in enumerate(model.regions)
        if len(region.residues) and (region.name in told or table.high[row, at[0]] < 0.995)
    ]
    groups, alternatives = _groups_of(table, model, rows, at)
    return write_refinement(folder, stem, groups, alternatives) if groups else {}


def _groups_of(
    table: OccupancyTable, model: ModelFiles, rows: Sequence[int], at: tuple[int, int]
) -> tuple[list[OccupancyGroup], list[Alternatives]]:
    """Return regions as groups of one occupancy, and which exclude each other."""
    column, number = at
    everything = [residue for residue in model.model.residues if residue.file == number]
    conformations = read_alternatives(model.paths[number])
    groups: list[OccupancyGroup] = []
    alternatives: list[Alternatives] = []
    numbers: dict[str, int] = {}
    for row in rows:
        region = model.regions[row]
        mine = [residue for i in region.residues if (residue := model.model.residues[i]).file == number]
        value, error = float(table.values[row, column]), float(table.errors[row, column])
        split = [residue for residue in mine if _key(residue) in conformations]
        single = [residue for residue in mine if _key(residue) not in conformations]
        if single:
            groups.append(OccupancyGroup(region.name, value, error, spans_of(single, everything)))
            numbers[region.name] = len(groups)
        for residue in split:
            first = len(groups) + 1
            for altloc, share in conformations[_key(residue)].items():
                name = f"{region.name}, {residue.name} {residue.label} conformation {altloc}"
                span = Span(residue.chain, residue.label, residue.label, altloc)
                groups.append(OccupancyGroup(name, value * share, error * share, (span,)))
            alternatives.append(Alternatives(tuple(range(first, len(groups) + 1)), complete=False))
    for named in model.exclusive:
        among = tuple(numbers[name] for name in named if name in numbers)
        if len(among) > 1:
            alternatives.append(Alternatives(among, complete=False))
    return groups, alternatives


def _key(residue: Residue) -> tuple[str, int, str]:
    return residue.chain, residue.number, residue.insertion
