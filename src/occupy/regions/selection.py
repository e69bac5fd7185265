"""Parts of a model by name: ``A`` is a chain, ``B:1-80,95`` residues of one."""

from __future__ import annotations

import re
from collections.abc import Sequence

from occupy.errors import InputError
from occupy.model import AtomicModel

_RANGE = re.compile(r"(-?\d+)(?:-(-?\d+))?")
_SHOWN = 12


def residues_of_selection(model: AtomicModel, parts: Sequence[str], name: str) -> list[int]:
    """Return the residues that parts such as ``A`` or ``B:1-80,95`` stand for.

    Parameters
    ----------
    model : AtomicModel
        The model.
    parts : sequence of str
        Chain, or chain, colon and residue numbers or ranges (both ends included) with commas between. Where
        several files have chains of the same name, a chain is ``file.A``.
    name : str
        Of the selection, for messages.

    Returns
    -------
    list of int
        Sorted, each once, without water; ligands of a chain only where numbers name them.

    Raises
    ------
    InputError
        Where a chain or all residues of a part do not exist.
    """
    chains: dict[str, list[int]] = {}
    for number, residue in enumerate(model.residues):
        if residue.kind != "water":
            chains.setdefault(model.chain_label(residue), []).append(number)
    found: set[int] = set()
    for part in parts:
        found.update(_residues_of_part(model, chains, part.strip(), name))
    if not found:
        raise InputError(f"selection {name}: it names no residues")
    return sorted(found)


def _residues_of_part(model: AtomicModel, chains: dict[str, list[int]], part: str, name: str) -> list[int]:
    if part in chains:
        whole = chains[part]
        polymer = [i for i in whole if model.residues[i].kind == "polymer"]
        return polymer or whole
    chain, colon, ranges = part.rpartition(":")
    if not colon or chain not in chains:
        known = ", ".join(list(chains)[:_SHOWN]) + (" …" if len(chains) > _SHOWN else "")
        wanted = chain if colon else part
        raise InputError(f"selection {name}: {model.name} has no chain {wanted!r} (it has {known})")
    spans = [_span(text.strip(), part, name) for text in ranges.split(",")]
    found = [i for i in chains[chain] if any(low <= model.residues[i].number <= high for low, high in spans)]
    if not found:
        numbers = [model.residues[i].number for i in chains[chain]]
        raise InputError(
            f"selection {name}: no residues {ranges} in chain {chain} "
            f"(it has {min(numbers)} to {max(numbers)})"
        )
    return found


def _span(text: str, part: str, name: str) -> tuple[int, int]:
    match = _RANGE.fullmatch(text)
    if match is None:
        raise InputError(
            f"selection {name}: {part!r} is not understood; write a chain (A) or residues of one (A:1-80,95)"
        )
    low = int(match[1])
    high = low if match[2] is None else int(match[2])
    if high < low:
        raise InputError(f"selection {name}: the range {text} in {part!r} runs backwards")
    return low, high
