"""How far a model is from its map beyond noise, from how unevenly the pieces of each part are there.

All pieces of a part have one occupancy. If the fitted model were right, each would explain too much or too
little of the map by chance only. Flexible or wrong pieces, other ice or other scattering make them differ by
more, and what pieces differ by, whole parts differ by too, less by the root of their size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import map_coordinates

from occupy.model.density import ATOM_VOLUME, ATOM_VOLUME_B, SAMPLING_B, Indices, Lattice, Numbers, on_grid
from occupy.model.solve import ICE, Solution

USUAL_SIZE = 2000
"""Atoms. Errors of flexible or wrongly built pieces average out over larger parts, as one over the root of
the size: chains of 725 atoms at the rim of GroEL erred by .06 where those of 3840 erred by .015."""
_PIECE = 200
"""Atoms of a piece. On tuning maps pieces of the fitted forward model scatter as noise does, to .005 of
full for a part of usual size; those of the other one by .012 to .025 more."""
_ATOM, _ATOM_B = 2.4, 25.0
"""Scattering at 0 and fall-off in Å² of a mean heavy atom, for the weight of detail only."""


@dataclass(frozen=True, eq=False)
class _Pieces:
    """Parts cut into pieces: where each piece's atoms begin among all atoms in order, and whose it is."""

    atoms: Indices
    starts: Indices
    owner: Indices

    def sums(self, per_atom: Numbers) -> Numbers:
        """Return the sum of every piece."""
        return np.asarray(np.add.reduceat(per_atom[self.atoms], self.starts))


def _cut(groups: Sequence[Indices]) -> _Pieces:
    """Cut each part into at least two pieces of neighbours in the file."""
    pieces = [np.array_split(group, max(2, round(len(group) / _PIECE))) for group in groups if len(group) > 1]
    lengths = [len(piece) for part in pieces for piece in part]
    owner = np.repeat(np.arange(len(pieces)), [len(part) for part in pieces])
    atoms = np.concatenate([piece for part in pieces for piece in part])
    return _Pieces(atoms, np.cumsum([0, *lengths[:-1]]), owner)


def _scatter(lacking: Numbers, weight: Numbers, owner: Indices) -> float:
    """Return the variance of what pieces lack around their part's mean, weighted by what the map knows."""
    count = np.bincount(owner)
    total = np.bincount(owner, weight)
    off = lacking / weight - (np.bincount(owner, lacking) / total)[owner]
    # The mean of a part is found from its own pieces.
    freedom = (count / np.maximum(count - 1, 1))[owner]
    return float((weight * off**2 * freedom).sum() / weight.sum())


def model_error(
    residual: npt.NDArray[np.complex64],
    whole: npt.NDArray[np.complex64],
    lattice: Lattice,
    solution: Solution,
    points: Numbers,
    groups: Sequence[Indices],
) -> float:
    """Return the standard deviation of a part of `USUAL_SIZE` by faults of the model.

    In units of the fit's occupancies.

    Parameters
    ----------
    residual, whole : (n,) arrays of complex
        Coefficients of what is left of the map, and the sum of all parts.
    lattice : Lattice
        Of both.
    solution : Solution
        Scale and noise of every shell.
    points : (atoms, 3) array
        x, y, z in Å from the map's first voxel.
    groups : sequence of ndarray of int
        Atoms of each part.

    Notes
    -----
    What a piece lacks is the gradient of the log-likelihood in its occupancy, over that of the whole model.
    What noise does is seen where the residual's phases are drawn anew.
    """
    if not any(len(group) > 1 for group in groups):
        return 0.0
    pieces = _cut(groups)
    curve = lattice.frequency**2 / 4
    blur = SAMPLING_B * lattice.resolution**2
    atom = _ATOM * np.exp(-(blur + _ATOM_B) * curve)
    atom -= ICE * ATOM_VOLUME * np.exp(-(blur + ATOM_VOLUME_B) * curve)
    matched = lattice.spread(solution.scale / solution.noise * atom)
    at = (points[:, ::-1] / np.array(lattice.voxel_size) - np.array(lattice.start)).T

    def of_pieces(coefficients: npt.NDArray[np.complex64]) -> Numbers:
        grid = on_grid(coefficients * matched, lattice)
        return pieces.sums(map_coordinates(grid, at, order=1, mode="nearest").astype(np.float64))

    weight = of_pieces(whole * lattice.spread(solution.scale))
    weight = np.maximum(weight, 1e-3 * np.abs(weight).max() + 1e-300)
    turns = np.random.default_rng(0).random(len(residual), dtype=np.float32)
    noise = residual * np.exp(2j * np.pi * turns).astype(np.complex64)
    found, by_chance = (_scatter(of_pieces(rows), weight, pieces.owner) for rows in (residual, noise))
    return float(np.sqrt(max(found - by_chance, 0.0) * len(pieces.atoms) / len(pieces.starts) / USUAL_SIZE))
