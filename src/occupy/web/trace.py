"""The course of a model's chains, as lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from occupy.errors import InputError

# Å between neighbours: beyond, residues are missing.
_LONGEST = 9.0


def model_trace(path: Path) -> tuple[npt.NDArray[np.float32], list[str]]:
    """Return segments between neighbouring CA or P atoms.

    Returns
    -------
    ends : ndarray, shape (n, 2, 3)
        x, y, z in Å of both ends of every segment.
    chains : list of str
        Names of the chains found.
    """
    import gemmi

    try:
        structure = gemmi.read_structure(str(path))
    except (RuntimeError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path.name}: not a readable model ({reason})") from error
    if len(structure) == 0:
        raise InputError(f"{path.name}: the model holds no atoms")
    segments: list[Any] = []
    chains = []
    for chain in structure[0]:
        found = [next((a for a in residue if _in_backbone(a)), None) for residue in chain]
        points = np.array([a.pos.tolist() for a in found if a is not None], dtype=np.float32).reshape(-1, 3)
        if len(points) < 2:
            continue
        chains.append(chain.name)
        near = np.linalg.norm(np.diff(points, axis=0), axis=1) < _LONGEST
        segments.append(np.stack([points[:-1][near], points[1:][near]], axis=1))
    if not segments:
        raise InputError(f"{path.name}: no chain of CA or P atoms in it")
    return np.concatenate(segments).astype(np.float32), chains


def _in_backbone(atom: Any) -> bool:
    return (atom.name, atom.element.name) in {("CA", "C"), ("P", "P")}
