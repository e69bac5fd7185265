"""Occupancies of a model's parts as groups for refinement programs.

Refmac's keywords (also read by Servalcat's refmacat) as documented by its authors, Servalcat's YAML of its
page on occupancy refinement (experimental there, from 0.4.142 on), and Phenix's
``refinement.refine.occupancies.constrained_group``. Refinement starts from the occupancies in the model file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from occupy.io.atomic import write_text
from occupy.io.models import read_alternatives
from occupy.model import Alternatives, AtomicModel, Residue
from occupy.regions.region import Region
from occupy.regions.table import OccupancyTable

_LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")


@dataclass(frozen=True)
class _Span:
    """Residues of a chain from one number to another, by the author's count.

    Attributes
    ----------
    chain : str
        As in the model file.
    first, last : str
        Numbers with insertion codes; empty for the whole chain.
    altloc : str
        One alternative conformation of them; empty for all.
    """

    chain: str
    first: str = ""
    last: str = ""
    altloc: str = ""


@dataclass(frozen=True)
class _OccupancyGroup:
    """Atoms that share one occupancy.

    Attributes
    ----------
    name : str
        For people.
    value, error : float
        Occupancy and its standard error.
    spans : tuple of Span
        Which atoms.
    """

    name: str
    value: float
    error: float
    spans: tuple[_Span, ...]

    @property
    def comment(self) -> str:
        """Name and occupancy with its standard error, in one line of ASCII."""
        plain = self.name.encode("ascii", "replace").decode()
        return f"{' '.join(plain.split())}: {self.value:.2f} +- {self.error:.2f}"


@dataclass(frozen=True)
class _Alternatives:
    """Groups, by their numbers from 1, that exclude each other.

    Attributes
    ----------
    numbers : tuple of int
        Which.
    complete : bool
        Whether their occupancies sum up to 1; else to 1 at most.
    """

    numbers: tuple[int, ...]
    complete: bool


def _spans_of(residues: Sequence[Residue], everything: Sequence[Residue]) -> tuple[_Span, ...]:
    """Return residues of one file as chains and ranges.

    Parameters
    ----------
    residues : sequence of Residue
        Those meant.
    everything : sequence of Residue
        All residues of the file.
    """
    spans: list[_Span] = []
    for chain in dict.fromkeys(r.chain for r in residues):
        meant = {id(r) for r in residues if r.chain == chain}
        whole = [r for r in everything if r.chain == chain]
        if all(id(r) in meant for r in whole):
            spans.append(_Span(chain))
            continue
        run: list[Residue] = []
        for residue in [*whole, None]:
            goes_on = residue is not None and id(residue) in meant
            # A range must run upwards, or it would hold residues that are not meant.
            if run and (not goes_on or residue is None or residue.number < run[-1].number):
                spans.append(_Span(chain, run[0].label, run[-1].label))
                run = []
            if goes_on and residue is not None:
                run.append(residue)
    return tuple(spans)


def _refmac_keywords(groups: Sequence[_OccupancyGroup], alternatives: Sequence[_Alternatives] = ()) -> str:
    """Return Refmac's keywords; what its grammar cannot say (insertion codes) is left as a comment."""
    lines = ["# Occupancy groups by OccuPy, with standard errors"]
    for number, group in enumerate(groups, 1):
        lines.append(f"# {group.comment}")
        for span in group.spans:
            alt = f" alt {span.altloc}" if span.altloc else ""
            line = f"occupancy group id {number} chain {span.chain}"
            if span.first:
                line += f" residue from {span.first} to {span.last}" if span.last != span.first else ""
                line += f" residue {span.first}" if span.last == span.first else ""
            told = not (span.first + span.last).strip("-0123456789")
            lines.append(line + alt if told else f"# insertion codes, to be named by hand: {line}{alt}")
    for each in alternatives:
        kind = "complete" if each.complete else "incomplete"
        lines.append(f"occupancy group alts {kind} {' '.join(map(str, each.numbers))}")
    return "\n".join([*lines, "occupancy refine"]) + "\n"


def _listed(spans: Sequence[_Span]) -> str:
    return ", ".join(f'"{_cid(span)}"' for span in spans)


def _cid(span: _Span) -> str:
    """Return a span as gemmi selects it: ``A``, ``A/10-20``, ``A/15/*:B``."""
    text = span.chain
    if span.first:
        first, last = (_with_point(label) for label in (span.first, span.last))
        text += f"/{first}" + (f"-{last}" if last != first else "")
    if span.altloc:
        text += ("/*:" if span.first else "/*/*:") + span.altloc
    return text


def _with_point(label: str) -> str:
    number = label.rstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
    return f"{number}.{label[len(number) :]}" if number != label else label


def _servalcat_yaml(groups: Sequence[_OccupancyGroup], alternatives: Sequence[_Alternatives] = ()) -> str:
    """Return Servalcat's configuration."""
    every = _listed([span for group in groups for span in group.spans])
    lines = ["# Occupancy groups by OccuPy, with standard errors", "refine:", "  atom_selection:", "    occ:"]
    lines += [f"      include: [{every}]", "      exclude: []", "  occ_groups:"]
    for number, group in enumerate(groups, 1):
        lines.append(f"    - id: {number}  # {group.comment}")
        lines.append(f"      selections: [{_listed(group.spans)}]")
    if alternatives:
        lines.append("  occ_group_constraints:")
    for each in alternatives:
        lines.append(f"    - ids: [{', '.join(map(str, each.numbers))}]")
        lines.append(f"      complete: {'true' if each.complete else 'false'}")
    return "\n".join(lines) + "\n"


