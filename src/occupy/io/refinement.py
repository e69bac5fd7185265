"""Files from which refinement programs take groups of atoms that share one occupancy.

Refmac's keywords (also read by Servalcat's refmacat) as documented by its authors, Servalcat's YAML of its
page on occupancy refinement (experimental there, from 0.4.142 on), and Phenix's
``refinement.refine.occupancies.constrained_group``. Refinement starts from the occupancies in the model file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from occupy.io.atomic import write_text
from occupy.model import Residue

_LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")


@dataclass(frozen=True)
class Span:
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
class OccupancyGroup:
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
    spans: tuple[Span, ...]

    @property
    def comment(self) -> str:
        """Name and occupancy with its standard error, in one line of ASCII."""
        plain = self.name.encode("ascii", "replace").decode()
        return f"{' '.join(plain.split())}: {self.value:.2f} +- {self.error:.2f}"


@dataclass(frozen=True)
class Alternatives:
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


def spans_of(residues: Sequence[Residue], everything: Sequence[Residue]) -> tuple[Span, ...]:
    """Return residues of one file as chains and ranges.

    Parameters
    ----------
    residues : sequence of Residue
        Those meant.
    everything : sequence of Residue
        All residues of the file.
    """
    spans: list[Span] = []
    for chain in dict.fromkeys(r.chain for r in residues):
        meant = {id(r) for r in residues if r.chain == chain}
        whole = [r for r in everything if r.chain == chain]
        if all(id(r) in meant for r in whole):
            spans.append(Span(chain))
            continue
        run: list[Residue] = []
        for residue in [*whole, None]:
            goes_on = residue is not None and id(residue) in meant
            # A range must run upwards, or it would hold residues that are not meant.
            if run and (not goes_on or residue is None or residue.number < run[-1].number):
                spans.append(Span(chain, run[0].label, run[-1].label))
                run = []
            if goes_on and residue is not None:
                run.append(residue)
    return tuple(spans)


def _refmac_keywords(groups: Sequence[OccupancyGroup], alternatives: Sequence[Alternatives] = ()) -> str:
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


def _listed(spans: Sequence[Span]) -> str:
    return ", ".join(f'"{_cid(span)}"' for span in spans)


def _cid(span: Span) -> str:
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


def _servalcat_yaml(groups: Sequence[OccupancyGroup], alternatives: Sequence[Alternatives] = ()) -> str:
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


def _phenix_parameters(groups: Sequence[OccupancyGroup], alternatives: Sequence[Alternatives] = ()) -> str:
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


def _phenix(span: Span) -> str:
    chain = span.chain if set(span.chain) <= _LETTERS else f"'{span.chain}'"
    text = f"chain {chain}"
    if span.first:
        inserted = bool((span.first + span.last).strip("-0123456789"))
        word, between = ("resid", " through ") if inserted else ("resseq", ":")
        text += f" and {word} {span.first}" + (f"{between}{span.last}" if span.last != span.first else "")
    return f"({text} and altid {span.altloc})" if span.altloc else f"({text})"


def write_refinement(
    folder: Path, stem: str, groups: Sequence[OccupancyGroup], alternatives: Sequence[Alternatives] = ()
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
