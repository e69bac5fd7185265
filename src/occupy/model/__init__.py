"""An atomic model as plain arrays, whatever file it came from; and the joint fit of its parts to maps."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

CARBON = 6

Kind = Literal["polymer", "ligand", "water"]


class Alternatives(NamedTuple):
    """Parts in one place; their occupancies sum up to 1 (`complete`) or to 1 at most."""

    names: tuple[str, ...]
    complete: bool = False


class Residue(NamedTuple):
    """One residue of a model.

    Attributes
    ----------
    file : int
        Which of the model's files it is from.
    chain : str
        Chain as the author named it (``auth_asym_id``), as it stands in the file.
    number : int
        Residue number as the author counted (``auth_seq_id``).
    insertion : str
        Insertion code, or nothing.
    name : str
        Three-letter name.
    entity : str
        Which of the model's different molecules it belongs to.
    kind : str
        ``polymer``, ``ligand`` (whatever is neither polymer nor water: ions and sugars too) or ``water``.
    """

    file: int
    chain: str
    number: int
    insertion: str
    name: str
    entity: str
    kind: Kind

    @property
    def label(self) -> str:
        """Return number and insertion code."""
        return f"{self.number}{self.insertion}"


@dataclass(frozen=True, eq=False)
class AtomicModel:
    """Atoms of one model or of several that belong together.

    Attributes
    ----------
    names : tuple of str
        Names of the files, without folder and ending.
    xyz : ndarray of float64, shape (atoms, 3), read-only
        Positions x, y, z in Å.
    residue : ndarray of int, shape (atoms,), read-only
        Index of each atom's residue.
    trace : ndarray of bool, shape (atoms,), read-only
        True for Cα and phosphorus atoms of polymers.
    residues : tuple of Residue
        In the order of the files.
    elements : ndarray of uint8, shape (atoms,), read-only
        Atomic numbers; carbon by default.
    shares : ndarray of float64, shape (atoms,), read-only
        Share of an atom's residue that is in its conformation: 1 but for alternative conformations.
    """

    names: tuple[str, ...]
    xyz: npt.NDArray[np.float64]
    residue: npt.NDArray[np.intp]
    trace: npt.NDArray[np.bool_]
    residues: tuple[Residue, ...]
    elements: npt.NDArray[np.uint8] = field(default_factory=lambda: np.zeros(0, dtype=np.uint8))
    shares: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    def __post_init__(self) -> None:
        for name, default in (("elements", CARBON), ("shares", 1.0)):
            if len(getattr(self, name)) == 0:
                object.__setattr__(self, name, np.full(len(self.residue), default))
        arrays: tuple[tuple[str, Any], ...] = (
            ("xyz", np.float64),
            ("residue", np.intp),
            ("trace", np.bool_),
            ("elements", np.uint8),
            ("shares", np.float64),
        )
        for name, kind in arrays:
            array = np.array(getattr(self, name), dtype=kind)
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        if self.xyz.shape != (len(self.residue), 3) or self.trace.shape != self.residue.shape:
            raise ValueError(f"positions of shape {self.xyz.shape} for {len(self.residue)} atoms")
        if self.elements.shape != self.residue.shape or self.shares.shape != self.residue.shape:
            raise ValueError(
                f"{len(self.elements)} elements, {len(self.shares)} shares for {len(self.residue)} atoms"
            )

    def __repr__(self) -> str:
        chains = len({(residue.file, residue.chain) for residue in self.residues})
        return f"<AtomicModel {self.name!r}: {len(self.residue)} atoms in {chains} chains>"

    @property
    def name(self) -> str:
        """Return one name for all files."""
        return self.names[0] if len(self.names) == 1 else f"{self.names[0]} and {len(self.names) - 1} more"

    def chain_label(self, residue: Residue) -> str:
        """Return a residue's chain: ``A``, or ``file.A`` where several files have chains of one name.

        A chain without a name is called ``_``.
        """
        chain = residue.chain.strip() or self._blank_chain
        return f"{self.names[residue.file]}.{chain}" if self.chains_clash else chain

    @property
    def residues_by_chain(self) -> dict[str, list[int]]:
        """Chain → its residues, water left out."""
        chains: dict[str, list[int]] = {}
        for number, residue in enumerate(self.residues):
            if residue.kind != "water":
                chains.setdefault(self.chain_label(residue), []).append(number)
        return chains

    @cached_property
    def _blank_chain(self) -> str:
        """Return what a chain without a name is called: ``_``, or more of them where a chain is called so."""
        taken = {residue.chain for residue in self.residues}
        return next(name for name in ("_" * n for n in range(1, len(taken) + 2)) if name not in taken)

    @cached_property
    def chains_clash(self) -> bool:
        """Tell whether a chain's name occurs in more than one file."""
        return len({(r.file, r.chain) for r in self.residues}) > len({r.chain for r in self.residues})