def _phenix_parameters(groups: Sequence[_OccupancyGroup], alternatives: Sequence[_Alternatives] = ()) -> str:
    """Return Phenix's parameters.

    Several selections in one of its groups sum up to 1; it has no sum of at most 1, so such groups stand by
    themselves, with a comment.
    """
    lines = ["# Occupancy groups by OccuPy, with standard errors", "refinement.refine.occupancies {"]
    together = [each.numbers for each in alternatives if each.complete]
    within = {number for numbers in together for number in numbers}
    at_most = {n: e.numbers for e in alternatives if not e.complete for n in e.numbers}
    alone = [(number,) for number in range(1, len(groups) + 1) if number not in within]
    for numbers in sorted([*together, *alone]):
        lines.append("  constrained_group {")
        for number in numbers:
            group = groups[number - 1]
            lines.append(f"    # {group.comment}")
            if number in at_most:
                others = ", ".join(groups[n - 1].comment for n in at_most[number] if n != number)
                lines.append(f"    # at most 1 together with {others}")
            lines.append(f'    selection = "{" or ".join(_phenix(span) for span in group.spans)}"')
        lines.append("  }")
    return "\n".join([*lines, "}"]) + "\n"


def _phenix(span: _Span) -> str:
    chain = span.chain if set(span.chain) <= _LETTERS else f"'{span.chain}'"
    text = f"chain {chain}"
    if span.first:
        inserted = bool((span.first + span.last).strip("-0123456789"))
        word, between = ("resid", " through ") if inserted else ("resseq", ":")
        text += f" and {word} {span.first}" + (f"{between}{span.last}" if span.last != span.first else "")
    return f"({text} and altid {span.altloc})" if span.altloc else f"({text})"


def _write_refinement(
    folder: Path, stem: str, groups: Sequence[_OccupancyGroup], alternatives: Sequence[_Alternatives] = ()
) -> Mapping[str, str]:
    """Write all three files; return program → file name."""
    texts = {
        "refmac": (f"{stem}_refmac.txt", _refmac_keywords(groups, alternatives)),
        "servalcat": (f"{stem}_servalcat.yaml", _servalcat_yaml(groups, alternatives)),
        "phenix": (f"{stem}_phenix.eff", _phenix_parameters(groups, alternatives)),
    }
    for name, text in texts.values():
        write_text(folder / name, text)
    return {program: name for program, (name, _) in texts.items()}


@dataclass(frozen=True)
class ModelFiles:
    """A model, all regions in the order of the table's rows, and the files the model was read from.

    ``exclusive`` names regions that exclude each other.
    """

    model: AtomicModel
    regions: tuple[Region, ...]
    paths: tuple[Path, ...]
    exclusive: tuple[Alternatives, ...] = ()


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
    told = {name for group in model.exclusive for name in group.names}
    rows = [
        row
        for row, region in enumerate(model.regions)
        if len(region.residues) and (region.name in told or table.high[row, at[0]] < 0.995)
    ]
    groups, alternatives = _groups_of(table, model, rows, at)
    return _write_refinement(folder, stem, groups, alternatives) if groups else {}


def _groups_of(
    table: OccupancyTable, model: ModelFiles, rows: Sequence[int], at: tuple[int, int]
) -> tuple[list[_OccupancyGroup], list[_Alternatives]]:
    """Return regions as groups of one occupancy, and which exclude each other."""
    column, number = at
    everything = [residue for residue in model.model.residues if residue.file == number]
    conformations = read_alternatives(model.paths[number])
    groups: list[_OccupancyGroup] = []
    alternatives: list[_Alternatives] = []
    numbers: dict[str, int] = {}
    for row in rows:
        region = model.regions[row]
        mine = [residue for i in region.residues if (residue := model.model.residues[i]).file == number]
        value, error = float(table.values[row, column]), float(table.errors[row, column])
        split = [residue for residue in mine if _key(residue) in conformations]
        single = [residue for residue in mine if _key(residue) not in conformations]
        if single:
            groups.append(_OccupancyGroup(region.name, value, error, _spans_of(single, everything)))
            numbers[region.name] = len(groups)
        for residue in split:
            first = len(groups) + 1
            for altloc, share in conformations[_key(residue)].items():
                name = f"{region.name}, {residue.name} {residue.label} conformation {altloc}"
                span = _Span(residue.chain, residue.label, residue.label, altloc)
                groups.append(_OccupancyGroup(name, value * share, error * share, (span,)))
            alternatives.append(_Alternatives(tuple(range(first, len(groups) + 1)), complete=False))
    for named in model.exclusive:
        among = tuple(numbers[name] for name in named.names if name in numbers)
        if len(among) > 1:
            alternatives.append(_Alternatives(among, named.complete and len(among) == len(named.names)))
    return groups, alternatives


def _key(residue: Residue) -> tuple[str, int, str]:
    return residue.chain, residue.number, residue.insertion
